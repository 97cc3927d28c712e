"""A segment on a server as a mutable mapping: what a dict has, and batches."""

from __future__ import annotations

import time
from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from typing import Any

from shmvar._errors import CorruptSegmentError
from shmvar._mapping_views import SegmentKeys, SegmentKeysWithPrefix, is_index
from shmvar._own_errors import comes_again
from shmvar._remote import scripts
from shmvar._remote.arguments import MISSING, items_of, read_only, ttl_of, turns
from shmvar._remote.handle import VAIN, Handle
from shmvar._remote.names import field_of, index_of, plain_index
from shmvar._remote.records import Record, Stored, decode_into, small_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import abc
    from datetime import timedelta
    from typing import Self, SupportsIndex

    from shmvar._remote.near import _Ticket

    _Index = SupportsIndex | str
    _Ttl = float | timedelta | None

BATCH_LIMIT = 262_144
"""Variables of one batch: 100,000 hold the server for a third of a second."""
_PORTION = 256


class Mapping(Handle, MutableMapping[Any, Any]):
    """The part of `RemoteSegment` that a dict has, too."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: _Index, /) -> Any:
        near = self._near
        found = self._found(plain_index(index)) if near is None else near.find(self, index)
        if found is None:
            raise KeyError(index)
        return found[0]

    def __setitem__(self, index: _Index, value: Any, /) -> None:
        plain = plain_index(index)
        self._writable()
        self._single(plain, b"put", Stored(value))

    def __delitem__(self, index: _Index, /) -> None:
        if self._single(plain_index(index), b"del") == b"n":
            raise KeyError(index)

    def __contains__(self, index: object, /) -> bool:
        return self._record(plain_index(index)) is not None

    def __len__(self) -> int:
        return int(self._read(b"len"))

    def __iter__(self) -> Iterator[int | str]:
        fields = self._read(b"keys")
        if not isinstance(fields, int):
            return iter([index_of(field) for field in fields])
        return self._scan()

    def _scan(self) -> Iterator[int | str]:
        """Walks over many variables: one that is there all the time comes exactly once, others perhaps."""
        requests = self._requests
        cursor, run, seen = b"0", b"", set()
        while True:
            link = self._open
            arguments = requests.id, b"scan", cursor, b""
            answer = link.script(scripts.VERSIONS, requests.keys[:2], arguments, link.waited(), self._readonly)
            if answer == b"g":
                raise requests.gone()
            if cursor != b"0" and answer[3] != run:
                # A cursor means nothing to another server, nor to one that was started anew.
                cursor = b"0"
                continue
            cursor, run = answer[2:4]
            # A table that grows or shrinks meanwhile gives some of them twice.
            fields = [field for field in answer[4::2] if field not in seen]
            seen.update(fields)
            yield from (index_of(field) for field in fields)
            if cursor == b"0":
                return

    def __eq__(self, other: object, /) -> bool:
        if self is other:
            self._open  # noqa: B018 - it raises DetachedError
            return True
        if not hasattr(other, "keys") or not hasattr(other, "__getitem__"):
            return NotImplemented
        return self.copy() == _as_dict(other)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """An array of one object, the segment: numpy would take a class of Python's that has items for a sequence."""
        import numpy

        array = numpy.empty((), object)
        array[()] = self
        return array if dtype is None else array.astype(dtype)

    def __or__(self, other: abc.Mapping[Any, Any], /) -> dict[Any, Any]:
        if not hasattr(other, "keys"):
            return NotImplemented
        return self.copy() | _as_dict(other)

    def __ror__(self, other: abc.Mapping[Any, Any], /) -> dict[Any, Any]:
        if not hasattr(other, "keys"):
            return NotImplemented
        return _as_dict(other) | self.copy()

    def __ior__(self, other: abc.Mapping[Any, Any] | abc.Iterable[tuple[Any, Any]], /) -> Self:
        self.put_many(other)
        return self

    def keys(self, prefix: str | None = None) -> KeysView[Any]:
        if prefix is None:
            return SegmentKeys(self)
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str or None, not {type(prefix).__name__}")
        return SegmentKeysWithPrefix(self, prefix)  # type: ignore[arg-type]

    def items(self) -> ItemsView[int | str, Any]:
        return RemoteItems(self)

    def values(self) -> ValuesView[Any]:
        return RemoteValues(self)

    def copy(self) -> dict[int | str, Any]:
        return dict(self.items())

    def pop(self, index: _Index, default: Any = MISSING, /) -> Any:
        plain = plain_index(index)
        self._writable()
        for turn in turns():
            # The value is decoded before it is removed: one that cannot be stays.
            found = self._found(plain)
            if found is None:
                if default is MISSING:
                    raise KeyError(index)
                return default
            if self._single(plain, b"del", version=b"%d" % found[1].version) != b"n":
                return found[0]
            turn()
        raise AssertionError

    def popitem(self) -> tuple[int | str, Any]:
        self._writable()
        fault: Exception | None = None
        unreadable: set[int | str] = set()
        rest: Iterator[int | str] | None = None
        tries, vain = 0, turns()
        while len(self):
            some = self._open.call(b"HRANDFIELD", self._variables, b"1")
            if not some:
                break
            index = index_of(some[0])
            if rest is None and tries > 20 and tries > len(self):
                # Most are unreadable, and may be drawn again and again: all are looked at, one after the other.
                rest = (one for one in self if one not in unreadable)
            if rest is not None:
                index = next(rest, index)
                if index in unreadable:
                    break
            value, failed = self._for_popitem(index)
            if failed is not None:
                # It stays in the segment, and all others are handed out first.
                fault, tries = failed, tries + 1
                unreadable.add(index)
            elif value is None:
                # It has expired, and others may have: what is drawn by chance would be a dead one again and again.
                self._trimmed()
            elif self._single(index, b"del", version=b"%d" % value[1].version) != b"n":
                return index, value[0]
            else:
                rest = None
                next(vain)()
        if fault is not None:
            raise fault
        raise KeyError("popitem(): the segment is empty")

    def _for_popitem(self, index: int | str) -> tuple[tuple[Any, Record] | None, Exception | None]:
        """The value of a variable with its record, None if it is missing; or why the value cannot be had.

        Whatever says nothing of the value itself is raised: no answer of the server, no memory, what a signal handler
        raises.
        """
        values: list[Any] = []
        try:
            found = self._of_one_instant(index, lambda record, at_once: self._undecoded(index, record, at_once))
        except CorruptSegmentError as error:
            return None, error
        if found is None:
            return None, None
        (kind, body), record = found
        try:
            decode_into(values, index, kind, body, self._trusted)
        except Exception as error:
            if values or isinstance(error, MemoryError):
                raise
            if not comes_again(error, lambda: decode_into([], index, kind, body, self._trusted)):
                raise
            return None, error
        return (values[0], record), None

    def setdefault(self, index: _Index, default: Any = None, *, ttl: _Ttl = None) -> Any:
        plain, life = plain_index(index), ttl_of(ttl)
        self._writable()
        stored = None
        for turn in turns():
            found = self._found(plain)
            if found is not None:
                return found[0]
            stored = stored or Stored(default)
            if self._single(plain, b"put", stored, life, b"0") != b"n":
                return default
            turn()
        raise AssertionError

    def update(self, other: Any = (), /, **named: Any) -> None:
        self.put_many([*items_of(other), *named.items()])

    def put_many(self, mapping: abc.Mapping[Any, Any] | abc.Iterable[tuple[Any, Any]], *, ttl: _Ttl = None) -> None:
        life = ttl_of(ttl)
        self._writable()
        values: dict[int | str, Stored] = {}
        for index, value in items_of(mapping):
            values[plain_index(index)] = Stored(value)
            self._within_limit(len(values))
        if not values:
            self._exists()
            return
        what = f"the batch of {len(values)} variables"

        def change(end: float) -> bytes:
            arguments = [life]
            for plain, stored in values.items():
                arguments += field_of(plain), stored.kind, stored.payload
            return self._change(scripts.BATCH, arguments, what, end)

        self._with_chunks([stored for stored in values.values() if stored.total], what, change)
        if self._near is not None:
            self._near.all_changed()

    def get_many(self, indices: abc.Iterable[_Index]) -> dict[int | str, Any]:
        if isinstance(indices, str):
            raise TypeError("indices is a str, which is one index: write get_many([index])")
        names: dict[bytes, int | str] = {}
        for index in indices:
            plain = plain_index(index)
            names[field_of(plain)] = plain
            if len(names) > BATCH_LIMIT:
                self._within_limit(len(names))
        until, vain = 0.0, 0
        while True:
            found = self._many(names, vain >= VAIN)
            if found is not None:
                return found
            # One of them is a large value that was replaced meanwhile: all are read again, for one instant.
            self._replaced(", ".join(map(repr, list(names.values())[:5])), until)
            until, vain = until or time.monotonic() + self._url.server.timeout, vain + 1

    def _portion(self, indices: list[int | str]) -> dict[int | str, Any]:
        """Values for an iteration."""
        return self.get_many(indices) if self._near is None else self._near.many(self, indices)

    def _many(
        self, names: dict[bytes, int | str], at_once: bool = False, ticket: _Ticket = None
    ) -> dict[int | str, Any] | None:
        """The values of those that are there, of one instant. None: one was replaced meanwhile."""
        if not names:
            self._exists()
            return {}
        records = self._open.call(b"HMGET", self._variables, *names)
        kinds = {data[:1] for data in records if data is not None}
        if not kinds:
            self._exists()
        elif any(map(bytes.isupper, kinds)):
            records = self._read(b"get", *names)[1:]
        near = self._near
        # Behind the answer: what is missing was removed before.
        seq = self._exists() if near is not None and None in records else 0
        found: dict[int | str, Any] = {}
        for index, data in zip(names.values(), records, strict=True):
            if data is None:
                if near is not None:
                    near.seen(index, seq)
                continue
            number = small_int(data) if near is None else None
            if number is not None:
                found[index] = number
                continue
            record = Record(index, data)
            if near is not None:
                near.seen(index, record.version)
            value = self._value(index, record, at_once=at_once)
            if value is None:
                return None
            found[index] = value[0]
            if near is not None:
                near.keep(ticket, index, record, value[0])
        return found

    def clear(self) -> None:
        """Remove every variable, at one instant."""
        self._change(scripts.SEGMENT, (b"clear",), "the clear")
        if self._near is not None:
            self._near.all_changed()

    def _within_limit(self, count: int) -> None:
        if count > BATCH_LIMIT:
            raise ValueError(
                f"a batch has {BATCH_LIMIT} variables at most, for the server stands still meanwhile: split it"
            )

    def _writable(self) -> None:
        """Raises before a value is pickled for a handle that can store none."""
        self._open  # noqa: B018 - it raises DetachedError
        if self._readonly:
            raise read_only(self._requests.name)


def _as_dict(mapping: Any) -> dict[Any, Any]:
    """What is in a mapping; of a segment, without what vanishes meanwhile."""
    return dict(mapping.items()) if isinstance(mapping, Mapping) else dict(mapping)


class RemoteItems(ItemsView[int | str, Any]):
    """Pairs of index and value. An iteration skips a variable that vanishes meanwhile."""

    __slots__ = ()
    _mapping: Mapping

    def __iter__(self) -> Iterator[tuple[int | str, Any]]:
        portion: list[int | str] = []
        for index in self._mapping:
            portion.append(index)
            if len(portion) == _PORTION:
                yield from self._mapping._portion(portion).items()
                portion = []
        if portion:
            yield from self._mapping._portion(portion).items()

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and is_index(item[0]) and super().__contains__(item)


class RemoteValues(ValuesView[Any]):
    """The values. An iteration skips a variable that vanishes meanwhile."""

    __slots__ = ()
    _mapping: Mapping

    def __iter__(self) -> Iterator[Any]:
        for _, value in RemoteItems(self._mapping):
            yield value

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)
