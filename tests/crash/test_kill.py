"""More than a thousand processes are killed at random moments: no torn value, nothing else lost, no process waits."""

import mmap
import os
import random
import signal
import statistics
import struct
import time

import helpers
import pytest

import shmvar

REMOVED = object()
"""The value that `op` returns for an index that it removes."""


class Victims:
    """Children that apply operations 0, 1, 2, … to a segment and are killed on the way.

    `op(n)` is (index, value), a pure function. After each kill the segment must hold exactly what the operations before
    the interrupted one have left, either with or without that one: whole old or whole new, and no other index changed.
    """

    def __init__(self, segment, op, model=None):
        self.segment, self.op = segment, op
        self.model = {} if model is None else model
        self.done = 0
        # Each word is stored whole (struct.pack_into stores bytes, and a kill may come between two of them).
        self.page = memoryview(mmap.mmap(-1, 4096)).cast("Q")
        self.random = random.Random(int.from_bytes(os.urandom(4)))
        self.kills, self.took = 0, []

    def _work(self):
        number, page, op, segment = self.done, self.page, self.op, self.segment
        page[0], page[1] = number, 1
        while True:
            index, value = op(number)
            if value is REMOVED:
                segment.remove(index)
            else:
                segment[index] = value
            number += 1
            page[0] = number

    def kill_one(self, check=True):
        self.page[0] = self.page[1] = 0
        pid = helpers.fork(self._work)
        try:
            if self.random.random() < 0.8:
                helpers.until(lambda: self.page[1], what="the child's beginning")
            # On a slow machine children live ten times as long, so that they do something before they are killed.
            time.sleep(self.random.random() * (0.004 if self.done >= self.kills else 0.04))
        finally:
            helpers.kill(pid)
        self.kills += 1
        began = time.monotonic()
        with helpers.promptly():
            self.segment["mine"] = self.kills
        self.took.append(time.monotonic() - began)
        assert self.segment.pop("mine") == self.kills
        self.settle()
        if check:
            assert self.segment.check().variables == len(self.model)

    def settle(self):
        now = self.page[0]
        for number in range(self.done, now):
            self.apply(number)
        self.done = max(self.done, now)
        found = dict(self.segment.items())
        if found != self.model:
            self.apply(self.done)
            self.done += 1
            different = {
                i for i in found.keys() | self.model.keys() if found.get(i, REMOVED) != self.model.get(i, REMOVED)
            }
            assert not different, (
                f"neither old nor new at {sorted(map(repr, different))[:5]} after {self.done} operations"
            )

    def apply(self, number):
        index, value = self.op(number)
        if value is REMOVED:
            self.model.pop(index, None)
        else:
            self.model[index] = value


def kill_many(key, op, kills, resident, every=1, model=None):
    """Kills so many children; then the accounts must be exact and the memory given back."""
    with shmvar.attach(key) as segment:
        if model:
            segment.update(model)
        victims = Victims(segment, op, dict(model or {}))
        for number in range(kills):
            victims.kill_one(check=number % every == 0)
        assert segment.info().used == sum(segment.stat(index).size for index in segment)
        assert segment.info().attached == 1
        segment.clear()
        info = segment.info()
        assert (info.used, info.count, len(segment), segment.check().variables) == (0, 0, 0, 0)
        segment.trim()
        assert segment.check().variables == 0 and segment.info().resident < resident
        segment.destroy()
    assert victims.done > kills // 2
    # F1 says a second. A single take-over may fall into a moment in which the machine halts.
    assert statistics.median(victims.took) < 1


