"""Where a program has closed a standard stream, no descriptor of a segment gets its number.

C libraries print to 1 and 2 whatever is behind them, and would write over a segment that has one of these numbers.
"""

import os
import subprocess
import sys

import pytest

import shmvar

CODE = """
import ctypes, os, sys, traceback

def note(*error):
    with open(sys.argv[5], "w") as file:
        traceback.print_exception(*error, file=file)

sys.excepthook = note
closed = [int(number) for number in sys.argv[3]]
if sys.argv[4] == "at runtime":
    import shmvar
    for number in closed:
        os.close(number)
import shmvar

def no_segment_is_a_stream():
    for number in range(3):
        try:
            found = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        assert not found.startswith("/dev/shm/"), (number, found)

key, new_key = sys.argv[1:3]
segment = shmvar.attach(key, create=False)
read_only = shmvar.attach(key, create=False, readonly=True)
new = shmvar.attach(new_key)
no_segment_is_a_stream()
segment["large"] = bytes(3_000_000)
assert read_only["large"] == bytes(3_000_000)
with segment.lock("lock"):
    new["new"] = segment.add("count")
segment.info(), segment.check(), shmvar.segments()
no_segment_is_a_stream()
if (child := os.fork()) == 0:
    segment.add("count"), new.update({1: 2})
    no_segment_is_a_stream()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
library = ctypes.CDLL(None)
library.puts(b"a line of a C library")
library.perror(b"an error of a C library")
library.fflush(None)
new.destroy()
os._exit(0)
"""


@pytest.mark.parametrize("when", ["before", "at runtime"])
@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "12", "012"])
def test_no_descriptor_of_a_segment_is_a_standard_stream(seg, key, new_key, tmp_path, closed, when):
    seg[1] = "a value"

    def close():
        for number in closed if when == "before" else ():
            os.close(int(number))

    words = [sys.executable, "-c", CODE, key, new_key(), closed, when, str(tmp_path / "error")]
    with open(os.devnull, "r+b") as nothing:
        done = subprocess.run(words, stdin=nothing, stdout=nothing, stderr=nothing, preexec_fn=close, timeout=100)
    assert done.returncode == 0, (tmp_path / "error").read_text()
    seg.check()
    assert seg[1] == "a value" and seg["count"] == 2
    with shmvar.attach(key, create=False) as again:
        assert again[1] == "a value"
