"""Many processes: racing attaches, ends of processes, interpreter shutdown, start methods of multiprocessing."""

import concurrent.futures
import multiprocessing
import os
import pickle

import helpers
import pytest

import shmvar

# --- racing attaches

RACE = """
import json
ready, go = os.pipe(), os.pipe()
results = os.pipe()
for number in range(64):
    if os.fork() == 0:
        signal.alarm(60)
        os.close(go[1])
        os.write(ready[1], b"r")
        os.read(go[0], 1)
        try:
            segment = shmvar.attach(key, 100_000 + number)
            segment[number] = f"from {number}"
            segment[f"text {number}"] = [number] * 100
            end = time.monotonic() + 40
            while len(segment) < 128:
                assert time.monotonic() < end, len(segment)
                time.sleep(0.005)
            seen = all(segment[n] == f"from {n}" and segment[f"text {n}"] == [n] * 100 for n in range(64))
            os.write(results[1], json.dumps([segment.created, seen]).encode() + b"\\n")
        except BaseException as error:
            os.write(results[1], json.dumps([repr(error), False]).encode() + b"\\n")
        os._exit(0)
for _ in range(64):
    os.read(ready[0], 1)
os.close(go[1])
os.close(results[1])
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
lines = open(results[0]).read().splitlines()
outcomes = [json.loads(line) for line in lines]
assert len(outcomes) == 64, outcomes
assert all(seen is True for _, seen in outcomes), outcomes
assert sorted(created for created, _ in outcomes) == [False] * 63 + [True], outcomes
"""


@pytest.mark.parametrize("attempt", range(3))
def test_f20_of_64_processes_that_race_exactly_one_creates_and_all_see_one_another(key, attempt):
    helpers.run(RACE, key)
    with shmvar.attach(key, create=False) as segment:
        assert len(segment) == 128 == segment.check().variables and segment.size == 100_063
        assert segment.info().attached == 1


def test_create_true_in_many_processes_is_granted_once(key):
    code = """
    pids = []
    for _ in range(16):
        pids.append(os.fork())
        if not pids[-1]:
            try:
                shmvar.attach(key, create=True)
                os._exit(1)
            except shmvar.SegmentExistsError:
                os._exit(0)
            finally:
                os._exit(2)
    print(sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
    """
    assert helpers.run(code, key).stdout.strip() == str([0] * 15 + [1])


def test_f22_a_larger_size_is_seen_by_all_and_a_smaller_one_by_none(seg, key):
    for size in (2 << 30, 5000, 3 << 30):
        done = helpers.run("print(shmvar.attach(key, int(sys.argv[2])).size)", key, size)
        assert int(done.stdout) == seg.size == max(size, 2 << 30)


# --- ends of processes

ENDS = {
    "normally": "",
    "by sys.exit": "sys.exit(3)",
    "by exception": "raise ZeroDivisionError",
    "by os._exit": "os._exit(4)",
    "by SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "by SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "by abort": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
}


@pytest.mark.parametrize("end", ENDS)
def test_f10_f11_values_remain_however_the_creating_process_ends(key, end):
    code = "segment = shmvar.attach(key, create=True)\nsegment.update({1: 'one', 2: b'x' * 100_000})\n" + ENDS[end]
    helpers.run(code, key, check=False)
    with shmvar.attach(key, create=False) as segment:
        assert dict(segment) == {1: "one", 2: b"x" * 100_000}
        assert segment.info().attached == 1 and segment.check().variables == 2
        segment[1] = "go on"


@pytest.mark.parametrize("end", ENDS)
def test_f10_values_remain_for_others_however_an_attached_process_ends(seg, key, end):
    seg[1] = "mine"
    helpers.run("segment = shmvar.attach(key); segment[2] = [segment[1]] * 1000\n" + ENDS[end], key, check=False)
    assert seg[1] == "mine" and seg[2] == ["mine"] * 1000 and shmvar.exists(key)


def test_f12_the_resource_tracker_neither_unlinks_nor_warns(key):
    code = """
    import multiprocessing.shared_memory
    import multiprocessing.resource_tracker as tracker
    def work(segment):
        segment[os.getpid()] = 1
    if __name__ == "__main__":
        tracker.ensure_running()
        own = multiprocessing.shared_memory.SharedMemory(create=True, size=100)
        segment = shmvar.attach(key)
        context = multiprocessing.get_context("fork")
        for _ in range(3):
            process = context.Process(target=work, args=(segment,))
            process.start()
            process.join()
        own.close()
        own.unlink()
        assert len(segment) == 3
    """
    done = helpers.run(code, key)
    assert done.stderr == "" == done.stdout
    with shmvar.attach(key, create=False) as segment:
        assert len(segment) == 3


