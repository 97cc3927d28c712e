"""What `shmvar.php` has in the extension module."""

from types import TracebackType
from typing import Any, Literal, Self, SupportsIndex, final

from shmvar.php._message_queue_info import MessageQueueInfo

__all__ = ["MessageQueue", "Semaphore", "Shmop", "msg_queue_exists"]

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
            SegmentAccessError: only its owner, its maker and root may do that; more bytes than `kernel.msgmnb`, only
                root.
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

def dumps(value: Any, *, max_depth: int = 4096, max_size: int | None = None) -> bytes:
    """The text that PHP's `serialize` makes of a value.

    None, bool, int, float, str, bytes, bytearray and memoryview (all four are strings in PHP, a str in UTF-8), list and
    tuple (arrays with the keys 0, 1, 2 ...), dict, PhpObject, PhpEnum, PhpCustom; classes derived from these, as what
    they derive from; ints and floats of numpy and whatever else has `__index__`. A str with surrogates that
    `errors="surrogateescape"` made of bytes is written as these bytes.

    The same PhpObject twice is the same object twice in PHP. The same list or dict twice is two arrays: PHP's arrays
    are values.

    Args:
        value: what to write.
        max_depth: how many containers may be inside each other. PHP reads 4096.
        max_size: how many bytes the text may have; None is 1 GiB.

    Raises:
        SerializeError: PHP does not have it, or would not give it back: an int beyond 64 bits, a str key that PHP takes
            for an int ("5"), a set, a list that contains itself. `place` says where in the value it is.
    """

def loads(
    data: bytes | bytearray | memoryview,
    *,
    strings: Literal["auto", "bytes"] = "auto",
    arrays: Literal["auto", "dict"] = "auto",
    max_depth: int = 4096,
    max_values: int = 10_000_000,
    max_memory: int = 1 << 30,
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
        max_depth: how many arrays and objects may be inside each other.
        max_values: how many values the text may have.
        max_memory: how many bytes the values may take, by estimate.

    Raises:
        UnserializeError: the text is damaged, something follows the value, an int is beyond 64 bits, or a limit is
            exceeded. `offset` says where.
    """
