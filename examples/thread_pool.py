"""Threads share one handle: it needs no lock, no copy and no handle of its own in each thread.

python examples/thread_pool.py
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import shmvar


def digest(segment: shmvar.Segment, number: int) -> None:
    segment[number] = hashlib.sha256(segment["block"] + number.to_bytes(4, "little")).hexdigest()


def main() -> None:
    with shmvar.attach("example-threads", create=True) as segment:
        try:
            segment["block"] = bytes(1 << 20)
            with ThreadPoolExecutor(4) as pool:
                for result in [pool.submit(digest, segment, number) for number in range(32)]:
                    result.result()
            print(f"{len(segment) - 1} digests; that of 0 is {segment[0][:16]}...")
        finally:
            segment.destroy()


if __name__ == "__main__":
    main()