SHUTDOWNS = {
    "global": "segment = shmvar.attach(key); segment[1] = b'x' * 100_000; other = shmvar.attach(key, readonly=True)",
    "cycle": "class C: pass\na, b = C(), C(); a.b, b.a, a.s = b, a, shmvar.attach(key); a.s[1] = 1",
    "in a function's default": "def f(s=shmvar.attach(key)): return s\nf()[1] = 1",
    "in sys": "sys.keep = shmvar.attach(key); sys.keep[1] = 1; del shmvar",
    "in builtins": "import builtins; builtins.keep = shmvar.attach(key).__setitem__; keep(1, 2)",
    "iterating": "s = shmvar.attach(key); s.update({1: 1, 2: 2}); i = iter(s.items()); next(i); k = s.keys()",
    "detached and destroyed": "s = shmvar.attach(key); s.destroy(); s[1] = 1; t = shmvar.attach(key); t.detach()",
    "atexit": "import atexit; s = shmvar.attach(key); atexit.register(lambda: s.put(1, 'late'))",
    "in __del__": "class C:\n  s = shmvar.attach(key)\n  def __del__(self, s=s): s[1] = 'last'\nc = C()",
    "daemon thread": """
import threading
s = shmvar.attach(key)
def work():
    while True:
        s[1] = b'x' * 50_000
        s.get(1)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
""",
    "exception": "s = shmvar.attach(key)\ntry:\n  s['missing']\nexcept KeyError as error:\n  kept = error",
    "error kept": "s = shmvar.attach(key, 99)\ntry:\n  s[1] = b'x' * 999\nexcept MemoryError as error:\n  kept = error",
    "forked": "s = shmvar.attach(key)\nif os.fork():\n  os.wait()\ns[1] = 1",
}


@pytest.mark.parametrize("how", SHUTDOWNS)
def test_f17_no_text_is_printed_at_interpreter_shutdown(key, how):
    done = helpers.run(SHUTDOWNS[how], key)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("readonly", [False, True])
def test_f18_ten_thousand_attaches_do_not_grow_descriptors_or_mappings(key, readonly):
    code = """
    import gc
    sys.path.insert(0, sys.argv[2])
    import helpers
    first = shmvar.attach(key)
    first[1] = b"x" * 50_000
    first.detach()
    def once(how):
        segment = shmvar.attach(key, readonly=sys.argv[3] == "True")
        assert segment[1][:1] == b"x"
        if how % 3 == 0:
            segment.detach()
        elif how % 3 == 1:
            cycle = [segment]; cycle.append(cycle)
    for how in range(100):
        once(how)
    gc.collect()
    before = helpers.count_descriptors(), helpers.count_mappings()
    for how in range(10_000):
        once(how)
    gc.collect()
    after = helpers.count_descriptors(), helpers.count_mappings()
    assert after[0] <= before[0] and after[1] <= before[1] + 5, (before, after)
    print(shmvar.attach(key).info().attached)
    """
    assert helpers.run(code, key, helpers.TESTS, readonly, timeout=100).stdout.strip() == "1"


def test_f18_ten_thousand_creations_do_not_grow_descriptors_or_mappings(key):
    for _ in range(50):
        shmvar.attach(key).destroy()
    before = helpers.count_descriptors(), helpers.count_mappings()
    for number in range(1000):
        segment = shmvar.attach(key, perm=0o644 if number % 2 else 0o600)
        segment[1] = number
        segment.destroy()
    del segment
    after = helpers.count_descriptors(), helpers.count_mappings()
    assert after[0] <= before[0] and after[1] <= before[1] + 5, (before, after)


# --- multiprocessing


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_f57_a_handle_is_an_argument_of_a_process(seg, key, workers, method):
    context = multiprocessing.get_context(method)
    with shmvar.attach(key, trust=False) as handle, shmvar.attach(key, readonly=True) as reader:
        processes = [context.Process(target=workers.put, args=(handle, n, [n] * 100)) for n in range(3)]
        processes += [context.Process(target=workers.try_put, args=(reader,))]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    assert dict(seg) == {n: [n] * 100 for n in range(3)}


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_f57_pool_workers_attach_with_the_same_options(seg, key, workers, method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        with shmvar.attach(key, trust=False) as handle:
            told = pool.starmap(workers.put_own_pid, [(handle, n) for n in range(8)])
        assert set(told) == {(key, False, False, seg.size)}
        assert len({seg[n] for n in range(8)}) <= 2 and os.getpid() not in seg.values()
        with shmvar.attach(key, readonly=True) as reader:
            assert pool.apply(workers.try_put, (reader,)) == "ReadOnlyError"
        back = pool.apply(workers.same_segment, (seg,))
        assert back.key == key and back == seg
        pool.close()
        pool.join()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_f57_executors_take_handles(seg, workers, method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        for future in [pool.submit(workers.count, seg, n * 1000, 1000) for n in range(4)]:
            future.result(60)
    assert dict(seg) == {n: n for n in range(4000)}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: workers.count(seg, n * 1000, 1000), range(4, 8)))
    assert dict(seg) == {n: n for n in range(8000)}


