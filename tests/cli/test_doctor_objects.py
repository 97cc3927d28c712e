"""What `shmvar doctor` leaves to others and what it removes: segments of other users, foreign and stale objects."""

import contextlib
import json
import os

import helpers
import pytest
from helpers.local_doctor import SHM, dead, doctor, examine, of, segment_of

import shmvar

pytestmark = pytest.mark.usefixtures("private_shm")


@pytest.fixture
def stray():
    """Makes objects in /dev/shm that are no segments, and removes what is left of them after the test."""
    made = []

    def make(name, content=b"", mode=0o600):
        made.append(f"{SHM}/{name}")
        with open(made[-1], "xb") as file:
            file.write(content)
        os.chmod(made[-1], mode)
        return made[-1]

    yield make
    for path in made:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


# --- other users


def as_nobody():
    """What another user is told. It imports as root, which alone may be able to read the interpreter's directory."""
    user = helpers.as_user()
    user["drop"] = "import json\nfrom shmvar.cli.doctor import examination\n" + user["drop"]
    return json.loads(helpers.run("print(json.dumps(examination.examine(True)))", **user).stdout)


def test_anothers_segments_are_told_of_and_are_nobodys_problem_but_theirs(seg, key, new_key, stray):
    hidden, readable, shared = new_key(), new_key(), new_key()
    shmvar.attach(hidden).detach()
    shmvar.attach(readable, perm=0o644).detach()
    with shmvar.attach(shared, perm=0o666) as segment:
        segment[1] = "one"
    stray("shmvar.s.foreign", b"of another program" * 100, 0o644)
    found = as_nobody()
    assert found["healthy"] and found["uid"] == helpers.NOBODY
    kinds = {seen["name"]: seen for seen in found["objects"]}
    assert kinds[f"shmvar.s.{hidden}"]["kind"] == kinds[seg.info().name]["kind"] == "refused"
    assert kinds["shmvar.s.foreign"]["kind"] == "foreign"
    assert not segment_of(found, readable)["trusted"] or segment_of(found, readable)["uid"] == 0
    assert segment_of(found, readable)["check"]["result"] == "sound", "read, without the lock"
    assert segment_of(found, shared)["check"]["report"]["variables"] == 1
    people = segment_of(found, readable)["participants"]
    assert all(person["alive"] is None for person in people)


def test_whoever_may_only_read_leaves_the_dead_to_those_who_may_write(key, children):
    with shmvar.attach(key, perm=0o644) as segment:
        dead(key, children)
        found = as_nobody()
        assert found["healthy"] and segment_of(found, key)["check"]["result"] == "sound"
        assert segment.check().dead == 1


# --- foreign and stale objects


def test_f23_a_foreign_object_is_told_of_and_not_touched(stray, key):
    path = stray("shmvar.i.4711", b"PHP_SM" + bytes(5000))
    os.mkfifo(f"{SHM}/shmvar.s.pipe")
    os.symlink("/etc/passwd", f"{SHM}/shmvar.s.link")
    os.mkdir(f"{SHM}/shmvar.s.dir")
    with shmvar.attach(key) as segment, open(helpers.path_of(segment), "rb") as file:
        stray("shmvar.s.copy", file.read(20_480))
        try:
            before = os.stat(path)
            found, status = examine()
        finally:
            os.unlink(f"{SHM}/shmvar.s.pipe")
            os.unlink(f"{SHM}/shmvar.s.link")
            os.rmdir(f"{SHM}/shmvar.s.dir")
    after = os.stat(path)
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    kinds = {seen["name"].rpartition(".")[2]: (seen["kind"], seen["why"]) for seen in found["objects"]}
    assert kinds.keys() == {"4711", "pipe", "link", "dir", "copy"} and status == 1
    assert "not a shmvar segment" in kinds["4711"][1] and kinds["copy"][0] == "damaged"
    assert all("no regular file" in kinds[name][1] for name in ("pipe", "link", "dir"))


