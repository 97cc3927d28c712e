"""Child processes that run a program: `shmvar` is imported, time is limited, and the user may be another one."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

from helpers.machine import NOBODY, SLOWER

PRELUDE = (
    "import os, signal, sys, time\nimport shmvar\nsignal.alarm(500)\nkey = sys.argv[1] if len(sys.argv) > 1 else ''\n"
)


def command(code, *args, drop=""):
    return [sys.executable, "-c", PRELUDE + drop + textwrap.dedent(code), *map(str, args)]


def run(code, *args, timeout=60, prefix=(), check=True, drop="", **options):
    """Runs a program with `shmvar` imported and `key` = its first argument; returns the finished process."""
    done = subprocess.run(
        [*prefix, *command(code, *args, drop=drop)],
        capture_output=True,
        text=True,
        timeout=timeout * SLOWER,
        check=False,
        **options,
    )
    if check:
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run_in_processes(code, *args, count, timeout=100, drop=""):
    """Runs a program in `count` processes at once, each with its number as last argument; returns what each printed."""
    each = [subprocess.Popen(command(code, *args, n, drop=drop), stdout=-1, text=True) for n in range(count)]
    try:
        printed = [process.communicate(timeout=timeout * SLOWER)[0] for process in each]
        assert [process.returncode for process in each] == [0] * count
    finally:
        for process in each:
            end(process)
    return printed


def start(code, *args, prefix=(), drop="", **options):
    """Starts such a program; waits until it prints its first line, `said`."""
    child = subprocess.Popen(
        [*prefix, *command(code, *args, drop=drop)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    child.said = child.stdout.readline().strip()
    assert child.said, f"the child ended with {child.wait(10)}"
    return child


def as_user(uid=NOBODY, gid=None):
    """Options for `run` and `start`: the program belongs to another user, and to no group but that user's own.

    It changes its user after its imports, for only root may be able to read the interpreter's directory. It is made
    dumpable again, so it is like a process that belonged to that user from the beginning.
    """
    return {
        "drop": "import ctypes, fcntl, mmap, pickle, struct, traceback\nimport shmvar._mapping_views\n"
        f"os.setgroups([]); os.setgid({uid if gid is None else gid}); os.setuid({uid}); os.chdir('/')\n"
        "assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0\n"
    }


HOLD_A_LOCK = """
s = shmvar.attach(key)
s.lock('a').acquire()
print('go', flush=True)
sys.stdin.readline()
s.lock('a').release()
sys.stdin.read()
"""
"""A program that holds the lock "a" until it reads a line."""

LOCKER = """
import fcntl, struct
held = []
for name in os.listdir("/dev/shm"):
    if name.startswith("shmvar"):
        try:
            fd = os.open("/dev/shm/" + name, os.O_RDONLY)
        except PermissionError:
            continue
        for kind in (37, fcntl.F_SETLK):  # F_OFD_SETLK: of the description; and of the process
            fcntl.fcntl(fd, kind, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
        held.append(name)
print(len(held), flush=True)
sys.stdin.read()
"""
"""A program that takes read locks over the whole of each object that it can open, and keeps them."""


def end(child):
    """Ends a child process (`Popen` or pid) in any state."""
    if isinstance(child, int):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return
    if child.poll() is None:
        child.kill()
    child.wait(20)
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
