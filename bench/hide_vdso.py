"""Runs a command to which the kernel does not tell its auxiliary vector: `python bench/hide_vdso.py valgrind …`.

Valgrind keeps the kernel's vDSO from the program that it runs, and changes the auxiliary vector on the stack so that it
names none. A library that asks the kernel itself (`PR_GET_AUXV`, as rustix does) finds the address all the same, calls
it, and the process dies. A filter makes that one question fail, and the library goes on without.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
PR_GET_AUXV = 0x41555856
SYS_PRCTL = {"x86_64": 157, "aarch64": 167}
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7FFF0000
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
"""Where the number of a system call and the low half of its first argument stand in `struct seccomp_data`."""


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def hide() -> None:
    """Installs the filter for this process and all that it becomes or starts."""
    steps = (
        (LOAD_WORD, 0, 0, NUMBER_AT),
        (JUMP_IF_EQUAL, 0, 3, SYS_PRCTL[platform.machine()]),
        (LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_IF_EQUAL, 0, 1, PR_GET_AUXV),
        (RETURN, 0, 0, RET_ERRNO | errno.EINVAL),
        (RETURN, 0, 0, RET_ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = Program(len(steps), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


if __name__ == "__main__":
    hide()
    os.execvp(sys.argv[1], sys.argv[1:])
