"""Where a dump goes: names of descriptors, folders, all kinds of objects; and what others do to its file meanwhile."""

import contextlib
import errno
import fcntl
import io
import os
import stat
import subprocess
import sys
import tempfile
import threading

import pytest

import shmvar
from shmvar._dump import files, writing
from shmvar.cli import main as cli


@pytest.fixture
def filled(seg):
    seg.update({1: "one", "large": bytes(700_000)})
    return seg


def assert_loads(data, new_key):
    with shmvar.attach(new_key()) as again:
        assert again.load(io.BytesIO(data)) == 2


def test_names_of_pipes_that_are_open(filled, key, new_key):
    reader, writer = os.pipe()
    shell = f'"{sys.executable}" -m shmvar dump {key} /dev/stdout | cat'
    assert_loads(subprocess.run(["bash", "-c", shell], capture_output=True, check=True).stdout, new_key)
    shell = f'"{sys.executable}" -m shmvar dump {key} >(cat); wait $!'
    assert_loads(subprocess.run(["bash", "-c", shell], capture_output=True, check=True).stdout, new_key)
    data = []

    def read():
        with open(reader, "rb") as pipe:
            data.append(pipe.read())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert filled.dump(f"/dev/fd/{writer}") == 2
    finally:
        os.close(writer)
        thread.join()
    assert_loads(data[0], new_key)


