"""The other script: prints what writer.py measures, then destroys the segment. How to run both is there."""

import time

import shmvar

KEY = 1993
STATION = 1


def main() -> None:
    last, deadline = 0, time.monotonic() + 30
    with shmvar.attach(KEY) as segment:
        while time.monotonic() < deadline:
            measurement = segment.get(STATION, {"number": 0})
            if measurement is None:
                break
            if measurement["number"] != last:
                last = measurement["number"]
                print(f"reader: number {last}: {measurement['celsius']}")
            time.sleep(0.05)
        segment.destroy()


if __name__ == "__main__":
    main()
