"""What the system lacks or refuses is a typed error with a remedy, never a false success: docs/guide.md, "Limits"."""

import os
import signal
import textwrap
import time

import helpers
import pytest

import shmvar

INSIDE = ["unshare", "-m"]
MOUNT = """
import errno, resource, subprocess
def sh(*words):
    subprocess.run(words, check=True)
def refused(error, call, *words):
    try:
        call()
    except error as caught:
        assert isinstance(caught, shmvar.Error), repr(caught)
        text = str(caught)
        assert all(word in text for word in words), text
        return caught
    raise AssertionError(f"{call} gave no error")
"""


def inside(code, *args):
    """Runs a program in a mount namespace of its own."""
    return helpers.run(MOUNT + textwrap.dedent(code), *args, prefix=INSIDE)


# --- read-only, of another kind, or not there


@helpers.needs_mounts
def test_a_read_only_file_system_is_an_access_error_and_reading_goes_on():
    code = """
    sh("mount", "-t", "tmpfs", "none", "/dev/shm")
    shmvar.attach("there")[1] = "one"
    sh("mount", "-o", "remount,ro,bind", "/dev/shm")
    remedy = "mount -o remount,rw /dev/shm"
    for call in (lambda: shmvar.attach("there"), lambda: shmvar.attach("there", create=False),
                 lambda: shmvar.destroy("there"), lambda: shmvar.attach("new"),
                 lambda: shmvar.attach("new", perm=0o644)):
        caught = refused(PermissionError, call, "key ", remedy)
        assert type(caught) is shmvar.SegmentAccessError
    with shmvar.attach("there", readonly=True) as reader:
        assert reader[1] == "one"
    assert [info.key for info in shmvar.segments()] == ["there"] and shmvar.exists("there")
    sh("mount", "-o", "remount,rw,bind", "/dev/shm")
    assert shmvar.attach("there")[1] == "one" and shmvar.attach("new").created
    """
    inside(code)


@helpers.needs_mounts
def test_a_ramfs_is_a_typed_error_that_says_what_is_needed_and_leaves_nothing():
    code = """
    sh("mount", "-t", "ramfs", "-o", "mode=1777", "none", "/dev/shm")
    for perm in (0o600, 0o644):
        caught = refused(OSError, lambda: shmvar.attach("key", perm=perm), "tmpfs at /dev/shm", '"key"')
        assert caught.errno == errno.EOPNOTSUPP and type(caught) is shmvar.SegmentSystemError
    assert os.listdir("/dev/shm") == [] == shmvar.segments() and shmvar.destroy("key") is False
    sh("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
    assert shmvar.attach("key").created
    """
    inside(code)


@helpers.needs_mounts
@pytest.mark.parametrize("what", ["missing", "a file"])
def test_f59_without_the_directory_every_call_says_so(what):
    code = f"""
    handle = shmvar.attach("key")
    sh("mount", "-t", "tmpfs", "none", "/dev")
    if {what == "a file"}:
        open("/dev/shm", "w").close()
    calls = [lambda: shmvar.attach("key"), lambda: shmvar.attach("key", create=False),
             lambda: shmvar.attach("key", readonly=True), lambda: shmvar.destroy("key"),
             lambda: shmvar.exists("key"), shmvar.segments, handle.destroy]
    for call in calls:
        refused(shmvar.SegmentAccessError, call, "no shared memory here", "tmpfs")
    handle[1] = "still"
    assert handle[1] == "still"
    done = subprocess.run([sys.executable, "-m", "shmvar", "ls"], capture_output=True, text=True)
    assert done.returncode == 1 and "no shared memory here" in done.stderr and "Traceback" not in done.stderr
    if {what == "a file"}:
        os.unlink("/dev/shm")
    sh("umount", "/dev")
    handle.destroy()
    assert not shmvar.exists("key")
    """
    inside(code)


