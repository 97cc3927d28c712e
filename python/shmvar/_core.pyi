"""The compiled core. Everything public is re-exported by `shmvar`."""

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
from types import TracebackType
from typing import Any, NoReturn, Self, SupportsIndex, TypeVar, final, overload

_T = TypeVar("_T")

__all__ = [
    "CheckReport",
    "Lock",
    "Segment",
    "SegmentInfo",
    "VariableInfo",
    "__version__",
    "_check_report",
    "_decode_plain",
    "_get_pickle",
    "_pickle_fault",
    "_put_pickle",
    "_reattach",
    "_remove_stale",
    "_repair",
    "_segment_info",
    "_survey",
    "_variable_info",
    "attach",
    "destroy",
    "exists",
    "ftok",
    "segments",
]

__version__: str

@final
class Segment(MutableMapping[SupportsIndex | str, Any]):
    """A handle on a segment: a mutable mapping from `int` or `str` indexes to values.

    Opened with `shmvar.attach`. An index is an `int` (or anything with `__index__`) of 64 signed bits, or a `str` of at
    most 1024 bytes of UTF-8; beyond that it is `OverflowError`, of another type `TypeError`. 5 and "5" are different.
    Every value is stored as a pickle; reading gives an independent, mutable value, so `segment[1].append(2)` changes a
    copy: put it back. Reads take no lock. Any number of threads may use a handle, and a forked child uses the one that
    it inherited. After `detach` every call raises `DetachedError`; changes through a read-only handle raise
    `ReadOnlyError`. A living process that holds the segment up for 10 s (stopped, say) is `SegmentBusyError`.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __getitem__(self, index: SupportsIndex | str, /) -> Any:
        """The value under `index`.

        Raises:
            KeyError: there is none.
            UntrustedValueError: it needs code, or numpy and there is none, and the segment is not trusted.
            CorruptSegmentError: its bytes are damaged.
        """

    def __setitem__(self, index: SupportsIndex | str, value: Any, /) -> None:
        """Store `value` under `index`, as `put` does."""

    def __delitem__(self, index: SupportsIndex | str, /) -> None:
        """Remove `index`; `KeyError` where there is none."""

    def __contains__(self, index: object, /) -> bool: ...
    def __len__(self) -> int:
        """Variables in the segment now."""

    def __iter__(self) -> Iterator[int | str]:
        """The indexes that are there now, in no promised order: a snapshot."""

    def __eq__(self, other: object, /) -> bool:
        """Equal to any mapping with equal items."""

    def __enter__(self) -> Self:
        """The handle itself, if it is not detached."""

    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        """Detach; nothing is destroyed."""

    def __reduce__(self) -> tuple[Any, tuple[int | str, bytes, bool, bool | None]]:
        """A handle unpickles by attaching again to this very segment, or `SegmentNotFoundError`."""

    @property
    def key(self) -> int | str:
        """The key it was attached by."""

    @property
    def size(self) -> int:
        """The limit now, in bytes: what stored variables may be charged. Others may raise it."""

    @property
    def created(self) -> bool:
        """Did this handle's `attach` create the segment?"""

    @property
    def readonly(self) -> bool:
        """Does this handle only read?"""

    @property
    def trusted(self) -> bool:
        """May values run code when they are read through this handle?"""

    @property
    def detached(self) -> bool:
        """Was `detach` called?"""

    def put(self, index: SupportsIndex | str, value: Any, *, ttl: float | None = None) -> None:
        """Store `value`; whole or not at all: a put that fails changes nothing.

        Args:
            index: of the variable.
            value: anything that pickles; it is pickled once. Read-only numpy arrays are stored as writable ones: what a
                reader gets is its own.
            ttl: seconds after which the variable is gone, more than 0; without one an earlier `ttl` ends. The clock is
                `CLOCK_BOOTTIME`: the same in every process, and it goes on while the machine is suspended.

        Raises:
            ValueError: a `ttl` that is not finite, or not above 0.
            SegmentFullError: it does not fit, the limit or the memory file system; says which, and what to do.
            ReadOnlyError, SegmentBusyError: see the class.
            Exception: whatever pickling the value raised, unchanged.
        """

    @overload
    def get(self, index: SupportsIndex | str, default: None = None) -> Any | None: ...
    @overload
    def get(self, index: SupportsIndex | str, default: _T) -> Any | _T:
        """The value under `index`, or `default`.

        Independent, and as changeable as its type is: a numpy array is writable, whatever it was when it was stored. A
        class that pickles buffers of its own out of band is rebuilt from `memoryview`s of them, where they have 16 KiB
        and more.
        """

    def view(self, index: SupportsIndex | str) -> Any:
        """The value under `index`, read-only and, where it is large, over the segment's own memory: not copied.

        Of an array, that array; of `bytes`, `bytearray`, `memoryview` and `array.array`, and what derives from them, a
        `memoryview`; of other values, the value rebuilt over read-only buffers: every numpy array in it is read-only,
        of any size and class, and every `memoryview` that a class is rebuilt from. What else is in it (lists, a
        `bytearray` in a dict) is a copy that may be changed.

        It stays valid and unchanged whatever happens to the variable, the segment or the handle, until it is dropped;
        its memory is in use until then. Through a read-only handle, and where the segment is not trusted, it is a
        read-only copy.

        Raises:
            KeyError, UntrustedValueError, CorruptSegmentError: as `segment[index]`.
        """

    def has(self, index: SupportsIndex | str) -> bool:
        """Is there a variable `index`? A stored `None` or `False` is there."""

    def remove(self, index: SupportsIndex | str) -> bool:
        """Remove `index`. False: it was not there."""

    @overload
    def pop(self, index: SupportsIndex | str) -> Any: ...
    @overload
    def pop(self, index: SupportsIndex | str, default: _T, /) -> Any | _T:
        """Remove `index` and return its value: nobody else gets the same one.

        Without `default`, `KeyError` where it is missing.
        """

    def popitem(self) -> tuple[int | str, Any]:
        """Remove some variable and return it with its index; `KeyError` where the segment is empty.

        Which one is left to chance, so that each has its turn, and found in the same time however many there are. One
        that cannot be unpickled here is passed over, and stays; where there is no other, its error is raised.
        """

    def setdefault(self, index: SupportsIndex | str, default: Any = None) -> Any:
        """The value under `index`; stored as `default` first where it is missing."""

    @overload  # type: ignore[override]
    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /) -> None: ...
    @overload
    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **named: Any) -> None:
        """Store every item of a mapping, or of an iterable of pairs, as `put_many` does: at one instant, or none."""

    def clear(self) -> None:
        """Remove every variable, at one instant. Locks that are held stay."""

    def put_many(
        self,
        mapping: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        *,
        ttl: float | None = None,
    ) -> None:
        """Store every item of a mapping at one instant, or none of them.

        No `get_many` sees half of it, and a writer killed on the way leaves all or nothing. Other readers of single
        variables may meet some before others. Of two items for one index the last counts.

        Raises:
            SegmentFullError: together they do not fit; nothing has changed.
            ReadOnlyError, SegmentBusyError: see the class.
        """

    def get_many(self, indices: Iterable[SupportsIndex | str]) -> dict[int | str, Any]:
        """The values of those of `indices` that are there, as of one instant; what is missing is left out.

        Raises:
            SegmentBusyError: for 10 s a process has stood still in a batch; or, through a read-only handle,
                they changed each time they were read.
            UntrustedValueError, CorruptSegmentError: as `segment[index]`.
        """

    def add(self, index: SupportsIndex | str, amount: float = 1) -> Any:
        """Atomic `+=` on an int or a float, from 0 where it is missing; returns the sum.

        Ints never wrap: beyond 64 bits they go on as Python ints. A `ttl` is kept.

        Raises:
            TypeError: the value, or the amount, is no int or float (a bool is none).
        """

    @overload
    def swap(self, index: SupportsIndex | str, value: Any, default: None = None) -> Any | None: ...
    @overload
    def swap(self, index: SupportsIndex | str, value: Any, default: _T) -> Any | _T:
        """Store `value` and return what it replaced, at one instant; `default` where it was missing."""

    def version(self, index: SupportsIndex | str) -> int:
        """The version of `index`, 0 where it is missing: strictly greater after every change of that index.

        Removal and re-creation are changes. Compare versions of one index, for order and equality only.
        """

    def get_versioned(self, index: SupportsIndex | str) -> tuple[Any, int]:
        """Value and version of `index`, from one instant; `KeyError` where there is none."""

    def compare_and_put(self, index: SupportsIndex | str, version: int, value: Any) -> bool:
        """Store `value` only if `index` still has this version (0: only if it is missing). False: it has not.

        A version that no variable can have, below 0 or of 64 bits and more, is False.
        """

    def modify(self, index: SupportsIndex | str, function: Callable[[Any], Any], default: Any = ...) -> Any:
        """Store `function(value)` under `index`, atomically, and return it.

        The function runs outside of any lock, and again when another writer came between; where it raises, nothing
        has changed. A `ttl` is kept.

        Args:
            index: of the variable.
            function: from the old value to the new one.
            default: the old value where `index` is missing; without one that is `KeyError`.
        """

    def wait(
        self,
        index: SupportsIndex | str,
        timeout: float | None = None,
        *,
        newer_than: int | None = None,
    ) -> int:
        """Sleep until the version of `index` differs from `newer_than`, and return it: 0 if it was removed or expired.

        Never misses the last change; several changes may wake it once. Other threads go on, Ctrl-C works.

        Args:
            index: of the variable, which may be missing.
            timeout: seconds; None waits without end.
            newer_than: a version of this index; None: the one it has now. One that no variable can have, below 0 or of
                64 bits and more, differs at once.

        Raises:
            WaitTimeoutError: time is up.
            SegmentNotFoundError: the segment was destroyed.
            ValueError: a negative timeout.
        """

    def changed(
        self,
        index: SupportsIndex | str,
        timeout: float | None = None,
        *,
        newer_than: int | None = None,
    ) -> Coroutine[Any, Any, int]:
        """`wait` for asyncio: `version = await segment.changed(index)`. One thread watches for all tasks of a handle.

        Without `newer_than` it is the version at the time of the call, not of the `await`.
        """

    def lock(self, name: SupportsIndex | str = 0, *, timeout: float | None = None) -> Lock:
        """A lock of this name, shared by every process on this segment. It is not held yet: see `Lock`.

        Args:
            name: as an index; locks and variables of one name have nothing to do with each other.
            timeout: seconds that `with` and `acquire` wait; None: without end.
        """

    def keys(self) -> KeysView[int | str]:
        """The indexes; each iteration is a snapshot of its beginning."""

    def values(self) -> ValuesView[Any]:
        """The values; one that vanishes meanwhile is passed over."""

    def items(self) -> ItemsView[int | str, Any]:
        """Index and value of each variable, each item consistent; one that vanishes meanwhile is passed over."""

    def stat(self, index: SupportsIndex | str) -> VariableInfo:
        """A variable, in numbers; `KeyError` where there is none."""

    def info(self) -> SegmentInfo:
        """The segment, in numbers."""

    def resize(self, size: SupportsIndex) -> None:
        """Change the limit to `size` bytes.

        Raises:
            ValueError: 0 or negative.
            SegmentFullError: below what is used (`needed` is that, `size` the one asked for, `free` 0), or beyond the
                memory file system or the segment's reserve of addresses (`needed` is the one asked for).
        """

    def trim(self) -> None:
        """Give free memory back to the system, after moving what is stored together.

        What is stored then takes at most half as much again, and an empty segment 256 KiB. It takes time in proportion
        to what is stored, while others go on, and some 10 ms for making sure that nobody reads what is given back. What
        a view holds stays, and so does what a process that stands still (stopped in the middle of a read) may look at.

        Raises:
            ReadOnlyError: through a read-only handle.
            SegmentBusyError: a stopped process has held the segment itself up for 10 s.
        """

    def detach(self) -> None:
        """Let go of this handle; again is a no-op. Variables stay.

        With the last handle that a process has on a segment its map and its descriptors are given back (of one that was
        destroyed, the memory with them), once calls that other threads are in have ended. Views, and arrays that `get`
        returned without a copy, keep the map until they are dropped.
        """

    def destroy(self) -> None:
        """Unlink the segment, if its key still means this very one.

        A new `attach` gets a new, empty segment; those still attached keep this one until they detach. Where it was
        destroyed before, nothing happens.

        Raises:
            SegmentAccessError: it is another user's; or it cannot be reached from here: there is no /dev/shm, or not
                the one where it was attached (after a chroot).
            SegmentNotFoundError: it was renamed.
        """

    def check(self) -> CheckReport:
        """Verify every invariant of the format, and count what is there.

        In slices: writers wait for some milliseconds at a time. What a dead process left half done is put right first.
        Where others change it meanwhile, what is counted is of the moment at which each part was looked at, and a few
        sums may not be comparable: `CheckReport.undecided`. Through a read-only handle without the lock, again and
        again until nobody changed anything meanwhile.

        Raises:
            CorruptSegmentError: the first invariant that does not hold, by its number in docs/format.md, and the place.
            SegmentBusyError: a living process holds the segment up; or, read-only, others changed it for 10 s without a
                pause, or a process died in a change.
        """

    @property
    def _watcher(self) -> Any: ...
    def _mark(self, index: SupportsIndex | str, lock: bool) -> tuple[int, float | None]: ...
    def _may_try(self, names: list[int | str]) -> list[bool]: ...
    def _late(self, index: int | str, lock: bool, seconds: float | None) -> NoReturn: ...
    def _mark_all(self) -> None: ...
    def _watch_count(self) -> int: ...
    def _watch(self, count: int, at_most: float | None = None) -> None: ...
    def _nudge(self) -> None: ...

