"""The output of a soak: a progress line on a terminal, and a table at the end."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table


class Progress:
    """A progress bar on a terminal. No thread draws it, because the director forks."""

    def __init__(self, seed: int) -> None:
        self.seed, self.bar, self.drawn = seed, None, 0.0

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            texts = TextColumn("soak, seed {task.fields[seed]}"), TextColumn("{task.fields[text]}")
            self.bar = Bar(texts[0], BarColumn(), TimeRemainingColumn(), texts[1], auto_refresh=False)
            self.bar.start()
            self.task = self.bar.add_task("soak", total=1.0, seed=self.seed, text="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, share: float, events: dict[str, int], counts: dict[str, int]) -> None:
        if self.bar and time.monotonic() - self.drawn > 0.25:
            self.drawn = time.monotonic()
            kills = sum(n for name, n in events.items() if name.startswith("kill"))
            text = f"{counts['values compared']:,} values compared, {kills} kills"
            self.bar.update(self.task, completed=share, text=text, refresh=True)


def table(counts: dict[str, int]) -> None:
    """Prints all counts in two columns."""
    shown = Table("what", "how often", "what", "how often", box=None, pad_edge=False)
    for column in (1, 3):
        shown.columns[column].justify = "right"
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    half = (len(rows) + 1) // 2
    for number in range(half):
        shown.add_row(*rows[number], *(rows[half + number] if half + number < len(rows) else ("", "")))
    Console(width=100).print(shown)
