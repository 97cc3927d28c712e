"""The other script: sleeps until so many rounds were counted, and prints the sum of the array. See meter.py."""

import sys

import shmvar


def main(key: str, rounds: int) -> None:
    with shmvar.attach(int(key) if key.isdecimal() else key) as segment:
        version = 0
        while segment.get("rounds", 0) < rounds:
            version = segment.wait("rounds", timeout=600, newer_than=version)
        print(f"look: {segment['rounds']} rounds, {segment['histogram'].sum()} in the array")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