@final
class Lock:
    """A lock shared by every process on a segment, from `Segment.lock`.

    `with segment.lock("accounts"):` holds it; `async with` too, for the running task. Re-entrant in a thread, and in
    a task with `async with`; two tasks of one thread that use plain `with` are one thread to it, and both get in. What
    `threading.get_ident` tells apart are threads to it: greenlets, where gevent or eventlet has patched it. The
    lock of a process or thread that died is handed on within 0.1 s of the system letting go of it. A forked child does
    not own its parent's locks. Detaching the handle lets go of what was taken through it. Through a read-only handle
    it cannot be taken.
    """

    @property
    def name(self) -> int | str:
        """Its name; 0 where none was given."""

    @property
    def segment(self) -> Segment:
        """The handle it was made by."""

    @property
    def timeout(self) -> float | None:
        """Seconds that `with` and `acquire` wait; None: without end."""

    def acquire(self, timeout: float | None = None) -> bool:
        """Take it. False: time was up.

        Args:
            timeout: seconds, 0 for one try; None: the lock's own `timeout`.

        Raises:
            ReadOnlyError: through a read-only handle.
            SegmentFullError: as many locks are held as a segment of this size may have: one for each KiB of `size`, at
                least 1,024.
            SegmentBusyError: a stopped process has held the segment itself up for 10 s.
        """

    def release(self) -> None:
        """Let go once; `RuntimeError` where this thread does not hold it."""

    def locked(self) -> bool:
        """Does a living process hold it?"""

    def __enter__(self) -> Self:
        """Take it, or `WaitTimeoutError`."""

    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        """Let go once."""

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        """Take it for the running task, or `WaitTimeoutError`. Other tasks go on."""

    def __aexit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        """Let go once, for the running task."""

    def _what(self) -> tuple[bytes, int | str]: ...
    def _turn(self) -> Any: ...
    def _try(self, task: int, turn: Any, again: bool = False) -> bool: ...
    def _end(self, turn: Any) -> None: ...
    def _release(self, task: int | None) -> None: ...

