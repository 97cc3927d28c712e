"""What `shmvar.php` has in the extension module."""

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from types import TracebackType
from typing import Any, Literal, Self, SupportsIndex, TypeVar, final, overload

from shmvar.php._info import SegmentInfo
from shmvar.php._message_queue_info import MessageQueueInfo

_T = TypeVar("_T")

@final
class Segment(MutableMapping[int, Any]):
    """A handle on one of PHP's segments: a mutable mapping from indexes to values, as PHP's `shm_get_var` has them.

    `attach` opens one. Any number of threads may use a handle, and a forked child may use the handles that
    it inherited.

    >>> from shmvar import php
    >>> segment = php.attach(0x50485001)
    >>> segment[1] = {"job": 7, "done": False}      # PHP: shm_put_var($shm, 1, ["job" => 7, "done" => false])
    >>> segment[1]
    {'job': 7, 'done': False}
    >>> segment.destroy()

    An index is an `int` (or anything with `__index__`) that fits 64 signed bits. Any other number raises
    `OverflowError`, any other type `TypeError`: PHP has no texts for indexes. Two indexes stand for other things in
    a segment, -2**63 + 1 and -2**63 + 2: storing under them raises `ValueError`.

    A value is whatever `dumps` takes: None, `bool`, `int`, `float`, `str`, `bytes`, `list`, `dict`, `PhpObject`,
    `PhpEnum`, and what holds those. Reading gives an independent value, as `loads` makes it with the options
    `strings` and `arrays` of `attach`; it never makes an object of a class of the program, and runs no code of
    its own. To change what is stored, put the changed value back.

    PHP takes no lock, and two writers at the same time damage the segment, even if each keeps to indexes of its
    own. With `lock=`, each call holds PHP's semaphore while it looks into the segment, and PHP is to hold it
    around its own calls (`sem_acquire`, `sem_release`). `update`, `pop`, `popitem`, `setdefault`, `clear` and `copy`
    hold it once, so nobody else who takes it comes in between. What takes several calls is put into a block:

    >>> semaphore = php.Semaphore(0x50485001)
    >>> segment = php.attach(0x50485001, lock=semaphore)
    >>> segment[1] = 0
    >>> with semaphore:
    ...     segment[1] += 1
    >>> segment.destroy()
    >>> semaphore.remove()

    After `detach`, every call raises `DetachedError`. Where the segment turns out to be damaged, a call raises
    `CorruptSegmentError` and changes nothing; the text names the key, and the index and the offset where there
    is one. A call that fails changes nothing.

    A handle can be pickled: it attaches to the segment of its key again, which must be there, with the same lock.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __getitem__(self, index: SupportsIndex, /) -> Any:
        """Return the value under `index`.

        Raises:
            KeyError: there is no such variable.
            CorruptSegmentError: the segment, or the text of the value, is damaged.
            MemoryError: this process has no memory for the value, or it needs more than `loads` allows.
        """

    def __setitem__(self, index: SupportsIndex, value: Any, /) -> None:
        """Store `value` under `index`, as `put` does."""

    def __delitem__(self, index: SupportsIndex, /) -> None:
        """Remove the variable `index`. Raises `KeyError` if there is none."""

    def __contains__(self, index: object, /) -> bool: ...
    def __len__(self) -> int:
        """Return the number of variables that are in the segment now."""

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indexes that are there now: a snapshot, in the order of the segment.

        PHP puts a variable that it stores at the end, also one that it replaces.
        """

    def __eq__(self, other: object, /) -> bool:
        """Return whether `other` is a mapping with equal items."""

    def __repr__(self) -> str:
        """Return the key, and numbers where the handle is attached. It does not wait for the lock."""

    def __enter__(self) -> Self:
        """Return the handle. Leaving the block detaches it; the segment and its variables stay."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Detach the handle."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle: its key, its options and its lock. Unpickling attaches to the segment that is there.

        Raises:
            DetachedError: the handle is detached.
        """

    @property
    def key(self) -> int:
        """The key, as a signed number of 32 bits: `attach(0xffffffff).key` is -1. PHP takes both."""

    @property
    def id(self) -> int:
        """The number that the system gave the segment, `shmid` in `ipcs -m`."""

    @property
    def size(self) -> int:
        """How many bytes the segment has, as the kernel knows it."""

    @property
    def created(self) -> bool:
        """Whether this handle made the segment."""

    @property
    def detached(self) -> bool:
        """Whether the handle was detached."""

    @property
    def lock(self) -> Semaphore | None:
        """The semaphore that each call holds, or None."""

    @property
    def strings(self) -> Literal["auto", "bytes"]:
        """What a string of PHP's becomes: see `attach`."""

    @property
    def arrays(self) -> Literal["auto", "dict"]:
        """What an array of PHP's becomes: see `attach`."""

    def put(self, index: SupportsIndex, value: Any) -> None:
        """Store `value` under `index`, whole or not at all: a put that fails changes nothing.

        >>> segment.put(1, ["a", "b"])      # PHP: shm_put_var($shm, 1, ["a", "b"]);

        Args:
            index: of the variable, which is replaced if it is there.
            value: anything that `dumps` takes. It is serialized before the lock is taken.

        Raises:
            SerializeError: PHP cannot hold the value; the text names the place in it. (OverflowError,
                TypeError: it is the index that is wrong.)
            SegmentFullError: the value does not fit, not even in place of the old one, which is still there.
            CorruptSegmentError: the segment is damaged.
        """

    @overload
    def get(self, index: SupportsIndex, default: None = None) -> Any | None: ...
    @overload
    def get(self, index: SupportsIndex, default: _T) -> Any | _T:
        """Return the value under `index`, or `default` if there is none.

        >>> segment.get(1, "nothing")       # PHP: shm_has_var($shm, 1) ? shm_get_var($shm, 1) : "nothing"

        Raises:
            CorruptSegmentError, MemoryError: as for `segment[index]`.
        """

    def raw(self, index: SupportsIndex) -> bytes:
        """Return the text under `index`, as PHP's `serialize` made it. `loads` makes a value of it.

        Raises:
            KeyError: there is no such variable.
            CorruptSegmentError: the segment is damaged. The text itself is not looked at.
        """

    def has(self, index: SupportsIndex) -> bool:
        """Return whether there is a variable `index`."""

    def remove(self, index: SupportsIndex) -> None:
        """Remove the variable `index`. Raises `KeyError` if there is none."""

    @overload
    def pop(self, index: SupportsIndex) -> Any: ...
    @overload
    def pop(self, index: SupportsIndex, default: _T, /) -> Any | _T:
        """Remove the variable `index` and return its value, or `default` if there is none.

        Raises:
            KeyError: there is no such variable, and no default.
            CorruptSegmentError, MemoryError: as for `segment[index]`. Nothing was removed.
        """

    def popitem(self) -> tuple[int, Any]:
        """Remove the last variable of the segment, and return its index and its value.

        Raises:
            KeyError: there is none.
            CorruptSegmentError, MemoryError: as for `segment[index]`. Nothing was removed.
        """

    def setdefault(self, index: SupportsIndex, default: Any = None) -> Any:
        """Return the value under `index`; if there is none, store `default` and return it.

        Raises:
            SerializeError, SegmentFullError: as for `put`.
            CorruptSegmentError, MemoryError: as for `segment[index]`.
        """

    @overload  # type: ignore[override]
    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /) -> None: ...
    @overload
    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **named: Any) -> None:
        """Store every item of a mapping, or every pair of an iterable: of one index, the last.

        All values are serialized, and it is made sure that there is room for all, before the first is stored.
        (Named arguments are refused, as their names are no indexes.)

        Raises:
            SerializeError, SegmentFullError: as for `put`. Nothing was stored, unless another writer took the
                room meanwhile who does not take the lock.
        """

    def clear(self) -> None:
        """Remove all variables."""

    def copy(self) -> dict[int, Any]:
        """Return a new dict of all items, in the order of the segment."""

    def keys(self) -> KeysView[int]:
        """Return a view of the indexes, like `dict.keys`. Each iteration walks over those that are there then."""

    def values(self) -> ValuesView[Any]:
        """Return a view of the values, like `dict.values`. An iteration skips what vanishes meanwhile.

        Each value is looked for when it is its turn, from the first variable on. Where all are to be of the same
        moment, or are many, use `copy`, which goes over the segment once.
        """

    def items(self) -> ItemsView[int, Any]:
        """Return a view of pairs of index and value, like `dict.items`; see `values`."""

    def info(self) -> SegmentInfo:
        """Return facts about the segment: its sizes, its owner, who is attached."""

    def detach(self) -> None:
        """Detach the handle, which cannot be used afterwards. The segment and its variables stay.

        A handle that nobody uses any more detaches by itself. Detaching twice does no harm.
        """

    def destroy(self) -> None:
        """Remove the segment from the system: its key is free from now on.

        As in PHP, handles on it go on working, this one too, in all processes, until they are detached; whoever
        attaches to the key from now on gets another segment. PHP: `shm_remove`.

        Raises:
            SegmentAccessError: it belongs to another user.
        """

    # The text of a variable, or None; stores a text, which nobody looks at.
    def _get_text(self, index: SupportsIndex) -> bytes | None: ...
    def _put_text(self, index: SupportsIndex, text: bytes) -> None: ...

