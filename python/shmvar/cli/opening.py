"""Opens the segment that a command line names."""

import argparse
import contextlib
from collections.abc import Iterator

import shmvar
from shmvar.cli import suggestions, urls
from shmvar.cli.outcome import Refused


def for_reading(args: argparse.Namespace) -> shmvar.Segment:
    """The segment of `args.key`, which must exist, through a read-only handle. Values run code only with `--trust`."""
    return existing(args.key, readonly=True, trust=getattr(args, "trust", False))


def for_many(key: int | str) -> shmvar.Segment:
    """The segment of a key, which must exist, for reading very many variables. Values run no code.

    The handle may write where the segment is this user's alone: through a read-only one each look at a slot is a call
    to the kernel, and a list of a million variables takes ten times as long. A segment that others may write to is
    read so all the same, because they may cut it short; that is an error then, and otherwise a signal.
    """
    if not urls.is_url(key):
        with existing(key, readonly=True) as segment:
            alone = segment.trusted
        if alone:
            return writing_if_allowed(key, trust=False)
    return existing(key, readonly=True, trust=False)


def writing_if_allowed(key: int | str, trust: bool | None = None) -> shmvar.Segment:
    """The segment of a key, which must exist: for writing, or for reading where this user may do no more."""
    try:
        return existing(key, trust=trust)
    except (shmvar.SegmentAccessError, shmvar.SegmentBusyError):
        return existing(key, readonly=True, trust=trust)


def existing(key: int | str, *, readonly: bool = False, trust: bool | None = None) -> shmvar.Segment:
    """The segment of a key, which must exist."""
    try:
        return shmvar.attach(key, create=False, readonly=readonly, trust=trust)
    except shmvar.SegmentNotFoundError as error:
        raise Refused(f"{error}{suggestions.for_key(key)}") from None


def no_variable(segment: shmvar.Segment, index: int | str) -> Refused:
    """The error for a variable that is not there."""
    return Refused(f"no variable {index!r} in the segment {named(segment)}{suggestions.for_index(segment, index)}")


def named(segment: shmvar.Segment) -> str:
    """What a message calls a segment: its key as Python shows it, or its URL, which has no password."""
    return repr(segment.key) if isinstance(segment, shmvar.Segment) else segment.url


@contextlib.contextmanager
def or_created(key: int | str, args: argparse.Namespace) -> Iterator[shmvar.Segment]:
    """The segment of a key, created with `--size`, `--perm` and `--evict` if there is none.

    If the command fails, a segment that it created for nothing is removed.
    """
    with shmvar.attach(key, args.size, perm=args.perm, evict=args.evict) as segment:
        try:
            yield segment
        except BaseException:
            _remove_unused(segment)
            raise


def _remove_unused(segment: shmvar.Segment) -> None:
    """Removes a segment that this process created, if it is empty and no other process has attached it meanwhile.

    A server does not know who has attached a segment, so one there stays.
    """
    with contextlib.suppress(shmvar.Error, OSError):
        info = segment.info()
        if segment.created and info.count == 0 and not info.queues and info.attached == 1:
            segment.destroy()
