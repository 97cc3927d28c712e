"""Bars of progress: that of tqdm, a simple one on a terminal, one in a notebook, and lines in a file.

Each has `show(done)`, with a number from 0 to the total, and `close()`, which leaves it as it is.
"""

from __future__ import annotations

import sys
import time
import warnings

from shmvar._text import html, number, seconds
from shmvar.notebook import _front_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TextIO

    class _Bar(Protocol):
        def show(self, done: float) -> None: ...
        def close(self) -> None: ...


_CELLS = 30
_FONT = "font-size:var(--jp-ui-font-size1,13px)"
_TENTHS = 10


def bar_for(desc: str, total: float, done: float) -> _Bar:
    """The bar for where the program runs, drawn with what is done at the beginning."""
    if _front_end.shell() is not None:
        return _Tqdm.made(desc, total, done, True) or _Notebook(desc, total, done)
    err = sys.stderr
    if err is None:
        return _Nowhere()
    if not err.isatty():
        return _Lines(err, desc, total, done)
    return _Tqdm.made(desc, total, done, False) or _Terminal(err, desc, total, done)


class _State:
    """How far it is, as text."""

    def __init__(self, desc: str, total: float, done: float) -> None:
        self.desc = desc
        self.total = total
        self.began_with = self.done = done
        self._began = time.monotonic()

    @property
    def part(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 1.0

    def text(self) -> str:
        passed = time.monotonic() - self._began
        rate = (self.done - self.began_with) / passed if passed > 0 else 0.0
        left = "" if rate <= 0 or self.part == 1.0 else f", {seconds((self.total - self.done) / rate)} left"
        return f"{_shown(self.done)} of {_shown(self.total)} in {seconds(passed)}, {_shown(round(rate, 1))}/s{left}"

    def percent(self) -> str:
        return f"{int(self.part * 100)} %"


def _shown(value: float) -> str:
    return number(int(value)) if value == int(value) else f"{value:,.6g}"


class _Nowhere:
    """A program without stderr."""

    def show(self, done: float) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines:
    """A file or a pipe: a line at each tenth, without control characters."""

    def __init__(self, out: TextIO, desc: str, total: float, done: float) -> None:
        self._out = out
        self._state = _State(desc, total, done)
        self._tenth = int(self._state.part * _TENTHS)
        self._told: float | None = None
        if self._state.part == 1.0:
            self._tell()

    def show(self, done: float) -> None:
        self._state.done = done
        tenth = int(self._state.part * _TENTHS)
        if tenth > self._tenth:
            self._tell()
        self._tenth = tenth

    def close(self) -> None:
        if self._told != self._state.done:
            self._tell()

    def _tell(self) -> None:
        self._told = self._state.done
        print(f"{self._state.desc}: {self._state.percent()}, {self._state.text()}", file=self._out, flush=True)


class _Terminal:
    """A line that is written over, cut at the width of the terminal."""

    def __init__(self, out: TextIO, desc: str, total: float, done: float) -> None:
        self._out = out
        self._state = _State(desc, total, done)
        self._width = 0
        self._draw()

    def show(self, done: float) -> None:
        self._state.done = done
        self._draw()

    def close(self) -> None:
        self._draw()
        print(file=self._out, flush=True)

    def _draw(self) -> None:
        import shutil

        full = round(self._state.part * _CELLS)
        line = (
            f"{self._state.desc} {self._state.percent():>5} [{'#' * full}{'.' * (_CELLS - full)}] {self._state.text()}"
        )
        line = line[: max(shutil.get_terminal_size().columns - 1, 10)]
        self._out.write("\r" + line.ljust(self._width))
        self._out.flush()
        self._width = len(line)


class _Notebook:
    """One display that is changed in place. It needs no widgets."""

    def __init__(self, desc: str, total: float, done: float) -> None:
        from IPython.display import display

        self._state = _State(desc, total, done)
        self._handle = display(self, display_id=True)

    def show(self, done: float) -> None:
        self._state.done = done
        if self._handle is not None:
            self._handle.update(self)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.update(self)

    def __repr__(self) -> str:
        return f"{self._state.desc}: {self._state.percent()}, {self._state.text()}"

    def _repr_html_(self) -> str:
        desc, text = html(self._state.desc), html(f"{self._state.percent()} · {self._state.text()}")
        return (
            f'<label style="display:flex;gap:1em;align-items:center;flex-wrap:wrap;{_FONT}"><span>{desc}</span>'
            f'<progress max="1" value="{self._state.part:.4f}" style="width:20em"></progress>'
            f"<span>{text}</span></label>"
        )


class _Tqdm:
    """The bar of tqdm, with its rate, and in a notebook its widget."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    @classmethod
    def made(cls, desc: str, total: float, done: float, notebook: bool) -> _Tqdm | None:
        """None: tqdm is not installed, or has no widget here."""
        try:
            if notebook:
                import ipywidgets  # noqa: F401
                from tqdm.notebook import tqdm
            else:
                from tqdm import tqdm
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # No thread watches it, and it is drawn when it is told of something new, which is not too often.
                bar = type("Bar", (tqdm,), {"monitor_interval": 0})(
                    desc=desc, total=total, initial=done, mininterval=0, miniters=0
                )
        except ImportError:
            return None
        return cls(bar)

    def show(self, done: float) -> None:
        self._bar.n = done
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()
