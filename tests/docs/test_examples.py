"""The examples do what they say, as programs of their own."""

import multiprocessing
import re
import subprocess
import sys
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


def test_the_work_queue_hands_the_job_of_a_killed_worker_to_the_next_one(key, tmp_path, children):
    # Another run of this test may use the example's own key at the same time.
    text = (EXAMPLES / "work_queue.py").read_text()
    program = tmp_path / "work_queue.py"
    program.write_text(text.replace('"example-queue"', repr(key)))
    assert program.read_text() != text
    with shmvar.attach(key) as segment:
        jobs = segment.queue("jobs")
        try:
            words = [f"job {number}" for number in range(2_000)]
            example(program, *words)
            done = []
            while some := min(300, jobs.qsize()):  # Nobody else takes any, so so many lines will come.
                worker = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
                children.append(worker)
                done += [worker.stdout.readline().strip() for _ in range(some)]
                worker.kill()
                done += worker.stdout.read().split("\n")
                helpers.until(lambda: not segment.info().queues.get("jobs", {}).get("held"))
            assert {line for line in done if line} == {word.upper() for word in words}
        finally:
            segment.destroy()


def test_the_work_queue_has_twelve_lines():
    assert len((EXAMPLES / "work_queue.py").read_text().splitlines()) <= 12


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
