"""The compiled core. `shmvar` exports everything in it that is public."""

import os
from collections.abc import (
    Callable,
    Coroutine,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from datetime import timedelta
from types import TracebackType
from typing import IO, Any, Literal, NoReturn, ParamSpec, Protocol, Self, SupportsIndex, TypeVar, final, overload

from numpy import floating
from numpy.typing import ArrayLike, DTypeLike, NDArray

from shmvar._memoize import CacheInfo

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)
_T = TypeVar("_T")

__all__ = [
    "Changes",
    "CheckReport",
    "Lock",
    "Queue",
    "Segment",
    "SegmentInfo",
    "TakenItem",
    "VariableInfo",
    "_DumpPlan",
    "__version__",
    "_activity",
    "_buffers_of",
    "_check_report",
    "_decode_apart",
    "_decode_containers",
    "_decode_data_only",
    "_decode_value",
    "_dump",
    "_dump_plan",
    "_dump_values",
    "_encode_parts",
    "_encode_value",
    "_first",
    "_get_pickle",
    "_load_variables",
    "_look",
    "_memory",
    "_php_members",
    "_pickle_fault",
    "_put_item",
    "_put_pickle",
    "_queue",
    "_reattach",
    "_remove_stale",
    "_repair",
    "_segment_info",
    "_survey",
    "_unfilled",
    "_value_in_band",
    "_value_pickle",
    "_value_type",
    "_variable_info",
    "attach",
    "destroy",
    "exists",
    "ftok",
    "segments",
]

__version__: str

