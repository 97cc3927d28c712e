"""A user who may write or link to a segment damages its name or identity: the segment is shown as what it is, its owner
destroys it by key, and the error of an attach says how. Needs root, to become another user."""

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import helpers
import pytest
from helpers import NOBODY, as_user, run

import shmvar

pytestmark = helpers.needs_root
OWNER = 12345

# What another user does to a segment of mode 666: code, the kind that `segments` then shows, a word of the reason.
DEEDS = {
    "a second name": ("os.link(path, path + '-linked')", "usable", "2 names"),
    "many names": ("[os.link(path, f'{path}-linked{n}') for n in range(3)]", "usable", "4 names"),
    "nothing left": ("os.truncate(path, 0)", "foreign", "0 bytes"),
    "a page": ("os.truncate(path, 4096)", "damaged", "4096"),
    "the metadata cut": ("os.truncate(path, 1 << 20)", "damaged", str(1 << 20)),
    "the first byte": ("write(0, b'X')", "damaged", "begins with"),
    "all of the magic": ("write(0, bytes(8))", "damaged", "begins with"),
    "another version": ("write(8, bytes([9, 0, 0, 0]))", "foreign", "version 9"),
    "its key": ("write(112, b'another')", "damaged", "check"),
    "its id": ("write(24, bytes(16))", "damaged", "check"),
    "all of the first page": ("write(0, bytes(4096))", "foreign", "not a shmvar segment"),
    "another program's header": ("write(0, b'PHP_SM' + bytes(range(256)) * 64)", "foreign", "not a shmvar segment"),
    "said to be destroyed": ("write(4196, bytes([1]))", "damaged", "destroyed"),
}
WRITE = """
path = sys.argv[2]
def write(at, data):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, at)
    os.close(fd)
"""
HARMLESS = ("a second name", "many names")


def row(key):
    (info,) = [info for info in shmvar.segments() if info.key == key]
    return info


