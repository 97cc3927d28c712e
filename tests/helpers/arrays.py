"""Arrays to store, of any size."""

import warnings

import numpy as np

MIB = 1 << 20


def array(seed: int, size: int = MIB // 8) -> np.ndarray:
    return np.random.default_rng(seed).random(size)


def matrix(values):
    with warnings.catch_warnings(action="ignore"):  # numpy would rather have no more of them
        return np.matrix(values)
