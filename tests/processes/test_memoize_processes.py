"""`memoize` among processes: one of them computes, a killed one is followed by the next, names hold under spawn."""

import json
import os
import subprocess
import sys

import helpers
import pytest

import shmvar
from shmvar import _memoize

PROGRAM = """
import threading
seg = shmvar.attach(key)

@seg.memoize(name="slow")
def slow(text, *, numbers):
    seg.add("computed")
    seg.wait("go", 300, newer_than=0)
    return [text, numbers, seg["computed"]]
"""
"""`slow` computes until there is a variable "go"."""

CALLERS = (
    PROGRAM
    + """
results = []
def call():
    # Equal to what others pass, and not identical.
    results.append(slow("".join(["sl", "ow"]), numbers=(1, frozenset([10 ** 20, "x".upper()]))))
threads = [threading.Thread(target=call) for _ in range(10)]
for thread in threads: thread.start()
seg.add("started", 10)
for thread in threads: thread.join()
assert all(result == results[0] for result in results) and len(results) == 10
print(results[0][2], slow.cache_info().hits, slow.cache_info().misses, flush=True)
"""
)

KILLED = PROGRAM + "print('go', flush=True)\nslow('a', numbers=1)\n"

SCRIPT = """
import multiprocessing, os, sys
import shmvar

seg = shmvar.attach(sys.argv[1] if len(sys.argv) > 1 else os.environ["SHMVAR_TEST_KEY"])

@seg.memoize
def double(number):
    seg.add("computed")
    return {"double": 2 * number, "by": os.getpid()}

def made(by):
    # Two closures are two functions: each has a name of its own.
    return seg.memoize(lambda number: number * by, name=f"times {by}")

def work(number):
    two, three = made(2), made(3)
    return double(number % 3), double.index(1), two(number), three(number), double.__module__

if __name__ == "__main__":
    os.environ["SHMVAR_TEST_KEY"] = seg.key
    first = double(0)
    with multiprocessing.get_context(sys.argv[2]).Pool(3) as pool:
        answers = pool.map(work, range(30), chunksize=1)
        by_itself = pool.map(double, [0, 1, 2])
    assert [answer[0]["double"] for answer in answers] == [2 * (number % 3) for number in range(30)]
    assert {answer[1] for answer in answers} == {double.index(1)}
    assert [answer[2:4] for answer in answers] == [(2 * number, 3 * number) for number in range(30)]
    assert all(answer[0] == first for answer in answers[::3]), "computed again in a child"
    assert by_itself == [answers[number][0] for number in range(3)]
    assert seg["computed"] == 3, seg["computed"]
    print({answer[4] for answer in answers}, double.index(1))
"""


def outcome(child):
    """What a child printed, which ends within a time."""
    printed, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    return printed


def start(code, key, children):
    child = subprocess.Popen(helpers.command(code, key), stdout=subprocess.PIPE, text=True)
    children.append(child)
    return child


def test_of_fifty_callers_in_five_processes_one_computes(seg, key, children):
    started = [start(CALLERS, key, children) for _ in range(5)]
    helpers.until(lambda: seg.get("started") == 50 and seg.get("computed"), 100)
    seg["go"] = True
    printed = [list(map(int, outcome(child).split())) for child in started]
    assert [computed for computed, _, _ in printed] == [1] * 5 and seg["computed"] == 1
    assert sorted(misses for _, _, misses in printed) == [0, 0, 0, 0, 1]
    assert sum(hits for _, hits, _ in printed) == 49 and seg.check().locks == 0


def test_when_the_computer_is_killed_exactly_one_of_fifty_waiters_computes(seg, key, children):
    # The one to be killed computes what the others want.
    arguments = "'slow', numbers=(1, frozenset([10 ** 20, 'X']))"
    child = helpers.start(KILLED.replace("'a', numbers=1", arguments), key)
    children.append(child)
    helpers.until(lambda: seg.get("computed") == 1, 100)
    started = [start(CALLERS, key, children) for _ in range(5)]
    helpers.until(lambda: seg.get("started") == 50, 100)
    assert seg["computed"] == 1 and len(seg.info().locks) == 1
    child.kill()
    helpers.until(lambda: seg["computed"] == 2, 100)
    seg["go"] = True
    printed = [list(map(int, outcome(child).split())) for child in started]
    assert [computed for computed, _, _ in printed] == [2] * 5 and seg["computed"] == 2
    assert sum(misses for _, _, misses in printed) == 1 and sum(hits for _, hits, _ in printed) == 49


