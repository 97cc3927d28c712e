"""Dumps: the variables of a segment in a file, as they are stored. Nothing is unpickled on the way out or in.

The format is in docs/guide.md, "Dumps".
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import IO, Any

import shmvar
from shmvar._core import _get_pickle, _pickle_fault, _put_pickle

HEADER = b"shmvar dump 1\n"
LINE_MAX = 16_384  # an index has at most 1024 bytes, each at most 6 as JSON


class Damaged(shmvar.Error, ValueError):
    """Not a dump, or not a whole one."""


@dataclass(frozen=True)
class Variable:
    """One of a dump."""

    index: int | str
    length: int
    expires_in: float | None


def dump(segment: shmvar.Segment, file: IO[bytes]) -> int:
    """Writes every variable, each whole; how many."""
    digest = hashlib.sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    write(HEADER)
    count = 0
    for index in sorted(segment.keys(), key=lambda index: (isinstance(index, str), index)):
        pickle, expires_in = _whole(segment, index)
        if pickle is None:
            continue  # it vanished meanwhile
        if fault := _pickle_fault(pickle):
            raise shmvar.CorruptSegmentError(f"variable {index!r} is damaged: {fault}; remove it to dump the others")
        write(_line({"index": index, "length": len(pickle), "expires_in": expires_in}))
        write(pickle)
        write(b"\n")
        count += 1
    file.write(_line({"variables": count, "sha256": digest.hexdigest()}))
    return count


def _whole(segment: shmvar.Segment, index: int | str) -> tuple[bytes | None, float | None]:
    """A pickle and the seconds it has left, of one put."""
    for _ in range(1000):
        try:
            found = segment.stat(index)
        except KeyError:
            return None, None
        pickle = _get_pickle(segment, index)
        if pickle is None or segment.version(index) == found.version:
            return pickle, found.expires_in
    raise shmvar.SegmentBusyError(f"variable {index!r} changes each time it is read")


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def read(file: IO[bytes]) -> Iterator[tuple[Variable, bytes]]:
    """Every variable and its pickle; `Damaged` where the file is not what `dump` writes, to its very end."""
    digest = hashlib.sha256()
    left = os.fstat(file.fileno()).st_size

    def take(data: bytes) -> bytes:
        nonlocal left
        left -= len(data)
        digest.update(data)
        return data

    if take(file.read(len(HEADER))) != HEADER:
        raise Damaged("not a dump of shmvar, or of another version: it does not begin with 'shmvar dump 1'")
    count = 0
    while True:
        line = file.readline(LINE_MAX)
        sum_so_far = digest.hexdigest()
        said = _said(take(line), count)
        if "sha256" in said:
            break
        variable = _variable(said, count)
        if variable.length > left:
            raise Damaged(
                f"the dump is cut short: variable {variable.index!r} has {variable.length} bytes, {left} follow"
            )
        pickle = take(file.read(variable.length))
        if take(file.read(1)) != b"\n":
            raise Damaged(f"the dump is damaged: variable {variable.index!r} does not end where it should")
        if fault := _pickle_fault(pickle):
            raise Damaged(f"the dump is damaged: variable {variable.index!r}: {fault}")
        yield variable, pickle
        count += 1
    if said != {"variables": count, "sha256": sum_so_far}:
        raise Damaged("the dump is damaged: its check sum does not match")
    if file.read(1):
        raise Damaged("the dump is damaged: something follows its end")


def _said(line: bytes, count: int) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise Damaged(f"the dump is cut short after {count} variables")
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Damaged(f"the dump is damaged after {count} variables")
    return said


def _variable(said: dict[str, Any], count: int) -> Variable:
    index: Any = said.get("index")
    length, expires_in = said.get("length"), said.get("expires_in")
    good_index = (type(index) is int and -(2**63) <= index < 2**63) or (type(index) is str and _bytes(index) <= 1024)
    good_expiry = expires_in is None or (type(expires_in) in (int, float) and 0 < expires_in < 1e300)
    if (
        said.keys() != {field.name for field in fields(Variable)}
        or not good_index
        or type(length) is not int
        or not good_expiry
    ):
        raise Damaged(f"the dump is damaged after {count} variables")
    if length < 1:
        raise Damaged(f"the dump is damaged: variable {index!r} has {length} bytes")
    return Variable(index, length, expires_in)


def _bytes(index: str) -> float:
    """Of its UTF-8; without end where it has none."""
    try:
        return len(index.encode())
    except UnicodeEncodeError:
        return float("inf")


def verify(file: IO[bytes]) -> int:
    """Reads all of it, stores nothing: how many variables."""
    return sum(1 for _ in read(file))


def load(segment: shmvar.Segment, file: IO[bytes]) -> Iterator[Variable]:
    """Stores every variable over what is there, and gives each back when it is stored."""
    for variable, pickle in read(file):
        _put_pickle(segment, variable.index, pickle, variable.expires_in)
        yield variable


# --- files


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A dump to read, twice if need be: what cannot be read again is copied aside first. `-` is stdin."""
    with contextlib.ExitStack() as stack:
        source = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        if stat.S_ISREG(os.fstat(source.fileno()).st_mode) and path != "-":
            yield source
            return
        copy = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(source, copy)
        copy.seek(0)
        yield copy


@contextlib.contextmanager
def made(path: str) -> Iterator[IO[bytes]]:
    """A file to write, for this user alone; it takes its name when it is whole. `-` is stdout."""
    if path == "-":
        yield sys.stdout.buffer
        return
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            yield device
        return
    try:
        handle, temporary = tempfile.mkstemp(prefix=".shmvar-dump-", dir=os.path.dirname(path))
    except OSError as error:
        error.filename = path  # what was asked for
        raise
    try:
        with open(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