@final
class Semaphore:
    """One of PHP's semaphores: what `sem_get` makes in PHP, for this process and all others.

    >>> from shmvar import php
    >>> semaphore = php.Semaphore(0x50485001)       # PHP: $semaphore = sem_get(0x50485001);
    >>> with semaphore:                             # PHP: sem_acquire($semaphore); ... sem_release($semaphore);
    ...     semaphore.held
    1
    >>> semaphore.remove()

    It is a set of three System V semaphores, used in the order in which PHP uses them, so PHP and Python keep each
    other out. The kernel gives back what a process holds when the process ends, however it ends; what it was in the
    middle of changing stays half changed.

    It is held by a thread (or a greenlet) through a handle: that thread acquires it again without waiting, and has it
    until it has released it as often. Other threads of the process wait as other processes do. PHP waits for itself
    instead, and so does a thread with a second handle on the same semaphore. A thread that ends without releasing it
    leaves it held until nobody refers to the handle any more.

    A forked child may use the handle, and holds nothing of what its parent holds. A handle can be pickled: it is opened
    again, with the same arguments. One that nobody refers to any more is closed.

    Args:
        key: a number of 32 bits, signed or not, and not 0. `ftok` makes one of a file.
        max_acquire: how many may hold it at once, 1 to 32767. It counts only if no other handle is open, in any
            process: whoever opens a semaphore that others use joins them, with the number that they have. The lock of a
            segment needs 1.
        permissions: of a new semaphore, exactly these nine bits. Whoever uses it needs to read and to write.

    Raises:
        ValueError: the key is 0 or beyond 32 bits, or another argument is out of its range.
        IncompatibleSegmentError: another program has semaphores under this key that are none of PHP's.
        SegmentAccessError: its permissions do not let this user use it.
        SegmentBusyError: for 10 seconds another process has been in the middle of opening it. The text names it.
        SegmentSystemError: the machine has as many semaphores as it may. The text has the numbers.
    """

    def __new__(
        cls, key: SupportsIndex, max_acquire: SupportsIndex | None = 1, permissions: SupportsIndex | None = 0o666
    ) -> Self: ...
    def __repr__(self) -> str: ...
    def __enter__(self) -> Self:
        """Acquire the semaphore, however long that takes."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Release the semaphore."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle: its arguments. Unpickling opens the semaphore again, and makes it if there is none.

        Raises:
            DetachedError: the handle was closed.
        """

    @property
    def key(self) -> int:
        """The key, as a signed number of 32 bits."""

    @property
    def id(self) -> int:
        """The number that the system gave the set, `semid` in `ipcs -s`."""

    @property
    def max_acquire(self) -> int:
        """How many may hold it at once, as this handle was told."""

    @property
    def held(self) -> int:
        """How often this thread has acquired it through this handle, and not released it."""

    @property
    def closed(self) -> bool:
        """Whether the handle was closed."""

    def acquire(self, timeout: float | None = None) -> bool:
        """Acquire the semaphore, or acquire it once more if this thread holds it.

        Other threads and greenlets run meanwhile. A signal handler that raises, such as that of Ctrl-C, ends the wait;
        then nothing was acquired.

        Args:
            timeout: at most this many seconds; 0 does not wait. None: as long as it takes.

        Returns:
            Whether it was acquired.

        Raises:
            SegmentNotFoundError: somebody removed it, before or meanwhile.
            DetachedError: the handle was closed, before or meanwhile. (A call that waits notices it within 5 seconds.)
        """

    def release(self) -> None:
        """Release the semaphore once. The last release of a thread lets others in.

        Raises:
            RuntimeError: this thread does not hold it through this handle.
            SegmentNotFoundError: somebody else removed it meanwhile, so others may have used what it guards.
        """

    def remove(self) -> None:
        """Remove the semaphore. Whoever waits for it gets an error; a `with` block that holds it just ends.

        Raises:
            SegmentAccessError: only its owner, its maker and root may do that.
            SegmentNotFoundError: it was removed before.
        """

    def close(self) -> None:
        """Close the handle, and release what this thread holds through it. A second call does nothing.

        What other threads hold through it stays theirs: they release it, and the last of them closes the handle.
        """