def test_names_of_files_that_are_open(filled, new_key, tmp_path):
    with open(tmp_path / "file", "w+b") as file, tempfile.TemporaryFile() as nameless:
        assert filled.dump(f"/proc/self/fd/{file.fileno()}") == 2
        assert_loads((tmp_path / "file").read_bytes(), new_key)
        assert filled.dump(f"/dev/fd/{nameless.fileno()}") == 2
        nameless.seek(0)
        assert_loads(nameless.read(), new_key)
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_not_there_is_no_file(seg, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    for name, error in (
        ("new/", IsADirectoryError),
        ("new/.", IsADirectoryError),
        ("file/", NotADirectoryError),
        ("x" * 256, OSError),
        ("x" * 5000, OSError),
    ):
        with pytest.raises(error) as caught:
            seg.dump(f"{tmp_path}/{name}")
        assert caught.value.filename == f"{tmp_path}/{name}" and ".shmvar-dump" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        seg.dump("")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_a_link_that_the_system_does_not_follow_is_not_followed(seg, tmp_path, monkeypatch):
    """Another user's link in a folder like /tmp, say."""
    (tmp_path / "link").symlink_to(tmp_path / "file")

    def refused(path, *args, **options):
        if os.fspath(path) == str(tmp_path / "link"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return look(path, *args, **options)

    look = os.stat
    monkeypatch.setattr(files.os, "stat", refused)
    with pytest.raises(PermissionError):
        seg.dump(tmp_path / "link")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["link"]


def test_two_dumps_to_one_name_the_second_of_which_takes_the_first_for_stale(filled, tmp_path, monkeypatch):
    lock, taken = fcntl.flock, []

    def locked_before(handle, how):
        # Somebody else has opened and locked the new file, and removes it some time later.
        if not taken:
            taken.append(os.open(f"/proc/self/fd/{handle}", os.O_RDWR))
            lock(taken[0], fcntl.LOCK_EX)
        lock(handle, how)

    def write(file, data):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.readlink(f"/proc/self/fd/{taken[0]}"))
        write_all(file, data)

    write_all = writing._write_all
    monkeypatch.setattr(files.fcntl, "flock", locked_before)
    monkeypatch.setattr(writing, "_write_all", write)
    assert filled.dump(tmp_path / "dump") == 2
    os.close(taken[0])
    assert filled.load(tmp_path / "dump") == 2 and os.listdir(tmp_path) == ["dump"]


@pytest.mark.parametrize("child_fails", [True, False])
def test_a_forked_child_leaves_its_parents_dump_alone(child_fails, filled, tmp_path, monkeypatch):
    write_all, children = writing._write_all, []

    def write(file, data):
        if not children:
            file.write(data[:5])
            data = data[5:]  # the child has these bytes in its buffer, too
            children.append(os.fork())
            if not children[0]:
                if child_fails:
                    raise OSError(errno.EIO, "in the child")
                return
            os.waitpid(children[0], 0)
        elif not children[0]:
            return
        write_all(file, data)

    monkeypatch.setattr(writing, "_write_all", write)
    try:
        count = filled.dump(tmp_path / "dump")
    finally:
        if children == [0]:
            os._exit(0)
    assert count == 2 and filled.load(tmp_path / "dump") == 2 and os.listdir(tmp_path) == ["dump"]


def test_a_folder_that_cannot_be_written_to_the_disk_is_an_error(filled, tmp_path, monkeypatch):
    sync = os.fsync

    def fails(number):
        def call(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            sync(handle)

        return call

    monkeypatch.setattr(files.os, "fsync", fails(errno.EINVAL))
    assert filled.dump(tmp_path / "dump") == 2
    monkeypatch.setattr(files.os, "fsync", fails(errno.EIO))
    with pytest.raises(OSError) as caught:
        filled.dump(tmp_path / "dump")
    assert caught.value.errno == errno.EIO and caught.value.filename == str(tmp_path / "dump")


class Writer:
    """An object whose `write` returns what it is told to."""

    def __init__(self, returns):
        self.data, self.returns = [], returns

    def write(self, data):
        self.data.append(bytes(data))
        return self.returns


def test_objects_whose_write_says_nothing_take_all(filled, new_key):
    writer = Writer(None)
    assert filled.dump(writer) == 2
    assert_loads(b"".join(writer.data), new_key)


@pytest.mark.parametrize("returns", [0, -1, 1 << 40])
def test_objects_whose_write_says_what_cannot_be_are_refused(returns, filled):
    writer = Writer(returns)
    with pytest.raises(OSError, match="has to return how many"):
        filled.dump(writer)
    assert len(writer.data) == 1


def test_files_for_text_and_for_the_other_direction_are_refused(filled, tmp_path):
    path = tmp_path / "dump"
    filled.dump(path)
    data = path.read_bytes()
    (tmp_path / "text").write_text("é")
    for mode in ("w", "rb", "r+"):
        name = "dump" if mode == "rb" else "text"
        with open(tmp_path / name, mode) as file, pytest.raises(TypeError, match=r"'wb'"):
            filled.dump(file)
    with tempfile.NamedTemporaryFile("w+") as file:
        with pytest.raises(TypeError, match=r"'wb'"):
            filled.dump(file)
        with pytest.raises(TypeError, match=r"'rb'"):
            filled.load(file)
    (tmp_path / "latin").write_bytes(b"shmvar dump 2\n\xff")
    for name, mode in (("latin", "r"), ("dump", "r"), ("new", "wb")):
        with open(tmp_path / name, mode) as file, pytest.raises(TypeError, match=r"'rb'"):
            filled.load(file)
    assert path.read_bytes() == data


def test_a_file_that_stands_at_its_end_is_to_be_sought(filled):
    file = io.BytesIO()
    filled.dump(file)
    with pytest.raises(shmvar.DumpError, match=r"seek\(0\)"):
        filled.load(file)
    file.seek(0)
    assert filled.load(file) == 2


def test_a_read_that_gives_too_much_is_named(filled):
    class Generous(io.BytesIO):
        def read(self, most=-1):
            return super().read(most + 5)

    file = io.BytesIO()
    filled.dump(file)
    with pytest.raises(ValueError, match=r"the file's read\(\d+\) has to return"):
        filled.load(Generous(file.getvalue()))


def test_handles_that_may_not_load_read_nothing(key, filled):
    class Unread(io.BytesIO):
        def read(self, most=-1):
            raise AssertionError("it is read")

    detached = shmvar.attach(key)
    detached.detach()
    with pytest.raises(shmvar.DetachedError):
        detached.load(Unread(b"rubbish"))
    with shmvar.attach(key, readonly=True) as reader, pytest.raises(shmvar.ReadOnlyError):
        reader.load(Unread(b"rubbish"))


def test_a_command_line_without_stdin(filled, key, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["load", key, "-"]) == 1
    assert "no stdin to read the dump from" in capsys.readouterr().err