def test_waiters_end_though_each_computer_is_killed_in_turn(seg, key, children):
    started = [helpers.start(KILLED, key) for _ in range(5)]
    children.extend(started)
    for number in range(5):
        helpers.until(lambda number=number: seg.get("computed") == number + 1, 100)
        (pid,) = seg.info().locks.values()
        victim = next(child for child in started if child.pid == pid)
        victim.kill()
        victim.wait(100)
    assert len(seg) == 1, "nothing of what was never computed is there"
    seg["go"] = True
    f = seg.memoize(lambda *args, **kwargs: "mine", name="slow")
    assert f("a", numbers=1) == "mine" and f.cache_info().misses == 1


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_script_and_its_children_have_one_name_for_a_function(seg, key, tmp_path, method):
    script = tmp_path / "a script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script.name, key, method],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{script}.double:" in done.stdout
    assert ("__mp_main__" in done.stdout) == (method != "fork")
    # A second run of the script, from elsewhere, finds the results of the first.
    again = subprocess.run(
        [sys.executable, str(script), key, method], capture_output=True, text=True, timeout=300, check=False
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout and seg["computed"] == 3


def test_modules_with_functions_of_one_name_do_not_share(seg, key, tmp_path):
    for name in ("one", "two"):
        source = f"import shmvar\nseg = shmvar.attach({key!r})\n@seg.memoize\ndef f():\n    return __name__\n"
        (tmp_path / f"{name}.py").write_text(source)
    code = "import one, two\nprint(one.f(), two.f(), one.f(), two.f(), one.f.index())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.split()[:4] == ["one", "two"] * 2 and seg[done.stdout.split()[4]] == "one"


def test_what_was_typed_in_is_the_module_main(seg, key):
    code = "seg = shmvar.attach(key)\n@seg.memoize\ndef f(x): return os.getpid()\nprint(f(1), f.index(1))"
    first, second = helpers.run(code, key).stdout, helpers.run(code, key).stdout
    assert first == second and "__main__.f:" in first


def test_indexes_are_the_same_in_every_process_whatever_the_seed_of_hashes(seg, key):
    code = """
        import json
        f = shmvar.attach(key).memoize(print, name="f")
        print(json.dumps([
            f.index("a", frozenset(map(str, range(50))), (1, 2.5, None, b"x")),
            f.index(b=1, a=[{"x": 1}]),
            f.index(),
        ]))
    """
    answers = [
        json.loads(helpers.run(code, key, env={**os.environ, "PYTHONHASHSEED": seed}).stdout) for seed in ("1", "2")
    ]
    f = seg.memoize(print, name="f")
    mine = [f.index("a", frozenset(map(str, range(50))), (1, 2.5, None, b"x")), f.index(b=1, a=[{"x": 1}]), f.index()]
    assert answers[0] == answers[1] == mine
    assert mine[2] == "f:fcdf3ecfe876539956eb77f17f503ac1", "results of earlier versions are not found"


class Blocked:
    """A segment that a stopped process holds up by the time that there is something to store."""

    def __init__(self, segment, error):
        self._segment = segment
        self._error = error

    def __getattr__(self, name):
        return getattr(self._segment, name)

    def put(self, *_arguments, **_named):
        raise self._error


@pytest.mark.parametrize("error", [shmvar.SegmentBusyError, shmvar.SegmentUnavailableError, shmvar.SegmentFullError])
def test_a_result_that_the_segment_does_not_take_now_is_returned(seg, error):
    calls = []
    function = _memoize.memoize(Blocked(seg, error("no")), calls.append, None, None, "blocked")
    assert function(1) is None is function(1) and calls == [1, 1] and len(seg) == 0 and seg.check().locks == 0


@pytest.mark.parametrize("error", [shmvar.DetachedError, shmvar.SegmentNotFoundError, shmvar.CorruptSegmentError])
def test_what_is_wrong_for_good_is_raised_all_the_same(seg, error):
    function = _memoize.memoize(Blocked(seg, error("wrong")), int, None, None, "wrong")
    with pytest.raises(error, match="wrong"):
        function(1)