@helpers.needs_root
def test_a_directory_that_may_not_be_entered_or_listed_is_an_access_error():
    code = f"""
    os.chmod("/dev/shm", int(sys.argv[1], 8))
    key = "shut"
    {helpers.as_user()["drop"].replace(chr(10), chr(10) + "    ")}
    refused(shmvar.SegmentAccessError, shmvar.segments, "permission denied", "/dev/shm", "uid {helpers.NOBODY}", "1777")
    if sys.argv[1] == "700":
        for call in (lambda: shmvar.attach(key), lambda: shmvar.destroy(key), lambda: shmvar.exists(key)):
            refused(shmvar.SegmentAccessError, call, "permission denied")
    else:
        assert shmvar.destroy(key) is shmvar.exists(key) is False
        refused(shmvar.SegmentAccessError, lambda: shmvar.attach(key), "may not create")
    """
    for mode in ("700", "711"):
        inside('sh("mount", "-t", "tmpfs", "none", "/dev/shm")' + textwrap.dedent(code), mode)


# --- chroot


@helpers.needs_root
def test_after_a_chroot_nothing_pretends_to_have_destroyed_or_looked(key, tmp_path):
    def jailed():
        segment, gone = shmvar.attach(key), shmvar.attach(f"{key}-gone")
        segment[1] = "one"
        gone.destroy()
        os.chroot(tmp_path)
        os.chdir("/")
        for call in (segment.destroy, lambda: shmvar.destroy(key), lambda: shmvar.exists(key), shmvar.segments):
            with pytest.raises(shmvar.SegmentAccessError, match=r"no shared memory here.*chroot"):
                call()
        with pytest.raises(shmvar.SegmentAccessError):
            shmvar.attach(key, create=False)
        # A segment that was destroyed is gone for processes outside of the chroot, too.
        gone.destroy()
        segment[2] = "two"
        assert dict(segment) == {1: "one", 2: "two"}
        os.makedirs("/dev/shm")
        with pytest.raises(shmvar.SegmentAccessError, match=r"not destroyed.*another file system"):
            segment.destroy()
        assert shmvar.destroy(key) is False and shmvar.segments() == []

    with shmvar.attach(key) as segment:
        helpers.in_child(jailed)
        assert segment[2] == "two" and shmvar.exists(key)
        segment.destroy()
        assert not shmvar.exists(key)
        segment.destroy()


def test_f16_a_segment_that_was_renamed_is_not_said_to_be_destroyed(key):
    with shmvar.attach(key) as segment:
        path = helpers.path_of(segment)
        os.rename(path, f"{path}-moved")
        try:
            inode = os.stat(f"{path}-moved").st_ino
            with pytest.raises(shmvar.SegmentNotFoundError, match=rf"not destroyed.*-inum {inode}"):
                segment.destroy()
        finally:
            os.rename(f"{path}-moved", path)
        segment.destroy()
        assert not os.path.exists(path)


# --- no /proc

NO_PROC = """
sh("mount", "-t", "tmpfs", "none", "/dev/shm")
sh("mount", "-t", "tmpfs", "none", "/proc")
assert os.listdir("/proc") == []
"""


@helpers.needs_mounts
@pytest.mark.parametrize("perm", [0o600, 0o644, 0o000, 0o200, 0o666])
def test_without_proc_everything_works_as_with_it(perm):
    code = f"""
    assert os.umask(0o77) is not None
    with shmvar.attach("key", perm={perm:#o}) as segment:
        assert segment.created and os.stat("/dev/shm/shmvar.s.key").st_mode & 0o7777 == {perm:#o}
        assert not [name for name in os.listdir("/dev/shm") if name.startswith("shmvar-tmp.")]
        segment.update({{1: "one", 2: b"x" * 300_000}})
        with segment.lock("lock", timeout=5):
            pass
        pid = os.fork()
        if not pid:
            signal.alarm(30)
            segment["child"] = bytes(segment.view(2)[:3])
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0 and segment["child"] == b"xxx"
        with shmvar.attach("key") as again, shmvar.attach("key", readonly=True) as reader:
            assert not again.created and again[1] == reader[1] == "one"
        assert segment.check().variables == 3 and [info.key for info in shmvar.segments()] == ["key"]
        assert segment.trim() is None
    again = shmvar.attach("key")
    again.destroy()
    # Without a name it cannot be opened again: the process goes on with the descriptor that it has.
    again[5] = "five"
    assert again[5] == "five" and os.listdir("/dev/shm") == []
    """
    inside(NO_PROC + textwrap.dedent(code))


