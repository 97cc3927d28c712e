"""Values as they are stored, between any two segments: of this machine, or on a server. Nothing is unpickled."""

from __future__ import annotations

import sys

from shmvar._core import Segment, _get_pickle, _put_pickle
from shmvar._errors import SegmentBusyError

TYPE_CHECKING = False  # not from `typing`, whose import costs more than the rest of the package
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex

    from typing_extensions import TypeIs

    from shmvar.php import Segment as PhpSegment


def copy(
    source: Segment | PhpSegment,
    target: Segment | PhpSegment,
    indices: Iterable[SupportsIndex | str] | None = None,
) -> int:
    """Copy variables from one segment into another, and return how many there were.

    Each of the two may be a segment of this machine, one on a server, or one of PHP's (`shmvar.php.attach`). Values are
    copied as they are stored, without running their code, and keep the time to live that is left. Each is of one
    instant; all of them together are not. A variable that is not there, or that vanishes meanwhile, is left out.

    Between PHP and this package a value is read and written anew: what a segment that is not trusted holds is read as
    plain data only, PHP has no time to live, and an empty array of PHP is `[]`, so `{}` comes back as `[]`.

    Args:
        source: where they are read.
        target: where they are stored, over what is there.
        indices: which ones. None: all.

    Raises:
        TypeError: `indices` is a `str`, which is one index: write `[index]`.
        SegmentFullError: a value does not fit; those before it were copied.
        SegmentBusyError: a variable changed each time it was read.
        UnsupportedError: an index is a `str`, and `target` is PHP's: there indexes are numbers. Nothing was copied.
        shmvar.php.SerializeError: PHP cannot hold a value; those before it were copied.
        UntrustedValueError: `target` is PHP's, and a value of `source`, which is not trusted, needs code to be read;
            those before it were copied.
    """
    if isinstance(indices, str):
        raise TypeError("indices is a str, which is one index: write copy(source, target, [index])")
    if is_php(source) or is_php(target):
        from shmvar.php import _bridge

        return _bridge.copy(source, target, indices)
    count = 0
    for index in source if indices is None else indices:
        pickle, expires_in = consistent(source, index)
        if pickle is not None:
            put_pickle(target, index, pickle, expires_in)
            count += 1
    return count


def is_php(segment: object) -> TypeIs[PhpSegment]:
    """Whether it is one of PHP's. Where nobody has imported that module, nobody has one."""
    php = sys.modules.get("shmvar.php")
    return php is not None and isinstance(segment, php.Segment)


def consistent(segment: Segment, index: SupportsIndex | str) -> tuple[bytes | None, float | None]:
    """The pickle of a variable and the seconds until it expires, both of one instant. None: there is none."""
    if not isinstance(segment, Segment):
        found: tuple[bytes, float | None] | None = segment._pickled(index)
        return (None, None) if found is None else found
    for _ in range(1000):
        try:
            found_there = segment.stat(index)
        except KeyError:
            return None, None
        pickle = _get_pickle(segment, index)  # type: ignore[arg-type]
        if pickle is None or segment.version(index) == found_there.version:
            return pickle, found_there.expires_in
    raise SegmentBusyError(f"variable {index!r} changes each time it is read")


def put_pickle(segment: Segment, index: SupportsIndex | str, pickle: bytes, ttl: float | None = None) -> None:
    """Stores bytes that are a pickle."""
    if ttl is not None:
        ttl = max(ttl, 1e-6)  # it expires in this very moment
    if isinstance(segment, Segment):
        _put_pickle(segment, index, pickle, ttl)  # type: ignore[arg-type]
    else:
        segment._put_pickle(index, pickle, ttl)
