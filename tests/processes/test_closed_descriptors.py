"""Descriptors that a program closed under the package (`os.closerange`), so their numbers are those of other files."""

import textwrap

import helpers
import pytest

OPENED_FOR_READING = """
segment, reader = shmvar.attach(key, 64 << 20), shmvar.attach(key, readonly=True)
name = segment.info().name
os.closerange(3, 100)
"""


def test_a_number_that_a_read_only_handle_has_now_is_not_used_for_writing(key):
    helpers.run(
        OPENED_FOR_READING
        + textwrap.dedent("""
        reader.info()  # Opens the object for reading only, under a number that the other handle had.
        segment[1] = bytes(range(256)) * (8 << 10)
        assert reader[1] == segment[1] and len(reader[1]) == 2 << 20
        assert segment.info().used == reader.info().used
        del segment[1]
        segment.trim()
        """),
        key,
    )


@pytest.mark.parametrize("access", ["os.O_RDONLY", "os.O_RDWR", "os.O_PATH"])
def test_numbers_that_the_program_has_of_the_object_now_are_neither_used_nor_closed(key, access):
    helpers.run(
        OPENED_FOR_READING
        + textwrap.dedent(f"""
        own = [os.open("/dev/shm/" + name, {access}) for _ in range(10)]
        segment[1] = bytes(2 << 20)
        assert reader[1] == segment[1] and segment.lock("lock").acquire() is True
        segment.lock("lock").release()
        segment.info(), reader.info()
        segment.detach()
        reader.detach()
        for fd in own:
            assert os.path.samestat(os.fstat(fd), os.stat("/dev/shm/" + name)), fd
        """),
        key,
    )


def test_no_descriptor_stays_behind_whatever_was_done_with_the_segment(key):
    helpers.run(
        """
        def use():
            with shmvar.attach(key, 64 << 20, evict="lru") as segment, shmvar.attach(key, readonly=True) as reader:
                segment.update({number: bytes(50_000) for number in range(100)})
                segment[1], reader[1], segment.info(), reader.info()
                segment.clear()
                segment.trim()
                segment["array"] = bytes(5 << 20)
                if os.fork() == 0:
                    segment["child"] = bytes(2 << 20)
                    os._exit(segment["child"] != bytes(2 << 20))
                assert os.wait()[1] == 0
        use()
        before = os.listdir("/proc/self/fd")
        for _ in range(5):
            use()
        assert os.listdir("/proc/self/fd") == before
        """,
        key,
    )


def test_what_a_forked_child_has_opened_under_the_numbers_meant_for_it_is_not_closed(key):
    helpers.run(
        textwrap.dedent("""
        segment = shmvar.attach(key, 64 << 20)
        segment[1] = 1
        name = segment.info().name
        pid = os.fork()
        if pid == 0:
            os.closerange(3, 100)
            own = [os.open(path, os.O_RDWR) for path in ["/dev/shm/" + name] * 10 + ["/dev/null"] * 10]
            kinds = [os.fstat(fd) for fd in own]
            segment[2] = bytes(2 << 20)
            with segment.lock("lock"):
                segment.add(3, 1)
            segment.detach()
            for fd, kind in zip(own, kinds):
                assert os.path.samestat(os.fstat(fd), kind), fd
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert segment[2] == bytes(2 << 20) and segment[3] == 1 and segment.check().locks == 0
        """),
        key,
    )