def large(number, low, high):
    """Bytes in which each word tells the number."""
    return struct.pack("<Q", number) * ((low + number * 7919 % (high - low)) // 8)


def test_f1_killed_in_puts_of_small_integers(key):
    kill_many(key, lambda n: (n % 50 - 25, n * 1_000_003), 160, 1 << 20)


def test_f1_killed_in_puts_of_40_characters(key):
    kill_many(key, lambda n: (n % 40 if n % 3 else f"text {n % 40}", f"{n:010}" * 4), 160, 1 << 20)


def test_f1_killed_in_puts_of_records_of_some_kilobytes(key):
    kill_many(key, lambda n: (n % 20, large(n, 100, 9000)), 160, 4 << 20)


def test_f1_killed_in_puts_of_spans(key):
    kill_many(key, lambda n: (n % 6, large(n, 100_000, 1_000_000)), 160, 4 << 20)


def test_f1_killed_in_puts_of_pickled_objects_of_all_sizes(key):
    def op(number):
        size = (1, 10, 200, 3000, 40_000)[number % 5]
        return (number % 12 if number % 2 else f"index {number % 12}", [number, {"a": number}, (str(number),) * size])

    kill_many(key, op, 100, 4 << 20)


def test_f3_killed_in_removals(key):
    def op(number):
        index = number // 2 % 30
        if number % 2:
            return (index - 10) % 30, REMOVED
        return index, (number, f"{number:020}" * 2, large(number, 5000, 40_000))[number % 3]

    keep = {f"keep {n}": ["keep", n] * 10 for n in range(100)}
    kill_many(key, op, 120, 4 << 20, model=keep)


def test_f3_killed_in_rebuilding_the_table(key):
    # Each index is new and soon removed: the table fills with tombstones and is rebuilt again and again.
    def op(number):
        return (number // 2 - 100, REMOVED) if number % 2 else (number // 2, number)

    kill_many(key, op, 120, 4 << 20, model={f"keep {n}": n for n in range(300)})


def test_f3_killed_in_the_growth_of_the_table(new_key):
    for _ in range(6):
        key = new_key()
        with shmvar.attach(key) as segment:
            victims = Victims(segment, lambda n: (n * 31, f"{n:08}"))
            for number in range(10):
                victims.kill_one(check=number % 3 == 0)
            assert segment.check().variables == len(victims.model)
            segment.clear()
            assert segment.info().used == 0 == segment.check().variables
            segment.destroy()


def test_f1_killed_while_others_write_too(key, children):
    code = """
    segment = shmvar.attach(key)
    print("ready", flush=True)
    turn = 0
    while True:
        turn += 1
        segment[f"other {turn % 5}"] = bytes([turn % 256]) * (20, 500, 200_000)[turn % 3]
        segment.remove(f"other {turn * 7 % 5}")
    """
    with shmvar.attach(key) as segment:
        other = helpers.start(code, key)
        children.append(other)
        victims = Victims(segment, lambda n: (n % 10, large(n, 10, 5000) if n % 4 else large(n, 100_000, 300_000)))
        real = segment

        class OnlyVictims:
            """The segment without the indexes of the other writer."""

            def items(self):
                for index, value in real.items():
                    if isinstance(index, str):
                        assert value == value[:1] * len(value)
                    else:
                        yield index, value

            def __getattr__(self, name):
                return getattr(real, name)

            def __setitem__(self, index, value):
                real[index] = value

        victims.segment = OnlyVictims()
        for _ in range(100):
            victims.kill_one(check=False)
            segment.check()
        other.kill()
        other.wait(10)
        segment.clear()
        assert segment.check().variables == 0 == segment.info().used and segment.info().attached == 1
        segment.destroy()


@pytest.mark.parametrize("readonly", [False, True])
def test_f2_killed_in_gets_writers_are_not_blocked_and_nothing_is_kept(key, readonly):
    values = {0: 5, 1: "x" * 40, 2: b"y" * 5000, 3: b"z" * 700_000, "t": [1] * 3000}
    with shmvar.attach(key) as segment, shmvar.attach(key, readonly=readonly) as reader:
        segment.update(values)

        def work():
            while True:
                for index in values:
                    reader.get(index)

        for number in range(60):
            pid = helpers.fork(work)
            time.sleep(random.random() * 0.004)
            segment[3] = bytes([number]) * 700_000
            helpers.kill(pid)
            with helpers.promptly():
                segment.update(values)
            assert dict(segment) == values
            if number % 5 == 0:
                segment.check()
        segment.clear()
        segment.trim()
        assert segment.check().variables == 0 and segment.info().resident < 2 << 20 and segment.info().attached == 1
        segment.destroy()


@pytest.mark.parametrize("perm", [0o600, 0o644])
def test_f4_f10_killed_in_attach_creation_detach_and_destroy(key, perm):
    before = set(os.listdir(helpers.SHM))

    def work():
        while True:
            with shmvar.attach(key, perm=perm) as segment:
                segment[1] = "whole"
                segment[2] = b"x" * 50_000
            with shmvar.attach(key, perm=perm) as segment:
                segment.destroy()

    for number in range(60):
        pids = [helpers.fork(work) for _ in range(1 + number % 2)]
        time.sleep(random.random() * 0.006)
        for pid in pids:
            helpers.kill(pid)
        with helpers.promptly():
            segment = shmvar.attach(key, perm=perm)
        with segment:
            assert segment.get(1, "whole") == "whole" and segment.get(2, b"x" * 50_000) == b"x" * 50_000
            segment[3] = number
            assert segment.info().attached == 1
            segment.check()
            if number % 3 == 0:
                segment.destroy()
    shmvar.destroy(key)
    left = {name for name in set(os.listdir(helpers.SHM)) - before if name.startswith("shmvar")}
    for name in left:
        # The only thing that a kill may leave behind: an empty lock object that no segment names.
        assert perm == 0o644 and name.startswith("shmvar-lock."), name
        status = os.stat(f"{helpers.SHM}/{name}")
        assert status.st_size == 0 or status.st_blocks == 0
        os.unlink(f"{helpers.SHM}/{name}")


@pytest.mark.slow
def test_f5_a_stopped_writer_does_not_stop_readers_and_others_put_or_are_told_its_pid(key):
    with shmvar.attach(key) as segment:

        def work():
            number = 0
            while True:
                number += 1
                segment[number % 10] = large(number, 10, 3000) if number % 5 else large(number, 50_000, 200_000)

        segment.update({n: large(n, 10, 3000) for n in range(10)})
        pid = helpers.fork(work)
        try:
            for number in range(150):
                time.sleep(random.random() * 0.004)
                os.kill(pid, signal.SIGSTOP)
                os.waitpid(pid, os.WUNTRACED)
                with helpers.promptly():
                    for index in range(10):
                        value = segment[index]
                        assert value == value[:8] * (len(value) // 8)
                began = time.monotonic()
                try:
                    segment["mine"] = number
                except shmvar.SegmentBusyError as error:
                    assert str(pid) in str(error) and 8 < time.monotonic() - began < 15
                    number = 1000
                else:
                    assert time.monotonic() - began < 6 and segment["mine"] == number
                os.kill(pid, signal.SIGCONT)
                if number == 1000:
                    break
            helpers.until(lambda: segment.put("mine", "again") is None)
            assert segment["mine"] == "again"
        finally:
            os.kill(pid, signal.SIGCONT)
            helpers.kill(pid)
        segment.check()
        segment.destroy()
