"""Dump files: the variables of a segment, and the items of its queues, as they are stored.

Nothing is unpickled, neither by a dump nor by a load.

The format is described in docs/guide.md, "Dumps".
"""

import contextlib
import hashlib
import itertools
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
from shmvar import _preview
from shmvar._copying import consistent
from shmvar._copying import put_pickle as _put_pickle
from shmvar._core import _pickle_fault

HEADER = b"shmvar dump 1\n"
INDEX_MAX = 1024  # bytes of UTF-8
LINE_MAX = 16_384  # an index has at most INDEX_MAX bytes, and each takes at most 6 as JSON


class DamagedDump(shmvar.Error, ValueError):
    """The file is no dump, or not a whole one."""


@dataclass(frozen=True)
class Item:
    """The line that a dump has for an item of a queue, before its pickle. Items come after all variables, in order."""

    queue: int | str
    length: int  # of the pickle, in bytes


@dataclass(frozen=True)
class Variable:
    """The line that a dump has for a variable, before its pickle."""

    index: int | str
    length: int  # of the pickle, in bytes
    expires_in: float | None  # seconds


def dump(segment: shmvar.Segment, file: IO[bytes]) -> int:
    """Writes every variable, each as of one instant, and every item of a queue; returns how many variables there were.

    What somebody has taken from a queue is written as if it waited.

    Raises `CorruptSegmentError` where a variable is damaged, and `SegmentBusyError` where one changes all the time.
    """
    digest = hashlib.sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    write(HEADER)
    count = 0
    for index in sorted(segment.keys(), key=_preview.order):
        pickle, expires_in = consistent(segment, index)
        if pickle is None:
            continue  # it vanished meanwhile
        if fault := _pickle_fault(pickle):
            raise shmvar.CorruptSegmentError(f"variable {index!r} is damaged: {fault}; remove it to dump the others")
        write(_line({"index": index, "length": len(pickle), "expires_in": expires_in}))
        write(pickle)
        write(b"\n")
        count += 1
    items = 0
    for name in sorted(segment.info().queues, key=_preview.order):
        for pickle in _items(segment.queue(name)):
            if fault := _pickle_fault(pickle):
                raise shmvar.CorruptSegmentError(
                    f"an item of queue {name!r} is damaged: {fault}; get it to dump the others"
                )
            write(_line({"queue": name, "length": len(pickle)}))
            write(pickle)
            write(b"\n")
            items += 1
    file.write(_line(_end(count, items, digest.hexdigest())))
    return count


def _items(queue: shmvar.Queue) -> Iterator[bytes]:
    """The pickles of the items that are there now, in the order of the queue. Those that go meanwhile are left out."""
    if not isinstance(queue, shmvar.Queue):
        yield from queue._pickles()  # of a segment on a server
        return
    tickets = queue._tickets()
    if tickets is None:
        return
    number, taken, head, tail = tickets
    for ticket in itertools.chain(taken, range(head, tail)):
        if (pickle := queue._pickle(number, ticket)) is not None:
            yield pickle


def _end(variables: int, items: int, digest: str) -> dict[str, Any]:
    """The last line. Dumps without queues are as they were before there were any."""
    return {"variables": variables, **({"items": items} if items else {}), "sha256": digest}


def _line(parts: dict[str, Any]) -> bytes:
    return json.dumps(parts).encode() + b"\n"


