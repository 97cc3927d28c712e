"""What `lock=` of a segment of PHP's holds while a call looks into it, and which calls wait for it."""

import pickle
import threading

import helpers
import pytest
from helpers import system_v
from helpers.machine import SLOWER

import shmvar
from shmvar import php


@pytest.fixture
def segment(php_key):
    with php.attach(php_key, 50_000) as made:
        yield made


@pytest.fixture
def semaphore(php_key):
    made = php.Semaphore(php_key)
    yield made
    made.close()


@pytest.fixture
def locked(php_key, semaphore):
    with php.attach(php_key, 50_000, lock=semaphore) as made:
        yield made


def test_the_lock_is_a_semaphore_for_one(php_key, semaphore):
    with php.attach(php_key, lock=semaphore) as segment:
        assert segment.lock is semaphore
    with pytest.raises(AttributeError):
        segment.lock = None


@pytest.mark.parametrize("places", [2, 5])
def test_a_semaphore_for_several_is_refused_and_the_remedy_works(new_php_key, places):
    key = new_php_key()
    several = php.Semaphore(key, places)
    with pytest.raises(ValueError, match=rf"max_acquire.*\b{places}\b|\b{places}\b.*max_acquire"):
        php.attach(key, lock=several)
    assert not any(kind == "shm" for kind, _, _ in system_v.objects({key}))
    with php.attach(key, 300, lock=php.Semaphore(new_php_key(), max_acquire=1)) as segment:
        segment[1] = 1


def test_whoever_holds_one_of_several_places_gets_the_error_too(php_key):
    """Others gave the semaphore two places, and hold none of them, or none any more."""
    several, lock = php.Semaphore(php_key, 2), php.Semaphore(php_key)
    with php.attach(php_key) as plain:
        plain[1] = "old"
        # While the other place is taken nobody can tell.
        assert several.acquire(0)
        segment = php.attach(php_key, create=False, lock=lock)
        several.release()
        for _ in range(2):
            with lock:
                for _ in range(2):
                    with pytest.raises(ValueError, match="1 more may be held meanwhile"):
                        segment[1] = "new"
                with pytest.raises(ValueError, match="1 more may be held meanwhile"):
                    php.attach(php_key, create=False, lock=lock)
                assert lock.held == 1 and several.acquire(0)
                several.release()
        with pytest.raises(ValueError, match="1 more may be held meanwhile"):
            segment[1] = "new"
        assert plain[1] == "old" and lock.held == 0
    several.close()
    with pytest.raises(ValueError, match="1 more may be held meanwhile"):
        segment[1] = "new"
    lock.close()


def test_a_block_and_the_calls_in_it_do_not_wait_for_each_other(locked, semaphore):
    locked[1] = 0
    with semaphore:
        locked[1] += 1
        with semaphore:
            locked[1] += 1
            assert semaphore.held == 2
        locked.update({2: 2, 3: 3})
        assert locked.pop(2) == 2 and locked.setdefault(4, 4) == 4 and locked.copy() == {1: 2, 3: 3, 4: 4}
        assert dict(locked.items()) == dict(locked) and len(locked) == 3 and locked.info().count == 3
        assert semaphore.held == 1
    assert semaphore.held == 0


TOUCHING = {
    "[]": lambda s: s[1],
    "get": lambda s: s.get(1),
    "get of none": lambda s: s.get(77),
    "put": lambda s: s.put(1, 1),
    "[] =": lambda s: s.__setitem__(1, 1),
    "has": lambda s: s.has(1),
    "in": lambda s: 1 in s,
    "remove": lambda s: s.remove(1),
    "del": lambda s: s.__delitem__(1),
    "pop": lambda s: s.pop(1),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault(1, 1),
    "setdefault of none": lambda s: s.setdefault(77, 1),
    "update": lambda s: s.update({1: 1, 2: 2}),
    "clear": lambda s: s.clear(),
    "copy": lambda s: s.copy(),
    "len": lambda s: len(s),
    "iter": lambda s: list(s),
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "==": lambda s: s == {},
    "info": lambda s: s.info(),
    "raw": lambda s: s.raw(1),
    "_get_text": lambda s: s._get_text(1),
    "_put_text": lambda s: s._put_text(1, b"i:1;"),
    "attach": lambda s: php.attach(s.key, lock=s.lock),
}