@final
class SegmentInfo:
    """A segment, in numbers. Sizes are bytes. It pickles, and may be a key of a dict.

    From `shmvar.segments` it says less than from `Segment.info`: see `count`, `held`, `spare`, `locks`, `largest_put`;
    and where `state` is not "usable", only `key`, `name`, `perm`, `uid` and `resident` say anything: the rest is 0.
    """

    @property
    def key(self) -> int | str | None:
        """The key it is attached by.

        Of what is no usable segment, from `shmvar.segments`, the key whose object has this name: `destroy` takes it.
        None: this user may not look at it and it is another's, or it is no file but a link or directory, or the name is
        no key's (or that of a long text key, which it does not tell).
        """

    @property
    def name(self) -> str:
        """Of its object in the memory file system."""

    @property
    def size(self) -> int:
        """The limit."""

    @property
    def used(self) -> int:
        """What its variables are charged."""

    @property
    def free(self) -> int:
        """`size - used`."""

    @property
    def count(self) -> int:
        """Variables; from `shmvar.segments`, expired ones that nobody has removed yet, too."""

    @property
    def perm(self) -> int:
        """Permission bits."""

    @property
    def uid(self) -> int:
        """Owner."""

    @property
    def created_at(self) -> float:
        """Seconds since 1970."""

    @property
    def attached(self) -> int:
        """Living processes attached for writing; those that only read are not known."""

    @property
    def largest_put(self) -> int:
        """Longest `bytes` that can be stored under a new integer index; from `shmvar.segments`, by the limit alone."""

    @property
    def resident(self) -> int:
        """Memory that it takes."""

    @property
    def held(self) -> int:
        """Of that, what was replaced or removed and is still in somebody's view; from `shmvar.segments`, 0."""

    @property
    def spare(self) -> int:
        """Of `resident`, what is free, and kept until `trim` gives it back; from `shmvar.segments`, 0."""

    @property
    def locks(self) -> dict[int | str, int]:
        """Named locks that are held, and the pid of each one's owner in its own pid namespace: for people.

        From `shmvar.segments`, none.
        """

    @property
    def state(self) -> str:
        """What it is, as far as is known without attaching it.

        "usable": a segment. "damaged": one whose identity was changed, or that was cut short. "foreign": a file that is
        no segment, or one of another format version. "refused": this user may not read it.
        """

    @property
    def why(self) -> str | None:
        """Why it is not usable; of a usable one, that it has more names than its own (hard links), or None."""

    def _asdict(self) -> dict[str, Any]:
        """Its properties, by name."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

@final
class VariableInfo:
    """A variable, in numbers. Sizes are bytes. It pickles, and may be a key of a dict."""

    @property
    def size(self) -> int:
        """What it is charged: 32 for its slot, its key where that is text, its value as stored; small ints, floats and
        short strings fit the slot."""

    @property
    def version(self) -> int:
        """Grows with every change."""

    @property
    def expires_in(self) -> float | None:
        """Seconds until it is gone; `None`: it stays."""

    @property
    def type(self) -> str:
        """Name of its type, found without running code."""

    @property
    def viewable(self) -> bool:
        """A view of it, through a handle that may write and trusts, copies less than 16 KiB whatever its size, beside
        the dtypes and shapes of its arrays.

        `False`: it is, or holds, something large that is stored within its pickle, which a view rebuilds in memory of
        the caller's own: objects, long texts, many small values. What is known is how it is stored; a class of your own
        may still copy what it is given.
        """

    def _asdict(self) -> dict[str, Any]:
        """Its properties, by name."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

