"""For notebooks: a live table of a segment, and a progress bar of a counter that other processes add to.

>>> import shmvar.notebook
>>> shmvar.notebook.watch(segment)                    # as the last line of a cell
>>> shmvar.notebook.progress(segment, "done", 1000)   # in a terminal, too

`watch` needs `shmvar[notebook]`, which is anywidget. `progress` needs nothing; it looks like tqdm where tqdm is
installed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex

    from shmvar._core import Segment
    from shmvar.notebook._widget import Watch


def watch(segment: Segment, indices: Iterable[SupportsIndex | str] | None = None, *, rows: int = 50) -> Watch:
    """Return a live table of a segment's variables, for the last line of a cell or for `display`.

    >>> shmvar.notebook.watch(segment)
    >>> shmvar.notebook.watch(segment, ["done", "failed"])

    A row has the index, the type, the size, the version and the beginning of the value, how many changes there were a
    second, and how many in each second of the last minute. It follows what any process changes, also while a cell runs.
    Nothing is polled: a thread sleeps until something changes, and the browser is sent a few messages a second at most,
    and none while nothing changes. While the table cannot be seen nothing is read, and after a minute the thread ends;
    both go on when it is in sight again. When the output is cleared, or the cell runs again, everything ends.

    Values are read as data only, also through a trusted handle: no code of theirs runs. Where an index may have changed
    several times between two looks, only one change is counted, and "≥" stands before the number.

    Where nothing draws the widget (plain Python, IPython in a terminal), its `repr` is the table of the moment.

    Args:
        segment: of this machine or on a server. The table says so when it is destroyed or the handle is detached.
        indices: the variables that are shown, in this order; they need not be there yet. None: those that change most,
            then those that changed last, then the others by index.
        rows: at most so many are shown; below them stands how many more there are.

    Returns:
        A widget. Its `close` ends it for good.

    Raises:
        ModuleNotFoundError: `shmvar[notebook]` is not installed.
        TypeError: `segment` is no segment, `indices` is a `str` (one index: write `[index]`), or `rows` is no int.
        ValueError: `rows` is not from 1 to 1000.
    """
    from shmvar.notebook._watch import watch

    return watch(segment, indices, rows)


def progress(
    segment: Segment,
    index: SupportsIndex | str,
    total: float,
    *,
    desc: str | None = None,
    timeout: float | None = None,
) -> int | float:
    """Show how far a counter has come, until it reaches `total`; in a notebook, in a terminal, and in a file.

    >>> workers = pool.map_async(work, jobs)    # each ends with segment.add("done")
    >>> shmvar.notebook.progress(segment, "done", len(jobs))
    1000

    The bar is that of tqdm where tqdm is installed, otherwise a simple one. It sleeps until the counter changes, and is
    drawn ten times a second at most. It is written to stderr. If that is no terminal, there is a line at each tenth,
    without control characters. Ctrl-C ends it, and leaves the bar as it is.

    Args:
        segment: of this machine or on a server.
        index: of the counter, an int or a float, which `add` changes. While there is none it counts as 0.
        total: at which the counter is complete: 0 or more. Beyond it the bar stays full.
        desc: what stands before the bar. None: the index.
        timeout: in seconds, for all of it. None: without end.

    Returns:
        The counter, at least `total`.

    Raises:
        TypeError: `total` is no number, or the variable is none; `segment` is no segment, or `index` no index.
        ValueError: `total` is negative or not finite, or `timeout` is negative.
        WaitTimeoutError: the timeout is over.
        SegmentNotFoundError: the segment was destroyed.
        DetachedError: the handle was detached.
    """
    from shmvar.notebook._progress import progress

    return progress(segment, index, total, desc, timeout)


__all__ = ["progress", "watch"]