def test_f57_a_handle_of_a_segment_that_is_gone_says_so_when_unpickled(key):
    segment = shmvar.attach(key)
    data = pickle.dumps(segment)
    segment.destroy()
    code = "import pickle\ntry:\n  pickle.loads(bytes.fromhex(sys.argv[2]))\n"
    code += "except shmvar.SegmentNotFoundError as error:\n  print(error)"
    assert key in helpers.run(code, key, data.hex()).stdout


# --- interpreters, threads


def test_f58_in_a_subinterpreter_import_works_or_is_an_import_error(key):
    code = """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    inner = interpreters.create()
    lines = ["try:", " import shmvar", "except ImportError as error:", " assert str(error)", "else:"]
    lines += [f" segment = shmvar.attach({key!r})", " segment[1] = 1", " segment.detach()"]
    script = "\\n".join(lines)
    failed = interpreters.run_string(inner, script)
    assert failed is None, failed
    interpreters.destroy(inner)
    segment = shmvar.attach(key)
    segment[2] = 2
    assert segment[2] == 2
    """
    assert helpers.run(code, key).stderr == ""


@helpers.needs_mounts
def test_f59_without_shared_memory_import_succeeds_and_attach_is_a_typed_error(key):
    code = """
    import subprocess
    subprocess.run(["mount", "-t", "tmpfs", "none", "/dev"], check=True)
    assert not os.path.exists("/dev/shm")
    for call in (lambda: shmvar.attach(key), lambda: shmvar.attach(key, 1000), lambda: shmvar.attach(5, create=True)):
        try:
            call()
        except shmvar.Error as error:
            assert "/dev/shm" in str(error), error
        else:
            raise AssertionError
    # `segments` does not claim that there are none.
    for call in (lambda: shmvar.attach(key, create=False), lambda: shmvar.attach(key, readonly=True), shmvar.segments,
                 lambda: shmvar.exists(key), lambda: shmvar.destroy(key)):
        try:
            call()
        except shmvar.SegmentAccessError as error:
            assert "no shared memory here" in str(error), error
        else:
            raise AssertionError
    print("import" in dir(), "fine")
    """
    assert "fine" in helpers.run(code, key, prefix=["unshare", "-m"]).stdout


def test_eight_threads_put_and_get_mixed_values_of_their_own_and_shared_ones(seg):
    def work(number):
        for turn in range(300):
            value = [(number, turn)] * (1, 10, 500, 9000)[turn % 4]
            seg[number] = value
            seg["shared"] = value
            assert seg[number] == value
            shared = seg["shared"]
            assert shared == [shared[0]] * len(shared)
            if turn % 5 == 0:
                seg[f"{number} {turn}"] = turn
                assert seg.pop(f"{number} {turn}") == turn

    helpers.in_threads(work, 8)
    assert len(seg) == 9
    seg.check()


def test_pop_and_popitem_give_each_item_to_one_of_many_processes(seg, key):
    seg.update({number: number for number in range(2000)})
    code = """
    segment, got = shmvar.attach(key, create=False), []
    while True:
        try:
            got.append(segment.popitem()[0] if len(got) % 2 else segment.pop(next(iter(segment), -1), None))
        except KeyError:
            break
    print(*[number for number in got if number is not None])
    """
    got = [int(number) for text in helpers.run_in_processes(code, key, count=3) for number in text.split()]
    assert sorted(got) == list(range(2000)) and len(seg) == 0


def test_setdefault_in_many_processes_agrees_on_one_value(seg, key):
    code = """
    segment = shmvar.attach(key, create=False)
    print(*[segment.setdefault(n, os.getpid()) for n in range(1000)])
    """
    told = {text.strip() for text in helpers.run_in_processes(code, key, count=3)}
    assert told == {" ".join(str(seg[n]) for n in range(1000))}


def test_f54_a_reader_never_sees_a_mixed_value(seg, key, children):
    code = """
    segment = shmvar.attach(key, create=False)
    for turn in range(10 ** 9):
        for index, length in enumerate((1, 40, 3000, 9000, 24_000, 60_000, 300_000)):
            segment[index] = bytes([turn % 251]) * (length + turn % 7)
            segment[f"s{index}"] = str(turn % 10) * (length + turn % 7)
        if not turn:
            print("ready", flush=True)
    """
    children.append(helpers.start(code, key))
    with shmvar.attach(key, readonly=True) as reader:
        for _ in helpers.looks(seconds=3, turns=5):
            for segment in (seg, reader):
                for index in (*range(7), *(f"s{n}" for n in range(7))):
                    value = segment[index]
                    assert value == value[:1] * len(value)
    helpers.end(children[0])