@final
class CheckReport:
    """What `Segment.check` counted. It pickles, and may be a key of a dict."""

    @property
    def variables(self) -> int:
        """Variables in the segment."""

    @property
    def used(self) -> int:
        """Bytes that they are charged."""

    @property
    def slots(self) -> int:
        """Of the table of variables."""

    @property
    def locks(self) -> int:
        """Named locks that are held."""

    @property
    def tombstones(self) -> int:
        """Slots in which a variable was."""

    @property
    def zones(self) -> int:
        """Zones in use, of 16 MiB of addresses each."""

    @property
    def slabs(self) -> int:
        """Spans cut into blocks of one size, which hold short values."""

    @property
    def blocks(self) -> int:
        """Short values in them."""

    @property
    def live(self) -> int:
        """Spans that hold a long value."""

    @property
    def busy(self) -> int:
        """Spans that somebody is filling or freeing."""

    @property
    def retired(self) -> int:
        """Spans whose value was replaced or removed, and that somebody still has in view."""

    @property
    def free(self) -> int:
        """Free spans."""

    @property
    def living(self) -> int:
        """Processes that are attached for writing."""

    @property
    def dead(self) -> int:
        """Processes that died and were not tidied up after yet."""

    @property
    def undecided(self) -> int:
        """What others changed each time it was looked at, so that it could not be compared: 0 where nobody writes.

        The sums (`count`, what is used, what expires, what is in view), and parts of the memory in use whose variable
        was not met.
        """

    def _asdict(self) -> dict[str, int]:
        """Its properties, by name."""

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
) -> Segment:
    """Open the segment `key`, creating it where there is none.

    Args:
        key: a 64-bit signed number, or a str of 1 to 128 bytes of UTF-8.
        size: bytes of values it may hold (a limit, not a reservation: memory is taken as it is used). None: 1 GiB, or
            what the memory file system holds where that is less (an eighth of `ulimit -v` or a quarter of `ulimit -f`,
            too). A larger size raises the limit of an existing segment.
        reserve: bytes up to which, at least, the size of a segment that this call creates can be raised; at most
            8796084633600. It costs addresses, not memory: some 3 % of it for a start. None: 8 times the size and at
            least 32 GiB; twice the size where this process may take few addresses (`ulimit -v`).
        perm: mode of a segment that this call creates, exactly: the umask does not apply. 0o600 is for this user alone.
        create: None opens or creates, True must create, False must exist.
        readonly: read only; every change raises `ReadOnlyError`.
        trust: may values run code when unpickled? None: if nobody but this user and root could have written them.

    Raises:
        OverflowError, TypeError, ValueError: a wrong argument.
        SegmentNotFoundError, SegmentExistsError: by `create`.
        SegmentAccessError: the system refuses, or it is another user's and sharing was not asked for.
        SegmentFullError: `size` is beyond what the memory file system can hold, or beyond the segment's reserve; or
            this process may take no more addresses, or make no file so long (`ulimit -v`, `-f`, `-l`).
        SegmentBusyError: a living process holds it up (stopped, or with a lease on the file), or 1024 processes are
            attached.
        IncompatibleSegmentError, CorruptSegmentError: what is there is no segment, of another version, or damaged. Says
            how its owner gets rid of it.
        SegmentSystemError: the system refused for a reason of its own: no descriptors, say.
    """

