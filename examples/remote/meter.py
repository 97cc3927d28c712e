"""Changes an array under a lock and counts, with as many others as run it, on as many machines as you like.

    python examples/remote/meter.py valkey://localhost/#meters 100 &
    python examples/remote/meter.py valkey://localhost/#meters 100 &
    python examples/remote/look.py valkey://localhost/#meters 200

The URL of a server is all that makes it more than one machine: with a number instead, 4711 say, the same programs share
a segment of this machine. docs/guide.md, "Past one machine", says how to get a server, and what can be lost.
"""

import random
import sys

import numpy as np

import shmvar


def main(key: str, rounds: int) -> None:
    with shmvar.attach(int(key) if key.isdecimal() else key) as segment:
        for _ in range(rounds):
            with segment.lock("histogram", timeout=30):
                histogram = segment.get("histogram", np.zeros(10, "i8"))
                histogram[random.randrange(10)] += 1
                segment["histogram"] = histogram  # refused, had the lock been lost meanwhile
            segment.add("rounds")  # atomic and exact, whoever else counts
    print(f"meter: {rounds} rounds")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
