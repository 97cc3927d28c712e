"""PHP's semaphores without the code under test: their values, and each step of opening one."""

import ctypes
import os

GETVAL, SETVAL, IPC_RMID, GETALL = 12, 16, 0, 13
IPC_CREAT, IPC_NOWAIT, SEM_UNDO = 0o1000, 0o4000, 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


class Operation(ctypes.Structure):
    _fields_ = (("semaphore", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short))


def _checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def get(key, count=3, permissions=0o666):
    """The id of the set with this key, which is made if there is none."""
    return _checked(_libc.semget(ctypes.c_int(key), count, permissions | IPC_CREAT))


def operate(identity, *operations):
    """Each operation is (semaphore, change, flags); all of them at once, without waiting."""
    array = (Operation * len(operations))(*((s, change, flags | IPC_NOWAIT) for s, change, flags in operations))
    _checked(_libc.semop(identity, array, len(operations)))


def values(identity):
    """(free places, open handles, whether one is being opened)"""
    return tuple(_checked(_libc.semctl(identity, number, GETVAL)) for number in range(3))


def set_value(identity, number, value):
    _checked(_libc.semctl(identity, number, SETVAL, ctypes.c_long(value)))


def remove(identity):
    _checked(_libc.semctl(identity, 0, IPC_RMID))


def enter(identity):
    """The first step of opening a handle."""
    operate(identity, (2, 0, 0), (2, 1, SEM_UNDO), (1, 1, SEM_UNDO))


def set_up(identity, most):
    """The second step, if this is the only handle."""
    if values(identity)[1] == 1:
        set_value(identity, 0, most)


def leave_set_up(identity):
    """The third step."""
    operate(identity, (2, -1, SEM_UNDO))


def add_under(semaphore, path, times):
    """Adds to the number in a file, so many times, each time with the semaphore held. Spawned children import it."""
    for _ in range(times):
        with semaphore:
            add(path)


def add(path):
    """Adds one to the number in a file, as somebody does who believes that nobody else does."""
    with open(path, "r+b", buffering=0) as file:
        number = int(file.read())
        file.seek(0)
        file.write(b"%d" % (number + 1))