def destroy(key: SupportsIndex | str) -> bool:
    """Unlink the segment `key`. False: there was none.

    Its owner, and root, can do that whatever it holds and whoever may read it: a segment that somebody damaged, and any
    other file at its name, too (the name is the package's own). Only that one name is removed.

    Raises:
        SegmentAccessError: it is another user's; or there is no shared memory here (after a chroot), or read-only one.
        IncompatibleSegmentError: what is there is no file but a link, directory, pipe or socket: it stays.
        SegmentSystemError: the system refused for a reason of its own: no descriptors, say.
    """

def exists(key: SupportsIndex | str) -> bool:
    """Is there a file under this key's name? It may be somebody else's, or no segment: `attach` says.

    Raises:
        SegmentAccessError: there is no shared memory here (after a chroot), or this user may not look.
    """

def segments() -> list[SegmentInfo]:
    """Everything at the names of segments: what can be attached, and what cannot, with the reason (`state`, `why`).

    Nothing is left out: what this user may not look at is there, too, with the facts that the directory tells to all.
    They are read, not attached, so less is known than `Segment.info` says: `count` includes variables that expired and
    that nobody has removed yet, `locks` is empty, `held` and `spare` are 0. `largest_put` goes by the limit alone.

    Raises:
        SegmentAccessError: there is no shared memory here (after a chroot), or this user may not list it.
        SegmentSystemError: no descriptor is left to look.
    """