@final
class MessageQueue:
    """A System V message queue: what `msg_get_queue` makes in PHP, for this process and all others.

    >>> from shmvar import php
    >>> queue = php.MessageQueue(0x50485001)        # PHP: $queue = msg_get_queue(0x50485001);
    >>> queue.send({"job": 7}, type=2)              # PHP: msg_send($queue, 2, ["job" => 7]);
    True
    >>> queue.receive()                             # PHP: msg_receive($queue, 0, $type, 8192, $message);
    (2, {'job': 7})
    >>> queue.remove()

    A message has a type, a number above 0, and is one value, as PHP's `serialize` writes it, or bytes. The kernel keeps
    the messages until somebody receives them; each goes to one receiver. It limits their length (8192 bytes is usual)
    and how many bytes wait in a queue (16384 is usual).

    A handle is only the queue's key and number: there is nothing to close, a forked child may use it, and it can be
    pickled.

    Args:
        key: a number of 32 bits, signed or not, and not 0.
        permissions: of a new queue, exactly these nine bits. Sending needs writing, receiving needs reading.

    Raises:
        ValueError: the key is 0 or beyond 32 bits.
        SegmentAccessError, SegmentSystemError: the system refuses; the text says why.
    """

    def __new__(cls, key: SupportsIndex, permissions: SupportsIndex | None = 0o666) -> Self: ...
    def __repr__(self) -> str: ...
    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle: its arguments. Unpickling opens the queue again, and makes it if there is none."""

    @property
    def key(self) -> int:
        """The key, as a signed number of 32 bits."""

    @property
    def id(self) -> int:
        """The number that the system gave the queue, `msqid` in `ipcs -q`."""

    def send(
        self,
        message: Any,
        type: SupportsIndex | None = 1,
        *,
        serialize: bool = True,
        timeout: float | None = None,
    ) -> bool:
        """Send a message, and wait for room if the queue is full.

        Args:
            message: any value that `dumps` takes; without `serialize` bytes, something like bytes, or a `str`,
                which becomes UTF-8.
            type: a number above 0.
            serialize: whether PHP is to `unserialize` it (the default on both sides).
            timeout: at most this many seconds; 0 does not wait. None: as long as it takes. With a timeout, the call
                asks after pauses of up to 5 ms, because the kernel has no such timeout.

        Returns:
            Whether it was sent; False: the queue was still full.

        Raises:
            SerializeError: PHP cannot hold the value.
            SegmentFullError: the message is longer than the kernel or this queue ever takes.
            SegmentNotFoundError: somebody removed the queue, before or meanwhile.
        """

    def _send_now(self, message: Any, type: SupportsIndex, serialize: bool) -> None: ...
    def receive(
        self,
        type: SupportsIndex | None = 0,
        *,
        max_size: SupportsIndex | None = None,
        unserialize: bool = True,
        timeout: float | None = None,
        except_: bool = False,
        truncate: bool = False,
    ) -> tuple[int, Any] | None:
        """Receive the oldest message of those that are wanted, and wait for one if there is none.

        Args:
            type: 0 takes any; a number above 0 this type; a number below 0 the lowest type up to `-type`.
            max_size: how many bytes the message may have. None: as many as it has.
            unserialize: whether to return a value, as `loads` does, or the bytes.
            timeout: at most this many seconds; 0 does not wait. None: as long as it takes. With a timeout, the call
                asks after pauses of up to 5 ms, because the kernel has no such timeout.
            except_: take any type but `type`, which is above 0.
            truncate: a message of more than `max_size` bytes is cut off; otherwise it stays in the queue.

        Returns:
            The type and the message. None: there was none in time.

        Raises:
            SegmentSystemError: the message has more than `max_size` bytes; `errno` is E2BIG.
            UnserializeError: the message is no text of `serialize`. It is in the queue no more: the error has it as
                `message`, its type and its bytes.
            SegmentNotFoundError: somebody removed the queue, before or meanwhile.
        """

    def stat(self) -> MessageQueueInfo:
        """Return what the kernel tells of the queue."""

    def set(
        self,
        *,
        uid: SupportsIndex | None = None,
        gid: SupportsIndex | None = None,
        permissions: SupportsIndex | None = None,
        max_bytes: SupportsIndex | None = None,
    ) -> None:
        """Change the queue: its owner, its permissions, or how many bytes may wait in it. None: it stays.

        Raises:
            SegmentAccessError: only its owner, its maker and root may do that. More bytes than `kernel.msgmnb` need
                CAP_SYS_RESOURCE.
        """

    def remove(self) -> None:
        """Remove the queue and its messages. Whoever waits in it gets an error."""

def msg_queue_exists(key: SupportsIndex) -> bool:
    """Return whether there is a message queue with this key."""

@final
class Shmop:
    """A System V segment as plain bytes: what `shmop_open` makes in PHP.

    >>> from shmvar import php
    >>> raw = php.Shmop(0x50485001, "n", 0o600, 100)    # PHP: $raw = shmop_open(0x50485001, "n", 0600, 100);
    >>> raw.write(b"hello", 3)                          # PHP: shmop_write($raw, "hello", 3);
    5
    >>> raw.read(3, 5)                                  # PHP: shmop_read($raw, 3, 5);
    b'hello'
    >>> raw.delete()

    There is no lock and no order: what one process writes while another reads, the other one may see in part. The size
    is that of the segment, as the kernel knows it. Pickling a handle opens the segment again, which must be there.

    Args:
        key: a number of 32 bits, signed or not, and not 0.
        mode: "a" opens for reading alone, "w" for reading and writing, "c" likewise and makes the segment if there is
            none, "n" makes it and fails if there is one.
        permissions: of a new segment, exactly these nine bits.
        size: of a new segment, in bytes.

    Raises:
        ValueError: an argument is out of its range.
        SegmentNotFoundError: there is no segment (modes "a" and "w").
        SegmentExistsError: there is one (mode "n").
        IncompatibleSegmentError: there is one with fewer bytes (mode "c").
        SegmentAccessError, SegmentSystemError: the system refuses; the text says why.
    """

    def __new__(
        cls,
        key: SupportsIndex,
        mode: Literal["a", "c", "n", "w"],
        permissions: SupportsIndex | None = 0o666,
        size: SupportsIndex | None = 0,
    ) -> Self: ...
    def __repr__(self) -> str: ...
    def __enter__(self) -> Self:
        """Return the handle. Leaving the block closes it; the segment stays."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close the handle."""

    def __len__(self) -> int:
        """Return the size of the segment."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle. Raises `DetachedError` if it was closed."""

    @property
    def key(self) -> int:
        """The key, as a signed number of 32 bits."""

    @property
    def id(self) -> int:
        """The number that the system gave the segment, `shmid` in `ipcs -m`."""

    @property
    def size(self) -> int:
        """The size of the segment in bytes, as the kernel knows it."""

    @property
    def readonly(self) -> bool:
        """Whether it was opened with mode "a"."""

    @property
    def closed(self) -> bool:
        """Whether the handle was closed."""

    def read(self, offset: SupportsIndex | None = 0, size: SupportsIndex | None = 0) -> bytes:
        """Return `size` bytes from `offset` on; 0: all up to the end.

        Raises:
            ValueError: they reach beyond the segment.
            DetachedError: the handle was closed.
        """

    def write(self, data: bytes | bytearray | memoryview | str, offset: SupportsIndex | None = 0) -> int:
        """Write bytes at `offset`, all of them or none; a `str` in UTF-8. Returns how many.

        Raises:
            ValueError: they reach beyond the segment. (PHP writes as many as fit.)
            ReadOnlyError: the segment was opened with mode "a".
            DetachedError: the handle was closed.
        """

    def delete(self) -> None:
        """Remove the segment: its key is free at once, its memory when the last handle on it is closed.

        Raises:
            SegmentAccessError: only its owner, its maker and root may do that.
            SegmentNotFoundError: it was removed before, and is gone.
        """

    def close(self) -> None:
        """Close the handle. The segment stays. A second call does nothing."""

