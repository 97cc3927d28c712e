"""Other users and modes: who may attach, what is trusted. Needs root, to become another user."""

import fcntl
import os
import textwrap
import time

import helpers
import pytest
from helpers import LOCKER, NOBODY, as_user, run, start

import shmvar

pytestmark = helpers.needs_root
OTHER = 12345


@pytest.fixture
def others_segment(new_key):
    """Makes segments that belong to another user; returns their keys."""

    def make(perm, uid=OTHER, code="segment[1] = 'theirs'"):
        key = new_key()
        run(f"segment = shmvar.attach(key, perm={perm:#o})\n{code}", key, **as_user(uid))
        return key

    return make


# --- who may attach


def test_f25_a_refusal_names_key_owner_and_mode(seg, key):
    code = """
    for call in (lambda: shmvar.attach(key, create=False), lambda: shmvar.attach(key, readonly=True, perm=0o644),
                 lambda: shmvar.attach(key), lambda: shmvar.attach(key, perm=0o666), lambda: shmvar.destroy(key)):
        try:
            call()
        except shmvar.SegmentAccessError as error:
            assert isinstance(error, PermissionError)
            text = str(error)
            assert key in text and "uid 0" in text and "0o600" in text, text
        else:
            raise AssertionError
    """
    run(code, key, **as_user())
    assert shmvar.exists(key)


def test_f26_anothers_segment_is_attached_only_where_sharing_was_asked_for(others_segment):
    key = others_segment(0o666)
    for refused in ({}, {"perm": 0o600}, {"readonly": True}, {"create": None, "size": 5}):
        with pytest.raises(shmvar.SegmentAccessError, match=f"uid {OTHER}"):
            shmvar.attach(key, **refused)
    for asked in ({"create": False}, {"perm": 0o660}, {"perm": 0o604}, {"create": False, "readonly": True}):
        with shmvar.attach(key, **asked) as segment:
            assert segment[1] == "theirs" and segment.info().uid == OTHER and not segment.trusted
    with pytest.raises(shmvar.SegmentExistsError):
        shmvar.attach(key, create=True)
    with shmvar.shm_attach(key) as segment:
        assert segment[1] == "theirs"


def test_f26_a_squatter_is_not_handed_ones_data(others_segment):
    key = others_segment(0o666)
    before = run("print(dict(shmvar.attach(key)))", key, **as_user(OTHER)).stdout
    with pytest.raises(shmvar.SegmentAccessError):
        shmvar.attach(key)[2] = "secret"
    assert run("print(dict(shmvar.attach(key)))", key, **as_user(OTHER)).stdout == before


def test_a_user_sees_and_destroys_only_what_it_may(seg, key, others_segment):
    theirs = others_segment(0o644)
    code = """
    listed = {info.key: info for info in shmvar.segments()}
    assert key not in listed and listed[sys.argv[2]].uid == 12345, listed
    assert shmvar.exists(key) and shmvar.exists(sys.argv[2])
    for one in (key, sys.argv[2]):
        try:
            shmvar.destroy(one)
        except shmvar.SegmentAccessError as error:
            assert one in str(error)
        else:
            raise AssertionError
    """
    run(code, key, theirs, **as_user())
    assert shmvar.exists(theirs) and shmvar.exists(key)


@pytest.mark.parametrize("perm", [0o644, 0o604, 0o640])
def test_a_readonly_attach_of_a_segment_one_may_only_read(key, perm):
    code = """
    segment = shmvar.attach(key, readonly=True, create=False)
    assert segment.readonly and not segment.created
    assert segment[1] == "one" and segment[2] == b"x" * 300_000 and dict(segment)["three"] == [3] * 1000
    assert len(segment) == 3 and segment.info().perm == int(sys.argv[2]) and segment.stat(2).size > 300_000
    for change in (lambda: segment.put(1, 2), lambda: segment.remove(1), lambda: segment.clear()):
        try:
            change()
        except shmvar.ReadOnlyError:
            pass
        else:
            raise AssertionError
    try:
        shmvar.attach(key, create=False)
    except shmvar.SegmentAccessError as error:
        assert key in str(error)
    else:
        raise AssertionError
    print("fine")
    """
    with shmvar.attach(key, perm=perm) as segment:
        segment.update({1: "one", 2: b"x" * 300_000, "three": [3] * 1000})
        user = as_user(NOBODY, 0 if perm == 0o640 else NOBODY)
        assert run(code, key, perm, **user).stdout == "fine\n"
        assert len(segment) == 3 == segment.check().variables


def test_two_users_share_a_segment_of_mode_666(key):
    with shmvar.attach(key, perm=0o666) as segment:
        segment.update({1: "root", 2: b"x" * 200_000})
        code = """
        segment = shmvar.attach(key, create=False)
        assert segment[1] == "root" and not segment.trusted
        segment[1] = "nobody"
        segment[3] = b"n" * 300_000
        segment.remove(2)
        segment.trim()
        segment.check()
        os.kill(os.getpid(), signal.SIGKILL)
        """
        assert run(code, key, check=False, **as_user()).returncode == -9
        assert segment[1] == "nobody" and segment[3] == b"n" * 300_000 and 2 not in segment
        assert segment.info().attached == 1
        segment.check()


# --- trust


def test_trust_is_decided_by_owner_and_mode(others_segment, new_key):
    report = "print(shmvar.attach(key, create=False, readonly=True).trusted)"
    for perm, trusted in [(0o600, True), (0o644, True), (0o666, False), (0o620, False)]:
        theirs = others_segment(perm)
        assert run(report, theirs, **as_user(OTHER)).stdout.strip() == str(trusted), oct(perm)
        with shmvar.attach(theirs, create=False) as segment:
            assert segment.trusted is False
        with shmvar.attach(theirs, create=False, trust=True) as segment:
            assert segment.trusted is True
    for perm, trusted in [(0o644, True), (0o666, False), (0o646, False)]:
        key = new_key()
        with shmvar.attach(key, perm=perm):
            assert run(report, key, **as_user(OTHER)).stdout.strip() == str(trusted), oct(perm)


