"""What an iterator over changes has to tell."""

import shmvar


def all_of(changes):
    """What there is to tell just now. `changes` has a timeout."""
    told = []
    try:
        for change in changes:
            told.append(change)
    except shmvar.WaitTimeoutError:
        return told
