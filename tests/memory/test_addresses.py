"""Address space: how much a segment takes, processes in which it is limited, and maps that grow while they are used."""

import ctypes
import os
import resource
import sys
import threading
import time

import helpers
import pytest

import shmvar

MEBI, GIBI = 1 << 20, 1 << 30
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4


def taken(what="VmSize"):
    """What the kernel says of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(what + ":"))


def limited(name, least, most, act):
    """Runs `act` in a child with a limit of `least` bytes; for address space that is on top of what it uses already."""

    def child():
        resource.setrlimit(name, ((taken() if name == resource.RLIMIT_AS else 0) + least,) * 2)
        act()

    assert most >= least
    helpers.in_child(child)


@pytest.mark.parametrize("size", [1, 4096, 100 * MEBI, GIBI, 5 * GIBI])
@pytest.mark.parametrize("reserve", ["size", "4 times", None])
def test_attaching_maps_the_segment_once(new_key, size, reserve):
    """The map is as long as the segment is now, not as it may become, and there is never a second one."""
    key = new_key()
    reserve = {"size": size, "4 times": 4 * size, None: None}[reserve]
    shmvar.attach(key, size, reserve=reserve).detach()
    with open(f"{helpers.SHM}/{shmvar.segments()[0].name}") as file:
        length = os.fstat(file.fileno()).st_size
    assert length < 1.2 * size + (reserve or max(8 * size, 32 * GIBI)) / 8 + 64 * MEBI

    def child():
        before = taken()
        segment = shmvar.attach(key)
        assert segment.get(1) is None
        assert length <= taken() - before < length + MEBI
        assert taken("VmPeak") < before + length + 8 * MEBI

    helpers.in_child(child)


# What docs/guide.md, "Limits", says that a new segment takes: parts of its size and of its reserve, and bytes.
OF_SIZE, OF_RESERVE, BESIDE = 1.125, 0.076, 40 * MEBI


def length_of(key, size=None, reserve=None, evict=None):
    with shmvar.attach(key, size, reserve=reserve, evict=evict) as segment:
        length = os.path.getsize(helpers.path_of(segment))
        segment.destroy()
    return length


@pytest.mark.parametrize("size", [1, 5 * MEBI, 100 * MEBI, 126 * MEBI, GIBI])
@pytest.mark.parametrize("evict", [None, "lru"])
def test_a_new_segment_takes_what_the_guide_says(new_key, size, evict):
    # The last of these are those for which it takes most: the table of stamps grows with the reserve up to there.
    for reserve in (0, 16 * MEBI, 257 * MEBI, 5 * GIBI, 32 * GIBI, 100 * GIBI, 7000 * GIBI, 8000 * MEBI, 8 * GIBI + 1):
        length = length_of(new_key(), size, size + reserve, evict)
        assert length <= OF_SIZE * size + OF_RESERVE * (size + reserve) + BESIDE
        assert length >= OF_SIZE * size + 0.067 * (size + reserve)
    least = max(8 * size, 32 * GIBI)  # of the default reserve, which is rounded up to a power of two
    assert length_of(new_key(), size, None, evict) <= OF_SIZE * size + OF_RESERVE * 2 * least + BESIDE


def test_the_numbers_of_the_guide_for_the_usual_segment_and_for_the_smallest(new_key):
    assert round(length_of(new_key()) / GIBI, 1) == 3.4
    assert length_of(new_key(), 1, 1) == 22 * MEBI
    assert length_of(new_key(), 5 * GIBI) == length_of(new_key(), 5 * GIBI, 64 * GIBI)


def test_a_process_with_few_addresses_attaches_what_is_in_use(new_key):
    """`ulimit -v` is far above what is stored, and far below what the segment may become."""
    key = new_key()
    with shmvar.attach(key) as segment:
        segment["a"] = bytes(30 * MEBI)

    def child():
        with shmvar.attach(key) as segment:
            assert segment["a"] == bytes(30 * MEBI)
            segment["b"] = bytes(10 * MEBI)
            segment.check()

    limited(resource.RLIMIT_AS, 2500 * MEBI, 2500 * MEBI, child)
    assert shmvar.attach(key)["b"] == bytes(10 * MEBI)


@pytest.mark.parametrize("room", [1, 4, 16, 64, 256, 1024])
def test_where_addresses_are_short_the_error_says_so_and_its_remedy_helps(new_key, room):
    """Not a `TimeoutError`, for waiting does not help. The remedy of the text is tried, and works."""
    key, small = new_key(), new_key()

    def child():
        for attach in (lambda: shmvar.attach(key, create=False), lambda: shmvar.attach(small, 3 * room * MEBI)):
            with pytest.raises(shmvar.SegmentFullError) as caught:
                attach()
            error = caught.value
            assert not isinstance(error, TimeoutError)
            assert error.needed > error.free <= error.size
            assert "ulimit -v" in str(error) and "reserve" in str(error)
        if room >= 256:
            size = room * MEBI // 16
            with shmvar.attach(small, size, reserve=size) as segment:
                segment[1] = bytes(size // 2)
                assert len(segment[1]) == size // 2

    shmvar.attach(key, 2 * GIBI)
    limited(resource.RLIMIT_AS, room * MEBI, room * MEBI, child)
    assert shmvar.exists(key)


def test_the_default_of_a_process_with_few_addresses_is_small(new_key):
    def child():
        before = taken()
        with shmvar.attach(new_key(), 100 * MEBI) as segment:
            assert taken() - before < 200 * MEBI
            segment.resize(200 * MEBI)
            segment[1] = bytes(150 * MEBI)
            segment.destroy()

    limited(resource.RLIMIT_AS, GIBI, GIBI, child)


@pytest.mark.parametrize("value", [0, -1, "5", 1.5, 1 << 63, 1 << 62, 99])
def test_a_reserve_that_cannot_be_is_refused(new_key, value):
    key = new_key()
    with pytest.raises((ValueError, TypeError, OverflowError), match="reserve"):
        shmvar.attach(key, 100, reserve=value)
    assert not shmvar.exists(key)


@pytest.mark.parametrize("reserve", [1, 5 * MEBI, 3 * GIBI + 1])
def test_a_reserve_is_how_far_the_size_can_be_raised(new_key, reserve):
    key = new_key()
    segment = shmvar.attach(key, 1, reserve=reserve)
    segment.resize(reserve)
    most = segment.size
    with pytest.raises(shmvar.SegmentFullError) as caught:
        while True:
            segment.resize(most := most * 2)
    assert caught.value.size < reserve + 32 * MEBI
    assert f"reserve={most}" in str(caught.value) or caught.value.size == os.statvfs(helpers.SHM).f_blocks
    # A later attach cannot change the reserve; raising the size meets the same limit.
    again = shmvar.attach(key, 1, reserve=64 * GIBI)
    with pytest.raises(shmvar.SegmentFullError):
        again.resize(max(4 * reserve, 64 * MEBI))
    if reserve < GIBI:
        with pytest.raises(shmvar.SegmentFullError):
            shmvar.attach(key, 2 * GIBI)
    assert reserve <= segment.size <= caught.value.size


def test_a_reserve_alone_is_the_size_where_it_is_less_than_the_default(new_key):
    assert shmvar.attach(new_key(), reserve=5 * MEBI).size == 5 * MEBI


def grows(key, to):
    with shmvar.attach(key) as segment:
        segment.resize(to)
        for number in range(to // (64 * MEBI)):
            segment[f"large {number}"] = bytes([number]) * (48 * MEBI)
        segment.put_many({number: str(number) * 40 for number in range(50_000)})


def test_a_segment_grows_under_those_who_attached_it_when_it_was_small(new_key):
    """Readers, writers, a view and a read-only handle: by then all their maps are too short."""
    key = new_key()
    segment = shmvar.attach(key, MEBI)
    reader, length = shmvar.attach(key, readonly=True), os.path.getsize(helpers.path_of(segment))
    segment["first"] = bytes(range(256)) * 100
    view = segment.view("first")
    helpers.in_child(lambda: grows(key, 640 * MEBI), timeout=60)
    assert os.path.getsize(helpers.path_of(segment)) > length + 400 * MEBI
    for handle in (segment, reader):
        assert handle["large 9"] == b"\x09" * (48 * MEBI) and handle[49_999] == "49999" * 40
        assert bytes(handle.view("large 3")[-5:]) == b"\x03" * 5
    assert segment.check() == reader.check()
    segment["large 3"] = b"new"
    segment.clear()
    segment.trim()
    assert bytes(view) == bytes(range(256)) * 100
    assert reader.get("large 3") is None


def test_threads_meet_what_another_process_made_longer(new_key):
    """All threads at once, while the map grows."""
    key = new_key()
    segment = shmvar.attach(key, MEBI)
    segment[0] = "0" * 40
    grown, wrong = threading.Event(), []

    def read():
        while not grown.is_set():
            try:
                assert segment[0] == "0" * 40
                for number in (1, 25_000, 49_999):
                    assert segment.get(number) in (None, str(number) * 40)
                assert segment.get("large 3") in (None, b"\x03" * (48 * MEBI))
            except BaseException as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        helpers.in_child(lambda: grows(key, 320 * MEBI), timeout=60)
    finally:
        grown.set()
        for thread in threads:
            thread.join(30)
    assert not wrong


def test_a_writer_without_addresses_for_what_others_added_changes_nothing(new_key):
    key = new_key()
    segment = shmvar.attach(key, MEBI, reserve=GIBI)
    segment[1] = 1

    def child():
        held = shmvar.attach(key)
        assert held[1] == 1
        helpers.in_child(lambda: grows(key, 640 * MEBI), timeout=60)
        resource.setrlimit(resource.RLIMIT_AS, (taken() + 100 * MEBI,) * 2)
        for call in (lambda: held.put(1, 2), lambda: held.remove(1), held.clear, held.trim, lambda: held.add(1)):
            with pytest.raises(shmvar.SegmentFullError, match="ulimit -v"):
                call()

    helpers.in_child(child, timeout=60)
    # The lock was released.
    with helpers.promptly():
        segment.add("n")
    assert segment["n"] == 1 and len(segment) == 50_011

    segment.check()


def test_a_put_for_which_addresses_are_lacking_keeps_nobody_from_what_could_be_done_before(new_key):
    """F36: the put would have brought zones into use that this process cannot map."""
    key = new_key()
    segment = shmvar.attach(key, MEBI, reserve=GIBI)
    segment.resize(GIBI // 2)
    segment["n"] = 0

    def child():
        held = shmvar.attach(key)
        lock = held.lock("l")
        lock.acquire()
        resource.setrlimit(resource.RLIMIT_AS, (taken() + 60 * MEBI,) * 2)
        value = bytes(10 * MEBI)
        with pytest.raises(MemoryError):
            for number in range(30):
                held.put(f"large {number}", value)
        assert held.add("n") == 1 and held.remove("n") and held.remove("large 0")
        lock.release()
        held.trim()
        held["small"] = 1
        held.check()

    helpers.in_child(child)
    assert segment["small"] == 1 and not segment.lock("l").locked()
    segment.check()


def test_a_process_that_lacks_addresses_for_what_others_added_releases_its_locks(new_key):
    key = new_key()
    segment = shmvar.attach(key, MEBI, reserve=GIBI)

    def child():
        held = shmvar.attach(key)
        locks = [held.lock(name) for name in (1, "text", "a longer name " * 30)]
        for lock in locks:
            lock.acquire()
        helpers.in_child(lambda: grows(key, 640 * MEBI), timeout=60)
        resource.setrlimit(resource.RLIMIT_AS, (taken() + 100 * MEBI,) * 2)
        with pytest.raises(shmvar.SegmentFullError):
            held.put(1, 2)
        for lock in locks:
            lock.release()
        assert segment.info().locks == {}

    helpers.in_child(child, timeout=60)
    assert not any(segment.lock(name).locked() for name in (1, "text", "a longer name " * 30))
    segment.check()


def test_a_dead_writers_lock_is_left_to_whoever_can_map_the_segment(new_key):
    """F1: a process that cannot map the segment neither repairs it nor treats it as repaired."""
    key = new_key()
    segment = shmvar.attach(key, MEBI, reserve=GIBI)
    segment[1] = 1
    with helpers.Raw(segment) as raw:

        def child():
            held = shmvar.attach(key)
            held[1] += 1
            dead = helpers.fork(lambda: (shmvar.attach(key).put("x", 1), time.sleep(60)))
            helpers.until(lambda: "x" in held)
            helpers.in_child(lambda: grows(key, 640 * MEBI), timeout=60)
            (number,) = [number for number, pid in raw.participants().items() if pid == dead]
            resource.setrlimit(resource.RLIMIT_AS, (taken() + 100 * MEBI,) * 2)
            helpers.kill(dead)
            raw.pack("<I", raw.LOCK, number + 1)
            with pytest.raises(shmvar.SegmentFullError, match="ulimit -v"):
                held.put(1, 3)
            assert raw.unpack("<I", raw.LOCK)[0] & 0x7FFFFFFF == number + 1

        helpers.in_child(child, timeout=60)
        with helpers.promptly():
            segment[1] = 4
    assert segment[1] == 4
    segment.check()


@pytest.mark.parametrize("room", [64 * 1024, MEBI, 100 * MEBI, GIBI])
def test_where_files_may_not_be_long(new_key, room):
    """`ulimit -f`: a smaller segment is made where it fits, otherwise it is refused, and nothing is left."""

    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        key = new_key()
        try:
            segment = shmvar.attach(key, reserve=room // 8)
        except shmvar.SegmentFullError as error:
            assert error.needed > error.free == room and "ulimit -f" in str(error)
            assert "no segment begins with less than" in str(error)
            assert room <= 16 * MEBI and not shmvar.exists(key)
            return
        with pytest.raises(shmvar.SegmentFullError):
            for number in range(1000):
                segment[number] = os.urandom(room // 64)
        segment.check()
        assert segment.info().used > room // 16
        segment.destroy()

    helpers.in_child(child)


def test_growth_beyond_the_length_that_files_may_have_is_refused(new_key):
    """Only the other process has the limit: the segment was made without one."""
    key = new_key()
    segment = shmvar.attach(key, MEBI, reserve=4 * GIBI)
    segment.resize(2 * GIBI)
    length = os.path.getsize(helpers.path_of(segment))

    def child():
        held = shmvar.attach(key)
        resource.setrlimit(resource.RLIMIT_FSIZE, (length + MEBI,) * 2)
        with pytest.raises(shmvar.SegmentFullError, match="ulimit -f"):
            for number in range(100):
                held[number] = bytes(10 * MEBI)
        held.check()

    helpers.in_child(child)
    count = len(segment)
    assert 0 < count < 100
    segment["more"] = bytes(100 * MEBI)
    segment.check()


def locks_all(flags):
    return ctypes.CDLL(None, use_errno=True).mlockall(flags) == 0


@pytest.mark.parametrize("flags", [MCL_FUTURE, MCL_FUTURE | MCL_ONFAULT, MCL_CURRENT | MCL_FUTURE])
@pytest.mark.parametrize("made", ["here", "before"])
def test_attaching_after_mlockall_takes_no_memory(new_key, flags, made):
    """MCL_FUTURE makes the kernel fill new maps: of a segment that would be every page."""
    key = new_key()
    if made == "before":
        shmvar.attach(key).detach()

    def child():
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        if not locks_all(flags):
            os._exit(77)
        for options in ({}, {"readonly": True}):
            segment = shmvar.attach(key, **options)
            assert segment.info().resident < MEBI
        segment = shmvar.attach(key)
        segment["a"] = bytes(5 * MEBI)
        assert segment["a"] == bytes(5 * MEBI)
        assert segment.info().resident < 8 * MEBI
        helpers.in_child(lambda: grows(key, 2 * GIBI), timeout=90)
        before = segment.info().resident
        assert segment["large 30"] == bytes([30]) * (48 * MEBI)
        segment["b"] = bytes(5 * MEBI)
        assert segment.info().resident < before + 8 * MEBI

    pid = helpers.fork(child)
    status = helpers.reap(pid, timeout=90)
    if os.waitstatus_to_exitcode(status) == 77:
        pytest.skip("this process may not lock its memory")
    assert status == 0


def test_where_little_may_be_locked_the_error_says_so(new_key):
    key = new_key()
    shmvar.attach(key, perm=0o666).detach()
    code = """
    import ctypes, resource
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    limit = 512 << 20 if limit == resource.RLIM_INFINITY else min(limit, 512 << 20)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
    if ctypes.CDLL(None).mlockall(2) != 0:
        raise SystemExit(0)
    for attach in (lambda: shmvar.attach(key, create=False), lambda: shmvar.attach(key, create=False, readonly=True)):
        try:
            attach()
        except shmvar.SegmentFullError as error:
            text = str(error)
            assert "ulimit -l" in text and "  " not in text and error.size == limit, text
        else:
            raise SystemExit("attached")
    """
    # Root may lock as much as it likes.
    drop = "import resource\n" + helpers.as_user()["drop"] if helpers.IS_ROOT else ""
    helpers.run(code, key, drop=drop)


def test_thousands_of_segments_in_a_process():
    """4,000 segments with the default reserve; each works."""
    code = """
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    count = min(4_000, (soft - 100) // 2)  # each keeps two descriptors
    held = [shmvar.attach(f"{key}-{i}", 4096) for i in range(count)]
    try:
        for i, segment in enumerate(held):
            segment[1] = i
        assert [segment[1] for segment in held] == list(range(count))
    finally:
        for segment in held:
            segment.destroy()
            segment.detach()
    with open("/proc/self/maps") as maps:
        assert not any("/dev/shm/" in line for line in maps)
    """
    helpers.run(code, f"many-{os.getpid()}", timeout=90)


def test_closed_descriptors_are_opened_again_and_no_other_file_is_closed(new_key):
    """F18: `os.closerange`, as in a daemon, then files of its own under the same numbers."""
    code = """
    segment, other = shmvar.attach(key), shmvar.attach(key + "x")
    reader = shmvar.attach(key, readonly=True)
    segment[1] = 1
    os.closerange(3, 100)
    ours = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    segment["a"] = bytes(1 << 20)
    assert reader["a"] == segment["a"] == bytes(1 << 20)
    segment.check()
    segment.destroy(); other.destroy()
    for handle in (segment, other, reader):
        handle.detach()
    for fd in ours:
        assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null"
    """
    helpers.run(code, new_key())
    key = new_key()
    shmvar.attach(key).detach()
    shmvar.attach(key + "x").detach()
    helpers.run(code, key)
    assert sys.platform == "linux"
