"""Arrays to store, of any size."""

import numpy as np

MIB = 1 << 20


def array(seed: int, size: int = MIB // 8) -> np.ndarray:
    return np.random.default_rng(seed).random(size)
