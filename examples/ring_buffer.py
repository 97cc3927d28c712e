"""A ring of bytes between two processes: one stores messages there, the other reads them; nothing is pickled.

    python examples/ring_buffer.py                                  # both processes, killed now and then
    python examples/ring_buffer.py --messages 100000 --kills 0

The ring is `segment.buffer("ring", SIZE)`, memory of both processes. Beside it there are two variables, and each is
changed by one process only:

    "written"    (bytes, messages), the producer's: what is before it may be read
    "read"       (bytes, messages, checksum), the consumer's: what is before it may be overwritten

The bytes are counted from the first message on and never start again; a byte's place in the ring is its count modulo
SIZE. The ring is empty where both counts are equal, and full where they differ by SIZE.

- The producer waits until "read" leaves room, stores a message, and then puts "written".
- The consumer waits until "written" shows a message, reads it, and then puts "read".

This order is the whole protocol, and it holds because the counts are variables. A plain store of an aligned element of
8 bytes (`lengths[i] = n` below, or an element of a numpy array) is never seen half done, so the counts could be in the
buffer, too. But nothing keeps plain stores in order for another process: some processors (arm64) may show it the count
first and the bytes later. Calls of the segment do keep the order: a process that reads "written" also sees the bytes
that were stored before "written" was put.

A process that is killed has not published the message that it was storing, or has not counted the one that it was
reading. Started again, it begins with that message. So each is counted once, whoever is killed when. The lock makes
sure that a killed process is gone, with all that it had begun, before another one takes its part.
"""

import argparse
import multiprocessing
import os
import random
import sys
import time
import zlib
from collections.abc import Callable

import shmvar

SIZE = 1 << 16  # of the ring, a multiple of 8
WORD = 8  # Each message is preceded by its length, in 8 bytes, and begins at a multiple of 8.


def message(number: int) -> bytes:
    """The message of this number: 1 to 2,000 bytes, always the same ones."""
    chance = random.Random(number)
    return chance.randbytes(chance.randint(1, 2000))


def produce(segment: shmvar.Segment, messages: int) -> None:
    """Puts messages into the ring, from the first one that is not there yet."""
    with segment.lock("producer"):  # Two producers would store over one another.
        ring = segment.buffer("ring", SIZE)  # The process that comes first makes it.
        lengths = ring.cast("Q")  # the same memory, as unsigned integers of 8 bytes
        end, first, *_ = segment.get("written", (0, 0))
        for number in range(first, messages):
            data = memoryview(message(number))
            after = end + WORD + padded(len(data))
            wait(segment, "read", lambda read, after=after: after - read[0] <= SIZE)
            lengths[end % SIZE // WORD] = len(data)
            begin = (end + WORD) % SIZE
            whole = min(len(data), SIZE - begin)  # What does not fit before the end of the ring goes to its beginning.
            ring[begin : begin + whole] = data[:whole]
            ring[: len(data) - whole] = data[whole:]
            end = after
            segment["written"] = (end, number + 1)  # Whoever sees this sees the bytes.


def consume(segment: shmvar.Segment, messages: int) -> None:
    """Reads the messages, from the first one that is not counted yet, and adds each to the checksum."""
    with segment.lock("consumer"):
        ring = segment.buffer("ring", SIZE)
        lengths = ring.cast("Q")
        begin, first, checksum = segment.get("read", (0, 0, 0))
        for number in range(first, messages):
            wait(segment, "written", lambda written, number=number: written[1] > number)
            length = lengths[begin % SIZE // WORD]
            place = (begin + WORD) % SIZE
            whole = min(length, SIZE - place)
            checksum = zlib.crc32(ring[place : place + whole], checksum)  # straight from the ring, without a copy
            checksum = zlib.crc32(ring[: length - whole], checksum)
            begin += WORD + padded(length)
            # From here on the producer may overwrite it. The result is in the same variable as the count: after a kill
            # neither of them is there without the other.
            segment["read"] = (begin, number + 1, checksum)


def padded(length: int) -> int:
    return -(-length // WORD) * WORD


def wait(segment: shmvar.Segment, index: str, enough: Callable[[tuple[int, ...]], bool]) -> None:
    """Sleeps until the count under `index` is enough; ends with `WaitTimeoutError` where nothing comes for a minute."""
    while True:
        seen = segment.version(index)  # before the look: a change after it ends the wait at once
        if enough(segment.get(index, (0, 0))):
            return
        segment.wait(index, 60, newer_than=seen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--method", choices=multiprocessing.get_all_start_methods(), help="how processes are started")
    words = parser.parse_args()
    context, parts, killed = multiprocessing.get_context(words.method), (produce, consume), 0
    key = f"example-ring-{os.getpid()}-{time.monotonic_ns()}"  # of this run: two runs at a time do not meet
    with shmvar.attach(key, create=True) as segment:

        def start(part: Callable[[shmvar.Segment, int], None]) -> multiprocessing.process.BaseProcess:
            process = context.Process(target=part, args=(segment, words.messages), daemon=True)
            process.start()
            return process

        try:
            begin, running = time.monotonic(), [start(part) for part in parts]
            for kill in range(1, words.kills + 1):
                goal, place = words.messages * kill // (words.kills + 1), random.randrange(len(parts))
                while segment.get("written", (0, 0))[1] < goal and all(process.is_alive() for process in running):
                    time.sleep(0.01)
                if running[place].is_alive():
                    running[place].kill()
                    running[place].join()
                    running[place], killed = start(parts[place]), killed + 1
            for process in running:
                process.join()
            seconds = time.monotonic() - begin
            size, count, checksum = segment.get("read", (0, 0, 0))
        finally:
            segment.destroy()
    right = 0
    for number in range(words.messages):
        right = zlib.crc32(message(number), right)
    print(f"{count} messages, {size >> 10} KiB, in {seconds:.1f} s; {killed} times a process was killed")
    if (count, checksum) == (words.messages, right):
        print("Each message has arrived once, whole and in its order.")
        return 0
    print("Something was lost, or is not what was sent.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
