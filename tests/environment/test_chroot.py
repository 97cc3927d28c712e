"""What was attached before `os.chroot`, or before a change to a user who may not read the package, goes on in it."""

import os
import re
import textwrap
from pathlib import Path

import helpers
import pytest

import shmvar

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
PRISONS = {
    "chroot": "os.chroot(sys.argv[2]); os.chdir('/')",
    # The package's files are out of reach as they are for a user who may not read their directory.
    "unreadable": "sys.path[:] = []; sys.path_importer_cache.clear(); shmvar.__path__[:] = []",
}


def recipe():
    """The imports that the guide recommends."""
    section = GUIDE.split("\n#### Imports before a chroot\n")[1]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def in_prison(prison, code, *args, before=""):
    """Runs a program that has attached and then cannot reach the package's files any more."""
    attached = """
    import queue
    segment = shmvar.attach(key, 64 << 20)
    items, doubted = segment.queue("queue"), shmvar.attach(key, trust=False)
    class Own:
        pass
    segment["own"] = Own()
    """
    parts = [before, attached, PRISONS[prison], code]
    helpers.run("\n".join(map(textwrap.dedent, parts)), *args)


@helpers.needs_root
@pytest.mark.parametrize("prison", PRISONS)
def test_errors_have_classes_that_programs_catch(key, tmp_path, prison):
    code = """
    for call in (items.get_nowait, lambda: items.get(timeout=0.01)):
        try:
            call()
        except queue.Empty as caught:
            assert type(caught) is shmvar.QueueEmptyError
    small = segment.queue("small", maxsize=1)
    small.put(1)
    try:
        small.put_nowait(2)
    except queue.Full as caught:
        assert type(caught) is shmvar.QueueFullError
    try:
        doubted["own"]
    except shmvar.Error as caught:
        assert "Own" in str(caught) and "not trusted" in str(caught)
    """
    in_prison(prison, code, key, tmp_path)


@helpers.needs_root
def test_info_and_what_asks_for_free_memory_work_in_a_chroot(key, tmp_path):
    there = os.statvfs(helpers.SHM)
    if there.f_bavail * there.f_frsize < 256 << 20:
        pytest.skip("needs 256 MiB of /dev/shm")
    code = """
    assert segment.info().size == 64 << 20 and segment.info().largest_put > 60 << 20
    segment[1] = bytes(40 << 20)
    segment.resize(128 << 20)
    assert segment.info().size == 128 << 20
    segment["more"] = bytes(60 << 20)
    with evicting as other:
        for number in range(100):
            other[number] = bytes(1 << 20)
        assert other.info().evicted and other[99] == bytes(1 << 20)
    """
    before = "evicting = shmvar.attach(key + '-lru', 32 << 20, evict='lru')"
    try:
        in_prison("chroot", code, key, tmp_path, before=before)
    finally:
        shmvar.destroy(f"{key}-lru")


FULL = """
import contextlib, queue, subprocess, threading
def mount(size, where):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", where], check=True)
mount("4m", "/dev/shm")
if sys.argv[3] == "another":
    os.makedirs(sys.argv[2] + "/dev/shm")
    mount("1m", sys.argv[2] + "/dev/shm")
segment = shmvar.attach(key, 3 << 20)
items = segment.queue("queue")
filler = open("/dev/shm/filler", "wb", buffering=0)
try:
    while True:
        filler.write(bytes(4096))
except OSError:
    pass
def told(value):
    try:
        segment[1] = value
    except shmvar.SegmentFullError as error:
        assert error.size == 4 << 20 and f"{error.free} of {error.size} are free" in str(error), error
        return error.needed
sizes = 60_000, 600_000
before = [told(bytes(size)) for size in sizes]
assert min(before) > 60_000
def waits():
    with contextlib.suppress(queue.Full):
        items.put(bytes(600_000), timeout=0.3)
        raise AssertionError("there is room")
waits()
os.chroot(sys.argv[2]); os.chdir("/")
assert [told(bytes(size)) for size in sizes] == before
waits()
threading.Timer(0.3, filler.truncate, (0,)).start()
items.put(bytes(600_000), timeout=60)
assert len(items.get()) == 600_000
"""


