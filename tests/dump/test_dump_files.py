"""Files of dumps: replaced when they are whole, or not at all; pipes and objects; what killed dumps leave."""

import io
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading

import helpers
import pytest

import shmvar
from shmvar.cli import main as cli

# Dumps to a file whose write number `at` kills the process, or raises.
ENDS = """
import io
segment = shmvar.attach(key)
path, at, how = sys.argv[2], int(sys.argv[3]), sys.argv[4]
real, count = io.BufferedWriter, 0
import shmvar._dump.writing as writing
write_all = writing._write_all
def write(file, data):
    global count
    count += 1
    if count == at:
        if how == "kill":
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyboardInterrupt if how == "interrupt" else OSError(28, "full")
    write_all(file, data)
writing._write_all = write
segment.dump(path)
print(count)
"""


@pytest.fixture
def filled(seg):
    seg.update({index: "x" * 900 for index in range(1000)})
    seg.update({f"large {number}": bytes([number]) * 700_000 for number in range(3)})
    return seg


def test_whatever_names_a_file_will_do(seg, new_key, tmp_path):
    seg[1] = "one"
    path = tmp_path / "dump"
    (tmp_path / "link").symlink_to(path)
    for where in (path, str(path), os.fsencode(path), tmp_path / "link"):
        path.write_bytes(b"old")
        path.chmod(0o644)
        assert seg.dump(where) == 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and (tmp_path / "link").is_symlink()
        with shmvar.attach(new_key()) as again:
            assert again.load(where) == 1 and again[1] == "one"
    assert sorted(os.listdir(tmp_path)) == ["dump", "link"]
    long = tmp_path / ("é" * 120)
    assert seg.dump(long) == 1 and seg.load(long) == 1


def test_what_is_no_file_for_bytes_is_refused(seg, tmp_path):
    for where in (1, None, 2.5, ["dump"]):
        with pytest.raises(TypeError):
            seg.dump(where)
        with pytest.raises(TypeError):
            seg.load(where)
    with pytest.raises(TypeError):
        seg.dump(io.StringIO())
    with pytest.raises(TypeError, match="'rb'"):
        seg.load(io.StringIO("shmvar dump 2\n"))
    for call in (seg.dump, seg.load):
        with pytest.raises(OSError):
            call(tmp_path)
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "nowhere" / "dump")
    assert os.listdir(tmp_path) == []


def test_file_objects_are_written_and_read_from_where_they_stand(seg, new_key, tmp_path):
    seg[1] = bytes(600_000)
    with open(tmp_path / "file", "w+b") as file:
        file.write(b"before")
        assert seg.dump(file) == 1
        file.seek(6)
        with shmvar.attach(new_key()) as again:
            assert again.load(file) == 1
            assert file.read() == b""
    raw = open(tmp_path / "raw", "w+b", buffering=0)  # noqa: SIM115
    with raw:
        seg.dump(raw)
        raw.seek(0)
        assert seg.load(raw) == 1


class Slow(io.RawIOBase):
    """Takes and gives few bytes at a time, and cannot be sought."""

    def __init__(self, data=b""):
        self.data = io.BytesIO(data)

    def write(self, data):
        return self.data.write(bytes(data[:9999]))

    def read(self, most=-1):
        return self.data.read(min(most, 777))

    def tell(self):
        raise io.UnsupportedOperation

    seek = tell


def test_objects_that_give_little_at_a_time(seg, new_key):
    seg.update({1: bytes(100_000), 2: 2})
    slow = Slow()
    assert seg.dump(slow) == 2
    with shmvar.attach(new_key()) as again:
        assert again.load(Slow(slow.data.getvalue())) == 2 and dict(again) == dict(seg)


def test_pipes(filled, key, new_key):
    reader, writer = os.pipe()
    again = shmvar.attach(new_key())
    loaded = []

    def load():
        with open(reader, "rb") as file:
            loaded.append(again.load(file))

    thread = threading.Thread(target=load)
    thread.start()
    with open(writer, "wb") as file:
        assert filled.dump(file) == 1003
    thread.join()
    assert loaded == [1003] and again["large 2"] == filled["large 2"]
    again.check()
    again.detach()


def test_a_fifo_and_a_device_are_not_replaced(seg, new_key, tmp_path):
    seg[1] = "one"
    os.mkfifo(tmp_path / "fifo")
    data = []
    thread = threading.Thread(target=lambda: data.append((tmp_path / "fifo").read_bytes()))
    thread.start()
    assert seg.dump(tmp_path / "fifo") == 1
    thread.join()
    assert data[0].startswith(b"shmvar dump 2\n") and stat.S_ISFIFO(os.stat(tmp_path / "fifo").st_mode)
    assert seg.dump("/dev/null") == 1
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(shmvar.DumpError, match="not a dump"):
            seg.load(device)


