"""Objects at a segment's path that are no segments: refused, and not touched. Needs root."""

import os
import stat
import struct

import helpers
import pytest

import shmvar

pytestmark = helpers.needs_root


def path_for(key):
    return f"{helpers.SHM}/shmvar.s.{key}"


def tree(path):
    status = os.lstat(path)
    what = status.st_mode, status.st_ino, status.st_size, status.st_nlink, status.st_mtime_ns
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return what, file.read()
    return (*what, os.readlink(path)) if stat.S_ISLNK(status.st_mode) else what


def refused(key):
    for options in ({}, {"create": False}, {"readonly": True}, {"perm": 0o666}, {"size": 1000}):
        with pytest.raises(shmvar.IncompatibleSegmentError):
            shmvar.attach(key, **options)
    with pytest.raises((shmvar.IncompatibleSegmentError, shmvar.SegmentExistsError)):
        shmvar.attach(key, create=True)
    # It is listed as what it is, without a key: no call with a key can reach it.
    (info,) = [info for info in shmvar.segments() if info.name == os.path.basename(path_for(key))]
    assert info.key is None and info.state == "foreign" and info.why


@pytest.fixture
def sound_bytes(new_key):
    """The first pages of a sound segment."""
    with shmvar.attach(new_key()) as segment, open(helpers.path_of(segment), "rb") as file:
        return file.read(20480)


CONTENTS = {
    "empty": lambda sound: b"",
    "short": lambda sound: sound[:100],
    "foreign": lambda sound: b"PHP_SM\0\0" + bytes(range(256)) * 400,
    "zeros": lambda sound: bytes(100_000),
    "format 1": lambda sound: sound[:8] + struct.pack("<I", 1) + sound[12:],
    "format 2": lambda sound: sound[:8] + struct.pack("<I", 2) + sound[12:],
    "format 3": lambda sound: sound[:8] + struct.pack("<I", 3) + sound[12:],
    "another byte order": lambda sound: sound[:12] + struct.pack(">I", 0x01020304) + sound[16:],
    "another layout": lambda sound: sound[:16] + bytes(8) + sound[24:],
    "another key's": lambda sound: sound,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_f23_f33_foreign_content_is_refused_and_stays_byte_for_byte(key, sound_bytes, content):
    path = path_for(key)
    with open(path, "xb") as file:
        file.write(CONTENTS[content](sound_bytes))
    os.chmod(path, 0o600)
    before = tree(path)
    try:
        for options in ({}, {"create": False}, {"readonly": True}, {"size": 1000}, {"perm": 0o666}):
            with pytest.raises((shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError)) as caught:
                shmvar.attach(key, **options)
            if content.startswith("format"):
                text = f"format version {content[-1]}, this package reads version 4"
                assert text in str(caught.value)
        (info,) = [info for info in shmvar.segments() if info.key == key]
        assert info.state in ("foreign", "damaged") and info.why and info.name == os.path.basename(path)
        assert tree(path) == before
        # The owner destroys it by key, and the name is the package's: it is removed, the file is not written to.
        os.link(path, f"{path}-kept")
        with pytest.raises((shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError)):
            shmvar.attach(key)
        assert shmvar.destroy(key) is True and not shmvar.exists(key)
        mode, inode, size, links, changed = before[0]
        assert tree(f"{path}-kept") == ((mode, inode, size, links, changed), before[1])
    finally:
        for left in (path, f"{path}-kept"):
            if os.path.lexists(left):
                os.unlink(left)


@pytest.mark.parametrize("target", ["file", "segment", "missing"])
def test_f27_a_symbolic_link_is_not_followed(key, new_key, tmp_path, target):
    with shmvar.attach(new_key()) as other:
        (tmp_path / "file").write_bytes(b"content")
        to = {"file": tmp_path / "file", "segment": helpers.path_of(other), "missing": tmp_path / "missing"}[target]
        os.symlink(to, path_for(key))
        before = tree(path_for(key)), os.path.exists(to) and target == "file" and tree(to)
        try:
            refused(key)
            assert (tree(path_for(key)), os.path.exists(to) and target == "file" and tree(to)) == before
        finally:
            os.unlink(path_for(key))


def test_f27_a_pipe_a_directory_and_a_socket_are_refused_at_once(key):
    import socket

    path = path_for(key)
    makers = [
        (os.mkfifo, os.unlink),
        (os.mkdir, os.rmdir),
        (lambda p: socket.socket(socket.AF_UNIX).bind(p), os.unlink),
    ]
    makers.append((lambda p: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(1, 3)), os.unlink))
    for make, remove in makers:
        make(path)
        before = tree(path)
        try:
            with helpers.promptly():
                refused(key)
                with pytest.raises(shmvar.Error):
                    shmvar.destroy(key)
            assert tree(path) == before
        finally:
            remove(path)


def test_f27_a_segment_under_another_keys_name_is_refused(key, new_key):
    with shmvar.attach(key) as segment:
        segment[1] = "mine"
        path = helpers.path_of(segment)
        linked = new_key()
        os.link(path, path_for(linked))
        with pytest.raises(shmvar.IncompatibleSegmentError, match=f"says its key is .{key}"):
            shmvar.attach(linked)
        # Only that name is removed; the segment itself is not touched.
        assert shmvar.destroy(linked) is True and os.stat(path).st_nlink == 1
        assert helpers.Raw(segment).unpack("<I", helpers.Raw.GONE) == (0,)
        segment.check()
        with shmvar.attach(key) as again:
            assert again[1] == "mine"
        moved = path_for(new_key())
        os.rename(path, moved)
        try:
            with pytest.raises(shmvar.IncompatibleSegmentError):
                shmvar.attach(moved.rpartition(".")[2])
        finally:
            os.rename(moved, path)
