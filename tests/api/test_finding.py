"""destroy, exists, segments, ftok."""

import concurrent.futures
import copy
import ctypes
import multiprocessing
import operator
import os
import pickle
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


def test_what_segments_does_not_know_is_as_documented(seg):
    seg.put("soon", 1, ttl=0.01)
    seg["large"] = b"x" * 100_000
    view = seg.view("large")
    del seg["large"]
    with seg.lock("held"), shmvar.attach(seg.key, readonly=True):
        time.sleep(0.02)
        (listed,) = [info for info in shmvar.segments() if info.key == seg.key]
        own = seg.info()
    assert (listed.count, listed.locks, listed.held) == (1, {}, 0)
    assert (own.count, own.locks) == (0, {"held": os.getpid()}) and own.held > 100_000
    assert listed.attached == own.attached == 1 and len(view) == 100_000


def test_numbers_pickle_and_compare_and_hash(seg):
    seg.update({1: "a", "x": b"b" * 50_000})
    seg.put("soon", [1], ttl=1000.123456789)
    with seg.lock("held"), seg.lock(5):
        made = [seg.info(), *shmvar.segments(), seg.stat(1), seg.stat("x"), seg.stat("soon"), seg.check()]
    for one in made:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(one, protocol))
            assert type(again) is type(one) and again == one and hash(again) == hash(one)
            assert again._asdict() == one._asdict() and repr(again) == repr(one) and {one: 1}[again] == 1
        assert copy.deepcopy(one) == copy.copy(one) == one
        assert one != 5 and one not in [other for other in made if other is not one]
    seg.put(1, "b")
    assert seg.stat(1) not in {*made}


def test_a_pool_worker_returns_numbers(seg, key):
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        own = seg.info()
        assert pool.submit(operator.methodcaller("info"), seg).result(60).created_at == own.created_at
        assert own.key in {info.key for info in pool.submit(shmvar.segments).result(60)}


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