@pytest.mark.parametrize("how", ["kill", "interrupt", "full"])
def test_f1_a_dump_that_ends_anywhere_leaves_the_old_file_and_no_pins(how, filled, key, tmp_path):
    path = tmp_path / "dump"
    path.write_bytes(b"an older one")
    writes = int(helpers.run(ENDS, key, tmp_path / "count", 0, "no").stdout)
    (tmp_path / "count").unlink()
    assert writes > 8
    for at in range(1, writes + 1):
        done = helpers.run(ENDS, key, path, at, how, check=False)
        assert done.returncode == {"kill": -signal.SIGKILL}.get(how, -signal.SIGINT if how == "interrupt" else 1), (
            done.stderr
        )
        assert path.read_bytes() == b"an older one"
        left = sorted(set(os.listdir(tmp_path)) - {"dump"})
        assert len(left) == (how == "kill") and all(name.startswith(".shmvar-dump.dump.") for name in left)
    filled["large 0"] = filled["large 1"] = filled["large 2"] = 0
    filled.trim()
    assert filled.info().held == 0, "pins of the dead"
    assert filled.dump(path) == 1003 and os.listdir(tmp_path) == ["dump"], "what they left is removed"
    assert path.read_bytes().startswith(b"shmvar dump 2\n")


def test_what_another_dump_writes_is_not_taken_for_stale(filled, tmp_path):
    path, seen = tmp_path / "dump", []

    def write(file, data):
        # In the middle of the first dump there is a second one to the same name.
        if not seen:
            seen.extend(os.listdir(tmp_path))
            filled.dump(path)
            assert set(seen) < set(os.listdir(tmp_path))
        write_all(file, data)

    from shmvar._dump import writing

    write_all = writing._write_all
    writing._write_all = write
    try:
        assert filled.dump(path) == 1003
    finally:
        writing._write_all = write_all
    assert len(seen) == 1 and os.listdir(tmp_path) == ["dump"]


def test_what_is_copied_is_held_until_it_is_written(seg):
    """The guide says so: `info().held` grows meanwhile."""
    seg["large"] = bytes(5_000_000)
    held = []

    class Replacing(io.BytesIO):
        def write(self, data):
            if len(data) > 200_000 and not held:
                seg["large"] = 1
                held.append(seg.info().held)
            return super().write(data)

    file = Replacing()
    assert seg.dump(file) == 1
    assert held[0] > 4_900_000
    helpers.until(lambda: seg.info().held == 0)
    seg.load(io.BytesIO(file.getvalue()))
    assert seg["large"] == 1, "what was replaced meanwhile does not count"


def test_a_handle_that_is_detached_in_the_middle(key):
    segment = shmvar.attach(key)
    segment["large"] = bytes(3_000_000)

    class Detaching(io.BytesIO):
        def write(self, data):
            segment.detach()
            return super().write(data)

    assert segment.dump(Detaching()) == 1 and segment.detached
    with pytest.raises(shmvar.DetachedError):
        segment.dump(io.BytesIO())


def test_every_so_often_until_ctrl_c(seg, key, tmp_path, children):
    seg.update({1: "one", 2: "two"})
    path = tmp_path / "dump"
    child = subprocess.Popen(
        [sys.executable, "-m", "shmvar", "dump", "--every", "0.05", key, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children.append(child)
    assert [child.stdout.readline().split("  ")[1].split(",")[0] for _ in range(2)] == ["2 variables"] * 2
    seg[3] = "three"
    helpers.until(lambda: "3 variables" in child.stdout.readline())
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 0 and child.stderr.read() == ""
    assert os.listdir(tmp_path) == ["dump"] and seg.load(path) == 3


def test_every_so_often_ends_with_the_segment(seg, key, tmp_path, children):
    seg[1] = "one"
    path = tmp_path / "dump"
    child = subprocess.Popen(
        [sys.executable, "-m", "shmvar", "dump", "--every", "0.05", key, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children.append(child)
    child.stdout.readline()
    seg.destroy()
    assert child.wait(30) == 1
    assert "was destroyed" in child.stderr.read() and path.exists()
    with shmvar.attach(key) as again:
        assert again.load(path) == 1


def test_every_needs_a_file_that_it_can_replace(seg, key, capsys):
    assert cli.main(["dump", "--every", "1", key, "-"]) == 1
    assert "give a FILE" in capsys.readouterr().err
    assert pathlib.Path("-").exists() is False


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_a_descriptor_by_its_name_is_written_to_and_its_file_stays(seg, new_key, tmp_path, name):
    seg["i"] = 5
    with open(tmp_path / "log", "wb") as log:
        log.write(b"before\n")
        log.flush()
        os.symlink(f"/dev/fd/{log.fileno()}", tmp_path / "link")
        inode = os.stat(tmp_path / "log").st_ino
        assert seg.dump(str(tmp_path / "link") if name == "link" else name.format(log.fileno())) == 1
        log.write(b"after\n")
    text = (tmp_path / "log").read_bytes()
    assert text.startswith(b"before\nshmvar dump ") and text.endswith(b"after\n")
    assert os.stat(tmp_path / "log").st_ino == inode and len(os.listdir(tmp_path)) == 2


def test_a_link_to_a_file_is_followed_and_a_descriptor_that_is_closed_is_an_error(seg, tmp_path):
    os.symlink("file", tmp_path / "link")
    assert seg.dump(tmp_path / "link") == 0 and (tmp_path / "file").exists() and (tmp_path / "link").is_symlink()
    with pytest.raises(OSError):
        seg.dump("/dev/fd/9999")
