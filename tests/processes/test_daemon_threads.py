"""F17: a program ends while its daemon threads are in calls that run code of Python, in silence and with status 0.

Before version 3.14 CPython ends such a thread at the moment it would get the interpreter's lock again, and glibc
unwinds its stack, through the frames of the call.
"""

import helpers
import pytest

import shmvar

CODE = """
import enum, os, pickle, socket, threading
from collections import UserDict
from dataclasses import dataclass
from shmvar import php

@dataclass(frozen=True, slots=True)
class Status:
    step: int

class Colour(enum.Enum):
    RED = 1

def slow(*_):
    time.sleep(0.002)
    return 1

class Slow:
    def __reduce__(self):
        return slow, (slow(),)
    __index__ = slow
    def __float__(self):
        return slow() / 1e6
    def __del__(self):
        slow()

def rows():
    while True:
        slow()
        yield 1, 2

class Mapping(UserDict):
    def keys(self):
        return (slow() for _ in range(10**9))
    def __getitem__(self, key):
        return slow()
    def items(self):
        return rows()

class Function:
    def __call__(self):
        return slow()
    @property
    def __doc__(self):
        return str(slow())

class Large:  # its memory lies beside its pickle
    def __init__(self):
        self.bytes = pickle.PickleBuffer(bytearray(200_000))
    def __setstate__(self, state):
        slow()

segment = shmvar.attach(key, trust=True)
segment["status"], segment["colour"], segment["slow"] = Status(1), Colour.RED, Slow()
segment["large"] = Large()
many = {n: Status(n) for n in range(100)}
queue = segment.queue("queue")
cached = segment.memoize(slow)
silent = socket.create_server(("127.0.0.1", 0))
url = f"redis://127.0.0.1:{silent.getsockname()[1]}/#1"

class Php:
    def __iter__(self):
        return rows()

CALLS = {
    "get": lambda: segment["status"],
    "get of an enum": lambda: segment["colour"],
    "get that takes long": lambda: segment["slow"],
    "get of a large value": lambda: segment["large"],
    "view": lambda: segment.view("slow"),
    "view of a large value": lambda: segment.view("large"),
    "put": lambda: segment.put("status", Status(1)),
    "put that takes long": lambda: segment.put("slow", Slow()),
    "update": lambda: segment.update(many),
    "update with a generator": lambda: segment.update(rows()),
    "update with a mapping": lambda: segment.update(Mapping()),
    "put_many": lambda: segment.put_many({"a": Slow(), "b": Slow()}),
    "get_many": lambda: segment.get_many(["status", "slow"]),
    "items": lambda: list(segment.items()),
    "modify": lambda: segment.modify("number", lambda number: number + slow(), 0),
    "an index": lambda: segment.get(Slow()),
    "timeouts": lambda: segment.wait("nothing", Slow()),
    "add": lambda: segment.add("sum", Slow()),
    "pop": lambda: segment.pop("x"),
    "swap": lambda: segment.swap("slow", Slow()),
    "setdefault": lambda: segment.setdefault("y", Slow()),
    "queue.put": lambda: queue.put(Slow()),
    "queue.get": lambda: queue.get(),
    "memoize": lambda: segment.memoize(Function()),
    "memoize, the call": lambda: cached(Slow()),
    "equality": lambda: segment == {"slow": Slow()},
    "equality with a mapping": lambda: segment == Mapping(),
    "or": lambda: Mapping() | segment,
    "wait_any": lambda: segment.wait_any(slow() for _ in range(10)),
    "wait_any with versions": lambda: segment.wait_any([1], newer_than=Mapping()),
    "changes": lambda: segment.changes(newer_than=Mapping()),
    "attach a server": lambda: shmvar.attach(url),
    "exists on a server": lambda: shmvar.exists(url),
    "segments of a server": lambda: shmvar.segments(url),
    "dump": lambda: segment.dump(os.fdopen(os.dup(pipe[1]), "wb")),
    "php.dumps": lambda: php.dumps([{"a": Slow()}]),
    "php.loads": lambda: php.loads(b'a:1:{i:0;O:1:"A":1:{s:1:"a";i:5;}}'),
}
# What another thread does meanwhile, so that the call finds what it needs. The thread of the call does nothing else.
OTHERS = {
    "pop": lambda: segment.put("x", Slow()),
    "setdefault": lambda: segment.remove("y"),
    "queue.put": lambda: queue.get(),
    "queue.get": lambda: queue.put(Slow()),
}
call, other, pipe = CALLS[sys.argv[2]], OTHERS.get(sys.argv[2]), os.pipe()

def again_and_again(call):
    while True:
        try:
            call()
        except Exception:
            pass

for target in (call, call, other):
    if target is not None:
        threading.Thread(target=again_and_again, args=(target,), daemon=True).start()
time.sleep(0.05)
"""


def calls():
    """The names of `CALLS`, which is defined in the child."""
    lines = CODE.partition("CALLS = {")[2].partition("\n}")[0].splitlines()
    return [line.split('"')[1] for line in lines if line.strip()]


@pytest.mark.parametrize("call", calls())
def test_f17_a_daemon_thread_in_a_call_ends_no_program(key, call):
    for _ in range(5):
        done = helpers.run(CODE, key, call)
        assert (done.stdout, done.stderr) == ("", ""), call
    shmvar.destroy(key)


def test_f17_a_thread_that_ends_itself_is_not_held_up(key):
    """Another library may call `pthread_exit` in a thread that has used a segment: only at the end it stands still."""
    code = """
        import ctypes, threading
        segment = shmvar.attach(key)
        library = ctypes.CDLL(None)

        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def uses(_):
            segment[1] = {"a": {1}}
            return segment[1] and 0

        native = ctypes.c_ulong()
        for _ in range(3):
            assert library.pthread_create(ctypes.byref(native), None, uses, None) == 0
            assert library.pthread_join(native, None) == 0
        for _ in range(50):
            thread = threading.Thread(target=lambda: segment.put(1, {"a": {1}}))
            thread.start()
            thread.join(30)
            assert not thread.is_alive()
    """
    helpers.run(code, key)
    shmvar.destroy(key)


def test_threads_leave_nothing_when_they_end(key):
    """Each thread has a handler, which goes with it."""
    code = """
        import ctypes, threading
        segment = shmvar.attach(key)
        information = ctypes.CDLL(None).mallinfo2

        class Information(ctypes.Structure):
            _fields_ = [(f"field{number}", ctypes.c_size_t) for number in range(10)]

        information.restype = Information

        def threads(count):
            for _ in range(count):
                thread = threading.Thread(target=lambda: segment.put(1, {"a": {1}}))
                thread.start()
                thread.join()
            return information().field7  # bytes in use

        threads(200)
        before = threads(200)
        grown = threads(4000) - before
        assert grown < 60_000, grown
    """
    helpers.run(code, key)
    shmvar.destroy(key)