def test_an_owner_that_may_be_anybody_is_not_trusted(others_segment):
    # In a user namespace every unmapped owner shows as this uid.
    key = others_segment(0o600, NOBODY)
    assert run("print(shmvar.attach(key).trusted)", key, **as_user(NOBODY)).stdout.strip() == "False"


def test_what_another_user_stored_runs_no_code_here(others_segment):
    key = others_segment(
        0o666, code="class Evil:\n  def __reduce__(s): return (os.mkdir, ('/tmp/shmvar-evil',))\nsegment[1] = Evil()"
    )
    with shmvar.attach(key, create=False) as segment, pytest.raises(shmvar.UntrustedValueError, match="mkdir"):
        segment[1]
    assert not os.path.exists("/tmp/shmvar-evil")


# --- a reader that wants to hold up everybody


def test_a_user_who_may_only_read_cannot_stop_puts_reaping_and_attaches_by_read_locks(key, children):
    with shmvar.attach(key, perm=0o644) as segment:
        segment.update({1: "one", 2: b"x" * 100_000})
        victim = start("s = shmvar.attach(key); s[3] = b'v' * 200_000; print('up', flush=True); sys.stdin.read()", key)
        children.append(victim)
        locker = start(LOCKER, key, **as_user())
        children.append(locker)
        assert int(locker.said) >= 1
        with helpers.Raw(segment) as raw, open(helpers.path_of(segment), "rb+") as file:
            with pytest.raises(OSError):
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raw.hold_lock(victim.pid)
            victim.kill()
            victim.wait(10)
            with helpers.promptly():
                segment[1] = "after the take-over"
                segment[4] = b"y" * 500_000
        began = time.monotonic()
        for _ in range(5):
            done = run("s = shmvar.attach(key); s[5] = 'new'; os.kill(os.getpid(), 9)", key, check=False)
            assert done.returncode == -9, done.stderr
            helpers.in_child(lambda: segment.put(6, "child"))
        assert segment[5] == "new" and segment[6] == "child" and segment.info().attached == 1
        assert time.monotonic() - began < 45, "each of them waits for 10 s"
        segment.trim()
        segment.check()
        segment.destroy()
        with shmvar.attach(key, perm=0o644) as again:
            again[1] = 1


# --- a process that drops its privileges

DROP = """
import shmvar._mapping_views  # before: the interpreter may be in a directory of root's
segment = shmvar.attach(key)
reader = shmvar.attach(key, readonly=True)
segment.update({1: "one", 2: b"x" * 100_000, "three": [3] * 1000})
def drop():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
def use(number):
    assert dict(segment)[2] == b"x" * 100_000 == reader[2]
    for turn in range(50):
        segment[number] = [number, turn]
        segment[f"span {number}"] = bytes([turn]) * 150_000
        assert segment[number] == [number, turn] == reader[number]
        assert segment[f"span {number}"] == bytes([turn]) * 150_000
    assert segment.info().uid == 0 and segment.stat(number).type == "list"
    segment.trim()
    segment.check()
def forked(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(repr(error), flush=True)
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_h22_a_forked_child_that_drops_its_privileges_uses_the_handle_it_inherited(key):
    code = """
    for number in range(10, 14):
        assert forked(lambda: (drop(), use(number))) == 0
    use(20)
    assert segment.info().attached == 1
    """
    assert run(DROP + textwrap.dedent(code), key).stdout == ""


def test_h22_a_process_that_drops_its_own_privileges_goes_on(key):
    code = """
    drop()
    use(10)
    for call in (lambda: shmvar.attach(key, create=False), lambda: shmvar.destroy(key)):
        try:
            call()
        except shmvar.SegmentAccessError:
            pass
        else:
            raise AssertionError
    """
    assert run(DROP + textwrap.dedent(code), key).stdout == ""
    with shmvar.attach(key) as segment:
        assert segment[10] == [10, 49] and segment.check().variables and segment.info().attached == 1


def test_h22_a_child_forked_after_the_drop_reads_and_its_changes_work_or_are_typed_errors(key):
    code = """
    drop()
    def work():
        assert segment[1] == "one" and segment["three"] == [3] * 1000 == reader["three"]
        try:
            segment[5] = "child"
            assert segment[5] == "child"
        except shmvar.Error as error:
            assert str(error)
        assert segment[1] == "one"
    for _ in range(3):
        assert forked(work) == 0
    use(10)
    """
    assert run(DROP + textwrap.dedent(code), key).stdout == ""
    with shmvar.attach(key) as segment:
        assert segment.check().variables and segment.info().attached == 1


@pytest.mark.parametrize("perm", [0o600, 0o644, 0o666])
def test_h22_a_process_that_dropped_its_privileges_creates_segments_of_its_own(key, perm):
    # Such a process is not dumpable: its /proc/self belongs to root.
    code = """
    import shmvar._mapping_views
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)
    for turn in range(2):
        with shmvar.attach(key, 1 << 20, perm=int(sys.argv[2])) as segment, shmvar.attach(key, readonly=True) as reader:
            segment[turn] = b"x" * 100_000
            assert segment.created is (turn == 0) and reader[turn] == b"x" * 100_000
            pid = os.fork()
            if pid == 0:
                segment["child"] = 1
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0 and segment["child"] == 1
            segment.trim()
            segment.check()
    assert shmvar.destroy(key)
    """
    run(code, key, perm)