def listed(*options):
    """The output of `shmvar ls`."""
    command = [sys.executable, "-m", "shmvar", "ls", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def harmed(key):
    """Makes a segment and lets another user do something to it; returns its path."""
    paths = []

    def do(deed, perm=0o666):
        run(f"shmvar.attach(key, perm={perm:#o}).update({{1: 'one', 2: b'x' * 100_000}})", key, **as_user(OWNER))
        paths.append(f"{helpers.SHM}/shmvar.s.{key}")
        run(WRITE + deed, key, paths[0], **as_user())
        return paths[0]

    yield do
    for name in os.listdir(helpers.SHM):
        if paths and name.startswith(os.path.basename(paths[0])):
            os.unlink(f"{helpers.SHM}/{name}")


@pytest.mark.parametrize("deed", DEEDS)
def test_it_is_listed_as_what_it_is_and_an_attach_tells_the_remedy_which_works(key, harmed, deed):
    code, state, word = DEEDS[deed]
    path = harmed(code)
    info = row(key)
    assert (info.state, info.uid, info.perm, info.name) == (state, OWNER, 0o666, os.path.basename(path))
    assert word in info.why and info.resident == os.stat(path).st_blocks * 512
    (line,) = [line for line in listed().splitlines() if repr(key) in line]
    assert state in line and word in line and "666" in line
    (entry,) = [entry for entry in json.loads(listed("--json")) if entry["key"] == key]
    assert entry["state"] == state and word in entry["why"]
    if deed in HARMLESS:
        with shmvar.attach(key, create=False) as segment:
            assert segment[1] == "one" and segment.check().variables == 2 and segment.info().why == info.why
    else:
        remedies = set()
        for options in ({"create": False}, {"perm": 0o666}, {"readonly": True, "create": False}):
            with pytest.raises((shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError)) as caught:
                shmvar.attach(key, **options)
            assert f"uid {OWNER}" in str(caught.value)
            remedies.add(re.search(r"shmvar\.destroy\(.*?\)", str(caught.value))[0])
        (remedy,) = remedies
        run(f"assert {remedy} is True", key, **as_user(OWNER))
        assert not os.path.exists(path)
    shmvar.destroy(key)
    run("assert shmvar.attach(key).created", key, **as_user(OWNER))


WAYS = {
    "destroy": "assert shmvar.destroy(key) is True",
    "handle": "handle.destroy()",
    "remove": "assert shmvar.cli.main.main(['remove', key]) == 0",
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("way", WAYS)
def test_its_owner_always_gets_rid_of_it_and_has_a_new_one(key, deed, way):
    """The owner stays attached meanwhile, in a process that nothing the other user does can end."""
    path = f"{helpers.SHM}/shmvar.s.{key}"
    code = f"""
    handle = shmvar.attach(key, perm=0o666)
    handle[1] = "one"
    print("made", flush=True)
    sys.stdin.readline()
    {WAYS[way]}
    assert not os.path.exists({path!r})
    handle.destroy()
    with shmvar.attach(key) as new:
        assert new.created and len(new) == 0
        new[1] = "new"
        handle.destroy()
        assert new[1] == "new" and shmvar.destroy(key) is True
    print("fine", flush=True)
    os._exit(0)
    """
    drop = "import shmvar.cli.main\nshmvar.cli.main.commands().parse(['ls'])\n" + as_user(OWNER)["drop"]
    child = helpers.start(code, key, drop=drop)
    try:
        run(WRITE + DEEDS[deed][0], key, path, **as_user())
        said, _ = child.communicate("go\n", timeout=60)
        assert said == "fine\n" and child.returncode == 0
    finally:
        helpers.end(child)
        for name in os.listdir(helpers.SHM):
            if name.startswith(os.path.basename(path)):
                os.unlink(f"{helpers.SHM}/{name}")


@pytest.mark.parametrize("deed", DEEDS)
def test_root_gets_rid_of_it_and_a_third_user_does_not(key, harmed, deed):
    path = harmed(DEEDS[deed][0])
    code = f"""
    for call in (lambda: shmvar.destroy(key), ):
        try:
            call()
        except shmvar.SegmentAccessError as error:
            assert "uid {OWNER}" in str(error) and key in str(error), error
        else:
            raise AssertionError
    """
    run(code, key, **as_user())
    assert os.path.exists(path) and shmvar.destroy(key) is True and not os.path.exists(path)


def test_nothing_is_written_to_a_file_that_is_no_segment_when_its_name_is_removed(key, tmp_path):
    path = f"{helpers.SHM}/shmvar.s.{key}"
    for content in (b"", b"anything", bytes(1 << 20)):
        with open(path, "xb") as file:
            file.write(content)
        os.link(path, f"{path}-kept")
        before = os.stat(path)
        try:
            assert shmvar.destroy(key) is True and not os.path.exists(path)
            with open(f"{path}-kept", "rb") as file:
                assert file.read() == content
            assert os.stat(f"{path}-kept").st_mtime_ns == before.st_mtime_ns
        finally:
            os.unlink(f"{path}-kept")


@pytest.mark.parametrize("perm", [0o000, 0o200, 0o400])
def test_a_segment_that_its_owner_may_not_open_is_listed_and_destroyed_all_the_same(key, perm):
    run(f"shmvar.attach(key, perm={perm:#o})[1] = 1", key, **as_user(OWNER))
    code = f"""
    (info,) = [info for info in shmvar.segments() if info.key == key]
    assert info.uid == {OWNER} and info.perm == {perm:#o}
    assert (info.state == "usable") == {perm == 0o400} and (info.why is None) == {perm == 0o400}, info
    assert shmvar.destroy(key) is True and not shmvar.exists(key) and shmvar.destroy(key) is False
    """
    run(code, key, **as_user(OWNER))
    assert not [name for name in os.listdir(helpers.SHM) if name.startswith("shmvar-lock.")]


# --- links


@pytest.fixture
def unprotected():
    """The kernel setting under which any user may link to any file.

    It is one for the whole machine: a lock on its file keeps the processes that run tests from changing it back for one
    another, and from taking for the old value what another of them has set.
    """
    with open("/proc/sys/fs/protected_hardlinks") as setting:
        fcntl.flock(setting, fcntl.LOCK_EX)
        before = setting.read()
        try:
            Path(setting.name).write_text("0")
        except OSError:
            pytest.skip("fs.protected_hardlinks cannot be changed here")
        yield
        Path(setting.name).write_text(before)


def test_a_link_to_a_segment_of_mode_600_keeps_nobody_from_it(key, harmed, unprotected):
    path = harmed("os.link(path, path + '-linked')", perm=0o600)
    code = """
    with shmvar.attach(key) as segment:
        assert segment.trusted and segment[1] == "one" and segment.info().why and segment.check()
        segment.destroy()
        # For a process that waits the segment is gone, though the file still has a name.
        try:
            segment.wait(1, 20)
        except shmvar.SegmentNotFoundError:
            pass
        else:
            raise AssertionError
        segment.destroy()
        segment.check()
    with shmvar.attach(key) as new:
        assert new.created and len(new) == 0
    """
    run(code, key, **as_user(OWNER))
    assert os.path.exists(f"{path}-linked") and shmvar.destroy(key) is True


def test_a_segment_that_was_destroyed_and_is_given_its_name_again_is_refused(key, harmed, unprotected):
    """With a link in another directory it may have just one name left: the number of names proves nothing."""
    path = harmed("os.mkdir(path + '-dir'); os.link(path, path + '-dir/old')", perm=0o600)
    try:
        run("shmvar.attach(key).destroy()", key, **as_user(OWNER))
        run("os.rename(sys.argv[2] + '-dir/old', sys.argv[2])", key, path, **as_user())
        assert os.stat(path).st_nlink == 1
        code = """
        try:
            shmvar.attach(key)
        except shmvar.CorruptSegmentError as error:
            assert "was destroyed" in str(error) and "shmvar.destroy(" in str(error)
        else:
            raise AssertionError
        assert shmvar.destroy(key) is True and shmvar.attach(key).created
        """
        run(code, key, **as_user(OWNER))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}-dir/old")
        os.rmdir(f"{path}-dir")


def test_a_link_to_another_segment_is_refused_and_removed_by_the_owner_without_harm(key, new_key, harmed, unprotected):
    path, mine = harmed("pass", perm=0o600), new_key()
    at = f"{helpers.SHM}/shmvar.s.{mine}"
    run("os.link(sys.argv[2], sys.argv[3])", key, path, at, **as_user())
    assert row(mine).state == "foreign" and f'its key is "{key}"' in row(mine).why
    code = """
    with shmvar.attach(key) as segment:
        mine = sys.argv[2]
        try:
            shmvar.attach(mine)
        except shmvar.IncompatibleSegmentError as error:
            assert key in str(error) and mine in str(error)
        else:
            raise AssertionError
        assert shmvar.destroy(mine) is True and not shmvar.exists(mine)
        assert segment[1] == "one" and segment.check().variables == 2
    assert shmvar.attach(key)[1] == "one"
    """
    run(code, key, mine, **as_user(OWNER))


@pytest.mark.parametrize("length", ["os.path.getsize(path) + 12345", "1 << 62"])
def test_a_longer_file_is_no_matter(key, harmed, length):
    path = harmed(f"os.truncate(path, {length})")
    assert row(key).state == "usable" and os.path.exists(path)
    with shmvar.attach(key, create=False) as segment, shmvar.attach(key, create=False, readonly=True) as reader:
        assert segment[1] == reader[1] == "one" and segment[2] == reader[2] == b"x" * 100_000
        segment[3] = b"y" * 200_000
        assert reader[3] == b"y" * 200_000 and segment.check().variables == reader.check().variables == 3


# --- what cannot be looked at, and names that no key has


def test_what_another_user_may_not_look_at_is_listed_without_a_key(seg, key):
    code = f"""
    (info,) = [info for info in shmvar.segments() if info.name == "shmvar.s.{key}"]
    assert (info.key, info.state, info.uid, info.perm, info.count) == (None, "refused", 0, 0o600, 0), info
    assert "may not read" in info.why and info.resident > 0
    """
    run(code, key, **as_user())


NAMES = [
    b"shmvar.",
    b"shmvar.x",
    b"shmvar.s.a.b",
    b"shmvar.i.007",
    b"shmvar.s.%FF",
    b"shmvar.s.\xff\xfe",
    b"shmvar.s.a\n\x1b[2J",
]


def test_no_name_under_the_prefix_is_left_out(private_shm, new_key):
    segment = shmvar.attach(new_key())
    made = [os.fsencode(helpers.SHM) + b"/" + name for name in NAMES]
    for path in made:
        open(path, "x").close()
    os.mkdir(f"{helpers.SHM}/shmvar.s.directory")
    try:
        found = shmvar.segments()
        assert len([info for info in found if info.state == "foreign" and info.key is None]) == len(NAMES) + 1
        assert {info.state for info in found if info.key == segment.key} == {"usable"}
        shown = listed()
        assert shown.count("foreign") == len(NAMES) + 1 and "\x1b" not in shown
        assert len(shown.splitlines()) == len(found) + 1
    finally:
        for path in made:
            os.unlink(path)
        os.rmdir(f"{helpers.SHM}/shmvar.s.directory")
        segment.destroy()


# --- many names


def test_thousands_of_anothers_names_cost_a_newcomer_little(private_shm, new_key):
    """Compares processor time of this process with and without the names."""

    def cost(perm):
        began = time.process_time()
        for _ in range(20):
            shmvar.attach(key, perm=perm).destroy()
        return (time.process_time() - began) / 20

    key = new_key()
    made = []
    try:
        usual = max(cost(perm) for perm in (0o600, 0o644, 0o664))
        for number in range(30_000):
            kind = ("shmvar.s.junk", "shmvar-lock.", "shmvar-tmp.")[number % 3]
            made.append(f"{helpers.SHM}/{kind}{number:032x}")
            fd = os.open(made[-1], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            os.fchown(fd, NOBODY, NOBODY)
            os.close(fd)
        # It was a quarter of a second once, for each segment whose mode needs a second object.
        for perm in (0o600, 0o644, 0o664):
            assert cost(perm) < max(20 * usual, 0.02), perm
        assert len(shmvar.segments()) == 10_000
    finally:
        for path in made:
            os.unlink(path)
