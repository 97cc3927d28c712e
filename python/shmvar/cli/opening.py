"""Opens the segment that a command line names."""

import argparse
import contextlib
from collections.abc import Iterator

import shmvar
from shmvar.cli import suggestions
from shmvar.cli.outcome import Refused


def for_reading(args: argparse.Namespace) -> shmvar.Segment:
    """The segment of `args.key`, which must exist, through a read-only handle. Values run code only with `--trust`."""
    return existing(args.key, readonly=True, trust=getattr(args, "trust", False))


def existing(key: int | str, *, readonly: bool = False, trust: bool | None = None) -> shmvar.Segment:
    """The segment of a key, which must exist."""
    try:
        return shmvar.attach(key, create=False, readonly=readonly, trust=trust)
    except shmvar.SegmentNotFoundError as error:
        raise Refused(f"{error}{suggestions.for_key(key)}") from None


def no_variable(segment: shmvar.Segment, index: int | str) -> Refused:
    """The error for a variable that is not there."""
    return Refused(f"no variable {index!r} in the segment {segment.key!r}{suggestions.for_index(segment, index)}")


@contextlib.contextmanager
def or_created(args: argparse.Namespace) -> Iterator[shmvar.Segment]:
    """The segment of `args.key`, created with `--size`, `--perm` and `--evict` if there is none.

    If the command fails, a segment that it created for nothing is removed.
    """
    with shmvar.attach(args.key, args.size, perm=args.perm, evict=args.evict) as segment:
        try:
            yield segment
        except BaseException:
            _remove_unused(segment)
            raise


def _remove_unused(segment: shmvar.Segment) -> None:
    """Removes a segment that this process created, if it is empty and no other process has attached it meanwhile."""
    with contextlib.suppress(shmvar.Error, OSError):
        info = segment.info()
        if segment.created and info.count == 0 and not info.queues and info.attached == 1:
            segment.destroy()
