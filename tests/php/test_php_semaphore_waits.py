"""PHP's semaphores: waiting, what ends it, and forks."""

import multiprocessing
import os
import select
import signal
import threading
import time

import helpers
import pytest
from helpers import php as real_php
from helpers import php_semaphores, programs
from helpers.waiting import until

import shmvar
from shmvar import php


@pytest.fixture
def taken(php_key):
    """A semaphore that another handle holds, and that handle."""
    holder, semaphore = php.Semaphore(php_key), php.Semaphore(php_key)
    holder.acquire()
    return semaphore, holder


def test_a_timeout_ends_the_wait(taken):
    semaphore, _ = taken
    began = time.monotonic()
    assert semaphore.acquire(0.2) is False
    assert time.monotonic() - began >= 0.2 and semaphore.held == 0


def test_other_threads_run_while_one_waits_and_it_gets_in_at_last(taken):
    semaphore, holder = taken
    got = []
    waiter = threading.Thread(target=lambda: got.append((semaphore.acquire(), semaphore.held, semaphore.release())))
    waiter.start()
    ran = 0
    for _ in range(20):
        time.sleep(0.005)
        ran += 1
    assert ran == 20 and not got
    holder.release()
    waiter.join(30)
    assert got == [(True, 1, None)]


def test_threads_of_a_process_exclude_each_other(php_key):
    semaphore, inside, counted = php.Semaphore(php_key), [], []

    def work():
        for _ in range(300):
            with semaphore:
                inside.append(1)
                assert len(inside) == 1
                time.sleep(0)
                inside.pop()
            counted.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(counted) == 1200 and php_semaphores.values(semaphore.id) == (1, 1, 0)


@helpers.needs_php
def test_python_waits_for_php_and_php_for_python(taken, in_php):
    semaphore, holder = taken
    holder.close()
    in_php("$s = sem_get($a[0]); sem_acquire($s);", semaphore.key)
    in_php.send("usleep(100000); return sem_release($s);")
    assert semaphore.acquire(60)
    in_php.receive()
    in_php.send("return sem_acquire($s);")
    time.sleep(0.1)
    semaphore.release()
    assert in_php.receive() == (True, [])


@helpers.needs_php
@pytest.mark.parametrize("who", ["python", "php"])
def test_a_removal_ends_every_wait_with_an_error_that_says_so(taken, in_php, who):
    semaphore, holder = taken
    errors = []

    def wait():
        with pytest.raises(shmvar.SegmentNotFoundError) as caught:
            semaphore.acquire()
        errors.append(str(caught.value))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    if who == "python":
        holder.remove()
        holder.release()  # whoever removed it knows
    else:
        in_php("sem_remove(sem_get($a[0]));", semaphore.key)
        with pytest.raises(shmvar.SegmentNotFoundError, match="cannot release it: it was removed"):
            holder.release()
    for thread in threads:
        thread.join(30)
    assert len(errors) == 3 and all(f"key {semaphore.key} " in text and "removed meanwhile" in text for text in errors)
    assert holder.held == 0
    for handle in (semaphore, holder):
        with pytest.raises(shmvar.SegmentNotFoundError):
            handle.acquire(0)
        handle.close()


def test_a_close_ends_the_waits_of_that_handle_within_a_slice(taken):
    semaphore, holder = taken
    errors = []

    def wait():
        with pytest.raises(shmvar.DetachedError):
            semaphore.acquire()
        errors.append(1)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    semaphore.close()
    # It may still take a place, so it is still counted: otherwise whoever came next would set the places anew.
    assert php_semaphores.values(holder.id) == (0, 2, 0)
    thread.join(30)
    assert errors and php_semaphores.values(holder.id) == (0, 1, 0)


INTERRUPTED = """
    from shmvar import php
    semaphore = php.Semaphore(int(key))
    def handler(*_):
        print("handler", flush=True)
        if sys.argv[2] == "raises":
            raise KeyError("from the handler")
    if sys.argv[2] != "default":
        signal.signal(signal.SIGINT, handler)
    timeout = float(sys.argv[3]) if len(sys.argv) > 3 else None
    print("waiting", flush=True)
    try:
        print(semaphore.acquire(timeout), semaphore.held, flush=True)
    except BaseException as error:
        print(type(error).__name__, semaphore.held, flush=True)
"""


def interrupt(child, times=1):
    time.sleep(0.2)
    for _ in range(times):
        child.send_signal(signal.SIGINT)
        time.sleep(0.05)


