"""SIGKILL under PHP's semaphore: the semaphore comes free, and what Python was writing is whole, old or new."""

import contextlib
import mmap
import os
import random
import signal
import time

import helpers
import pytest
from helpers import php as php_programs
from helpers import system_v

import shmvar
from shmvar import php

pytestmark = [helpers.needs_php, pytest.mark.slow]

KILLS = 120


def text(index, number):
    """What variable `index` holds after `number` changes: its length changes in every way."""
    sizes = (3, 3, 3, 9, 9, 40, 5, 80, 80)
    return f"{index}:{number};" * sizes[number * 7 % len(sizes)]


def is_whole(found):
    token = found[: found.index(";") + 1]
    index, number = map(int, token[:-1].split(":"))
    return found == text(index, number) and (index, number)


class Killed:
    """Forked children that change ten variables, each in a known order, and are killed on the way."""

    def __init__(self, key, size, lock, fresh):
        self.key, self.lock, self.fresh = key, lock, fresh
        self.segment = php.attach(key, size, lock=lock)
        self.page = memoryview(mmap.mmap(-1, 4096)).cast("Q")  # word 0: begun; word 1 + i: changes done at index i
        self.draw = random.Random(int.from_bytes(os.urandom(4)))
        self.newer = 0
        for index in range(10):
            self.segment[index] = text(index, 0)

    def work(self):
        segment, lock, draw, page = self.segment, self.lock, random.Random(), self.page
        if self.fresh:  # as a program that was started, not forked
            lock = php.Semaphore(self.key) if lock is not None else None
            segment = php.attach(self.key, lock=lock)
        page[0] = 1
        while True:
            index = draw.randrange(10)
            number = page[1 + index] + 1
            segment.put(index, text(index, number))
            page[1 + index] = number

    def kill_one(self):
        self.page[0] = 0
        pid = helpers.fork(self.work)
        try:
            helpers.until(lambda: self.page[0], what="the child's beginning")
            time.sleep(self.draw.random() * 0.01)
        finally:
            helpers.kill(pid)

    def check(self, in_php, raw):
        """Old or new, all ten; and at most one is newer than what was noted. Returns how many PHP did not find.

        Between two stores of a replacement the index is missing, until Python changes something again.
        """
        if self.lock is not None:
            assert self.lock.acquire(timeout=60), "the semaphore did not come free"
        try:
            assert system_v.newer_php_accepts(raw), raw.header
            missing = set(range(10)) - raw.texts().keys()
            assert len(missing) <= 1 and missing <= raw.prepared().keys(), (missing, raw.all_chunks())
            self.segment[99] = "a change"
            assert not raw.prepared()
            for index in range(10):
                value = in_php("return shm_get_var($s, $a[0]);", index)
                assert value == self.segment[index]
                at, number = is_whole(value)
                assert at == index and number - self.page[1 + index] in (0, 1)
                self.newer += number - self.page[1 + index]
                self.page[1 + index] = number
            assert self.newer <= 1
            self.newer = 0
            return len(missing)
        finally:
            if self.lock is not None:
                self.lock.release()


@pytest.mark.parametrize("fresh", [True, False], ids=["a handle of its own", "a handle from before the fork"])
@pytest.mark.parametrize("lock", [True, False], ids=["with lock=", "without"])
@pytest.mark.parametrize("size", [100_000, 12_000], ids=["much room", "little room"])
def test_after_a_kill_of_python_each_variable_is_old_or_new(php_key, in_php, lock, fresh, size):
    lock = php.Semaphore(php_key) if lock else None
    killed = Killed(php_key, size, lock, fresh)
    in_php("$s = shm_attach($a[0]); $sem = sem_get($a[0]);", php_key)
    with system_v.RawSegment(php_key) as raw:
        missing = 0
        for number in range(KILLS):
            killed.kill_one()
            missing += killed.check(in_php, raw)
            if number % 3 == 0:  # PHP goes on in what the kill left
                index = number % 10
                in_php("sem_acquire($sem); shm_put_var($s, $a[0], $a[1]); sem_release($sem);", index, "php")
                killed.segment[index] = text(index, killed.page[1 + index])
        print(f"PHP missed a variable after {missing} of {KILLS} kills")
        assert dict(killed.segment).keys() == {*range(10), 99} == raw.texts().keys()
    killed.segment.detach()
    if lock is not None:
        lock.close()


