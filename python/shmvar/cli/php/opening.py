"""Opens the segment of PHP's that a command line names, within the semaphore that it names."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import shmvar
from shmvar.cli.outcome import Refused
from shmvar.cli.php import kernel

if TYPE_CHECKING:
    from shmvar import php

_MORE_BYTES = "destroy the segment and make it again with more bytes"
"""What the error of a segment without room advises."""


@contextlib.contextmanager
def existing(args: argparse.Namespace, before: Callable[[], object] = lambda: None) -> Iterator[php.Segment]:
    """The segment of `args.key`, which must exist, while the semaphore of `args.lock` is held.

    `before` is called when it is held, and this process is not attached yet.
    """
    from shmvar import php

    with _held(args.lock) as lock:
        before()
        try:
            segment = php.attach(args.key, create=False, lock=lock)
        except shmvar.SegmentNotFoundError:
            raise Refused(f"no segment of PHP's with key {named(args.key)}{_of_ours(args.key)}") from None
        with segment:
            yield segment


@contextlib.contextmanager
def or_created(args: argparse.Namespace) -> Iterator[php.Segment]:
    """The segment of `args.key`, created if there is none. One that is new and empty goes if the command fails."""
    from shmvar import php

    with _held(args.lock) as lock, php.attach(args.key, args.size, args.perm, lock=lock) as segment:
        try:
            yield segment
        except BaseException as error:
            removed = _remove_unused(segment)
            if isinstance(error, shmvar.SegmentFullError):
                raise Refused(_full(error, args.key, removed)) from None
            raise


def _remove_unused(segment: php.Segment) -> bool:
    """Removes a segment that this process made, if it is empty and nobody else is attached. Returns whether it did."""
    with contextlib.suppress(shmvar.Error, OSError):
        info = segment.info()
        if segment.created and info.count == 0 and info.attached == 1:
            segment.destroy()
            return True
    return False


def _full(error: shmvar.SegmentFullError, key: int, removed: bool) -> str:
    """The text of an error about room, with the size that would have been enough."""
    enough = error.size + error.needed - error.free
    remove = "" if removed else f"remove the segment (shmvar php destroy {key}), and store all anew with "
    return str(error).replace(_MORE_BYTES, f"{remove}--size {enough}, or more")


@contextlib.contextmanager
def _held(key: int | None) -> Iterator[php.Semaphore | None]:
    """The semaphore of a key, which is held meanwhile, and never made. None: nobody asked for one."""
    from shmvar import php

    if key is None:
        yield None
        return
    if not kernel.has_semaphore(key):
        text = (
            f"no semaphore of PHP's with key {named(key)}; whoever uses the segment makes it (sem_get), this does not"
        )
        raise Refused(text)
    with contextlib.closing(php.Semaphore(key)) as semaphore, semaphore:
        yield semaphore


def _of_ours(key: int) -> str:
    """The end of a message about a segment that PHP does not have: this package may have one with its key."""
    try:
        found = shmvar.exists(key)
    except (shmvar.Error, OSError):
        return ""
    return f"; shmvar itself has a segment {key}: leave out the word php" if found else ""


def missing(segment: php.Segment, index: int) -> Refused:
    """The error of a variable that is not there."""
    return Refused(f"no variable {index} in PHP's segment {named(segment.key)}")


def named(key: int) -> str:
    """A key as messages and tables show it, in both of the forms that people use."""
    return f"{key} (0x{key & 0xFFFFFFFF:08x})"