def test_ctrl_c_ends_the_wait_and_nothing_is_held(taken):
    semaphore, holder = taken
    child = programs.start(INTERRUPTED, semaphore.key, "default")
    interrupt(child)
    assert child.communicate(timeout=60)[0] == "KeyboardInterrupt 0\n"
    holder.release()
    assert php_semaphores.values(semaphore.id) == (1, 2, 0)


def test_what_a_handler_raises_ends_the_wait(taken):
    semaphore, _ = taken
    child = programs.start(INTERRUPTED, semaphore.key, "raises")
    interrupt(child)
    assert child.communicate(timeout=60)[0] == "handler\nKeyError 0\n"
    assert php_semaphores.values(semaphore.id) == (0, 2, 0)


def test_a_handler_that_returns_lets_the_wait_go_on(taken):
    semaphore, holder = taken
    child = programs.start(INTERRUPTED, semaphore.key, "returns")
    interrupt(child, times=3)
    holder.release()
    assert child.communicate(timeout=60)[0] == "handler\nhandler\nhandler\nTrue 1\n"


def test_signals_do_not_make_a_timeout_longer(taken):
    semaphore, _ = taken
    child = programs.start(INTERRUPTED, semaphore.key, "returns", 1.0)
    began = time.monotonic()
    interrupt(child, times=10)
    said = child.communicate(timeout=60)[0]
    assert said.count("handler") == 10 and said.endswith("False 0\n")
    assert time.monotonic() - began < 30


def test_a_handler_may_use_the_semaphore_that_the_call_waits_for(taken):
    semaphore, holder = taken
    code = """
        from shmvar import php
        semaphore = php.Semaphore(int(key))
        def handler(*_):
            print(semaphore.acquire(), flush=True)
        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        print("waiting", flush=True)
        print(semaphore.acquire(), semaphore.held, flush=True)
    """
    child = programs.start(code, semaphore.key)
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    time.sleep(0.2)
    holder.release()
    assert child.communicate(timeout=60)[0] == "True\nTrue 2\n"


def test_somebody_who_is_stopped_while_opening_is_named(php_key):
    """It takes ten seconds, as the document says."""
    identity = php_semaphores.get(php_key)
    reader, writer = os.pipe()

    def stop():
        php_semaphores.enter(identity)
        os.write(writer, b"x")
        time.sleep(300)

    child = helpers.fork(stop)
    try:
        os.read(reader, 1)
        with pytest.raises(shmvar.SegmentBusyError, match=f"{php_key} .*process {child} has been opening it for 10 s"):
            php.Semaphore(php_key)
    finally:
        helpers.kill(child)
    assert php.Semaphore(php_key).acquire(0)


# --- forks


