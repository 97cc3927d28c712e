"""destroy, exists, segments, ftok."""

import ctypes
import os
import random
import time

import helpers
import pytest

import shmvar


def test_destroy_by_key_says_whether_there_was_one(key):
    assert shmvar.destroy(key) is False and shmvar.exists(key) is False
    shmvar.attach(key).detach()
    assert shmvar.exists(key) is True and shmvar.destroy(key) is True
    assert shmvar.destroy(key) is False and shmvar.exists(key) is False


def test_segments_lists_each_with_what_info_says(new_key):
    began = time.time()
    keys = [new_key(), new_key(int)]
    opened = [shmvar.attach(key, 1 << 20) for key in keys]
    opened[0].update({1: "a", 2: b"b" * 50_000})
    listed = {info.key: info for info in shmvar.segments()}
    for segment in opened:
        info, own = listed[segment.key], segment.info()
        assert isinstance(info, shmvar.SegmentInfo)
        for name in (
            "key",
            "name",
            "size",
            "used",
            "free",
            "count",
            "perm",
            "uid",
            "created_at",
            "attached",
            "resident",
        ):
            assert getattr(info, name) == getattr(own, name), name
        assert (info.perm, info.uid, info.attached, info.size) == (0o600, os.geteuid(), 1, 1 << 20)
        assert began - 1 <= info.created_at <= time.time() + 1 and info.used + info.free == info.size
        segment.detach()
    after = {info.key: info.attached for info in shmvar.segments()}
    assert [after[key] for key in keys] == [0, 0]


def test_segments_passes_over_what_is_none(key):
    paths = [f"{helpers.SHM}/shmvar.{end}" for end in ("s.foreign", "i.12x", "s.empty", "s.dir")]
    try:
        for path, content in zip(paths, [b"foreign" * 2000, b"\x89SHMVAR\n" + bytes(8000), b""], strict=False):
            with open(path, "xb") as file:
                file.write(content)
        os.mkdir(paths[3])
        with shmvar.attach(key):
            assert key in [info.key for info in shmvar.segments()]
    finally:
        os.rmdir(paths[3])
        for path in paths[:3]:
            os.unlink(path)


# --- ftok


def test_ftok_is_the_c_librarys(tmp_path):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ftok.argtypes, libc.ftok.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_int
    files = [tmp_path / f"file{number}" for number in range(20)]
    for file in files:
        file.touch()
    for file in [*files, "/", "/dev/null", "/usr", tmp_path]:
        for proj in [1, 127, 128, 255, random.randint(1, 255)]:
            assert shmvar.ftok(file, proj) == libc.ftok(os.fsencode(file), proj)
        assert shmvar.ftok(str(file), "a") == libc.ftok(os.fsencode(file), ord("a"))


@pytest.mark.parametrize("proj", [0, 256, -1, "", "ab", "\u1234", "\x00", 2**40])
def test_ftok_refuses_a_proj_out_of_range(proj):
    with pytest.raises((ValueError, OverflowError)):
        shmvar.ftok("/", proj)


def test_ftok_of_no_file_or_no_number_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        shmvar.ftok(tmp_path / "missing", 1)
    for wrong in (None, 1.5, b"a"):
        with pytest.raises(TypeError):
            shmvar.ftok("/", wrong)
