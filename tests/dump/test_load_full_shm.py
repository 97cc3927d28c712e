"""A load into a memory file system that has no room for it changes nothing. Needs root and `unshare`."""

import helpers
import pytest

import shmvar

LOAD = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "none", "/dev/shm"], check=True)
segment = shmvar.attach("small", 64 << 20)
subprocess.run(["mount", "-o", "remount,size=6m", "/dev/shm"], check=True)
segment.update({1: "one", "large 0": b"old" * 9_000, "text": "t" * 400})
segment.queue("jobs").put("there")
before = {index: (segment[index], segment.version(index)) for index in segment}
used = segment.info().used
for turn in range(3):
    try:
        segment.load(sys.argv[2])
    except shmvar.SegmentFullError as error:
        assert "/dev/shm" in str(error) and error.needed > 0, str(error)
    else:
        raise AssertionError("there is no room for that")
    assert {index: (segment[index], segment.version(index)) for index in segment} == before
    assert segment.info().used == used and segment.queue("jobs").qsize() == 1
    segment.check()
subprocess.run(["mount", "-o", "remount,size=64m", "/dev/shm"], check=True)
assert segment.load(sys.argv[2]) == len(segment) - 2
segment.check()
segment.clear()
assert segment.load(sys.argv[2]) == len(segment)
"""


@helpers.needs_mounts
@pytest.mark.parametrize("what", ["large", "small", "items"])
def test_f41_a_load_for_which_there_are_no_pages_changes_nothing(what, seg, tmp_path):
    if what == "large":
        seg.update({f"large {number}": bytes([number]) * 1_000_000 for number in range(9)})
    elif what == "small":
        seg.update({f"large {number}": bytes([number % 250]) * 900 for number in range(9000)})
    else:
        seg["large 0"] = 0
        for number in range(9):
            seg.queue("jobs").put(bytes([number]) * 1_000_000)
    assert seg.dump(tmp_path / "dump") == len(seg)
    helpers.run(LOAD, "", tmp_path / "dump", prefix=("unshare", "-m"))


GIVES_BACK = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "none", "/dev/shm"], check=True)
segment = shmvar.attach("small", 64 << 20)
subprocess.run(["mount", "-o", "remount,size=6m", "/dev/shm"], check=True)
def free():
    there = os.statvfs("/dev/shm")
    return there.f_bavail * there.f_frsize
before = free()
try:
    segment.load(sys.argv[2])
except shmvar.SegmentFullError:
    print(before - free())
"""


@helpers.needs_mounts
def test_what_a_load_obtained_for_nothing_is_given_back(seg, tmp_path):
    seg.update({number: bytes([number]) * 1_000_000 for number in range(9)})
    seg.dump(tmp_path / "dump")
    kept = int(helpers.run(GIVES_BACK, "", tmp_path / "dump", prefix=("unshare", "-m")).stdout)
    assert kept < 500_000, "of 4 MB; others need it, too"


def test_a_limit_that_is_reached_tells_the_numbers(seg, new_key, tmp_path):
    seg.update({number: bytes(30_000) for number in range(100)})
    seg.dump(tmp_path / "dump")
    with shmvar.attach(new_key(), 1 << 20) as small:
        with pytest.raises(shmvar.SegmentFullError) as caught:
            small.load(tmp_path / "dump")
        assert caught.value.needed > 3_000_000 > caught.value.size == 1 << 20