def test_a_forked_child_holds_nothing_and_opens_the_handle_itself(php_key):
    semaphore = php.Semaphore(php_key)
    semaphore.acquire()

    def child():
        assert semaphore.held == 0 and semaphore.acquire(0) is False
        assert php_semaphores.values(semaphore.id) == (0, 2, 0)
        with pytest.raises(RuntimeError):
            semaphore.release()

    helpers.in_child(child)
    assert php_semaphores.values(semaphore.id) == (0, 1, 0) and semaphore.held == 1
    semaphore.release()

    def child_takes_it():
        assert semaphore.acquire(0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert helpers.reap(helpers.fork(child_takes_it)) == -signal.SIGKILL
    assert php_semaphores.values(semaphore.id) == (1, 1, 0)


def test_what_a_child_holds_stays_held_when_the_parent_is_done(php_key):
    semaphore, (reader, writer) = php.Semaphore(php_key), os.pipe()

    def child():
        semaphore.acquire()
        os.write(writer, b"x")
        time.sleep(0.5)
        assert php_semaphores.values(semaphore.id) == (0, 1, 0)

    pid = helpers.fork(child)
    os.read(reader, 1)
    semaphore.close()
    # The child is counted for itself, so nobody sets the places anew.
    other = php.Semaphore(php_key)
    assert not other.acquire(0)
    other.close()
    assert helpers.reap(pid) == 0


def test_a_child_of_a_process_in_whose_thread_a_call_waits_is_free(taken):
    semaphore, holder = taken
    waiter = threading.Thread(target=semaphore.acquire)
    waiter.start()
    time.sleep(0.05)

    def child():
        assert semaphore.acquire(0) is False
        assert semaphore.held == 0

    helpers.in_child(child)
    holder.release()
    waiter.join(30)
    assert php_semaphores.values(semaphore.id) == (0, 2, 0)


def test_a_child_gets_an_error_if_the_semaphore_is_gone(php_key):
    semaphore = php.Semaphore(php_key)
    semaphore.remove()

    def child():
        with pytest.raises(shmvar.SegmentNotFoundError):
            semaphore.acquire(0)

    helpers.in_child(child)


@helpers.needs_php
@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_nobody_gets_in_while_children_of_the_holder_end(php_key, how):
    """PHP's own forked children let others in for a moment: 200 times of 200."""
    code = """
        import gc, multiprocessing
        from shmvar import php
        semaphore = php.Semaphore(int(key))
        semaphore.acquire()
        print("held", flush=True)
        input()
        def job():
            semaphore.held
        for turn in range(200):
            if sys.argv[2] == "os.fork":
                pid = os.fork()
                if pid == 0:
                    if turn % 4 == 1:
                        del semaphore
                        gc.collect()
                    elif turn % 4 == 2:
                        semaphore.close()
                    elif turn % 4 == 3:
                        semaphore.acquire(0)
                    sys.exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            else:
                process = multiprocessing.get_context("fork").Process(target=job)
                process.start()
                process.join()
                assert process.exitcode == 0
        print("forked", flush=True)
        input()
        semaphore.release()
        input()
    """
    child = programs.start(code, php_key, how)
    waiter = real_php.start(
        '$s = sem_get($argv[1]); echo "waits\\n"; sem_acquire($s); echo "in\\n"; fgets(STDIN); sem_release($s);',
        php_key,
    )
    try:
        tries = php.Semaphore(php_key)
        child.stdin.write("\n")
        child.stdin.flush()
        forked, looks = threading.Event(), 0
        reader = threading.Thread(target=lambda: (child.stdout.readline(), forked.set()))
        reader.start()
        while not forked.is_set():
            assert not tries.acquire(0.001)
            looks += 1
        reader.join()
        assert looks > 0 and not select_ready(waiter.stdout)
        child.stdin.write("\n")
        child.stdin.flush()
        assert waiter.stdout.readline() == "in\n"
        child.communicate("\n", timeout=60)
        assert child.returncode == 0
        waiter.communicate("\n", timeout=60)
        assert php_semaphores.values(tries.id) == (1, 1, 0)
    finally:
        child.kill()
        waiter.kill()
        waiter.wait()
        child.wait()


def select_ready(file):
    return bool(select.select([file], [], [], 0)[0])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_share_it(php_key, tmp_path, method):
    path = tmp_path / "count"
    path.write_text("0")
    context, semaphore = multiprocessing.get_context(method), php.Semaphore(php_key)
    children = [context.Process(target=php_semaphores.add_under, args=(semaphore, path, 200)) for _ in range(3)]
    for child in children:
        child.start()
    php_semaphores.add_under(semaphore, path, 200)
    for child in children:
        child.join(200)
    assert [child.exitcode for child in children] == [0] * 3 and path.read_text() == "800"
    assert php_semaphores.values(semaphore.id) == (1, 1, 0)


@helpers.needs_php
def test_no_update_is_lost_between_php_and_python(php_key, tmp_path):
    path, times = tmp_path / "count", 2000
    path.write_text("0")
    code = """
        $s = sem_get($argv[1]);
        echo "ready\n";
        fgets(STDIN);
        for ($i = 0; $i < $argv[3]; $i++) {
            sem_acquire($s);
            $f = fopen($argv[2], "r+");
            $n = (int)fread($f, 20);
            rewind($f);
            fwrite($f, (string)($n + 1));
            fclose($f);
            sem_release($s);
        }
    """
    sides = [real_php.start(code.replace("\\n", "\\\\n"), php_key, path, times) for _ in range(2)]
    semaphore = php.Semaphore(php_key)
    thread = threading.Thread(target=php_semaphores.add_under, args=(semaphore, path, times))
    for side in sides:
        side.stdin.write("\n")
        side.stdin.flush()
    thread.start()
    php_semaphores.add_under(semaphore, path, times)
    thread.join(200)
    for side in sides:
        side.communicate(timeout=200)
        assert side.returncode == 0
    assert path.read_text() == str(4 * times)
    assert php_semaphores.values(semaphore.id) == (1, 1, 0)


def test_a_wait_ends_when_the_holder_is_killed(php_key):
    semaphore, (reader, writer) = php.Semaphore(php_key), os.pipe()

    def hold():
        with php.Semaphore(php_key):
            os.write(writer, b"x")
            time.sleep(300)

    child = helpers.fork(hold)
    os.read(reader, 1)
    assert not semaphore.acquire(0)
    got = []
    waiter = threading.Thread(target=lambda: got.append(semaphore.acquire(60)))
    waiter.start()
    time.sleep(0.05)
    helpers.kill(child)
    waiter.join(60)
    assert got == [True]
    until(lambda: php_semaphores.values(semaphore.id) == (0, 1, 0))
