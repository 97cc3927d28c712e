"""PHP's semaphores: who holds one, in Python and in PHP, and who gives it back."""

import copy
import gc
import os
import pickle
import threading

import helpers
import pytest
from helpers import php_semaphores, programs

import shmvar
from shmvar import php

IN_PHP = "$s = sem_get($a[0]); return sem_acquire($s, true) && sem_release($s);"


def in_thread(function, *args):
    """What a function returns in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_holds_it_as_often_as_it_acquired_it_and_others_do_not(php_key):
    semaphore = php.Semaphore(php_key)
    assert semaphore.key == php_key and semaphore.max_acquire == 1 and semaphore.held == 0
    assert semaphore.acquire() is True and semaphore.acquire(0) is True and semaphore.held == 2
    with semaphore as entered:
        assert entered is semaphore and semaphore.held == 3
        assert in_thread(lambda: (semaphore.held, semaphore.acquire(0), semaphore.acquire(0.01))) == (0, False, False)
    semaphore.release()
    assert not in_thread(semaphore.acquire, 0)
    semaphore.release()
    assert semaphore.held == 0 and php_semaphores.values(semaphore.id) == (1, 1, 0)
    assert in_thread(lambda: (semaphore.acquire(0), semaphore.release())) == (True, None)


def test_whoever_does_not_hold_it_cannot_release_it(php_key):
    semaphore = php.Semaphore(php_key)
    with pytest.raises(RuntimeError, match=rf"{php_key} .*not acquired it through this handle \(0 other threads"):
        semaphore.release()
    with semaphore:

        def release():
            with pytest.raises(RuntimeError, match=r"\(1 other threads of this process have\)"):
                semaphore.release()

        in_thread(release)
        assert semaphore.held == 1
    assert php_semaphores.values(semaphore.id) == (1, 1, 0)


def test_a_second_handle_is_somebody_else(php_key):
    one, two = php.Semaphore(php_key), php.Semaphore(php_key)
    assert one.id == two.id and php_semaphores.values(one.id) == (1, 2, 0)
    with one:
        assert not two.acquire(0) and two.held == 0
    with two:
        assert not one.acquire(0)


@helpers.needs_php
def test_php_and_python_keep_each_other_out(php_key, in_php):
    semaphore = php.Semaphore(php_key)
    with semaphore:
        assert in_php("$s = sem_get($a[0]); return sem_acquire($s, true);", php_key) is False
    assert in_php("return sem_acquire($s, true);") is True
    assert semaphore.acquire(0) is False and semaphore.acquire(0.02) is False
    in_php("return sem_release($s);")
    assert semaphore.acquire(0)
    # PHP opens another handle while Python holds the semaphore: the places stay what they are.
    assert in_php("unset($s);") is None
    assert in_php(IN_PHP, php_key) is False
    semaphore.release()
    assert in_php(IN_PHP, php_key) is True


@helpers.needs_php
@pytest.mark.parametrize("python_first", [True, False])
def test_whoever_opens_it_first_says_how_many_may_hold_it(php_key, in_php, python_first):
    if python_first:
        semaphore = php.Semaphore(php_key, 2)
        in_php("$one = sem_get($a[0], 1); $two = sem_get($a[0], 7);", php_key)
    else:
        in_php("$one = sem_get($a[0], 2); $two = sem_get($a[0], 7);", php_key)
        semaphore = php.Semaphore(php_key, 1)
    assert php_semaphores.values(semaphore.id) == (2, 3, 0)
    with semaphore:
        assert in_php("return [sem_acquire($one, true), sem_acquire($two, true)];") == [True, False]
        in_php("unset($one);")
        assert in_php("return sem_acquire($two, true);") is True
    assert semaphore.acquire(0)
    semaphore.close()
    # PHP has released the place that `$one` held; the one of `$two` is left.
    assert php_semaphores.values(semaphore.id) == (1, 1, 0)


@helpers.needs_php
def test_several_may_hold_it_if_that_was_asked_for(php_key, in_php):
    semaphore = php.Semaphore(php_key, 3)
    with semaphore:
        assert in_thread(semaphore.acquire, 0)
        assert in_php("$s = sem_get($a[0], 3); return [sem_acquire($s, true), sem_acquire($s, true)];", php_key) == [
            True,
            False,
        ]
    identity = semaphore.id
    semaphore.close()
    assert php_semaphores.values(identity) == (1, 2, 0)
    del semaphore  # nobody can release the place of the thread that has ended
    gc.collect()
    assert php_semaphores.values(identity) == (2, 1, 0)


def test_what_other_threads_hold_through_a_handle_stays_theirs_when_it_is_closed(php_key):
    semaphore, held, closed = php.Semaphore(php_key, 2), threading.Event(), threading.Event()
    values = []

    def hold():
        with semaphore:
            held.set()
            closed.wait(60)
            values.append(php_semaphores.values(semaphore.id))
        values.append(php_semaphores.values(semaphore.id))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    semaphore.acquire()
    semaphore.close()
    closed.set()
    thread.join(60)
    assert values == [(1, 1, 0), (2, 0, 0)]
    with pytest.raises(shmvar.DetachedError):
        semaphore.release()


@helpers.needs_php
def test_a_handle_that_goes_gives_back_what_it_holds(php_key, in_php):
    in_php("$s = sem_get($a[0]);", php_key)
    semaphore = php.Semaphore(php_key)
    identity = semaphore.id
    semaphore.acquire()
    semaphore.acquire()
    assert php_semaphores.values(identity) == (0, 2, 0)
    del semaphore
    gc.collect()
    assert php_semaphores.values(identity) == (1, 1, 0)
    semaphore = php.Semaphore(php_key)
    semaphore.acquire()
    semaphore.close()
    semaphore.close()
    assert php_semaphores.values(identity) == (1, 1, 0) and semaphore.closed
    for call in (semaphore.acquire, semaphore.release, semaphore.remove, semaphore.__enter__, semaphore.__reduce__):
        with pytest.raises(shmvar.DetachedError, match=f"{php_key} .*closed"):
            call()


def test_php_opens_what_python_has_closed_and_the_other_way_round(php_key):
    semaphore = php.Semaphore(php_key, 4)
    identity = semaphore.id
    semaphore.close()
    assert php_semaphores.values(identity) == (4, 0, 0)
    # The last one is gone: the next one decides anew.
    semaphore = php.Semaphore(php_key, 1)
    assert semaphore.id == identity and php_semaphores.values(identity) == (1, 1, 0)


@pytest.mark.parametrize("how", ["exit", "kill", "exception", "thread"])
def test_a_process_that_ends_gives_back_what_it_held(php_key, how):
    semaphore = php.Semaphore(php_key)
    code = """
        import threading
        from shmvar import php
        semaphore = php.Semaphore(int(key))
        take = lambda: [semaphore.acquire() for _ in range(3)]
        if sys.argv[2] == "thread":
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
        else:
            take()
        keep = [semaphore]
        keep.append(keep)
        print("held", flush=True)
        input()
        if sys.argv[2] == "exception":
            raise SystemExit(3)
        if sys.argv[2] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    """
    child = programs.start(code, php_key, how)
    assert php_semaphores.values(semaphore.id) == (0, 2, 0) and not semaphore.acquire(0)
    child.communicate("\n", timeout=60)
    assert php_semaphores.values(semaphore.id) == (1, 1, 0)
    assert semaphore.acquire(0)


@helpers.needs_php
def test_php_that_is_killed_gives_back_what_it_held(php_key, new_php):
    semaphore, other = php.Semaphore(php_key), new_php()
    assert other("$s = sem_get($a[0]); return sem_acquire($s);", php_key) is True
    assert not semaphore.acquire(0)
    other.kill()
    assert semaphore.acquire(0) and php_semaphores.values(semaphore.id) == (0, 1, 0)


@helpers.needs_php
def test_the_functions_do_what_those_of_php_do(php_key, in_php):
    semaphore = php.sem_get(php_key, 1, 0o600, True)
    assert type(semaphore) is php.Semaphore
    assert php.sem_acquire(semaphore) is True and php.sem_acquire(semaphore, True) is True
    assert php.sem_release(semaphore) is True and php.sem_release(semaphore) is True
    with pytest.raises(RuntimeError):
        php.sem_release(semaphore)
    in_php("$s = sem_get($a[0], 1, 0600); sem_acquire($s);", php_key)
    assert php.sem_acquire(semaphore, non_blocking=True) is False
    assert php.sem_remove(semaphore) is True
    with pytest.raises(shmvar.SegmentNotFoundError):
        php.sem_remove(semaphore)
    kept = php.sem_get(php_key, auto_release=False)
    identity = kept.id
    kept.acquire()
    del kept
    gc.collect()
    assert php_semaphores.values(identity) == (0, 1, 0)
    for wrong in (None, 5, "x"):
        with pytest.raises(TypeError):
            php.sem_acquire(wrong)


def test_a_pickled_handle_opens_the_semaphore_again(php_key):
    semaphore = php.Semaphore(php_key, 2, 0o640)
    again = pickle.loads(pickle.dumps(semaphore))
    assert (again.key, again.id, again.max_acquire) == (semaphore.key, semaphore.id, 2)
    with semaphore:
        assert again.held == 0 and copy.copy(semaphore).held == 0
    gc.collect()
    assert php_semaphores.values(semaphore.id) == (2, 2, 0)


@helpers.needs_php
def test_a_set_of_four_semaphores_is_taken_as_php_takes_it(php_key, in_php):
    php_semaphores.get(php_key, 4)
    semaphore = php.Semaphore(php_key)
    with semaphore:
        assert in_php(IN_PHP, php_key) is False
    assert in_php(IN_PHP, php_key) is True


def test_a_thread_that_would_wait_for_itself_is_told(php_key):
    first, second = php.sem_get(php_key), php.sem_get(php_key)
    with first:
        with pytest.raises(RuntimeError, match=rf"key {php_key} .*through another handle.*with segment.lock:"):
            second.acquire()
        assert second.acquire(0.01) is False
        with pytest.raises(RuntimeError, match="through another handle"):
            php.attach(php_key, lock=second)
        with pytest.raises(shmvar.SegmentNotFoundError):
            php.attach(php_key, create=False)
        assert second.acquire(0) is False and second.held == 0
        # Another thread waits, and gets it when it is free.
        assert in_thread(second.acquire, 0.01) is False
    with php.attach(php_key, lock=second) as segment, segment.lock:
        segment[1] = 2
        assert segment[1] == 2
        segment.destroy()
    assert second.acquire(0) and not first.acquire(0)
    second.close()
    assert first.acquire()


def test_of_more_places_it_may_hold_all_but_not_wait_for_one_of_them(php_key):
    handles = [php.Semaphore(php_key, 2) for _ in range(3)]
    assert handles[0].acquire() and handles[1].acquire()
    with pytest.raises(RuntimeError, match="all 2 places"):
        handles[2].acquire()
    handles[0].release()
    assert in_thread(lambda: handles[0].acquire())
    assert not handles[2].acquire(0.01)  # another thread holds one, and may give it back


def test_a_forked_child_holds_nothing_of_what_its_parent_holds(php_key):
    first, second = php.Semaphore(php_key), php.Semaphore(php_key)
    with first:
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if second.acquire(0.01) is False else 1)
            except BaseException:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
