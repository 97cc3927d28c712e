"""Random walks, for simulation.ipynb: its worker processes run this.

It is a module and no cell of the notebook, because a new process cannot import what only the notebook has.
"""

import numpy as np

import shmvar

STEPS = 1_000
WALKERS = 1_000


def simulate(segment: shmvar.Segment, job: int) -> None:
    """Lets many walkers walk, and writes how far they are on average after each step, into a row of "distance"."""
    try:
        distance = segment.array("distance")  # one memory for all processes: nothing is sent back to the notebook
        angles = np.random.default_rng(job).uniform(0, 2 * np.pi, (WALKERS, STEPS))
        walkers = np.cumsum(np.exp(1j * angles), axis=1)
        distance[job] = np.abs(walkers).mean(axis=0)
        segment.touch("distance")  # who watches it is told
    finally:
        segment.add("done")  # a job that fails is done, too: nobody waits for it
