"""What others change while a dump is under way, from within the function that it writes with: at known moments."""

import io
import os

import helpers
import pytest

import shmvar

LEASES = 20
# The moves of a slot are counted in 11 bits.
ROUND = 2048


class Beside(io.BytesIO):
    """A file that calls a function whenever a piece of a large value is written, a few times."""

    def __init__(self, change, times):
        super().__init__()
        self.change, self.times = change, times

    def write(self, data):
        if len(data) > 200_000 and self.times:
            self.times -= 1
            self.change(self.times)
        return super().write(data)


@pytest.mark.parametrize("readonly", [False, True])
def test_leases_that_are_renewed_until_their_moves_went_round_are_dumped_as_they_are(seg, key, new_key, readonly):
    for number in range(LEASES):
        seg.put(f"lease {number}", "v", ttl=5)
    for number in range(4):
        seg[f"large {number}"] = bytes(600_000)

    def renew(times):
        for number in range(LEASES):
            for _ in range(ROUND):
                seg.expire(f"lease {number}", 1000)
        if times and not readonly:
            # So that there is one more pass, which comes here, too.
            seg["large 0"] = bytes(600_000)

    with shmvar.attach(key, readonly=readonly) as handle:
        file = Beside(renew, 6)
        assert handle.dump(file) == LEASES + 4
    with shmvar.attach(new_key()) as again:
        again.load(io.BytesIO(file.getvalue()))
        assert {again.stat(f"lease {number}").expires_in > 500 for number in range(LEASES)} == {True}
        again.destroy()


def test_a_fork_within_the_writing_is_an_error_in_the_child(seg):
    """The parent's dump goes on, and the child writes nothing of it."""
    for number in range(4):
        seg[number] = bytes(700_000)
    children = []

    def fork(_):
        child = os.fork()
        if child:
            children.append(child)
            # The whole of the child's call is over before the parent writes on.
            statuses.append(os.waitpid(child, 0)[1])
        else:
            children.append(None)

    statuses = []
    file = Beside(fork, 1)
    try:
        count, text = seg.dump(file), ""
    except shmvar.SegmentBusyError as error:
        count, text = None, str(error)
    finally:
        if None in children:
            os._exit(0 if count is None and "forked in the middle" in text else 1)
    assert count == 4 and statuses == [0]


def test_the_last_passes_write_into_memory_however_slow_the_file_is(seg, new_key):
    """What changes as long as the file is written to would never be little. It was copied under the lock in the end."""
    values = {number: bytes([number % 250]) * 15_000 for number in range(1200)}
    seg.update(values)
    turns = []

    def change(_):
        turns.append(1)
        if len(turns) % 4 == 0:
            seg.update(values)

    file = Beside(change, 10_000)
    assert seg.dump(file) == 1200
    assert len(file.getvalue()) < 5 * 1200 * 15_000
    with shmvar.attach(new_key(), 64 << 20) as again:
        assert again.load(io.BytesIO(file.getvalue())) == 1200
        assert dict(again) == values
        again.destroy()


NO_PAGE = """
import io, os, subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "none", "/dev/shm"], check=True)
times = int(sys.argv[2])
segment = shmvar.attach("full", 32 << 20)
for number in range(4):
    segment[number] = bytes([number]) * 1_000_000
segment[0] = bytes(1_000_000)
with open("/dev/shm/filler", "wb") as filler:
    try:
        while True:
            os.write(filler.fileno(), bytes(4096))
    except OSError:
        pass

class File(io.BytesIO):
    left = times
    def write(self, data):
        if self.left:
            self.left -= 1
            segment[0] = bytes([self.left % 250 + 1]) * 900_000
        return super().write(data)

file = File()
try:
    print(segment.dump(file))
except shmvar.SegmentFullError as error:
    print("full", error)
os.unlink("/dev/shm/filler")
if times < 100:
    loaded = shmvar.attach("loaded", 16 << 20)
    assert loaded.load(io.BytesIO(file.getvalue())) == 4 and loaded[0] == segment[0] == bytes([1]) * 900_000
"""


@helpers.needs_mounts
@pytest.mark.parametrize(("times", "text"), [(18, "4"), (100_000, "full")])
def test_without_a_page_for_a_pin_a_large_value_that_changes_is_looked_at_again(times, text):
    out = helpers.run(NO_PAGE, "", times, prefix=("unshare", "-m")).stdout
    assert out.startswith(text) and (text == "4" or "/dev/shm" in out)