def read(file: IO[bytes]) -> Iterator[tuple[Variable | Item, bytes]]:
    """Every variable and every item, and their pickles.

    Raises `DamagedDump` where the file is not what `dump` writes, to its very end.
    """
    digest = hashlib.sha256()
    left = os.fstat(file.fileno()).st_size

    def take(data: bytes) -> bytes:
        nonlocal left
        left -= len(data)
        digest.update(data)
        return data

    if take(file.read(len(HEADER))) != HEADER:
        raise DamagedDump("not a dump of shmvar, or of another version: it does not begin with 'shmvar dump 1'")
    count = items = 0
    while True:
        line = file.readline(LINE_MAX)
        digest_before = digest.hexdigest()
        parts = _parts(take(line), count + items)
        if "sha256" in parts:
            break
        found = _item(parts, count + items) if "queue" in parts else _variable(parts, count + items)
        what = f"an item of queue {found.queue!r}" if isinstance(found, Item) else f"variable {found.index!r}"
        if found.length > left:
            raise DamagedDump(f"the dump is cut short: {what} has {found.length} bytes, {left} follow")
        pickle = take(file.read(found.length))
        if take(file.read(1)) != b"\n":
            raise DamagedDump(f"the dump is damaged: {what} does not end where it should")
        if fault := _pickle_fault(pickle):
            raise DamagedDump(f"the dump is damaged: {what}: {fault}")
        yield found, pickle
        count, items = (count, items + 1) if isinstance(found, Item) else (count + 1, items)
    if parts != _end(count, items, digest_before):
        raise DamagedDump("the dump is damaged: its checksum does not match")
    if file.read(1):
        raise DamagedDump("the dump is damaged: something follows its end")


def _parts(line: bytes, count: int) -> dict[str, Any]:
    """A line of JSON, after `count` variables."""
    if not line.endswith(b"\n"):
        raise DamagedDump(f"the dump is cut short after {count} variables")
    try:
        parts = json.loads(line)
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, dict):
        raise DamagedDump(f"the dump is damaged after {count} variables")
    return parts


def _variable(parts: dict[str, Any], count: int) -> Variable:
    """What a line says of a variable, after `count` others."""
    index: Any = parts.get("index")
    length, expires_in = parts.get("length"), parts.get("expires_in")
    good_expiry = expires_in is None or (type(expires_in) in (int, float) and 0 < expires_in < 1e300)
    if (
        parts.keys() != {field.name for field in fields(Variable)}
        or not _is_index(index)
        or type(length) is not int
        or not good_expiry
    ):
        raise DamagedDump(f"the dump is damaged after {count} variables")
    if length < 1:
        raise DamagedDump(f"the dump is damaged: variable {index!r} has {length} bytes")
    return Variable(index, length, expires_in)


def _item(parts: dict[str, Any], count: int) -> Item:
    """What a line says of an item, after `count` others."""
    name, length = parts.get("queue"), parts.get("length")
    if (
        parts.keys() != {field.name for field in fields(Item)}
        or name is None
        or not _is_index(name)
        or type(length) is not int
    ):
        raise DamagedDump(f"the dump is damaged after {count} variables and items")
    if length < 1:
        raise DamagedDump(f"the dump is damaged: an item of queue {name!r} has {length} bytes")
    return Item(name, length)


def _is_index(index: Any) -> bool:
    return (type(index) is int and -(2**63) <= index < 2**63) or (
        type(index) is str and _byte_length(index) <= INDEX_MAX
    )


def _byte_length(index: str) -> float:
    """Of its UTF-8; infinity where it has none."""
    try:
        return len(index.encode())
    except UnicodeEncodeError:
        return float("inf")


def verify(file: IO[bytes]) -> tuple[int, int]:
    """Reads the whole file without storing anything, and returns how many variables and how many items there are."""
    counts = [0, 0]
    for found, _ in read(file):
        counts[isinstance(found, Item)] += 1
    return counts[0], counts[1]


def load(segment: shmvar.Segment, file: IO[bytes]) -> Iterator[Variable | Item]:
    """Stores every variable over what is there and puts every item at the end of its queue; yields each one then."""
    for found, pickle in read(file):
        if isinstance(found, Item):
            segment.queue(found.queue)._put_pickle(pickle)
        else:
            _put_pickle(segment, found.index, pickle, found.expires_in)
        yield found


# --- files


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A dump for reading, twice if need be: what cannot be read again is first copied to a file. `-` is stdin."""
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
def created(path: str) -> Iterator[IO[bytes]]:
    """A file for writing, which only this user can read. It gets its name when it is whole. `-` is stdout."""
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
        error.filename = path  # the name that was asked for
        raise
    try:
        with open(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
