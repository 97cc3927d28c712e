"""Threads of the test's own process."""

import threading

from helpers.machine import SLOWER


def in_threads(work, count, timeout=100):
    """Runs `work(number)` in `count` threads at once; each must succeed."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout * SLOWER)
    assert not errors
    assert not any(thread.is_alive() for thread in threads), f"a thread did not end within {timeout * SLOWER} s"