@helpers.needs_mounts
def test_without_proc_another_user_and_the_doctor_get_on():
    drop = helpers.as_user()["drop"].replace("\n", "\n    ")
    code = f"""
    done = subprocess.run([sys.executable, "-m", "shmvar", "doctor", "--json"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and '"segments"' in done.stdout, done
    sh("chmod", "1777", "/dev/shm")
    shmvar.attach("theirs", perm=0o666)[1] = 1
    {drop}
    with shmvar.attach("mine", perm=0o640) as segment, shmvar.attach("theirs", create=False) as theirs:
        segment[1] = theirs[1]
        assert segment[1] == 1 and theirs.add(1) == 2
        segment.destroy()
    assert sorted(os.listdir("/dev/shm")) == ["shmvar.s.theirs"]
    """
    inside(NO_PROC + textwrap.dedent(code))


# --- leases


@pytest.fixture
def leased(key, children):
    """A segment on which another process has a lease; a signal ends the lease. Returns its key."""
    code = """
    import fcntl
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(sys.argv[1], os.O_RDWR if sys.argv[2] == "write" else os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK if sys.argv[2] == "write" else fcntl.F_RDLCK)
    print("leased", flush=True)
    sys.stdin.read()
    """

    def take(kind):
        # Another process makes the segment: there is no lease on a file that anybody else has open or mapped.
        helpers.run("shmvar.attach(key)[1] = 'one'", key)
        child = helpers.start(code, f"{helpers.SHM}/shmvar.s.{key}", kind)
        children.append(child)
        return child

    return take


@pytest.mark.slow
def test_a_lease_is_waited_for_10_seconds_and_then_a_typed_error(key, leased):
    child = leased("write")
    began = time.monotonic()
    with pytest.raises(shmvar.SegmentBusyError, match=r"lease.*F_SETLEASE.*end it") as caught:
        shmvar.attach(key)
    assert isinstance(caught.value, TimeoutError) and 8 <= time.monotonic() - began <= 30
    (info,) = [info for info in shmvar.segments() if info.name == f"shmvar.s.{key}"]
    assert info.state == "refused" and "lease" in info.why and info.key == key
    helpers.end(child)  # the remedy
    with shmvar.attach(key) as segment:
        assert segment[1] == "one"


@pytest.mark.slow
def test_a_lease_on_the_object_that_carries_the_locks_is_waited_for_too(key, children):
    helpers.run("shmvar.attach(key, perm=0o644)[1] = 'one'", key)
    (name,) = [name for name in os.listdir(helpers.SHM) if name.startswith("shmvar-lock.")]
    code = """
    import fcntl
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fcntl.fcntl(os.open(f"/dev/shm/{key}", os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
    print("leased", flush=True)
    sys.stdin.read()
    """
    child = helpers.start(code, name)
    children.append(child)
    began = time.monotonic()
    with pytest.raises(shmvar.SegmentBusyError, match="lease"):
        shmvar.attach(key)
    assert time.monotonic() - began >= 8
    helpers.end(child)
    with shmvar.attach(key) as segment:
        assert segment[1] == "one"


@pytest.mark.parametrize("kind", ["read", "write"])
def test_who_lets_go_of_a_lease_in_time_keeps_nobody_out_and_the_owner_may_destroy_it(key, leased, kind):
    child = leased(kind)
    began = time.monotonic()

    def end(*_):
        helpers.end(child)

    old = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with shmvar.attach(key) as segment:
            assert segment[1] == "one" and time.monotonic() - began > 0.2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    del segment  # and with it its mapping: there is no lease on a file that is mapped
    leased(kind)
    with helpers.promptly():
        assert shmvar.destroy(key) is True
    assert not shmvar.exists(key)


# --- ulimit -f


