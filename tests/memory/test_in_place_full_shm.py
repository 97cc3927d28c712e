"""Arrays written in place on a full memory file system: typed errors, nothing changes, no signal. Needs root."""

import textwrap

import helpers
import pytest

TINY = """
import subprocess
import numpy as np
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", "/dev/shm"], check=True)

def hog(but):
    \"\"\"Fills the file system but for so many bytes.\"\"\"
    seen = os.statvfs("/dev/shm")
    with open("/dev/shm/hog", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, seen.f_bavail * seen.f_frsize - but)

def full(call):
    try:
        call()
    except shmvar.SegmentFullError as error:
        assert "/dev/shm" in str(error) and str(error.needed) in str(error), error
        return True
    return False

segment = shmvar.attach(key, 8 << 20)
segment.update({1: "kept", 2: b"x" * 100_000})
field = segment.array("field", 100_000)
field[:] = 1
everything = {1: "kept", 2: b"x" * 100_000}

def unchanged(used):
    assert segment.info().used == used and len(segment) == 3 and segment.info().held == 0
    assert {index: segment[index] for index in (1, 2)} == everything and (field == field[0]).all()
"""


@helpers.needs_mounts
@pytest.mark.parametrize("left", [0, 4096, 100_000, 1_000_000])
def test_where_the_file_system_is_full_it_is_not_made_and_nothing_changes(key, left):
    code = """
    hog(int(sys.argv[2]))
    used = segment.info().used
    for call in (
        lambda: segment.array("new", 200_000),
        lambda: segment.array("new", initial=np.ones(200_000)),
        lambda: segment.array("new", (2, 100_000), initial=np.arange(100_000.0), order="F"),
        lambda: segment.buffer("new", 1_600_000),
        lambda: segment.array(77, 200_000),
    ):
        assert full(call)
        unchanged(used)
    field[:] = 2  # its pages are its own
    assert (segment["field"] == 2).all() and segment.array("field")[-1] == 2 and segment.view("field")[0] == 2
    segment.touch("field")
    segment.check()
    os.unlink("/dev/shm/hog")
    new = segment.array("new", 200_000)
    new[:] = 7
    assert (segment["new"] == 7).all() and (field == 2).all()
    hog(0)
    new[:] = 8
    assert (segment.array("new") == 8).all()
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, left, prefix=["unshare", "-m"])


@helpers.needs_mounts
def test_processes_that_race_in_a_full_file_system_are_all_told_and_none_dies(key):
    code = """
    hog(1_000_000)
    used = segment.info().used
    def work(number):
        for turn in range(20):
            for index, items in ((f"large {turn}", 200_000), (f"of {number}", 30_000), ("of all", 60_000)):
                try:
                    made = segment.array(index, initial=np.full(items, 5.0))
                    assert (made == 5).all()
                    made[:] = 5
                    del made
                    if index != "of all":
                        segment.remove(index)
                except shmvar.SegmentFullError:
                    pass
                assert not segment.has(f"large {turn}")
    pids = []
    for number in range(4):
        pids.append(os.fork())
        if pids[-1] == 0:
            status = 1
            try:
                work(number)
                status = 0
            except BaseException as error:
                print(repr(error), flush=True)
            os._exit(status)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4
    segment.remove("of all")
    segment.trim()
    unchanged(used)
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"])


@helpers.needs_mounts
@pytest.mark.parametrize("left", [0, 4096, 8192, 16_384, 65_536])
def test_a_new_process_opens_it_in_a_full_file_system_or_is_told(key, left):
    code = """
    program = '''
import sys, shmvar, numpy as np
try:
    segment = shmvar.attach(sys.argv[1], create=False, trust=eval(sys.argv[2]))
    for how in ("array", "buffer"):
        found = getattr(segment, how)(how)
        np.asarray(found)[:] = 5
        print("opened")
except shmvar.Error as error:
    assert isinstance(error, (shmvar.SegmentFullError, shmvar.SegmentBusyError)), repr(error)
    print("told")
'''
    segment.array("array", 100_000), segment.buffer("buffer", 500_000)
    hog(int(sys.argv[2]))
    for trust in (True, False):
        done = subprocess.run([sys.executable, "-c", program, key, str(trust)], capture_output=True, text=True)
        assert done.returncode == 0, done
        print(done.stdout.split())
    field[:] = 6
    assert segment["field"][0] == 6 and segment.view("array")[0] in (0, 5)
    os.unlink("/dev/shm/hog")
    done = subprocess.run([sys.executable, "-c", program, key, "True"], capture_output=True, text=True)
    assert done.stdout.split() == ["opened", "opened"], done
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, left, prefix=["unshare", "-m"])


@helpers.needs_mounts
def test_opening_what_is_there_takes_no_memory(key):
    code = """
    hog(0)
    for handle in (segment, shmvar.attach(key), shmvar.attach(key, trust=False)):
        for _ in range(100):
            again = handle.array("field", 100_000)
            again[:] = again[0] + 1
    assert (field == 301).all()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"])