def dumps(value: Any, *, max_depth: int | None = 4096, max_size: int | None = None) -> bytes:
    """The text that PHP's `serialize` makes of a value.

    None, bool, int, float, str, bytes, bytearray and memoryview (all four are strings in PHP, a str in UTF-8), list and
    tuple (arrays with the keys 0, 1, 2 ...), dict, PhpObject, PhpEnum, PhpCustom; classes derived from these, as what
    they derive from; ints and floats of numpy and whatever else has `__index__`. A str with surrogates that
    `errors="surrogateescape"` made of bytes is written as these bytes.

    The same PhpObject, PhpEnum or PhpCustom twice is the same object twice in PHP. The same list or dict twice is two
    arrays: PHP's arrays are values. So is one that contains a PhpObject that contains it.

    Args:
        value: what to write.
        max_depth: how many containers may be inside each other. PHP reads 4096. None: no limit.
        max_size: how many bytes the text may have; None is 1 GiB.

    Raises:
        SerializeError: PHP does not have it, or would not give it back: an int beyond 64 bits, a str key that PHP takes
            for an int ("5"), a set, a list that contains itself with no PhpObject in between, an object that is there
            twice and first stands behind a PhpCustom. `place` says where in the value it is.
        ValueError: a limit is below 0.
    """

