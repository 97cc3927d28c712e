"""Does the work of page.php: counts words. Start it before the page or after it; Ctrl-C ends it."""

import contextlib
import time
from typing import Any

from shmvar import php

KEY = 0x776F726B  # of the segment, and of its semaphore
SIZE = 1 << 20  # bytes, if the worker comes first
PERMISSIONS = 0o660  # page and worker run as one user, or in one group


def main() -> None:
    semaphore = php.Semaphore(KEY, permissions=PERMISSIONS)
    # Each call on the segment takes the semaphore, as the page does around its own.
    with php.attach(KEY, SIZE, PERMISSIONS, lock=semaphore) as segment:
        while True:
            for number in [index for index in segment if index > 0]:
                work(segment, semaphore, number)
            time.sleep(0.005)


def work(segment: php.Segment, semaphore: php.Semaphore, number: int) -> None:
    """Replaces a job by its result. Killed in here, the worker leaves the job for the next one."""
    result = result_of(segment.get(number))
    with semaphore:  # one moment for both changes
        if number in segment:  # otherwise the page has given up
            del segment[number]
            segment[-number] = result
    print(f"job {number}: {result}", flush=True)


def result_of(job: Any) -> dict[str, Any]:
    """What comes from PHP is data, and may be any: whoever may write to the segment wrote it."""
    text = job.get("text") if isinstance(job, dict) else None
    if not isinstance(text, str):
        return {"error": "a job is an array with a text in UTF-8"}
    words = text.split()
    return {"words": len(words), "longest": max(words, key=len, default="")}


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
