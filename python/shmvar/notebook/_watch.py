"""What `watch` takes: its arguments are looked at before the widget is made, and what is not installed is named."""

from __future__ import annotations

from operator import index as int_of

from shmvar.notebook._arguments import is_segment, plain_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex

    from shmvar._core import Segment
    from shmvar.notebook._widget import Watch

_MOST_ROWS = 1000
_MISSING = (
    "shmvar.notebook.watch needs the package {name!r}, which is not installed here: "
    'run  pip install "shmvar[notebook]"  (in a notebook: %pip) and start the kernel again'
)


def watch(segment: Segment, indices: Iterable[SupportsIndex | str] | None, rows: int) -> Watch:
    """Makes the widget."""
    is_segment(segment)
    if isinstance(indices, str):
        raise TypeError("indices is a str, which is one index: write watch(segment, [index])")
    if indices is not None and not hasattr(indices, "__iter__"):
        raise TypeError(f"indices must be a list of indexes, or None, not {type(indices).__name__}")
    chosen = None if indices is None else list(dict.fromkeys(plain_index(segment, index) for index in indices))
    if not hasattr(rows, "__index__"):
        raise TypeError(f"rows must be an int, not {type(rows).__name__}")
    rows = int_of(rows)
    if not 1 <= rows <= _MOST_ROWS:
        raise ValueError(f"rows must be from 1 to {_MOST_ROWS}, not {rows}")
    try:
        import anywidget  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_MISSING.format(name=error.name), name=error.name) from None
    from shmvar.notebook._widget import Watch

    return Watch(segment, chosen, rows)
