"""One of two scripts that know nothing of each other but a number.

    python examples/two_scripts/writer.py &
    python examples/two_scripts/reader.py

Start them in any order. Kill one at any moment and start it again: the other does not notice.
"""

import time

import shmvar

KEY = 1993
STATION = 1


def main() -> None:
    with shmvar.attach(KEY) as segment:
        for number in range(1, 21):
            segment[STATION] = {"number": number, "celsius": [19.5 + number / 10, 21.0, 18.25]}
            time.sleep(0.1)
        segment[STATION] = None  # the end
    print("writer: 20 measurements written")


if __name__ == "__main__":
    main()