# What `Segment.memoize` makes of a function.
class _Memoized(Protocol[_P, _R_co]):
    @property
    def __wrapped__(self) -> Callable[..., Any]: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    def index(self, *args: _P.args, **kwargs: _P.kwargs) -> str: ...
    def invalidate(self, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    def cache_clear(self) -> None: ...
    def cache_info(self) -> CacheInfo: ...

@final
# For type checkers the keys are `Any`, so that a segment may be passed where a mapping from ints, or from texts, is
# wanted; the methods name the types that they take and return.
class Segment(MutableMapping[Any, Any]):
    """A handle on a segment: a mutable mapping from indexes, `int` or `str`, to Python values.

    `shmvar.attach` opens one. Any number of threads may use a handle, and a forked child may use
    the handles that it inherited.

    >>> segment = shmvar.attach("example")
    >>> segment[1] = [1]
    >>> segment[1].append(2)     # changes a copy that nobody keeps
    >>> segment[1]
    [1]

    An index is an `int` (or anything with `__index__`) that fits 64 signed bits, or a `str` of at
    most 1024 bytes of UTF-8. Any other number or length raises `OverflowError`, any other type
    raises `TypeError`. The indexes 5 and "5" are different.

    Every value is stored as a pickle. Reading gives an independent value: to change what is stored,
    put the changed value back. Reads take no lock.

    After `detach`, every call raises `DetachedError`. A change through a read-only handle raises
    `ReadOnlyError`. If a living process blocks the segment for 10 s, because it was stopped in a
    change, say, calls that need the segment's lock raise `SegmentBusyError`.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __getitem__(self, index: SupportsIndex | str, /) -> Any:
        """Return the value under `index`.

        Raises:
            KeyError: there is no such variable.
            UntrustedValueError: the segment is not trusted, and the value needs code to be rebuilt,
                or numpy, which is not installed.
            CorruptSegmentError: the stored bytes are damaged.
        """

    def __setitem__(self, index: SupportsIndex | str, value: Any, /) -> None:
        """Store `value` under `index`, as `put` does."""

    def __delitem__(self, index: SupportsIndex | str, /) -> None:
        """Remove the variable `index`. Raises `KeyError` if there is none."""

    def __contains__(self, index: object, /) -> bool: ...
    def __len__(self) -> int:
        """Return the number of variables that are in the segment now."""

    def __iter__(self) -> Iterator[int | str]:
        """Iterate over the indexes that are there now: a snapshot, in no particular order."""

    def __eq__(self, other: object, /) -> bool:
        """Return whether `other` is a mapping with equal items."""

    def __or__(self, other: Mapping[Any, Any], /) -> dict[Any, Any]:
        """Return a new dict of the segment's items (see `copy`) and those of `other`, which win."""

    def __ror__(self, other: Mapping[Any, Any], /) -> dict[Any, Any]:
        """Return a new dict of the items of `other` and the segment's, which win."""

    def __ior__(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]], /) -> Self:
        """Store every item of `other`, as `put_many` does. The segment stays itself."""

    def __enter__(self) -> Self:
        """Return the handle itself. Raises `DetachedError` if it is detached."""

    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        """Detach the handle; nothing is destroyed."""

    def __reduce__(self) -> tuple[Any, tuple[int | str, bytes, bool, bool | None]]:
        """Pickle the handle. Unpickling attaches to this very segment again.

        It raises `SegmentNotFoundError` if this segment is gone, even if there is a new one with
        its key.
        """

    @property
    def key(self) -> int | str:
        """The key by which the handle was attached."""

    @property
    def size(self) -> int:
        """The limit in bytes: how much stored variables may be charged.

        Other processes may change it.
        """

    @property
    def evict(self) -> Literal["lru", "ttl"] | None:
        """What the segment removes where a value has no room: see `shmvar.attach`."""

    @property
    def created(self) -> bool:
        """Whether the `attach` that made this handle also created the segment."""

    @property
    def readonly(self) -> bool:
        """Whether this handle can only read."""

    @property
    def trusted(self) -> bool:
        """Whether values may run code when they are read through this handle."""

    @property
    def detached(self) -> bool:
        """Whether `detach` was called."""

    def put(self, index: SupportsIndex | str, value: Any, *, ttl: float | timedelta | None = None) -> None:
        """Store `value` under `index`, whole or not at all: a put that fails changes nothing.

        Args:
            index: of the variable, which is replaced if it is there.
            value: anything that can be pickled; it is pickled once. A read-only numpy array is
                stored as a writable one, because every reader gets an array of its own.
            ttl: seconds or a `timedelta`, more than 0, after which the variable is gone. None: it
                stays; an earlier `ttl` of the variable ends. The clock is `CLOCK_BOOTTIME`, which
                is the same in every process and goes on while the machine is suspended.

        Raises:
            ValueError: `ttl` is not finite, or not more than 0. (TypeError: it is no number.)
            SegmentFullError: the value does not fit into the limit or into the memory file system;
                the text says which, and what to do.
            ReadOnlyError, SegmentBusyError: see `Segment`.
            Exception: whatever pickling the value raised, unchanged.
        """

    @overload
    def get(self, index: SupportsIndex | str, default: None = None) -> Any | None: ...
    @overload
    def get(self, index: SupportsIndex | str, default: _T) -> Any | _T:
        """Return the value under `index`, or `default` if there is none.

        The value is independent, and can be changed as its type allows: a numpy array is writable,
        even if it was read-only when it was stored. A class that pickles its own buffers out of
        band is rebuilt from `memoryview`s of those that have 16 KiB or more.
        """

    def view(self, index: SupportsIndex | str) -> Any:
        """Return the value under `index`, read-only; if it is large, without copying it.

        A large value lies over the segment's own memory. What is returned depends on the value:

        - for an array, a read-only array;
        - for `bytes`, `bytearray`, `memoryview` and `array.array`, and classes derived from them, a
          read-only `memoryview`;
        - for any other value, the value rebuilt over read-only buffers: every numpy array in it is
          read-only, whatever its size and class, and so is every `memoryview` that a class is
          rebuilt from. Everything else in it (lists, a `bytearray` in a dict) is a copy that may be
          changed.

        A view stays valid and unchanged, whatever happens to the variable, the segment or the
        handle. (A view of what `array` or `buffer` made stays valid, and shows what is stored there
        meanwhile.) Its memory is in use until the view is dropped. Through a read-only handle, and if
        the segment is not trusted, the result is a read-only copy.

        Raises:
            KeyError, UntrustedValueError, CorruptSegmentError: as for `segment[index]`.
        """

    def array(
        self,
        index: SupportsIndex | str,
        shape: SupportsIndex | tuple[SupportsIndex, ...] | list[SupportsIndex] | None = None,
        dtype: DTypeLike | None = None,
        *,
        initial: ArrayLike | None = None,
        order: Literal["C", "F"] = "C",
    ) -> NDArray[Any]:
        """Return the array in place under `index`, which every process writes to; make it if need be.

        The array is a `numpy.ndarray` over the segment's own memory: whatever one process stores in
        it, all others see at once, and nothing is copied.

        >>> field = segment.array("field", shape=(4096, 4096), dtype="f4")
        >>> field[0] = 1.0

        If there is no variable `index`, one is made. It is seen by others once it is complete, and
        if several processes make one at once, all get the one that was made first.

        Args:
            index: The index of the variable.
            shape: The lengths of the axes, or that of the only axis. With neither `shape` nor
                `initial`, an array is opened and never made.
            dtype: The dtype of the items; without `initial` and `dtype`, float64. Structs may be, but
                neither objects nor `StringDType`.
            initial: What a new array begins with: an array or a scalar, which is broadcast to
                `shape` and converted to `dtype`, as `numpy.full` does. Without it, zeros. The
                shape and the dtype are those of `initial` where they are not given. If there is
                an array already, `initial` does not matter.
            order: Whether a new array is in C's order or in Fortran's.

        The memory stays this array's as long as the array, or anything derived from it, lives,
        whatever happens to the variable, the segment or the handle; a forked child keeps it, too. An
        array that is an argument of `multiprocessing` is copied: call `array` in the worker.

        Aligned items of up to 8 bytes are never torn. Everything else may be seen half written:
        take `segment.lock`, or give each process a part of its own. Nobody is woken by what is
        stored: see `touch`.

        Through a read-only handle, the result is a read-only copy of the moment.

        Raises:
            KeyError: there is no such variable, and neither `shape` nor `initial` is given.
            ValueError: there is an array of another shape or dtype; or a buffer; or a variable
                that was stored with `put`, which no process changes in place.
            TypeError: the items would be objects.
            SegmentFullError: as for `put`. Nothing was made.
            UntrustedValueError: the segment is not trusted, and the items are bools or text, which
                must be checked before use. Others could change them afterwards.
            ReadOnlyError: an array would have to be made through a read-only handle.
        """

    def buffer(self, index: SupportsIndex | str, size: SupportsIndex | None = None) -> memoryview:
        """Return the buffer in place under `index`, which every process writes to; make it if need be.

        The result is a `memoryview` of `size` bytes, of the format "B", over the segment's own
        memory. This is `array` without numpy; a new buffer is zeros. Without `size`, a buffer is
        opened and never made.

        >>> ring = segment.buffer("ring", 1 << 20)
        >>> ring[0] = 1

        Raises:
            KeyError: there is no such variable, and `size` is not given.
            ValueError: there is a buffer of another size, or an array, or a variable that was
                stored with `put`; `size` is below 1.
            SegmentFullError, ReadOnlyError: as for `array`.
        """

    def touch(self, index: SupportsIndex | str) -> int:
        """Give the variable `index` a new version, and wake whoever waits for it.

        Its value and its time to live stay. This is how a process says that it has written to an
        array in place: whoever sees the version sees what was written before.

        Returns:
            The new version, or 0 if there is no such variable.

        Raises:
            ReadOnlyError: the handle is read-only.
        """

    def expire(self, index: SupportsIndex | str, ttl: float | timedelta | None) -> bool:
        """Give the variable `index` another time to live, which counts from now.

        Its value and its version stay: nobody is told of a change. Whoever waits for the variable
        goes by the new time.

        >>> segment.expire("session", 1800)
        True

        Args:
            index: of the variable.
            ttl: as for `put`. None: the variable stays for good.

        Returns:
            False if there is no such variable, or if it has expired.

        Raises:
            ValueError: `ttl` is not finite, or not more than 0.
            SegmentFullError: it had no time to live, and there is no room for one.
            ReadOnlyError: the handle is read-only.
        """

    def has(self, index: SupportsIndex | str) -> bool:
        """Return whether there is a variable `index`. A stored `None` or `False` is there."""

    def remove(self, index: SupportsIndex | str) -> bool:
        """Remove the variable `index`. Return False if it was not there."""

    @overload
    def pop(self, index: SupportsIndex | str) -> Any: ...
    @overload
    def pop(self, index: SupportsIndex | str, default: _T, /) -> Any | _T:
        """Remove the variable `index` and return its value. Nobody else gets the same value.

        Without `default`, raises `KeyError` if there is no such variable.
        """

    def popitem(self) -> tuple[int | str, Any]:
        """Remove some variable, and return its index and its value.

        Which one is left to chance, so that no variable waits for ever; the time to find one does
        not depend on how many there are. A variable that cannot be unpickled here is skipped, and
        stays. If there is no other one, its error is raised. Raises `KeyError` if the segment is
        empty.
        """

    def setdefault(
        self,
        index: SupportsIndex | str,
        default: Any = None,
        *,
        ttl: float | timedelta | None = None,
    ) -> Any:
        """Return the value under `index`; store `default` first if there is none.

        `ttl` is for `default`, as for `put`. A variable that is there keeps its own.
        """

    @overload  # type: ignore[override]
    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /) -> None: ...
    @overload
    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **named: Any) -> None:
        """Store every item of a mapping, or of an iterable of pairs, as `put_many` does.

        All are stored at one instant, or none of them. Another segment is a mapping, too: each of
        its values is whole, and what vanishes while it is read is left out.
        """

    def copy(self) -> dict[int | str, Any]:
        """Return a dict of all indexes and values. It is the caller's own; the segment stays.

        Each value is whole and independent, as for `get`. What vanishes meanwhile is left out,
        where `dict(segment)` may raise `KeyError`. If others change several variables meanwhile,
        the copy may have some of their values before and some after the change: `get_many` reads
        those of one instant.

        `copy.copy(segment)` is no such dict, but another handle on the same segment.

        Raises:
            UntrustedValueError, CorruptSegmentError: as for `segment[index]`.
        """

    def clear(self) -> None:
        """Remove every variable, at one instant. Locks that are held stay, and queues."""

    def put_many(
        self,
        mapping: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        *,
        ttl: float | timedelta | None = None,
    ) -> None:
        """Store every item of a mapping, at one instant, or none of them.

        A `get_many` sees all of the new values or none, and if the writer is killed in the middle,
        all or none are stored. Calls that read a single variable may see some new values before the
        others. If two items have the same index, the last one counts.

        Args:
            mapping: from indexes to values, as for `put`; or an iterable of pairs of them.
            ttl: for all of them, as for `put`.

        Raises:
            SegmentFullError: together the values do not fit; nothing has changed.
            ReadOnlyError, SegmentBusyError: see `Segment`.
        """

    def get_many(self, indices: Iterable[SupportsIndex | str]) -> dict[int | str, Any]:
        """Return the values of those of `indices` that are there, as of one instant.

        They are in a dict, by index; what is missing is left out.

        Raises:
            TypeError: `indices` is a `str`, which is one index: write `get_many([index])`.
            SegmentBusyError: a process has been stopped for 10 s in the middle of a `put_many`; or,
                through a read-only handle, the variables changed each time they were read.
            UntrustedValueError, CorruptSegmentError: as for `segment[index]`.
        """

    def add(
        self,
        index: SupportsIndex | str,
        amount: float | SupportsIndex | floating[Any] = 1,
        *,
        ttl: float | timedelta | None = None,
    ) -> Any:
        """Add `amount` to an int or a float, atomically, and return the sum.

        A missing variable counts as 0. Ints never wrap: beyond 64 bits they go on as Python ints.
        The ints and floats of numpy count as numbers, too; the sum is an `int` or a `float`.

        >>> segment.add("visits")
        1
        >>> segment.add("logins of ann", ttl=60)  # how many since the first one, a minute at most
        1

        Args:
            index: of the variable.
            amount: an int or a float, which may be negative.
            ttl: as for `put`, but only where this call makes the variable. One that is there keeps
                the time to live that it has, or has none.

        Raises:
            ValueError: `ttl` is not finite, or not more than 0.
            TypeError: the value or `amount` is neither an int nor a float. A bool is neither.
        """

    @overload
    def swap(
        self,
        index: SupportsIndex | str,
        value: Any,
        default: None = None,
        *,
        ttl: float | timedelta | None = None,
    ) -> Any | None: ...
    @overload
    def swap(
        self,
        index: SupportsIndex | str,
        value: Any,
        default: _T,
        *,
        ttl: float | timedelta | None = None,
    ) -> Any | _T:
        """Store `value` and return the value that it replaced, at one instant.

        If there was none, return `default`. `ttl` is for `value`, as for `put`.
        """

    def version(self, index: SupportsIndex | str) -> int:
        """Return the version of the variable `index`: an int, 0 if there is no such variable.

        It grows with every change of that index, and removing and storing again are changes.
        Compare versions of the same index only, for equality and order: there are gaps.
        """

    def get_versioned(self, index: SupportsIndex | str) -> tuple[Any, int]:
        """Return the value and the version of `index`, of one instant.

        Raises `KeyError` if there is no such variable.
        """

    def compare_and_put(
        self,
        index: SupportsIndex | str,
        version: int,
        value: Any,
        *,
        ttl: float | timedelta | None = None,
    ) -> bool:
        """Store `value` if the version of `index` is still `version`. Return whether it was stored.

        Version 0 stands for a missing variable. A version that no variable can have, below 0 or of
        64 bits or more, never matches. `ttl` is for `value`, as for `put`.

        >>> value, version = segment.get_versioned("stock")
        >>> segment.compare_and_put("stock", version, value - 1)
        True
        """

    def modify(
        self,
        index: SupportsIndex | str,
        function: Callable[[Any], Any],
        default: Any = ...,
        *,
        ttl: float | timedelta | None = None,
    ) -> Any:
        """Store `function(value)` under `index`, atomically, and return it.

        The function runs without any lock. If another writer changes the variable meanwhile, the
        function is called again with the new value. If it raises an error, nothing has changed.

        >>> segment.modify("log", lambda lines: lines + ["started"], default=[])
        ['started']

        Args:
            index: of the variable.
            function: takes the old value and returns the new one.
            default: stands for the old value if there is none. Without it, `KeyError` is raised
                then.
            ttl: as for `put`, from the moment on at which the new value is stored. None: the
                variable keeps the one that it has.
        """

    def wait(
        self,
        index: SupportsIndex | str,
        timeout: float | None = None,
        *,
        newer_than: int | None = None,
    ) -> int:
        """Sleep until the version of `index` differs from `newer_than`, and return it.

        A version of 0 means that the variable was removed or has expired. The last change is never
        missed, but several changes may end only one wait. Other threads run meanwhile, and Ctrl-C
        ends the wait.

        Args:
            index: of the variable, which may be missing.
            timeout: in seconds. None: wait without end.
            newer_than: a version of this index. None: the version that it has now. A version that
                no variable can have, below 0 or of 64 bits or more, differs at once.

        Raises:
            WaitTimeoutError: the timeout is over.
            SegmentNotFoundError: the segment was destroyed.
            ValueError: the timeout is negative.
        """

    def changed(
        self,
        index: SupportsIndex | str,
        timeout: float | None = None,
        *,
        newer_than: int | None = None,
    ) -> Coroutine[Any, Any, int]:
        """Wait as `wait` does, in asyncio: `version = await segment.changed(index)`.

        One thread watches for all tasks that wait through a handle. Without `newer_than`, the
        version is taken when `changed` is called, not when the result is awaited.
        """

    def wait_any(
        self,
        indices: Iterable[SupportsIndex | str],
        timeout: float | None = None,
        *,
        newer_than: Mapping[Any, int | None] | None = None,
    ) -> tuple[int | str, int]:
        """Sleep until one of several variables has changed, and return its index and version.

        >>> index, version = segment.wait_any(["orders", "prices"], 10)  # doctest: +SKIP

        If several have changed, it is the first of them in `indices`. What counts as a change, and
        what ends the wait, is as in `wait`. A wait for many variables sleeps as one for a single
        variable does.

        Args:
            indices: of the variables, which may be missing; at least one.
            timeout: in seconds. None: wait without end.
            newer_than: for each index a version that you have seen. Without it, or for an index
                that is not in it: the version that it has now.

        Raises:
            WaitTimeoutError: the timeout is over.
            SegmentNotFoundError: the segment was destroyed.
            ValueError: the timeout is negative, or `indices` is empty.
            TypeError: `indices` is a str; for one index write `[index]`, or call `wait`.
        """

    def changed_any(
        self,
        indices: Iterable[SupportsIndex | str],
        timeout: float | None = None,
        *,
        newer_than: Mapping[Any, int | None] | None = None,
    ) -> Coroutine[Any, Any, tuple[int | str, int]]:
        """Wait as `wait_any` does, in asyncio: `index, version = await segment.changed_any(indices)`.

        The versions that `newer_than` does not have are taken when `changed_any` is called, not
        when the result is awaited.
        """

    def changes(
        self,
        *,
        newer_than: Mapping[Any, int | None] | None = None,
        prefix: str | None = None,
        timeout: float | None = None,
    ) -> Changes:
        """Return an iterator over every change of any variable, also of those to come.

        >>> for index, version in segment.changes():  # doctest: +SKIP
        ...     print(index, segment.get(index, "gone"))

        Each step sleeps until there is a change, and returns the index and its version, 0 if the
        variable was removed or has expired. It is for `for` and for `async for`. What counts as a
        change is as in `wait`.

        Of several changes of an index that come between two steps, only the last is told; the last
        state of what is there is never missed, however slow the reader is. Changes are told in
        order: before a change, every earlier one was told whose index has not changed since. Four
        things are weaker, which the guide describes:

        - Of more than 127 removals between two looks the oldest may come late.
        - An expiry has no place in the order.
        - What was made and removed again between two looks is not told.
        - Through a read-only handle, what a killed process was storing is told only when another
          one stores something next.

        The call itself looks at everything that is there, in the calling thread.

        Args:
            newer_than: versions that you have seen, for some indexes. What is there and not in it
                is told first, and so is what has another version; `{}` tells everything that is
                there. None: only what changes after this call.
            prefix: only the texts that begin with it.
            timeout: in seconds, for each step. None: wait without end.

        Raises:
            ValueError: the timeout is negative.
            TypeError: `newer_than` is no mapping, or `prefix` no `str`.
        """

    def lock(self, name: SupportsIndex | str = 0, *, timeout: float | None = None) -> Lock:
        """Return a named lock, shared by every process on this segment.

        It is not held yet: see `Lock`.

        Args:
            name: of the same types as an index. A lock and a variable of the same name have nothing
                to do with each other.
            timeout: the seconds that `with` and `acquire` wait. None: without end.
        """

    def queue(self, name: SupportsIndex | str = 0, *, maxsize: int = 0) -> Queue:
        """Return a queue of values, shared by every process on this segment: see `Queue`.

        Args:
            name: of the same types as an index. A queue, a lock and a variable of the same name
                have nothing to do with each other.
            maxsize: how many items may wait before `put` through this object waits. 0: any number.
        """

    @overload
    def memoize(
        self,
        function: Callable[_P, _R_co],
        /,
        *,
        ttl: float | timedelta | None = None,
        key: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> _Memoized[_P, _R_co]: ...
    @overload
    def memoize(
        self,
        function: None = None,
        /,
        *,
        ttl: float | timedelta | None = None,
        key: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[_P, _R_co]], _Memoized[_P, _R_co]]:
        """Keep the results of a function in the segment, for every process that calls it.

        >>> @segment.memoize
        ... def square(number):
        ...     return number * number
        >>> square(7)
        49

        It decorates functions and coroutine functions, as `@segment.memoize` or with arguments, as
        `@segment.memoize(ttl=60)`. A call returns the stored result, which is a copy of the
        caller's own, as from `get`. If there is none, one caller computes it and stores it, while
        other callers with these arguments, in all processes, wait for it. If the computer is
        killed, the next one computes. An exception is raised to its caller, and never stored: the
        next one computes. A result of None is stored.

        Where results differ, arguments must differ: they are compared as they are passed, so
        `f(3, 4)` and `f(3, b=4)` are computed separately, and so are those for 1, 1.0 and True, and
        for 0.0 and -0.0. Keywords may come in any order, and `self` is an argument like others.
        Arguments other than None, numbers, `str`, `bytes`, and tuples and frozensets of such, are
        compared by their pickles: equal ones may be computed twice, and what cannot be pickled
        raises what pickling raises.

        A result that cannot be pickled, has no room in the segment, or cannot be stored because the
        segment is blocked or its server does not answer, is returned and not stored: then those who
        wait compute one after the other. Through a read-only handle, what is not stored is computed
        without waiting for anybody, and returned. A result that was stored and whose unpickling
        fails, because its class has changed, say, is computed anew, as if there were none. But one
        that needs a class or module which is missing here raises what reading it raises, and so
        does one that needs code in a segment that is not trusted.

        Args:
            function: what is called; None returns a decorator.
            ttl: for each result, as for `put`.
            key: called with the arguments; its result stands for all of them.
            name: of the function, under which its results are found. None: its module and
                qualified name, and the line of a lambda, with the script's path for the module
                `__main__`; for what was typed in or given to `python -c`, that is only "__main__".
                Other code under the same name finds the old results: call `cache_clear` when a
                function changes.

        Returns:
            A function. Its `__wrapped__` is the one that was given, `index(...)` is the index of the
            result for those arguments, `invalidate(...)` removes it and returns False if there was
            none, `cache_clear()` removes all results of the function, and `cache_info()` counts the
            hits and misses of this process. A computation that runs during a removal stores its
            result afterwards.

        Raises:
            ValueError: the function uses variables of a function around it, is a bound method, or
                has no name: then `name` is needed. Or `ttl` is wrong, as for `put`.
            OverflowError: the name is too long for an index.
        """

    @overload
    def keys(self, prefix: None = None) -> KeysView[int | str]: ...
    @overload
    def keys(self, prefix: str) -> KeysView[str]:
        """Return a view of the indexes; with `prefix`, of the texts that begin with it.

        Each iteration is over those that were there when it began. With a prefix, iterating and
        `len` look at every index of the segment.

        >>> for index in segment.keys("user:"):
        ...     segment.remove(index)

        Raises:
            TypeError: `prefix` is neither a `str` nor None.
        """

    def values(self) -> ValuesView[Any]:
        """Return a view of the values. An iteration skips a variable that vanishes meanwhile."""

    def items(self) -> ItemsView[int | str, Any]:
        """Return a view of pairs of index and value, each consistent.

        An iteration skips a variable that vanishes meanwhile.
        """

    def stat(self, index: SupportsIndex | str) -> VariableInfo:
        """Return facts about a variable. Raises `KeyError` if there is none."""

    def info(self) -> SegmentInfo:
        """Return facts about the segment."""

    def resize(self, size: SupportsIndex) -> None:
        """Change the limit to `size` bytes.

        Raises:
            ValueError: `size` is 0 or negative.
            SegmentFullError: `size` is below what is used (then `needed` of the error is what is
                used, `size` is the size asked for, `free` is 0); or it is more than the memory file
                system or the segment's reserve of addresses can hold (then `needed` is the size
                asked for).
        """

    def trim(self) -> None:
        """Give free memory back to the system, after moving what is stored closer together.

        Afterwards the segment takes at most one and a half times what is stored, and 256 KiB if it
        is empty. The call takes time in proportion to what is stored, and some 10 ms to make sure
        that nobody reads what is given back; other processes go on meanwhile. It cannot give back
        the memory of views, nor memory that a process may be looking at because it was stopped in
        the middle of a read.

        Raises:
            ReadOnlyError: the handle is read-only.
            SegmentBusyError: a stopped process has blocked the segment itself for 10 s.
        """

    def dump(self, file: str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes]) -> int:
        """Save everything to a file, as of one instant, and return how many variables there are.

        The file has all variables with their time to live, and the items of all queues, as they were
        at one instant during the call, whatever others write meanwhile. They are kept waiting while
        versions are compared, and 16 MiB or 32,768 variables copied, at most. An item that somebody
        has taken is dumped as if it waited. Arrays in place are dumped as such; their bytes are
        copied while others may store into them. No value's code is run. What is copied is pinned, so
        `info().held` may grow meanwhile.

        The memory that the call takes does not depend on how long the values are: it is some
        megabytes, and up to 100 MiB beside others who change much. The file replaces an older one
        when it is whole and on the disk; it is readable by this user alone. If the call fails, the
        older file stays. `load` brings it back, from any version that is no older.

        Through a read-only handle the dump is of one instant, too, and succeeds once nobody has
        changed anything during a pass over the table.

        Args:
            file: a path, or a file open for writing bytes, which may be a pipe.

        Raises:
            CorruptSegmentError: a variable is damaged; the text names it.
            SegmentBusyError: others change more all the time than the dump can catch up with; the
                text says how much. Or the handle is read-only, and others changed something all the
                time for 10 s; or a stopped process has blocked the segment itself for 10 s; or this
                process was forked in the middle of the call.
            SegmentFullError: a large value was replaced all the time, and the memory file system is
                full, so that it could not be pinned.
            OSError: the file could not be written.
        """

    def load(self, file: str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes]) -> int:
        """Store what a dump has over what is there, and return how many variables it has.

        The whole dump is verified first. Then its variables are stored at one instant, as by
        `put_many`: nobody who reads with `get_many` sees a part of them, and a process that is killed
        has stored all or none. Each has as much of its time to live left as at the dump. What the
        dump does not have stays. Items are then put at the ends of their queues, one after the other.
        No value's code is run; whoever reads a value from a segment that is trusted runs the code
        that the value needs, so who made the dump is up to you to know.

        Values of more than 21,832 bytes, and arrays from 16 KiB on, are written into the segment as
        they are read. The others are gathered in the memory of this process, which takes about
        twice their bytes.

        Args:
            file: a path, or a file open for reading bytes, from where it stands to its end. What
                cannot be read twice, such as a pipe, is copied to a temporary file first.

        Raises:
            DumpError: the file is no dump, or a damaged one; nothing has changed.
            SegmentFullError: it does not fit, variables and items together; nothing has changed. (Only
                if others take the room of the items meanwhile, the text says how many were put.)
            SegmentBusyError: a stopped process has blocked the segment for 10 s.
            ReadOnlyError: the handle is read-only.
            OSError: the file could not be read; nothing has changed.

        Whatever ends the call while it puts items says how many there are in their queues: in its
        text, or in a note (`__notes__`). All variables are stored by then.
        """

    def detach(self) -> None:
        """Let go of this handle. Variables stay. A second call does nothing.

        With the last handle of a process on a segment, its map and its descriptors are given back,
        and the memory too if the segment was destroyed. This happens when calls that other threads
        are in have ended. Views, and arrays that `get` returned without a copy, keep the map until
        they are dropped.
        """

    def destroy(self) -> None:
        """Unlink the segment, if its key still stands for this very segment.

        The next `attach` makes a new, empty segment. Processes that are attached keep this one
        until they detach. If it was destroyed before, nothing happens.

        Raises:
            SegmentAccessError: the segment belongs to another user; or it cannot be reached from
                here, as there is no /dev/shm, or another one than at `attach` (after a chroot).
            SegmentNotFoundError: the segment was renamed.
        """

    def check(self) -> CheckReport:
        """Verify every invariant of the format, and return counts of what is there.

        The check works in slices, so that writers wait for some milliseconds at a time. First, what
        a dead process left half done is completed or undone. If others change the segment
        meanwhile, each count is of the moment at which that part was looked at, and a few sums may
        not be comparable: see `CheckReport.undecided`. Through a read-only handle the check takes
        no lock: it is repeated until nobody changed anything meanwhile.

        Raises:
            CorruptSegmentError: an invariant does not hold. The text has its number in
                docs/format.md, and the place. Only the first one is reported.
            SegmentBusyError: a living process blocks the segment; or, through a read-only handle,
                others have changed it for 10 s without a pause, or a process died in the middle of
                a change.
        """

    # For `_arrays_in_place`.

    # Fails where an array of `len` bytes with this pickle, that of an array of no items, may not be made in place.
    def _refuse_in_place(self, index: SupportsIndex | str, stream: bytes, len: int) -> None: ...
    # Makes a value in place of `len` bytes, unless there is a variable by then. `pattern` is repeated; empty: zeros.
    def _make_in_place(self, index: SupportsIndex | str, stream: bytes, len: int, pattern: Any) -> None: ...

    # For `shmvar show`: the pickle of a variable, without the buffers beside it.
    def _stream(self, index: SupportsIndex | str) -> bytes: ...

    # For `_task_watcher`, `_task_queue` and `shmvar watch`. Times are in seconds.

    # The `_task_watcher.Watcher` of this handle, made with the first call.
    @property
    def _watcher(self) -> Any: ...
    # Marks the wake word of a variable, or of a lock, as watched: from now on a change moves the watch count. Returns
    # the version of the variable (0: missing) and the seconds until it expires.
    def _mark(self, index: SupportsIndex | str, lock: bool) -> tuple[int, float | None]: ...
    # For each of these locks, marked before: whether trying to take it may succeed now.
    def _may_try(self, names: list[int | str]) -> list[bool]: ...
    # Raises the `WaitTimeoutError` of a wait for a variable, or for a lock, after so many seconds.
    def _late(self, index: int | str, lock: bool, seconds: float | None) -> NoReturn: ...
    # Marks the wake words of variables as watched. Returns the place of the first one whose version is not the one of
    # `seen` (None: there is none), this version, and the seconds until one of them expires.
    def _mark_any(self, indices: list[int | str], seen: list[int]) -> tuple[int | None, int, float | None]: ...
    # Raises the `WaitTimeoutError` of a wait for several variables.
    def _late_any(self, indices: list[int | str], seconds: float | None) -> NoReturn: ...
    # Marks all wake words as watched.
    def _mark_all(self) -> None: ...
    # The watch count, which moves with each change of what is marked.
    def _watch_count(self) -> int: ...
    # Sleeps until the watch count is not `count`, or for `at_most` seconds.
    def _watch(self, count: int, at_most: float | None = None) -> None: ...
    # Moves the watch count, so that the watcher of this handle looks at its list of tasks.
    def _nudge(self) -> None: ...
    # Ends the holds on items of queues that this process could not end. Returns whether none is left.
    def _end_holds(self) -> bool: ...