def loads(
    data: bytes | bytearray | memoryview,
    *,
    strings: Literal["auto", "bytes"] = "auto",
    arrays: Literal["auto", "dict"] = "auto",
    max_depth: int | None = 4096,
    max_values: int | None = 10_000_000,
    max_memory: int | None = 1 << 30,
) -> Any:
    """The value of a text that PHP's `serialize` has made.

    It runs no code, whatever the text says: objects become PhpObject, cases of enums PhpEnum, and objects with data of
    their own PhpCustom. What PHP has in two places as one object (`r`) or one variable (`R`) is one object of Python,
    too; a scalar is copied.

    Args:
        data: the text.
        strings: "auto" makes a str of what is UTF-8, and bytes of anything else; "bytes" makes bytes of every string.
            Names of classes and properties are str in any case.
        arrays: "auto" makes a list of an array with the keys 0, 1, 2 ... in this order (an empty one, too), and a dict
            of any other; "dict" makes a dict of every array.
        max_depth: how many arrays and objects may be inside each other. None: no limit.
        max_values: how many values the text may have. None: no limit.
        max_memory: how many bytes the values may take, by estimate. None: no limit.

    Raises:
        UnserializeError: the text is damaged, something follows the value, an int is beyond 64 bits, a limit is
            exceeded, or an object that stands behind a PhpCustom is there twice (`PhpCustom` says why). `offset` says
            where.
        ValueError: a limit is below 0.
    """