def test_without_room_for_old_and_new_a_kill_costs_at_most_two_variables(php_key, in_php):
    """Where two values do not fit beside each other, the one that is put may be lost, and one that is moved over itself
    may have an empty text. None has a wrong value, and the others are whole."""
    size = 40 + 10 * system_v.own_size(b"x" * 120) + 600

    def work(segment, page):
        draw = random.Random()
        page[0] = 1
        while True:
            index = draw.randrange(10)
            length = draw.choice([30, 60, 100, 250, 400, 600])
            with contextlib.suppress(shmvar.SegmentFullError):
                segment[index] = f"{index}" * length

    page = memoryview(mmap.mmap(-1, 4096)).cast("Q")
    draw = random.Random(int.from_bytes(os.urandom(4)))
    in_php("$s = shm_attach($a[0], $a[1]);", php_key, size)
    with php.attach(php_key) as segment, system_v.RawSegment(php_key) as raw:
        segment.update({index: f"{index}" * 40 for index in range(10)})
        lost = 0
        for _ in range(2 * KILLS):
            page[0] = 0
            pid = helpers.fork(work, segment, page)
            try:
                helpers.until(lambda: page[0], what="the child's beginning")
                time.sleep(draw.random() * 0.005)
            finally:
                helpers.kill(pid)
            assert system_v.newer_php_accepts(raw), raw.header
            with contextlib.suppress(shmvar.SegmentFullError):
                segment[99] = None  # a change that succeeds ends what was begun
                del segment[99]
            gone = []
            for index in range(10):
                try:
                    found = segment[index]
                except (KeyError, shmvar.CorruptSegmentError):
                    gone.append(index)
                    assert in_php.warned("return shm_get_var($s, $a[0]);", index)[0] is False
                else:
                    assert found == f"{index}" * len(found) == in_php("return shm_get_var($s, $a[0]);", index)
            assert len(gone) <= 2  # the one that was put, and one that was being moved over itself
            lost += len(gone)
            for index in gone:
                segment[index] = f"{index}" * 10
            assert sorted(segment) == list(range(10))
    print(f"{lost} variables were lost in {2 * KILLS} kills without room")


PHP_WORKS = r"""
[, $key] = $argv;
$sem = sem_get((int)$key);
$s = shm_attach((int)$key);
echo "go\n";
while (true) {
    sem_acquire($sem);
    $n = mt_rand(0, 9);
    @shm_put_var($s, $n, str_repeat("$n;", mt_rand(1, 400)));
    sem_release($sem);
}
"""

PYTHON_WORKS = """
import random
import signal
from shmvar import php
semaphore = php.Semaphore(int(key))
segment = php.attach(int(key), lock=semaphore)
print("go", flush=True)
while True:
    with semaphore:
        n = random.randrange(10)
        segment[n] = f"{n};" * random.randrange(1, 400)
"""


@pytest.mark.parametrize("victim", ["php", "python", "both"])
def test_the_semaphore_comes_free_when_its_holder_is_killed(php_key, in_php, children, victim):
    """PHP leaves damage behind when it is killed in a put. That is told, never returned as a value of another kind."""
    draw = random.Random(int.from_bytes(os.urandom(4)))
    semaphore = php.Semaphore(php_key)
    segment = php.attach(php_key, 16_000, lock=semaphore)
    damaged = 0
    for number in range(KILLS // 4):
        kinds = {"php": [True], "python": [False], "both": [True, False]}[victim]
        each = [
            (php_programs.start if is_php else helpers.start)([PYTHON_WORKS, PHP_WORKS][is_php], php_key)
            for is_php in kinds
        ]
        children.extend(each)
        time.sleep(draw.random() * 0.03)
        for child in draw.sample(each, len(each)):
            child.kill()
            child.wait()
            helpers.end(child)
            children.remove(child)
        assert semaphore.acquire(timeout=60), f"kill {number}: the semaphore did not come free"
        semaphore.release()
        assert in_php("$sem = sem_get($a[0]); return sem_acquire($sem) && sem_release($sem);", php_key)
        try:
            for index, value in segment.items():
                assert victim != "python" or index == 99 or value == f"{index};" * (len(value) // 2)
            segment[99] = number
            assert segment[99] == number
        except (shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError, KeyError, shmvar.SegmentFullError):
            assert victim != "python"
            damaged += 1
            segment.destroy()
            segment.detach()
            segment = php.attach(php_key, 16_000, lock=semaphore)
    segment.detach()
    semaphore.close()
    print(f"{damaged} of {KILLS // 4} kills left damage")


def test_a_process_that_is_stopped_at_any_moment_shows_phps_newer_check_a_sound_header(php_key):
    """The newer PHP refuses to attach where `free` is larger than what is left: it never is, not even for a moment."""
    killed = Killed(php_key, 12_000, None, True)
    killed.page[0] = 0
    pid = helpers.fork(killed.work)
    try:
        helpers.until(lambda: killed.page[0], what="the child's beginning")
        with system_v.RawSegment(php_key) as raw:
            for _ in range(400):
                os.kill(pid, signal.SIGSTOP)
                os.waitpid(pid, os.WUNTRACED)
                assert system_v.newer_php_accepts(raw), raw.header
                found, prepared = raw.texts(), raw.prepared()
                for index in range(10):
                    assert is_whole(php.loads(found.get(index) or prepared[index]))[0] == index
                os.kill(pid, signal.SIGCONT)
                time.sleep(killed.draw.random() * 0.002)
    finally:
        helpers.end(pid)
    killed.segment.detach()
