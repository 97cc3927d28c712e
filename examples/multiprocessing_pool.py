"""A pool of processes works on one table; each finds its input there and leaves its answer there.

    python examples/multiprocessing_pool.py

The handle goes to the workers as an argument: unpickled there, it is attached to the same segment, whatever
the start method.
"""

import multiprocessing

import shmvar


def analyse(segment: shmvar.Segment, number: int) -> None:
    text = segment[f"text {number}"]
    segment[f"words {number}"] = sorted(set(text.lower().split()))


def main() -> None:
    texts = ["the cat saw the dog", "a dog saw a bird", "the bird saw nobody"]
    with shmvar.attach("example-pool", create=True) as segment:
        try:
            for number, text in enumerate(texts):
                segment[f"text {number}"] = text
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                pool.starmap(analyse, [(segment, number) for number in range(len(texts))])
            for number in range(len(texts)):
                print(number, segment[f"words {number}"])
        finally:
            segment.destroy()


if __name__ == "__main__":
    main()
