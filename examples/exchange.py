"""The Python side of exchange.rs, which says how to run both."""

import sys

import shmvar

KEY = 31_415
QUESTION, ANSWER = 1, 2


def ask() -> int:
    with shmvar.attach(KEY) as segment:
        segment[QUESTION] = {"name": "tide at noon", "values": [3.5, 4.25, 2.75, 5.0]}
    print("asked")
    return 0


def answer() -> int:
    try:
        with shmvar.attach(KEY, create=False) as segment:
            print(segment[ANSWER])
            segment.destroy()
    except (shmvar.SegmentNotFoundError, KeyError):
        print("no answer yet: cargo run --no-default-features --example exchange", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask"]:
            raise SystemExit(ask())
        case ["answer"]:
            raise SystemExit(answer())
    print("Usage: exchange.py ask | answer", file=sys.stderr)
    raise SystemExit(2)