@final
class Lock:
    """A named lock, shared by every process on a segment. `Segment.lock` makes one.

    >>> with segment.lock("accounts"):
    ...     segment.put_many({"mine": 0, "yours": 200})

    `with` takes it for the running thread, `async with` for the running task. Both may take it
    several times. Two tasks of one thread that use plain `with` count as one thread: both get in.
    Threads are what `threading.get_ident` tells apart, so greenlets are threads if gevent or
    eventlet has patched it.

    If its owner dies, process or thread, the next one gets the lock within 0.1 s after the system
    has let go of the owner. A forked child does not own the locks of its parent. Detaching a handle
    releases what was taken through it. A lock cannot be taken through a read-only handle.
    """

    @property
    def name(self) -> int | str:
        """The name of the lock; 0 if none was given."""

    @property
    def segment(self) -> Segment:
        """The handle that made the lock."""

    @property
    def timeout(self) -> float | None:
        """The seconds that `with` and `acquire` wait. None: without end."""

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock. Return False if the timeout is over first.

        Args:
            timeout: in seconds; 0 tries once. None: the lock's own `timeout`.

        Raises:
            ReadOnlyError: the handle is read-only.
            SegmentFullError: as many locks are held as a segment of this size can have: one for
                each KiB of `size`, and at least 1,024.
            SegmentBusyError: a stopped process has blocked the segment itself for 10 s.
        """

    def release(self) -> None:
        """Release the lock once. Raises `RuntimeError` if this thread does not hold it."""

    def locked(self) -> bool:
        """Return whether a living process holds the lock."""

    def __enter__(self) -> Self:
        """Take the lock. Raises `WaitTimeoutError` if the timeout is over first."""

    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        """Release the lock once."""

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        """Take the lock for the running task; other tasks run meanwhile.

        Raises `WaitTimeoutError` if the timeout is over first.
        """

    def __aexit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        """Release the lock once, for the running task."""

    # For `_task_queue`.

    # The id of the segment and the name of the lock, which are the same through every handle.
    def _what(self) -> tuple[bytes, int | str]: ...
    # A new waiter's place among those of other loops and processes.
    def _turn(self) -> Any: ...
    # Takes the lock for a task if that is possible at once; with `again`, only if the task holds it already.
    def _try(self, task: int, turn: Any, again: bool = False) -> bool: ...
    # Gives up the place that `_turn` made.
    def _end(self, turn: Any) -> None: ...
    # Releases the lock for a task. None: for the task that took it.
    def _release(self, task: int | None) -> None: ...

@final
class Changes:
    """Every change of a segment, from `Segment.changes`.

    A step (`next`, or the next turn of a loop) raises `WaitTimeoutError` when nothing has changed
    within the timeout, and may be tried again. It raises `SegmentNotFoundError` when the segment
    was destroyed and there is nothing left to tell. Several threads may share one; each change goes
    to one of them. It ends with `close`, with its last reference, and in a forked child.

    It remembers which indexes are there, so it takes memory for each variable: 10 to 40 bytes for
    an integer, and 50 to 100 for a short text. A look after a change goes over the whole table:
    a millisecond for ten thousand variables.
    """

    def __iter__(self) -> Self: ...
    def __next__(self) -> tuple[int | str, int]: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, tuple[int | str, int]]: ...
    def close(self) -> None:
        """End the iteration, also for a thread or task that waits in it. Again is a no-op."""

    @property
    def segment(self) -> Segment:
        """The handle that it was made from."""

    @property
    def timeout(self) -> float | None:
        """For how many seconds a step waits. None: without end."""

    # For `shmvar._task_watcher`. One step of a task: the change; or the seconds to sleep, and whether to be woken
    # meanwhile; or, without seconds, that `_round` is to be called in another thread; or nothing, at the end.
    def _step(self, at_once: bool) -> tuple[tuple[int | str, int] | None, float | None, bool | None]: ...
    def _round(self) -> None: ...
    # Whether there may be something to see.
    def _may_step(self) -> bool: ...
    def _late(self) -> NoReturn: ...

@final
class Queue:
    """A queue of values, shared by every process on a segment. `Segment.queue` makes one.

    >>> jobs = segment.queue("jobs")
    >>> jobs.put({"resize": "cat.png"})
    >>> with jobs.take() as job:
    ...     work(job)

    The calls of `queue.Queue` do what they do there: first in, first out, in the order of the
    `put`s of all processes. Each item goes to one caller. What is put is a copy, and so is what
    comes out. The items are charged to the segment like variables, and stay when processes end.

    `get` hands an item out for good: it dies with the process that got it. With `take` it is
    finished once: it goes when the `with` block ends; an exception (Ctrl-C and cancellation, too)
    or the death of the process puts it back to the front, and the next one begins the work again.
    """

    @property
    def name(self) -> int | str:
        """The name of the queue; 0 if none was given."""

    @property
    def segment(self) -> Segment:
        """The handle that made this object."""

    @property
    def maxsize(self) -> int:
        """How many items may wait before `put` through this object waits. 0 or less: any number."""

    def put(self, value: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put a value at the end.

        Waits while `maxsize` items wait in the queue, or while the segment has no room for this
        one.

        Args:
            value: anything that `Segment.put` takes.
            block: False: do not wait.
            timeout: the seconds to wait. None: without end.

        Raises:
            QueueFullError: there was no room in time.
            SegmentFullError: the item needs more than the whole `size` of the segment, or more than
                the memory file system has.
            ReadOnlyError: the handle is read-only.
        """

    def put_nowait(self, value: Any) -> None:
        """Put a value at the end if there is room now: `put(value, block=False)`."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Remove the first value and return it.

        What a process took that has died since comes first, within 0.1 s.

        Args:
            block: False: do not wait.
            timeout: the seconds to wait. None: without end.

        Raises:
            QueueEmptyError: there was no item in time.
            ReadOnlyError: the handle is read-only.
            UntrustedValueError: the value needs code to be rebuilt, and the segment is not trusted.
                It is gone all the same, as is any item that cannot be rebuilt.
        """

    def get_nowait(self) -> Any:
        """Remove the first value and return it if there is one now: `get(block=False)`."""

    def take(self, timeout: float | None = None) -> TakenItem:
        """Return a context manager that takes the first item on entry: see `TakenItem`.

        Args:
            timeout: the seconds that the entry waits. None: without end.
        """

    def aput(self, value: Any, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """The same as `put` in asyncio: other tasks run meanwhile."""

    def aget(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """The same as `get` in asyncio: other tasks run meanwhile."""

    def qsize(self) -> int:
        """Return how many items wait. Those that somebody has taken are not counted."""

    def empty(self) -> bool:
        """Return whether no item waits."""

    def full(self) -> bool:
        """Return whether `maxsize` items wait. False if `maxsize` is 0 or less."""

    def clear(self) -> None:
        """Remove the items that wait. Those that somebody has taken stay with their takers.

        What a process held that has died waits, too, and is removed.

        The first ones go first; another process may see some of them gone and the others there. A
        queue whose record in the segment is damaged is removed as well.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle, the name and `maxsize`; the items stay where they are."""

    # For `_queue`.

    # The id of the segment and the name of the queue, which are the same through every handle.
    def _what(self) -> tuple[bytes, int | str]: ...
    # Marks what a task waits for as watched. Returns whether a try may help, and whether somebody holds items.
    def _mark(self, room: bool) -> tuple[bool, bool]: ...
    # Puts a value if there is room now. The last try of a task, which waited so long, raises `QueueFullError`.
    def _try_put(self, value: Any, last: bool, seconds: float | None) -> bool: ...
    # The same with what `_encode` returned.
    def _try_put_pickle(self, pickle: bytes, last: bool, seconds: float | None) -> bool: ...
    # Gets the first item, if there is one now. The last try of a task raises `QueueEmptyError`.
    def _try_get(self, last: bool, seconds: float | None) -> tuple[Any] | None: ...
    # For dumps: the number of the queue, the tickets of the items that were taken, the first and the next ticket of the
    # others.
    def _tickets(self) -> tuple[int, list[int], int, int] | None: ...
    # The pickle of an item, which stays. None: it is gone.
    def _pickle(self, queue: int, ticket: int) -> bytes | None: ...
    # The pickle of a value. None: it has buffers.
    @staticmethod
    def _encode(value: Any) -> bytes | None: ...
    # Puts a value that is a pickle already.
    def _put_pickle(self, pickle: bytes) -> None: ...

@final
class TakenItem:
    """An item of a queue that this process works on. `Queue.take` makes one.

    >>> with jobs.take() as job:
    ...     work(job)

    The item is taken on entry, which returns its value. It is finished, and gone, when the block
    ends. If an exception ends the block, or the process dies in it, the item is the first of the
    queue again. An item that is taken is invisible to others, however long the work takes.

    `async with` takes it for a task; other tasks run while it waits. A forked child does not hold
    what its parent took. Detaching the handle gives the item back. At most 640 items of a queue
    are taken at a time: the next `take` waits until one of them is finished.
    """

    @property
    def attempts(self) -> int:
        """How often the item was taken, this time included: 1 for the first. 0 before the entry.

        It counts an entry that could not rebuild the value, too.
        """

    @property
    def queue(self) -> Queue:
        """The queue."""

    def __enter__(self) -> Any:
        """Take the first item and return its value. Raises `QueueEmptyError` after the timeout.

        Raises `RuntimeError` if an item is taken already through this object, also if another
        thread does so while this one waits: what comes second is given back.
        """

    def __exit__(
        self,
        exception: type[BaseException] | None = None,
        *_rest: BaseException | TracebackType | None,
    ) -> None:
        """Finish the item or, after an exception, give it back.

        While a process is stopped in a change, finishing waits for up to 10 s, as other changes do,
        and then raises `SegmentBusyError`. The item stays taken even so, and is finished as soon as
        that process goes on; only if this one ends before is its work begun again. Giving back waits
        for half a second, and is then made later, by a thread.

        Raises `RuntimeError` if this process does not hold it: it is a forked child.
        """

    def __aenter__(self) -> Coroutine[Any, Any, Any]:
        """Take the first item and return its value; other tasks run meanwhile.

        Raises `QueueEmptyError` after the timeout.
        """

    def __aexit__(
        self,
        exception: type[BaseException] | None = None,
        *_rest: BaseException | TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        """Finish the item or, after an exception, give it back; other tasks run meanwhile."""

    # For `_queue`.

    # Takes the first item if there is one now: its value in a tuple. The last try of a task raises `QueueEmptyError`.
    # `entry`: the number of the task's entry, which is not 0.
    def _try(self, last: bool, seconds: float | None, entry: int) -> tuple[Any] | None: ...
    # Ends the block if that needs no wait. Returns whether it did.
    def _leave_now(self, failed: bool) -> bool: ...
    # Whether this entry has taken the item that this process holds.
    def _held(self, entry: int) -> bool: ...
    # Ends the block.
    def _leave(self, failed: bool) -> None: ...

@final
class SegmentInfo:
    """Facts about a segment. Sizes are in bytes. It can be pickled, and be a key of a dict.

    `shmvar.segments` knows less than `Segment.info`: see `count`, `held`, `spare`, `locks` and
    `largest_put`. If `state` is not "usable", only `key`, `name`, `perm`, `uid`, `resident`,
    `state` and `why` mean anything; the rest is 0.
    """

    @property
    def key(self) -> int | str | None:
        """The key by which the segment is attached.

        For what is no usable segment, from `shmvar.segments`, this is the key whose object has this
        name: `destroy` takes it. None: the object belongs to another user and this user may not
        look at it; or it is no file but a link or a directory; or its name belongs to no key, or to
        a long text key, which the name does not tell.
        """

    @property
    def name(self) -> str:
        """The name of its object in the memory file system."""

    @property
    def size(self) -> int:
        """The limit: how much stored variables may be charged."""

    @property
    def used(self) -> int:
        """How much its variables are charged."""

    @property
    def free(self) -> int:
        """`size - used`."""

    @property
    def count(self) -> int:
        """The number of variables.

        `shmvar.segments` also counts expired ones that nobody has removed yet.
        """

    @property
    def perm(self) -> int:
        """The permission bits."""

    @property
    def uid(self) -> int:
        """The number of the user to whom it belongs."""

    @property
    def created_at(self) -> float:
        """When it was created, in seconds since 1970."""

    @property
    def attached(self) -> int:
        """The number of living processes that are attached for writing.

        Those that only read are not known.
        """

    @property
    def largest_put(self) -> int:
        """The longest `bytes` that can be stored under a new integer index.

        From `shmvar.segments`, this takes only the limit into account.
        """

    @property
    def resident(self) -> int:
        """How much memory it takes."""

    @property
    def held(self) -> int:
        """The part of `resident` that was replaced or removed, and that is still in somebody's
        view.

        From `shmvar.segments`, 0.
        """

    @property
    def spare(self) -> int:
        """The part of `resident` that is free, and kept until `trim` gives it back.

        From `shmvar.segments`, 0.
        """

    @property
    def evict(self) -> Literal["lru", "ttl"] | None:
        """What it removes where a value has no room: see `shmvar.attach`."""

    @property
    def evicted(self) -> int:
        """How many variables it has removed for that.

        A process that is killed just then may leave one uncounted.
        """

    @property
    def locks(self) -> dict[int | str, int]:
        """The named locks that are held, each with the pid of its owner.

        A pid is that of the owner's own pid namespace, and meant for people. From
        `shmvar.segments`, there are none.
        """

    @property
    def queues(self) -> dict[int | str, dict[str, int]]:
        """The queues that have items, by their names.

        Of each: `waiting`, the items that wait (those that a dead process holds are among them),
        `held`, those that somebody has taken, and `used`, what the queue is charged. From
        `shmvar.segments`, none.
        """

    @property
    def state(self) -> str:
        """What the object is, as far as that is known without attaching it.

        "usable": a segment. "damaged": a segment whose identity was changed, or that was cut short.
        "foreign": a file that is no segment, or a segment of another format version. "refused":
        this user may not read it.
        """

    @property
    def why(self) -> str | None:
        """Why it is not usable.

        For a usable segment, None, or that it has more names than its own (hard links).
        """

    def _asdict(self) -> dict[str, Any]:
        """Return its properties as a dict, by name."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

@final
class VariableInfo:
    """Facts about a variable. Sizes are in bytes. It can be pickled, and be a key of a dict."""

    @property
    def size(self) -> int:
        """What the variable is charged.

        That is 32 for its slot, the length of its index if that is a text, and the length of its
        value as it is stored. Small ints, floats and short strings fit into the slot.
        """

    @property
    def version(self) -> int:
        """Its version, which grows with every change."""

    @property
    def expires_in(self) -> float | None:
        """The seconds until it expires. None: it stays."""

    @property
    def type(self) -> str:
        """The name of the type of its value, found without running code."""

    @property
    def viewable(self) -> bool:
        """Whether a view of it copies less than 16 KiB, whatever its size.

        The dtypes and shapes of its arrays come on top. This is about views through a handle that
        may write and that trusts. On a server it is False: each view there copies the whole value.

        False: the value is, or has in it, something large that is stored within its pickle and that
        a view rebuilds in memory of the caller's own: objects, long texts, many small values. What
        is known is how the value is stored; a class of your own may still copy what it is given.
        """

    @property
    def in_place(self) -> bool:
        """Whether processes change it where it lies: it was made by `Segment.array` or `Segment.buffer`."""

    def _asdict(self) -> dict[str, Any]:
        """Return its properties as a dict, by name."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

@final
class CheckReport:
    """What `Segment.check` counted. It can be pickled, and be a key of a dict."""

    @property
    def variables(self) -> int:
        """The number of variables in the segment."""

    @property
    def used(self) -> int:
        """How many bytes they are charged."""

    @property
    def slots(self) -> int:
        """The number of slots in the table of variables."""

    @property
    def locks(self) -> int:
        """The number of named locks that are held."""

    @property
    def tombstones(self) -> int:
        """The number of slots whose variable was removed."""

    @property
    def zones(self) -> int:
        """The number of zones in use. A zone has 16 MiB of addresses."""

    @property
    def slabs(self) -> int:
        """The number of spans that are cut into blocks of one size, for short values."""

    @property
    def blocks(self) -> int:
        """The number of blocks in them that hold a short value."""

    @property
    def live(self) -> int:
        """The number of spans that hold a long value."""

    @property
    def busy(self) -> int:
        """The number of spans that somebody is filling or freeing."""

    @property
    def retired(self) -> int:
        """The number of spans whose value was replaced or removed, but is still in view."""

    @property
    def free(self) -> int:
        """The number of free spans."""

    @property
    def living(self) -> int:
        """The number of living processes that are attached for writing."""

    @property
    def dead(self) -> int:
        """The number of processes that died, and after which nobody has cleaned up yet."""

    @property
    def undecided(self) -> int:
        """The number of things that could not be compared, because others changed them each time.

        It is 0 if nobody writes. The things are sums (`count`, what is used, what expires, what is
        in view), and parts of the memory in use whose variable was not met.
        """

    def _asdict(self) -> dict[str, int]:
        """Return its properties as a dict, by name."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

def attach(
    key: SupportsIndex | str,
    size: SupportsIndex | None = None,
    *,
    reserve: SupportsIndex | None = None,
    perm: int = 0o600,
    create: bool | None = None,
    readonly: bool = False,
    trust: bool | None = None,
    evict: Literal["lru", "ttl"] | None = None,
) -> Segment:
    """Open the segment `key`, or create it if there is none.

    >>> segment = shmvar.attach(4711)

    Args:
        key: a 64-bit signed number, or a `str` of 1 to 128 bytes of UTF-8. A URL,
            `valkey://host/#KEY`, stands for a segment on a Valkey or Redis server: the result is a
            `shmvar.RemoteSegment`, which docs/remote.md compares with this one. It needs
            `shmvar[valkey]`.
        size: how many bytes stored values may take. It is a limit, not a reservation: memory is
            taken as it is used. A size that is larger than that of an existing segment raises its
            limit. None, for a new segment: 1 GiB, or less if the memory file system holds less, or
            if an eighth of `ulimit -v` or a quarter of `ulimit -f` is less.
        reserve: bytes up to which, at least, the size of a segment that this call creates can be
            raised later; at most 8796084633600. A reserve costs addresses, not memory; a process
            begins with 7 to 8 % of them. None: 8 times the size, rounded up to a power of two, and
            at least 32 GiB; or twice the size, if this process may take few addresses
            (`ulimit -v`).
        perm: the mode of a segment that this call creates, exactly: the umask does not apply. With
            0o600 it is for this user alone.
        create: None opens or creates the segment. True must create it, False must find it.
        readonly: read only; every change raises `ReadOnlyError`.
        trust: whether values may run code when they are unpickled. None: if nobody but this user
            and root could have written them.
        evict: what a segment that this call creates removes where a value has no room: "lru", the
            variable that was used least recently, or "ttl", the one that expires soonest. None, for
            a new segment: nothing, and storing raises `SegmentFullError`. None, for an existing
            one: whatever it was created with.

    Raises:
        OverflowError, TypeError, ValueError: an argument is wrong, or `evict` is not what the
            existing segment was created with.
        SegmentNotFoundError: `create` is False, and there is none.
        SegmentExistsError: `create` is True, and there is one.
        SegmentAccessError: the system refuses, or the segment belongs to another user and sharing
            was not asked for (by `perm`, or `create=False`).
        SegmentFullError: `size` is more than the memory file system, or the segment's reserve, can
            hold; or a limit of this process is too low for its addresses or for a file of that
            length (the options `-v`, `-f` and `-l` of `ulimit`).
        SegmentBusyError: a living process blocks the segment (it is stopped, or has a lease on the
            file), or 1024 processes are attached.
        IncompatibleSegmentError: the object is no segment, or one of another format version.
        CorruptSegmentError: the segment is damaged. The texts of this and the previous error say
            how the owner gets rid of the object.
        SegmentSystemError: the system refused for a reason of its own: no free descriptors, say.
        SegmentUnavailableError: the server of the URL does not answer.
        ModuleNotFoundError: the key is a URL, and `shmvar[valkey]` is not installed.
    """

def destroy(key: SupportsIndex | str) -> bool:
    """Unlink the segment `key`, which may be a URL. Return False if there was none.

    Its owner and root can do that, whatever it holds and whoever may read it. It also removes a
    segment that somebody has damaged, and any other file at its name, because the name belongs to
    this package. Only that one name is removed.

    Raises:
        SegmentAccessError: it belongs to another user; or there is no shared memory here (after a
            chroot), or it is read-only.
        IncompatibleSegmentError: the object is no file but a link, directory, pipe or socket: it
            stays.
        SegmentSystemError: the system refused for a reason of its own: no free descriptors, say.
    """

def exists(key: SupportsIndex | str) -> bool:
    """Return whether there is a file under the name of this key, or a segment if it is a URL.

    The file may belong to somebody else, or be no segment: `attach` finds that out.

    Raises:
        SegmentAccessError: there is no shared memory here (after a chroot), or this user may not
            look.
    """

def segments(url: str | None = None) -> list[SegmentInfo]:
    """Return facts about everything that has the name of a segment; with `url`, on that server.

    That includes what cannot be attached, with the reason (`state`, `why`). Nothing is left out:
    what this user may not look at is there, too, with the facts that the directory tells everybody.
    Segments are read, not attached, so less is known than from `Segment.info`: `count` includes
    variables that have expired and that nobody has removed yet, `locks` is empty, `held` and
    `spare` are 0, and `largest_put` takes only the limit into account.

    Raises:
        SegmentAccessError: there is no shared memory here (after a chroot), or this user may not
            list it.
        SegmentSystemError: there is no free descriptor to look with.
    """

def ftok(path: str | os.PathLike[str], proj: SupportsIndex | str) -> int:
    """Return a key made from an existing file and a project, as the C library's `ftok` does.

    Args:
        path: of the file.
        proj: an int from 1 to 255, or one character.
    """

# What unpickles a `Segment`, a `SegmentInfo`, a `VariableInfo` and a `CheckReport`.
def _reattach(key: int | str, id: bytes, readonly: bool, trust: bool | None) -> Segment: ...

# What pickles of a `Queue` call.
def _queue(segment: Segment, name: int | str, maxsize: int) -> Queue: ...
def _segment_info(
    key: int | str | None,
    name: str,
    words: tuple[int, int, list[int], int],
    halves: list[int],
    lists: tuple[list[tuple[int | str, int]], list[tuple[int | str, int, int, int]]],
    state: tuple[str, str | None, str | None],
) -> SegmentInfo: ...
def _variable_info(
    size: int,
    version: int,
    expires_in: int | None,
    kind: str,
    viewable: bool = False,
    in_place: bool = False,
) -> VariableInfo: ...
def _check_report(counts: tuple[list[int], list[int], list[int]]) -> CheckReport: ...

# For the tests only. The decoder of containers, without the unpickler: a tuple of the value alone, or None if the
# pickle is left to the unpickler.
def _decode_containers(data: bytes) -> tuple[Any] | None: ...

# The decoder for values that are not trusted; displays read every value with it, in a few milliseconds (`preview`).
def _decode_data_only(data: bytes, buffers: Iterable[Any] = ..., *, preview: bool = False) -> Any: ...

# For displays; none of these waits for a lock. At most `count` indexes, in no particular order, and how many slots were
# passed over because they are half changed. What the memory is used for, in bytes: all of it, and `cells` parts of the
# addresses in use. What goes on at this moment.
def _first(segment: Segment, count: int) -> tuple[list[int | str], int]: ...
def _memory(segment: Segment, cells: int) -> tuple[dict[str, int], list[dict[str, int]]]: ...
def _activity(segment: Segment) -> dict[str, Any]: ...

# For iterations. The value of a variable, or `default`; in a segment that evicts, that is no use of the variable.
def _look(segment: Segment, index: int | str, default: Any) -> Any: ...

# For `shmvar._dump`. What a whole dump says, but for its values.
@final
class _DumpPlan:
    variables: int
    items: int
    sha256: str

# Writes a dump, but for its last line, with `write`. Returns how many variables and items there are, for how many
# nanoseconds the writer lock was held, and how many passes over the table there were.
def _dump(segment: Segment, write: Callable[[bytes], Any]) -> tuple[int, int, int, int]: ...

# Reads a dump of `len` bytes to its end with `read`, which is given how many bytes are wanted at most. Raises
# `DumpError`; the checksum is left to the caller.
def _dump_plan(read: Callable[[int], bytes], len: int) -> _DumpPlan: ...

# Stores the variables of a dump, or none. `verify` is called when all of it was read, before anything is stored. The
# items are given to `items`, each with `begin(name, has_buffers, length)` and then, in pieces, `write(bytes)`.
def _load_variables(
    segment: Segment, plan: _DumpPlan, read: Callable[[int], bytes], items: Any, verify: Callable[[], Any]
) -> None: ...

# Calls `each` with each value of a dump that counts: its index or the name of its queue, whether it is an item, whether
# it has buffers beside its pickle, its bytes, and the seconds that it has left to live.
def _dump_values(
    plan: _DumpPlan, read: Callable[[int], bytes], each: Callable[[int | str, bool, bool, bytes, float | None], Any]
) -> None: ...

# The pickle of a value with buffers, with the buffers inside.
def _value_in_band(value: bytes) -> bytes: ...

# Puts the bytes of an item of a dump at the end of a queue, if there is room now.
def _put_item(segment: Segment, name: int | str, has_buffers: bool, value: bytes) -> None: ...

# For `shmvar dump` and `load`. The pickle of a variable with its buffers in it, or None if the variable is missing;
# storing a pickle as it is; why bytes are not one whole pickle, or None if they are.
def _get_pickle(segment: Segment, index: int | str) -> bytes | None: ...
def _put_pickle(segment: Segment, index: int | str, pickle: bytes, ttl: float | None = None) -> None: ...
def _pickle_fault(pickle: bytes) -> str | None: ...

# For `shmvar.php._native`. The classes and functions of `shmvar.php`, by name, made by the first call.
def _php_members() -> dict[str, Any]: ...

# For `shmvar doctor`. Repairs what dead processes left in a segment, and returns how many there were.
def _repair(segment: Segment) -> int: ...

# Removes a stale object that is at least `age` seconds old, or with `look` only says whether it would. Returns None, or
# why the object stays: a code and a text.
def _remove_stale(name: str, age: float, look: bool) -> tuple[str, str] | None: ...

# For `shmvar._remote`. A value to bytes, with whether there are buffers beside its pickle, and back; the name of its
# type; its pickle with the buffers in it, None if the bytes are damaged. Of a long value with buffers `_encode_parts`
# gives parts, and `_decode_apart` takes them: `_buffers_of` says where they are, `_unfilled` makes room for one.
def _encode_value(value: Any) -> tuple[bool, bytes]: ...
def _encode_parts(value: Any, inline: int) -> tuple[bool, bytes, list[bytes | memoryview] | None]: ...
def _decode_apart(index: int | str, pickle: bytes, buffers: list[bytearray], trusted: bool, view: bool) -> Any: ...
def _buffers_of(head: bytes, total: int) -> list[tuple[int, int]] | None: ...
def _unfilled(len: int) -> bytearray: ...
def _decode_value(index: int | str, beside: bool, data: bytes, trusted: bool, view: bool, item: bool) -> Any: ...
def _value_type(beside: bool, data: bytes) -> str: ...
def _value_pickle(beside: bool, data: bytes) -> bytes | None: ...

# Facts about every object that has a name of this package.
def _survey() -> list[dict[str, Any]]: ...