@helpers.needs_mounts
def test_f37_a_limit_on_files_is_a_full_segment_with_its_numbers_and_no_signal():
    code = """
    sh("mount", "-t", "tmpfs", "none", "/dev/shm")
    segment = shmvar.attach("key")
    segment[1] = b"old" * 10_000
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for limit in (0, 1, 4196, 1 << 20, 10 << 20):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        segment["small"] = limit
        caught = refused(MemoryError, lambda: segment.put(1, b"new" * 50_000), "ulimit -f", "key ")
        assert type(caught) is shmvar.SegmentFullError
        assert caught.size == limit and caught.needed >= 150_000 and caught.free == 0, vars(caught)
        assert segment[1] == b"old" * 10_000 and segment["small"] == limit
        refused(MemoryError, lambda: shmvar.attach("new"), "ulimit -f")
        refused(MemoryError, lambda: segment.put_many({1: 1, 2: b"new" * 50_000}), "ulimit -f")
        assert 2 not in segment
        with shmvar.attach("key") as again:
            assert again.check().variables == 2
        shmvar.attach("key").trim()
    assert os.listdir("/dev/shm") == ["shmvar.s.key"]
    assert shmvar.destroy("key") and segment[1] == b"old" * 10_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    segment[1] = b"new" * 50_000
    assert segment[1] == b"new" * 50_000
    """
    inside(code)


# --- ulimit -n


DESCRIPTORS = """
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
def limited(more, call):
    "Only so many more descriptors than are open now."
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    free = [fd for fd in range(used) if not os.path.exists(f"/proc/self/fd/{fd}")]
    filled = [os.open("/dev/null", os.O_RDONLY) for _ in free]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
    try:
        return call()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for fd in filled:
            os.close(fd)
"""
CALLS = {
    "create": ("shmvar.attach('new')", "shmvar.destroy('new')"),
    "create with a second object": ("shmvar.attach('new', perm=0o644)", "shmvar.destroy('new')"),
    "attach": ("shmvar.attach('there')", "None"),
    "attach with a second object": ("shmvar.attach('second', create=False)", "None"),
    "read": ("shmvar.attach('there', readonly=True)[1]", "None"),
    "destroy": ("shmvar.destroy('there')", "shmvar.attach('there').put(1, 'one')"),
    "destroy with a second object": ("shmvar.destroy('second')", "shmvar.attach('second', perm=0o644)"),
    "destroy what is damaged": ("shmvar.destroy('damaged')", "open('/dev/shm/shmvar.s.damaged', 'w').close()"),
    "handle": ("handle.destroy()", "globals().update(handle=shmvar.attach('handle'))"),
    "segments": ("[info.key for info in shmvar.segments()]", "None"),
    "doctor": ("shmvar.cli.doctor.examination._survey()", "None"),
    "trim": ("handle.trim()", "None"),
    "check": ("handle.check()", "None"),
    "put": ("handle.put(1, b'x' * 100_000)", "None"),
}


@helpers.needs_mounts
@pytest.mark.parametrize("what", CALLS)
def test_without_descriptors_each_step_is_a_typed_error_that_changes_nothing_or_works(what):
    call, again = CALLS[what]
    code = f"""
    sh("mount", "-t", "tmpfs", "none", "/dev/shm")
    import shmvar.cli.doctor.examination
    for perm, name in ((0o600, "there"), (0o644, "second"), (0o600, "handle")):
        shmvar.attach(name, perm=perm)[1] = "one"
    open("/dev/shm/shmvar.s.damaged", "w").close()
    handle = shmvar.attach("handle")
    done = []
    for more in range(14):
        before = sorted(os.listdir("/dev/shm"))
        try:
            done.append(limited(more, lambda: {call}))
            {again}
        except shmvar.Error as error:
            assert isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE), (more, repr(error))
            assert "ulimit -n" in str(error), error
            assert sorted(os.listdir("/dev/shm")) == before and not done, (more, error)
    assert len(done) >= 4, done
    assert all(type(one) is type(done[-1]) for one in done)
    if isinstance(done[-1], (bool, list)):
        assert all(one == done[-1] for one in done) and done[-1]
    for name in ("there", "second", "handle"):
        assert shmvar.attach(name, create=False).check()
    """
    inside(DESCRIPTORS + textwrap.dedent(code))


def test_ls_without_descriptors_fails_and_does_not_show_an_empty_list(seg, key):
    code = """
    from shmvar.cli import main as cli
    assert cli.main(["ls", "--json"]) == 0  # imports what it needs
    fds = []
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            fds.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    status = cli.main(["ls"])
    os.close(fds.pop())
    print(status)
    """
    done = helpers.run(code)
    listed, status = done.stdout.splitlines()
    assert status == "1" and key in listed and "ulimit -n" in done.stderr, done
