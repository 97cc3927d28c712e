"""The machine that the tests run on: its users, its namespaces, its /dev/shm, and what this process has open."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

TESTS = str(Path(__file__).parents[1])
"""The folder of the tests: a program that has it in `sys.path` can import this package."""

SHM = "/dev/shm"
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
SLOWER = 5
"""A busy machine may take so many times as long as a quiet one. The limits of the helpers are only for what hangs."""


def unshare_works(*flags):
    """Can this process make namespaces of these kinds?"""
    if not IS_ROOT or shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", *flags, "true"], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


def private_shm(options):
    """Moves this process to a mount namespace with an empty /dev/shm of its own. False: not root, or not possible."""
    clone_newns, ms_rec, ms_private = 0x00020000, 0x4000, 1 << 18
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(clone_newns) != 0:
        return False
    if libc.mount(None, b"/", None, ms_rec | ms_private, None) != 0:
        return False
    return libc.mount(b"shmvar-tests", SHM.encode(), b"tmpfs", 0, f"mode=1777,{options}".encode()) == 0


def count_descriptors():
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def count_mappings():
    """How many maps this process has."""
    with open("/proc/self/maps") as maps:
        return sum(1 for _ in maps)