def attach(
    key: SupportsIndex,
    size: SupportsIndex = 10000,
    permissions: SupportsIndex = 0o666,
    *,
    create: bool | None = None,
    lock: Semaphore | None = None,
    strings: Literal["auto", "bytes"] = "auto",
    arrays: Literal["auto", "dict"] = "auto",
) -> Segment:
    """Open the segment `key` that PHP's `shm_attach` opens, or create it if there is none.

    >>> segment = php.attach(0x50485001)        # PHP: $shm = shm_attach(0x50485001);

    Args:
        key: a number of 32 bits, signed or not: -1 and 0xffffffff are the same key. `ftok` makes one of a file.
        size: how many bytes a segment has that this call creates; at least 40, of which PHP takes 40 for
            itself. A variable takes its serialized text, rounded up to a multiple of 8, and 32 bytes more.
            An existing segment keeps the size that it has.
        permissions: the nine bits of a segment that this call creates, exactly: the umask does not apply. As
            for PHP, the default lets every user of the machine read and write. Whoever is to attach needs both.
        create: None opens or creates the segment. True must create it, False must find it.
        lock: a `Semaphore` with a `max_acquire` of 1, which each call on the segment then holds. None: the
            program itself sees to it that nobody else writes meanwhile, PHP included.
        strings: what a string of PHP's becomes, which is a row of bytes there: with "auto" a `str` if it is
            UTF-8, else `bytes`; with "bytes" always `bytes`, except for keys of arrays and names of properties.
        arrays: what an array of PHP's becomes: with "auto" a `list` if its keys are 0, 1, 2 and so on, else a
            `dict`; with "dict" always a `dict`.

    Raises:
        TypeError, ValueError, OverflowError: an argument is wrong. Key 0 is refused, for which the system makes a
            new segment each time, and so is a key beyond 32 bits, of which PHP takes the lower 32.
        SegmentNotFoundError: `create` is False, and there is none.
        SegmentExistsError: `create` is True, and there is one.
        SegmentAccessError: the system refuses. PHP and this call need the right to read and to write.
        IncompatibleSegmentError: the segment is none of PHP's: another program made it. It was not changed.
        CorruptSegmentError: it is one of PHP's, with a damaged header.
        MemoryError, SegmentSystemError: the system has no memory for it, or has as many segments as it may have.
    """

# What unpickles a `Segment`.
def _reattach(
    key: int, lock: Semaphore | None, strings: Literal["auto", "bytes"], arrays: Literal["auto", "dict"]
) -> Segment: ...
