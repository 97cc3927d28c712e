"""Writes a picture (SVG) of what `shmvar top` shows at this moment: `python tools/top_picture.py FILE`.

It is drawn by the program itself, of the segments that are there. Run something on them first.
"""

import argparse
import select
import time

from rich.text import Text
from terminal_picture import picture as picture_of
from terminal_picture import recorder

from shmvar.cli.top import columns, drawing, loop, sorting
from shmvar.cli.top.observer import Observer


def picture(width: int, height: int, order: str, details: int | None, seconds: float) -> str:
    """The screen after two looks, between which so many seconds passed. `details`: of the row with this number."""
    screen = loop.Screen(drawing.View(order=order, interval=seconds))
    view = screen.view
    observer = Observer([])
    try:
        for turn in range(2):
            time.sleep(seconds * turn)
            observer.ask(view.selected)
            while (sample := observer.receive()) is None:
                select.select([observer], [], [], 0.1)
            screen.take(sample)
            if details is not None and view.rows and not view.chosen:
                at = min(details, len(view.rows)) - 1
                view.selected, view.chosen, view.detailed = view.rows[at].name, True, True
    finally:
        observer.close()
    screen.scroll(drawing.body_height(view, height))
    console = recorder(width, height)
    lines = drawing.frame(view, width, height, columns.FINE)
    console.print(Text("\n").join(lines), no_wrap=True, overflow="ignore", crop=False)
    return picture_of(console, "shmvar top")


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--sort", choices=tuple(sorting.ORDERS), default="key")
    parser.add_argument("--details", type=int, metavar="N", help="of the Nth row of the first look")
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    made = picture(args.columns, args.lines, args.sort, args.details, args.seconds)
    with open(args.file, "w", encoding="utf-8") as file:
        file.write(made)


if __name__ == "__main__":
    main()
