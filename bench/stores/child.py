"""The other processes of a measurement: `python -m stores.child ROLE STORE WHERE WORD KIND [ARGUMENTS]`.

Each prints a line when it is ready, and ends by itself, with its parent, or after a minute.
"""

import ctypes
import fcntl
import json
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from stores.registry import ALL
from stores.store import Store
from stores.values import example, whole

SECONDS = 60
PATIENCE = 5.0
"""Seconds without an answer are a hang."""
KEYS = 4
"""So many variables are written over and over."""


def words_of(where: Path) -> memoryview:
    """Eight numbers in a file that both have mapped: the reference of whatever two processes do."""
    with open(where / "words", "a+b") as file:
        file.truncate(64)
        return memoryview(mmap.mmap(file.fileno(), 64)).cast("q")


def locking(where: Path):
    """Adds 1 to a number in a file under the file's lock."""
    words, file = words_of(where), os.open(where / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    take, drop = (struct.pack("hhqqi4x", kind, 0, 0, 1, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))

    def add():
        fcntl.fcntl(file, fcntl.F_OFD_SETLKW, take)
        words[2] += 1
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, drop)

    return add


def say(text: object) -> None:
    print(json.dumps(text), flush=True)


def look_until(get, key, number: int) -> int:
    """Looks again and again until the number is there; returns how many looks failed, which a torn value can do."""
    failed = 0
    while True:
        try:
            if get(key) == number:
                return failed
        except Exception:
            failed += 1


# --- roles


def echo(store: Store, rounds: int, batches: int) -> None:
    """Answers each number with the same number: through the store, and through the words of a file, in turns."""
    (ping, pong), words = store.keys[:2], words_of(store.where)
    get, put = store.get, store.put
    put(pong, 0)
    say("ready")
    number = 0
    for _ in range(batches):
        first = number
        for number in range(first + 1, first + 1 + rounds):
            look_until(get, ping, number)
            put(pong, number)
        for plain in range(first + 1, first + 1 + rounds):
            while words[0] != plain:
                pass
            words[1] = plain


def echo_asleep(store: Store, rounds: int, batches: int, reading: int, writing: int) -> None:
    """The same, with calls that sleep; the reference is a pair of pipes."""
    ping, pong = store.keys[:2]
    store.put(pong, 0)
    receive, number = store.receiver(ping), 0
    say("ready")
    for _ in range(batches):
        first = number
        for number in range(first + 1, first + 1 + rounds):
            while receive() != number:
                pass
            store.send(pong, number)
        for _ in range(rounds):
            os.read(reading, 1)
            os.write(writing, b"x")


def add(store: Store, count: int, batches: int, naive: int) -> None:
    """Adds so often when it is told to, to the store's counter, then to the reference's, and prints both times."""
    key, get, put = store.keys[0], store.get, store.put

    def get_and_put():
        put(key, get(key) + 1)

    each, plain = (get_and_put if naive else store.add), locking(store.where)
    say("ready")
    for _ in range(batches):
        for function in (each, plain):
            sys.stdin.readline()
            begin = time.perf_counter_ns()
            for _ in range(count):
                function()
            say(time.perf_counter_ns() - begin)


def write(store: Store) -> None:
    """Puts, until it is killed."""
    keys, values = store.keys[:KEYS], [example(store.kind, number) for number in range(8)]
    for key in keys:
        store.put(key, values[0])
    say("ready")
    put = store.put
    while True:
        for value in values:
            for key in keys:
                put(key, value)


def survive(store: Store, may_put: int) -> None:
    """Looks at all variables when it is told to, and writes them if it may; says what was wrong."""
    keys, value = store.keys[:KEYS], example(store.kind, 9)
    say("ready")
    for _ in sys.stdin:
        wrong = []
        try:
            for key in keys:
                if not whole(store.kind, store.get(key)):
                    wrong.append("torn")
                if may_put:
                    store.put(key, value)
                    if not whole(store.kind, store.get(key)):
                        wrong.append("torn after a put")
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}"[:200])
        say(wrong)


ROLES = {role.__name__: role for role in (echo, echo_asleep, add, write, survive)}


# --- for the process that measures


def start(role: str, store: Store, *arguments: int, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen:
    """Starts a role, and waits until it is ready."""
    command = [sys.executable, "-m", "stores.child", role, store.name, str(store.where), store.word, store.kind]
    child = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    )
    answered = select.select([child.stdout], [], [], PATIENCE)[0]
    if answered and child.stdout.readline() == '"ready"\n':
        return child
    child.kill()
    said = child.communicate()[1]
    why = reason(said) if answered else f"no answer within {PATIENCE:g} s"
    raise RuntimeError(f"the {role} failed: {why}"[:300])


def reason(said: str) -> str:
    """The last line of what a process has printed that names an exception."""
    lines = [line for line in said.splitlines() if "Error" in line and not line.startswith((" ", "/"))]
    return (lines or ["?"])[-1]


def end(child: subprocess.Popen) -> None:
    child.kill()
    child.communicate()


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.alarm(SECONDS)
    role, name, where, word, kind, *arguments = sys.argv[1:]
    store = ALL[name](Path(where), word, kind)
    store.attach()
    ROLES[role](store, *map(int, arguments))
    store.close()


if __name__ == "__main__":
    main()
