"""`shmvar.copy` where one of the two segments is PHP's, or both are."""

from __future__ import annotations

from operator import index as as_int

from shmvar._errors import Error, SegmentFullError, UnsupportedError
from shmvar.php._errors import SerializeError
from shmvar.php._native import Segment

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, SupportsIndex

_MISSING: Any = object()


def copy(source: Any, target: Any, indices: Iterable[SupportsIndex | str] | None) -> int:
    """What `shmvar.copy` does, with one segment of PHP at least."""
    wanted = list(source if indices is None else indices)
    if isinstance(target, Segment):
        _refuse_texts(source, wanted, all_of_it=indices is None)
    between = _text if isinstance(source, Segment) and isinstance(target, Segment) else _value
    return sum(_one(between, source, target, index) for index in wanted)


def _one(between: Callable[[Any, Any, Any], bool], source: Any, target: Any, index: SupportsIndex | str) -> bool:
    """Copies a variable. Whoever reads the error knows how far this came."""
    try:
        return between(source, target, index)
    except (SegmentFullError, ValueError) as error:
        if not isinstance(error, SerializeError):
            error.args = (f"{error}; those before it were copied", *error.args[1:])
        raise


def _refuse_texts(source: Any, wanted: list[SupportsIndex | str], *, all_of_it: bool) -> None:
    """Raises for indexes that PHP cannot have, before anything is copied."""
    texts = [index for index in wanted if isinstance(index, str)]
    if not texts:
        return
    many = "the index" if len(texts) == 1 else f"{len(texts)} indexes, among them"
    whose = f" of the segment {_name(source)}" if all_of_it else ""
    raise UnsupportedError(
        f"{many} {texts[0]!r}{whose} cannot go to PHP, whose variables have numbers; nothing was copied. Name those "
        "that can: copy(source, target, [index for index in source if isinstance(index, int)])"
    )


def _name(segment: Any) -> str:
    """What a message calls a segment: its key, or its URL, which has no password."""
    return getattr(segment, "url", None) or repr(segment.key)


def _text(source: Segment, target: Segment, index: SupportsIndex) -> bool:
    """From PHP to PHP: what `serialize` has made, as it is."""
    text = source._get_text(as_int(index))
    if text is None:
        return False
    target._put_text(as_int(index), text)
    return True


def _value(source: Any, target: Any, index: SupportsIndex | str) -> bool:
    """Between PHP and this package: the value, as the handles read and write it."""
    try:
        value = source.get(index, _MISSING)
        if value is _MISSING:
            return False
        target.put(index, value)
    except SerializeError as error:
        text = f"variable {index!r} of the segment {_name(source)} cannot go to PHP: {error}"
        raise SerializeError(f"{text}; those before it were copied", error.place) from None
    except Error as error:
        # Only then: that module imports pickle.
        from shmvar._untrusted_error import UntrustedValueError

        if not isinstance(error, UntrustedValueError):
            raise
        raise UntrustedValueError(
            f"variable {index!r} of the segment {_name(source)}: {error}; those before it were copied. To copy the "
            "others, name them: copy(source, target, indices)"
        ) from None
    return True
