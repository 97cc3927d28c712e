"""Writes a picture (SVG) of `shmvar demo`: `python tools/demo_picture.py FILE`.

The demo runs, with its processes and its kills, and draws itself: its introduction, its live table as it is last seen,
and the account.
"""

import argparse

from terminal_picture import picture, recorder

from shmvar.cli.demo import show
from shmvar.cli.demo.stage import Stage, play


def run(seconds: float, width: int) -> tuple[str, bool]:
    """The picture, and whether the demo found nothing lost."""
    console = recorder(width)
    console.print("[bold]$ shmvar demo[/]")
    console.print(show.INTRO, highlight=False)
    with Stage() as stage:
        table = show.table(stage, 0.0, seconds)
        for passed in play(stage, seconds):
            table = show.table(stage, passed, seconds)
        account = stage.account()
    console.print(table)
    console.print(show.text(account).strip("\n"), highlight=False)
    return picture(console, "shmvar demo"), account.good


def main() -> int:
    """Writes the file. The exit status is 1 if the demo found a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--columns", type=int, default=92)
    args = parser.parse_args()
    made, good = run(args.seconds, args.columns)
    with open(args.file, "w", encoding="utf-8") as file:
        file.write(made)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