def ftok(path: str | os.PathLike[str], proj: SupportsIndex | str) -> int:
    """The C library's `ftok`: a key from a file that exists and a project, an int from 1 to 255 or one character."""

def _reattach(key: int | str, id: bytes, readonly: bool, trust: bool | None) -> Segment: ...
def _segment_info(
    key: int | str | None,
    name: str,
    words: list[int],
    halves: list[int],
    locks: list[tuple[int | str, int]],
    state: tuple[str, str | None],
) -> SegmentInfo: ...
def _variable_info(
    size: int, version: int, expires_in: int | None, kind: str, viewable: bool = False
) -> VariableInfo: ...
def _check_report(counts: tuple[list[int], list[int], list[int]]) -> CheckReport: ...
def _decode_plain(data: bytes, buffers: Iterable[Any] = ...) -> Any: ...
def _get_pickle(segment: Segment, index: int | str) -> bytes | None: ...
def _put_pickle(segment: Segment, index: int | str, pickle: bytes, ttl: float | None = None) -> None: ...
def _pickle_fault(pickle: bytes) -> str | None: ...
def _repair(segment: Segment) -> int: ...
def _remove_stale(name: str, age: float, look: bool) -> tuple[str, str] | None: ...
def _survey() -> list[dict[str, Any]]: ...