@pytest.mark.parametrize("call", TOUCHING)
def test_every_call_waits_for_the_lock_and_gives_it_back(locked, call):
    locked.update({1: "x", 2: "y"})
    other = php.Semaphore(locked.key)
    done = threading.Event()

    def work():
        TOUCHING[call](locked)
        done.set()

    thread = threading.Thread(target=work)
    with other:
        thread.start()
        assert not done.wait(0.1)
    thread.join(60 * SLOWER)
    assert done.is_set() and locked.lock.held == 0
    assert other.acquire(0) is True
    other.release()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: repr(s),
        lambda s: (s.key, s.id, s.size, s.created, s.detached, s.lock, s.strings, s.arrays),
        lambda s: php.attach(s.key, lock=s.lock, create=False),
        lambda s: pickle.dumps(s),
        lambda s: s.destroy(),
        lambda s: s.detach(),
    ],
)
def test_what_does_not_look_at_the_variables_does_not_wait(locked, call):
    other = php.Semaphore(locked.key)
    with other:
        thread = threading.Thread(target=call, args=(locked,))
        thread.start()
        thread.join(60 * SLOWER)
        assert not thread.is_alive()


FAILING = {
    "a missing index": (KeyError, lambda s: s[77]),
    "a removal of what is missing": (KeyError, lambda s: s.remove(77)),
    "a value too large": (shmvar.SegmentFullError, lambda s: s.put(1, "x" * 100_000)),
    "a damaged text": (shmvar.CorruptSegmentError, lambda s: s[3]),
    "a damaged text that is to go": (shmvar.CorruptSegmentError, lambda s: s.pop(3)),
    "a damaged text in a copy": (shmvar.CorruptSegmentError, lambda s: s.copy()),
    "an update too large": (shmvar.SegmentFullError, lambda s: s.update({1: "x" * 60_000, 2: 2})),
    "a value that PHP cannot hold": (php.SerializeError, lambda s: s.put(1, object())),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_call_that_fails_gives_the_lock_back(locked, what):
    locked[1] = 1
    locked._put_text(3, b"x:1;")
    error, call = FAILING[what]
    with pytest.raises(error):
        call(locked)
    assert locked.lock.held == 0 and locked[1] == 1 and locked.raw(3) == b"x:1;"
    assert php.Semaphore(locked.key).acquire(0) is True


def test_a_value_is_serialized_before_the_lock_is_taken(locked, php_key):
    held = []

    class Looks(dict):
        def items(self):
            held.append(locked.lock.held)
            return super().items()

    class Number:
        def __index__(self):
            held.append(locked.lock.held)
            return 1

    locked[Number()] = {"a": 1}
    locked.update(Looks({2: 2}))
    assert held and set(held) == {0}


def test_nobody_comes_between_the_steps_of_one_call(locked):
    """Each thread takes what another one has put; nothing is taken twice, nothing is lost."""
    taken, total = [], 600
    stop = threading.Event()

    def take():
        while True:
            ended = stop.is_set()
            try:
                taken.append(locked.popitem()[1])
            except KeyError:
                if ended:
                    return

    def default(results, number):
        for index in range(1000, 1050):
            results.append((index, locked.setdefault(index, number)))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(total):
        locked[number] = number
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(total)) and locked == {}

    lists = [[] for _ in range(3)]
    threads = [threading.Thread(target=default, args=(each, number)) for number, each in enumerate(lists)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lists[0]) == sorted(lists[1]) == sorted(lists[2]) and dict(lists[0]) == locked


def test_a_counter_of_threads_and_processes_loses_nothing(locked, children):
    locked[1] = 0
    code = """
        from shmvar import php
        s = php.attach(int(key), lock=php.Semaphore(int(key)))
        for _ in range(500):
            with s.lock:
                s[1] += 1
        """

    def work():
        for _ in range(500):
            with locked.lock:
                locked[1] += 1

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    helpers.run_in_processes(code, locked.key, count=2)
    for thread in threads:
        thread.join()
    assert locked[1] == 2000


def test_a_lock_that_was_removed_is_an_error_and_no_wait(locked):
    locked[1] = 1
    locked.lock.remove()
    for call in (lambda: locked[1], lambda: locked.put(1, 2), lambda: len(locked)):
        with pytest.raises(shmvar.Error, match=f"0x{locked.key:08x}"):
            call()
    assert php.attach(locked.key) == {1: 1}
