"""The examples do what they say, as programs of their own."""

import multiprocessing
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers
import pytest

import shmvar

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name, *words, timeout=100):
    """Runs an example, which must succeed; returns what it printed."""
    program = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def terminal(key, children):
    """Starts a command of the queue, as somebody in a terminal would."""

    def start(*words):
        program = [sys.executable, str(EXAMPLES / "work_queue.py"), *map(str, words), "--key", key]
        # A process whose output is not read blocks: none is done before the test has looked.
        children.append(subprocess.Popen(program, stdout=subprocess.PIPE, text=True, pipesize=4096))
        return children[-1]

    return start


def items(queue):
    return [queue[number] for number in range(1, queue.get("tail", 0) + 1)]


def test_the_queue_shows_itself_and_each_item_is_done_once_though_processes_are_killed():
    said = example("work_queue.py", "--items", 60, "--kills", 10)
    assert "items: 60; results: 60;" in said and "recorded once" in said
    killed = [int(number) for number in re.findall(r"(\d+) times", said)]
    assert sum(killed) == 10, said


def test_producers_and_workers_of_several_terminals_share_a_queue(seg, terminal):
    workers = [terminal("work", "--seconds", 0.01) for _ in range(2)]
    # Else one of them could be interrupted while it is still being imported.
    helpers.until(lambda: seg.get("workers", 0) == 2, 60, "that both work")
    for name in ("x", "y"):
        assert terminal("produce", "--name", name, "--items", 12).wait(60) == 0
    helpers.until(lambda: len(items(seg)) == 24 and all(item[0] == "done" for item in items(seg)), 60)
    assert sorted(item[1] for item in items(seg)) == sorted(f"{name} {n}" for name in "XY" for n in range(12))
    assert {item[3] for item in items(seg)} == {1}, "nobody was killed, nothing is begun twice"
    for worker in workers:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(30) == 0


def test_the_item_of_a_killed_worker_is_done_by_another_and_that_of_a_stopped_one_is_not(seg, terminal):
    assert terminal("produce", "--items", 2).wait(60) == 0
    first = terminal("work", "--seconds", 10**6)
    helpers.until(lambda: seg[1][0] == "taken", 60)
    time.sleep(0.3)  # it works on its item now: stopped earlier, in the middle of a change, it would hold up all others
    assert seg[1] == ("taken", "A 0", 1, 1)
    first.send_signal(signal.SIGSTOP)
    second = terminal("work", "--seconds", 0.01)
    assert second.stdout.readline() == "worker 2: item 2, 'A 1', try 1\n"
    time.sleep(1.2)
    assert seg[1] == ("taken", "A 0", 1, 1), "it lives"
    first.kill()
    assert second.stdout.readline() == "worker 2: item 1, 'A 0', try 2\n"
    assert seg[1] == ("done", "A 0", 2, 2)


def test_a_producer_that_is_killed_and_started_again_puts_each_item_once(seg, terminal):
    chance, starts = random.Random(7), 0
    while seg.get("producer A", 0) < 2000:
        producer, starts = terminal("produce", "--items", 2000), starts + 1
        for _ in range(chance.randrange(1, 12)):
            producer.stdout.readline()
        producer.kill()
        producer.wait()
    assert starts > 1
    assert items(seg) == [("waiting", f"A {number}") for number in range(2000)]
    assert set(seg) == {"tail", "producer A", *range(1, 2001)}


METHODS = multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_any_start_method_fills_an_array_in_place_and_shows_how_far_it_is(key, method):
    pytest.importorskip("numpy")
    said = example("parallel_fill.py", 16, "--method", method, "--workers", 3, "--key", key)
    *shown, result = re.split(r"[\r\n]+", said.strip())
    assert [line.partition(" after")[0] for line in shown][-1] == "128 of 128 rows"
    assert result == "16 MiB filled by 3 processes: right"
    assert not shmvar.exists(key)


@pytest.mark.parametrize("left", [1, 0], ids=["right", "wrong"])
def test_a_fill_that_was_killed_is_gone_on_with_and_what_is_wrong_in_it_is_noticed(key, left):
    np = pytest.importorskip("numpy")
    with shmvar.attach(key, 32 << 20) as segment:
        field = segment.array("field", (128, 16384), "i8")
        field[20:70] = left * np.multiply.outer(np.arange(20, 70), np.arange(16384))
        segment.array("done", 128, bool)[20:70] = True
    words = [sys.executable, str(EXAMPLES / "parallel_fill.py"), "16", "--key", key]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1 - left, done.stdout + done.stderr
    assert done.stdout.endswith("right\n" if left else "WRONG\n")
    assert (field[20:70, 1] == left * np.arange(20, 70)).all(), "what was done is not done again"
    assert (field[70:, 1] == np.arange(70, 128)).all(), "the array is this one"


@pytest.mark.parametrize("method", METHODS)
def test_the_messages_of_a_ring_arrive_once_and_in_order_though_processes_are_killed(method):
    for _ in range(2):  # A second run does not meet what the first one has left, for that is nothing.
        said = example("ring_buffer.py", "--messages", 5000, "--kills", 3, "--method", method)
        assert re.match(r"5000 messages, \d+ KiB, in [\d.]+ s; [0-3] times a process was killed\n", said), said
        assert "Each message has arrived once, whole and in its order.\n" in said


def test_a_ring_whose_processes_are_not_killed_passes_more_than_it_holds():
    said = example("ring_buffer.py", "--messages", 1000, "--kills", 0)
    assert re.match(r"1000 messages, \d{3} KiB, in [\d.]+ s; 0 times a process was killed\n", said), said