@helpers.needs_mounts
@pytest.mark.parametrize("inside", ["nothing", "another"])
def test_a_full_file_system_is_the_one_of_the_segment_and_a_put_waits_for_its_room(key, tmp_path, inside):
    """In the chroot there is no /dev/shm, or that of somebody else."""
    helpers.run(FULL, key, tmp_path, inside, prefix=["unshare", "-m"])


@helpers.needs_root
@pytest.mark.parametrize("prison", PRISONS)
def test_after_the_imports_of_the_guide_everything_works(key, tmp_path, prison):
    code = """
    import asyncio, io
    assert segment.memoize(lambda: 3, name="f")() == 3
    segment["pickled"] = Own()
    assert type(segment["pickled"]) is Own
    try:
        doubted["own"]
    except shmvar.UntrustedValueError:
        pass
    file = io.BytesIO()
    segment.dump(file)
    file.seek(0)
    segment.load(file)
    assert segment._repr_html_() and items.name in repr(items)
    if "numpy" in sys.modules:
        segment.array("array", (10,), "i4")
    async def wait():
        for awaitable in (segment.changed(1, timeout=0.01), segment.changed_any([1], timeout=0.01)):
            try:
                await awaitable
            except TimeoutError:
                continue
            raise AssertionError("nothing changed")
        await items.aput("item")
        assert await items.aget() == "item"
        async with segment.lock("lock"):
            pass
    loop.run_until_complete(wait())
    """
    before = recipe() + "\nimport asyncio, io\nloop = asyncio.new_event_loop()\n"
    in_prison(prison, code, key, tmp_path, before=before)


# --- children that are forked in there

FORK = """
import subprocess
def sh(*words):
    subprocess.run(words, check=True)
def child(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException as caught:
            print(type(caught).__name__, caught, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def bind(path):
    os.makedirs(sys.argv[2] + path)
    sh("mount", "--bind", path, sys.argv[2] + path)
def chroot():
    os.chroot(sys.argv[2])
    os.chdir("/")
def store():
    segment[2] = bytes(1 << 20)
    with segment.lock("lock"):
        assert segment.view(2) == segment[2] == bytes(1 << 20)
segment = shmvar.attach(key)
segment[1] = "one"
"""


def inside(code, *args):
    """Runs a program in a mount namespace of its own; its mounts end with it."""
    return helpers.run(FORK + textwrap.dedent(code), *args, prefix=["unshare", "-m"])


@helpers.needs_mounts
def test_a_child_that_is_forked_in_a_chroot_is_told_what_helps(key, tmp_path):
    code = """
    chroot()
    segment[1] = "two"
    segment[3] = bytes(15 << 10)
    def read():
        assert segment[1] == "two" and dict(segment) == {1: "two", 3: bytes(15 << 10)} and segment.info().count == 2
    assert child(read) == 0
    assert child(store) == 1
    """
    said = inside(code, key, tmp_path).stdout
    assert said.startswith("SegmentAccessError ") and "chroot" in said and "fork it before that" in said
    assert "bind-mount /proc there, or /dev/shm while" in said and "/dev/shm/shmvar" in said
    assert "privileges" not in said and "perm" not in said and "uid" not in said


@helpers.needs_mounts
@pytest.mark.parametrize("what", ["/proc", "/dev/shm", "fork it before"])
def test_what_it_says_helps(key, tmp_path, what):
    code = {
        "fork it before": "assert child(lambda: (chroot(), store())) == 0",
        "/proc": "bind('/proc'); segment.destroy(); chroot(); assert child(store) == 0",
        "/dev/shm": "bind('/dev/shm'); chroot(); assert child(store) == 0",
    }
    inside(f"{code[what]}\nassert segment[2] == bytes(1 << 20)", key, tmp_path)


@helpers.needs_mounts
def test_a_child_that_finds_a_read_only_file_system_is_told_so(key, tmp_path):
    code = """
    bind("/dev/shm")
    sh("mount", "-o", "remount,ro,bind", sys.argv[2] + "/dev/shm")
    chroot()
    assert child(store) == 1
    """
    said = inside(code, key, tmp_path).stdout
    assert said.startswith("SegmentAccessError ") and "mount -o remount,rw /dev/shm" in said and "uid" not in said