def test_f33_a_segment_of_another_version_is_named_with_both(key):
    with shmvar.attach(key) as segment, helpers.Raw(segment) as raw:
        sound = raw.read(8, 4)
        raw.pack("<I", 8, 9)
        found, _ = examine()
        raw.write(8, sound)
    assert "format version 9, this package reads version 4" in found["objects"][0]["why"]


@pytest.mark.parametrize("name", ["shmvar-lock." + "5a" * 16, "shmvar-tmp.00000000deadbeef"])
def test_what_a_dead_maker_left_is_removed_when_nobody_can_use_it(name, stray):
    path = stray(name)
    found, status = examine()
    assert status == 0 and os.path.exists(path) and "young" in found["objects"][0]["stays"]
    with open(path, "rb"):
        found, status = examine(age=0)
        assert status == 0 and os.path.exists(path) and "has it open" in found["objects"][0]["stays"]
    _, status = examine("--no-fix", age=0)
    assert status == 1 and os.path.exists(path)
    found, status = examine(age=0)
    assert status == 0 and not os.path.exists(path) and "removed" in of(found, "repaired")[0]["text"]


def test_a_mapped_object_is_open_too(stray):
    import mmap

    path = stray("shmvar-tmp.00000000deadbeef", bytes(4096))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4096):
        file.close()
        examine(age=0)
        assert os.path.exists(path)


@pytest.mark.parametrize("how", ["attached", "detached", "unreadable"])
def test_the_lock_object_of_a_segment_stays(how, key):
    segment = shmvar.attach(key, perm=0o644)
    if how != "attached":
        segment.detach()
    locks = [name for name in os.listdir(SHM) if name.startswith("shmvar-lock.")]
    damage = os.open(f"{SHM}/shmvar.s.{key}", os.O_RDWR)
    sound = os.pread(damage, 8, 240)
    if how == "unreadable":
        os.pwrite(damage, bytes(8), 240)
    found, _ = examine(age=0)
    os.pwrite(damage, sound, 240)
    os.close(damage)
    assert [name for name in os.listdir(SHM) if name.startswith("shmvar-lock.")] == locks
    (seen,) = [seen for seen in found["objects"] if seen["kind"] == "locks"]
    assert (seen["named_by"], seen.get("stays")) == (
        (None, "a segment that cannot be read may name it") if how == "unreadable" else (f"shmvar.s.{key}", None)
    )
    assert segment_of_name(key)


@pytest.mark.parametrize("place, damage", [(8, b"\x09"), (0, b"?"), (16, bytes(8))])
def test_the_lock_object_of_what_another_version_made_stays(place, damage, key):
    with shmvar.attach(key, perm=0o644):
        pass
    path = f"{SHM}/shmvar.s.{key}"
    (locks,) = [name for name in os.listdir(SHM) if name.startswith("shmvar-lock.")]
    file = os.open(path, os.O_RDWR)
    sound = os.pread(file, len(damage), place)
    os.pwrite(file, damage, place)
    found, _ = examine(age=0)
    assert shmvar._core._remove_stale(locks, 0.0, False) == ("named", "a segment that cannot be read may name it")
    os.pwrite(file, sound, place)
    os.close(file)
    assert os.path.exists(f"{SHM}/{locks}") and segment_of_name(key)
    assert any(locks in warning["about"] for warning in of(found, "warning"))


def segment_of_name(key):
    with shmvar.attach(key, create=False) as segment:
        return segment.check().variables == 0


def test_only_stale_objects_can_be_removed(key, stray):
    with shmvar.attach(key) as segment:
        with pytest.raises(ValueError, match="neither"):
            shmvar._core._remove_stale(segment.info().name, 0.0, False)
        path = stray("shmvar-tmp.5", b"")
        os.chown(path, 12345, 12345)
        code = "print(shmvar._core._remove_stale('shmvar-tmp.5', 0.0, False))"
        assert "cannot be opened" in helpers.run(code, **helpers.as_user()).stdout


def test_names_of_others_do_not_command_the_terminal(stray):
    stray("shmvar.s.\x1b[2J\x07", b"foreign" * 500)
    assert "\x1b" not in doctor()[0]
