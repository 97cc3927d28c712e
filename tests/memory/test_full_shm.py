"""A full memory file system of 2 MiB: typed errors, no crash, nothing stored is lost. Needs root and `unshare`."""

import itertools
import textwrap

import helpers
import pytest

TINY = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", "/dev/shm"], check=True)

def full(put, of="/dev/shm"):
    try:
        put()
    except shmvar.SegmentFullError as error:
        text = str(error)
        assert of in text and (of != "/dev/shm" or "remount" in text and "trim" in text), text
        assert str(error.needed) in text and error.size <= 2 << 20 and error.needed > 0, text
        assert error.free < 2 << 20
        return True
    return False

def fill(segment, name, value):
    number = 0
    while not full(lambda: segment.put(f"{name} {number}" if name else number, value(number))):
        number += 1
        assert number < 200_000
    return number
"""


@helpers.needs_mounts
@pytest.mark.parametrize(
    "value",
    ["lambda n: n", "lambda n: 'x' * 40", "lambda n: b'x' * 3000", "lambda n: b'x' * 50_000", "lambda n: [n] * 700"],
)
def test_f41_a_full_file_system_is_a_typed_error_and_nothing_stored_is_lost(key, value):
    code = """
    segment = shmvar.attach(key, 2 << 20)
    assert segment.size == 2 << 20
    value, at_first = eval(sys.argv[2]), segment.info().resident
    for round in range(3 if len(sys.argv[2]) > 11 else 1):
        for name in ("", "text"):
            stored = fill(segment, name, value)
            assert stored > (15 if round == 0 and not name else -1), stored
            assert all(segment[f"{name} {n}" if name else n] == value(n) for n in range(stored))
        everything = dict(segment)
        used = segment.info().used
        for index in list(everything)[:5]:
            assert segment[index] == everything[index]
        assert full(lambda: segment.put("large", b"x" * 3_000_000), "resize")
        assert dict(segment) == everything and segment.info().used == used
        segment.check()
        gone = list(everything)[::2][:3000]
        for index in gone:
            del segment[index]
        rest = dict(segment)
        again = 0
        for index in gone:
            if full(lambda: segment.put(index, everything[index])):
                break
            again += 1
        assert again >= len(gone) * 0.8, (again, len(gone))
        assert all(segment[index] == rest[index] for index in rest)
        segment.check()
        segment.clear()
        segment.trim()
        # What was resident before, and a part of this process's bitmap of pins.
        assert segment.info().resident <= at_first + 16384, (segment.info().resident, at_first)
        segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, value, prefix=["unshare", "-m"])


@helpers.needs_mounts
def test_what_is_to_stay_for_good_stays_in_a_full_file_system(key):
    """Without its time to live a record is shorter, and would need another block; there is none."""
    code = """
    segment = shmvar.attach(key, 2 << 20)
    kinds = {"small": 7, "mid": "y" * 9000, "long": b"z" * 100_000, "list": [1] * 20}
    segment.put_many(kinds, ttl=1000)
    fill(segment, "text", lambda number: b"x" * 3000)
    fill(segment, "", lambda number: number)
    versions = {index: segment.version(index) for index in kinds}
    for index in kinds:
        assert segment.expire(index, 900) and segment.expire(index, None)
        assert segment.stat(index).expires_in is None
    assert {index: segment.version(index) for index in kinds} == versions
    assert segment.get_many(kinds) == kinds
    assert segment.expire("mid", 50) and 40 < segment.stat("mid").expires_in <= 50
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"])


@helpers.needs_mounts
def test_f41_a_size_beyond_the_file_system_is_refused_and_the_default_fits(key):
    code = """
    try:
        shmvar.attach(key, 64 << 20)
    except shmvar.SegmentFullError as error:
        assert error.needed == 64 << 20 and error.size == 2 << 20, vars(error)
        assert "/dev/shm" in str(error) and "remount" in str(error) and "shm-size" in str(error), error
    else:
        raise AssertionError
    assert not shmvar.exists(key) and os.listdir("/dev/shm") == []
    segment = shmvar.attach(key)
    assert 0 < segment.size <= 2 << 20
    try:
        shmvar.attach(key, 64 << 20)
    except shmvar.SegmentFullError:
        assert segment.size <= 2 << 20
    try:
        segment.resize(64 << 20)
    except shmvar.SegmentFullError:
        assert segment.size <= 2 << 20
    segment[1] = "fine"
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"])


