"""`shmvar show`: the variables of a segment, one a line."""

import reprlib
from collections.abc import Iterator
from typing import Any

import shmvar

# A larger value is not read for the sake of its first characters.
LARGEST = 64 << 10
WIDTH = 60
FIELDS = ("index", "size", "version", "expires_in", "type", "viewable", "repr", "error")
_GONE = object()


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = WIDTH
        self.maxlevel = 3

    def repr1(self, x: Any, level: int) -> str:
        # Digits of a large int take a time that grows with their square.
        if isinstance(x, int) and x.bit_length() > 4096:
            return f"<int of {x.bit_length()} bits>"
        return super().repr1(x, level)


def variables(segment: shmvar.Segment) -> Iterator[dict[str, Any]]:
    """Index, what `stat` says, and a short text of the value; `None`: it is large, or not plain data."""
    for index in sorted(segment.keys(), key=lambda index: (isinstance(index, str), index)):
        try:
            found = segment.stat(index)
            shown = {"index": index, **found._asdict()}
        except KeyError:
            continue  # it vanished meanwhile
        except shmvar.CorruptSegmentError as error:
            yield dict.fromkeys(FIELDS) | {"index": index, "error": str(error)}
            continue
        text, error_text = _short(segment, index) if found.size <= LARGEST else (None, None)
        yield shown | {"repr": text, "error": error_text}


def _short(segment: shmvar.Segment, index: int | str) -> tuple[str | None, str | None]:
    try:
        value = segment.get(index, _GONE)
    except shmvar.UntrustedValueError:
        return None, None
    except Exception as error:  # of a damaged one: whatever decoding it raises
        return None, f"{type(error).__name__}: {error}"
    if value is _GONE:
        return None, "it was removed meanwhile"
    text = _Short().repr(value)
    return (text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"), None
