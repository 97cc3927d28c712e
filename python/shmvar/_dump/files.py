"""Files of dumps: one that gets its name when it is whole, and one that can be read twice."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
import tempfile

from shmvar._errors import DumpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    _Told = Callable[[int, int], object]
    """Is told how much is done, and of how much."""

HEADERS = (b"shmvar dump 1\n", b"shmvar dump 2\n")
NO_DUMP = (
    "not a dump of shmvar, or of a later version: it begins neither with 'shmvar dump 1' nor with 'shmvar dump 2'; "
    "load what `shmvar dump` wrote, with a version that is no older"
)
FOR_WRITING = "a dump goes to a path or to a file that is open for writing bytes: open(path, 'wb')"
FOR_READING = "a dump is read from a path or from a file that is open for reading bytes, not text: open(path, 'rb')"
_PIECE = 1 << 20
_PREFIX = ".shmvar-dump."
_LINKS = 40  # that are followed
_DESCRIPTORS = re.compile(r"/proc/[0-9]+(/task/[0-9]+)?/fd/[0-9]+")
_NAME_MAX = 150  # bytes of the file's own name in that of its temporary file


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A file for writing, for this user alone. It replaces the file of that name when it is whole and on the disk.

    What is no file, such as a pipe or a device, is written directly. So is a descriptor by its name, such as
    /dev/stdout: whoever opened it may have written to its file before, and goes on to do so.
    """
    if (link := descriptor_link(path)) is not None:
        with open(_opened(link), "wb") as there:
            yield there
        return
    target = _target(path)
    if target is None:
        with open(path, "wb") as device:
            yield device
        return
    folder, name = os.path.split(target)
    prefix = _PREFIX + os.fsdecode(os.fsencode(name)[:_NAME_MAX]) + "."
    with _errors_about(path):
        handle, temporary = _created(os.path.join(folder, prefix))
    process = os.getpid()
    try:
        _remove_stale(folder, prefix, temporary)
        with open(handle, "wb") as file:
            try:
                yield file
            finally:
                if os.getpid() != process:
                    _let_go(handle)
            file.flush()
            with _errors_about(path):
                os.fsync(file.fileno())
                os.replace(temporary, target)
    except BaseException:
        if os.getpid() == process:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        raise
    with _errors_about(path):
        _sync_folder(folder)


def _target(path: str) -> str | None:
    """The name of the file that is replaced; None: what is there is to be opened and written."""
    try:
        there = os.stat(path)  # follows no link that the system keeps from being followed
    except FileNotFoundError:
        if not path:
            raise
        if os.path.basename(path) in ("", ".", ".."):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        return os.path.realpath(path)
    if not stat.S_ISREG(there.st_mode):
        return None
    target = os.path.realpath(path)
    # The name of a descriptor, in /proc or /dev/fd, may lead to a file that has no name any more.
    try:
        return target if os.path.samestat(there, os.stat(target)) else None
    except OSError:
        return None


@contextlib.contextmanager
def _errors_about(path: str) -> Iterator[None]:
    """An error has the name that was asked for, not that of a temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _let_go(handle: int) -> None:
    """What a forked child has in its buffer does not go into its parent's file."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, handle, inheritable=False)
    os.close(nowhere)


def _sync_folder(folder: str) -> None:
    """Writes the new name to the disk, too. A file system that cannot do that has renamed the file all the same."""
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # a folder that this user may write to, but not read
    try:
        os.fsync(at)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(at)


def descriptor_link(path: str) -> str | None:
    """The link /proc/PID/fd/N that a path leads to, if it does; `os.path.realpath` would follow that, too."""
    for _ in range(_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        path = os.path.join(folder, name)
        if _DESCRIPTORS.fullmatch(path):
            return path
        try:
            path = os.path.join(folder, os.readlink(path))
        except OSError:
            return None
    return None


def is_stdout(path: str) -> bool:
    """Whether a path is one of the names of this process's stdout."""
    link = descriptor_link(path)
    return link is not None and link.startswith(f"/proc/{os.getpid()}/") and link.endswith("/fd/1")


def _opened(link: str) -> int:
    """A descriptor of this process again, at the same place of its file; or what another process has open."""
    pid, number = link.split("/")[2], int(os.path.basename(link))
    try:
        return os.dup(number) if pid == str(os.getpid()) else os.open(link, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        error.filename = link
        raise


def _created(prefix: str) -> tuple[int, str]:
    """A new file, and its name. It is locked as long as it is open: so others see that somebody is at it."""
    while True:
        temporary = prefix + secrets.token_hex(4)
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_stale = not os.fstat(handle).st_nlink  # Somebody took it for stale before it was locked, and removed it;
        except BlockingIOError:
            is_stale = True  # or is about to.
        except OSError:
            is_stale = False  # a file system without locks; no such file is taken for stale there
        if not is_stale:
            return handle, temporary
        os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _remove_stale(folder: str, prefix: str, own: str) -> None:
    """Removes what dumps to the same name have left that were killed: files that nobody has locked."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith(prefix) and path != own:
                with contextlib.suppress(OSError):
                    _remove_unlocked(path)


def _remove_unlocked(path: str) -> None:
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(handle)


@contextlib.contextmanager
def readable_twice(file: IO[bytes]) -> Iterator[tuple[IO[bytes], int, int]]:
    """A dump that can be read twice, where it begins, and how long it is. What cannot is copied to a temporary file."""
    try:
        start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
        # A pipe or a terminal says that it can be sought in some versions; a device has no end.
        seekable = _is_regular(file)
    except (OSError, AttributeError, ValueError) as error:
        if isinstance(error, ValueError) and getattr(file, "closed", False):
            raise
        seekable = False
    if seekable:
        if 0 < end <= start:
            raise DumpError("the file stands at its end, and is read from where it stands: seek(0), then load it")
        yield file, start, end - start
        return
    with tempfile.TemporaryFile() as copy:
        begin = _piece(file, len(HEADERS[0]))
        while begin and len(begin) < len(HEADERS[0]) and (more := _piece(file, len(HEADERS[0]) - len(begin))):
            begin += more
        if begin not in HEADERS:
            raise DumpError(NO_DUMP)  # before an endless source fills the disk
        copy.write(begin)
        while piece := _piece(file, _PIECE):
            copy.write(piece)
        length = copy.tell()
        copy.seek(0)
        yield copy, 0, length


def _is_regular(file: IO[bytes]) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, AttributeError, ValueError):
        return True  # memory, or an object of somebody's


def _piece(file: IO[bytes], most: int) -> bytes:
    return piece(file.read(most), most)


def piece(data: object, most: int) -> bytes:
    """What a file's `read` has returned, if it is at most so many bytes."""
    if data is None:
        raise BlockingIOError("a dump is read from a file that blocks")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(FOR_READING)
    if len(data) > most:
        raise ValueError(f"the file's read({most}) has to return {most} bytes at most, and returned {len(data)}")
    return bytes(data)


def is_text(file: object) -> bool:
    """Whether a file is open for text. (`tempfile` wraps its files.)"""
    return isinstance(file, io.TextIOBase) or isinstance(getattr(file, "file", None), io.TextIOBase)