@helpers.needs_mounts
def test_f41_where_not_even_a_segment_fits_creation_is_a_typed_error_and_leaves_nothing(key):
    code = """
    with open("/dev/shm/hog", "wb") as hog:
        hog.write(bytes((2 << 20) - 8192))
    assert full(lambda: shmvar.attach(key)) and full(lambda: shmvar.attach(key, 1000, perm=0o644))
    assert os.listdir("/dev/shm") == ["hog"]
    os.unlink("/dev/shm/hog")
    segment = shmvar.attach(key)
    segment[1] = "kept"
    with open("/dev/shm/hog", "wb", buffering=0) as hog:
        try:
            while hog.write(bytes(4096)):
                pass
        except OSError:
            pass
    for n in range(2, 100):  # a batch would want a page for its list
        segment[n] = n
    try:
        fill(segment, "", lambda n: "x" * 40)
        fill(segment, "t", lambda n: b"x" * 20_000)
    finally:
        assert segment[1] in ("kept", "x" * 40)
    print(segment.info().largest_put)
    with shmvar.attach(key) as other, shmvar.attach(key, readonly=True) as reader:
        assert dict(other) == dict(segment) == dict(reader)
        helpers = other.pop(50)
    segment.trim()
    segment.check()
    pid = os.fork()
    if pid == 0:
        assert segment[60] is not None
        full(lambda: segment.put(60, 1))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"])


@helpers.needs_mounts
def test_f38_largest_put_is_exact_where_the_file_system_decides(key):
    code = """
    segment = shmvar.attach(key, 2 << 20)
    for state in range(5):
        most = segment.info().largest_put
        assert full(lambda: segment.put(-1, b"x" * (most + 1)), ""), (state, most)
        segment[-1] = b"x" * most
        assert segment[-1] == b"x" * most
        del segment[-1]
        segment.update({state * 1000 + n: b"y" * 2500 for n in range(100)})
    """
    done = helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"])
    assert done.stderr == ""


@helpers.needs_mounts
def test_c12_reads_on_a_full_file_system_during_trim_are_no_crash(key):
    code = """
    segment = shmvar.attach(key, 2 << 20)
    stop = []
    pid = os.fork()
    if pid == 0:
        signal.alarm(4)
        with shmvar.attach(key, readonly=True) as reader:
            while True:
                for handle in (segment, reader):
                    for n in range(40):
                        value = handle.get(n, b"x")
                        assert value == value[:1] * len(value)
    end = time.monotonic() + 2.5
    turn = 0
    while time.monotonic() < end:
        turn += 1
        for n in range(40):
            full(lambda: segment.put(n, bytes([turn % 256]) * (2000, 60_000)[(n + turn) % 2]))
        segment.trim()
        for n in range(0, 40, 3):
            segment.remove(n)
        segment.trim()
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGALRM
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"])


@helpers.needs_mounts
@pytest.mark.parametrize("size, values", [(8, 0), (8, 9), *itertools.product([20, 64, 256], [0, 3, 30])])
def test_f38_the_largest_put_of_a_segment_as_large_as_the_file_system_is_what_fits(key, size, values):
    """A value may reach over several zones, of which only the first is in use."""
    code = """
    import subprocess
    mebi, values = int(sys.argv[2]), int(sys.argv[3])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebi}m", "none", "/dev/shm"], check=True)
    segment = shmvar.attach(key)
    for number in range(values):
        segment[number] = bytes(300_000)
    most = segment.info().largest_put
    assert most > (mebi << 20) - (1 << 20) - values * 320_000
    segment[-1] = bytes(most)
    del segment[-1]
    try:
        segment[-1] = bytes(most + 1)
        raise SystemExit("more than that fits")
    except shmvar.SegmentFullError:
        pass
    segment.check()
    """
    helpers.run(code, key, size, values, prefix=("unshare", "-m"))
