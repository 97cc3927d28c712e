"""More than one interpreter in a process (F58): the first that imports the package works, all others get `ImportError`.

Interpreters exist side by side (sub-interpreters, as uWSGI, mod_wsgi and embedding programs make them), and one after
the other (`Py_FinalizeEx`, then `Py_Initialize`, whose interpreter has the number of the one before).
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import helpers
import pytest
from helpers import installed_programs

import shmvar

CONFIG = Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_config_var('LDVERSION')}-config"
COMPILER = shutil.which("cc")

# What an interpreter that could import the package does with it.
WORKS = """
import asyncio, collections, decimal, fractions, threading
segment = shmvar.attach(key)
class Own: pass
large = [b"b" * 300_000, bytearray(20_000)]
for index, value in enumerate([1, "text", None, {"a": [1.5]}, fractions.Fraction(1, 3), *large]):
    segment[index] = value
    assert segment[index] == value and segment.view(index) is not Own
assert segment.add("count") >= 1 and segment.modify("list", lambda old: [*old, 1], default=[])[-1] == 1
with segment.lock(timeout=10):
    segment.put_many({1: 2, 2: 3})
async def main():
    async with segment.lock("async", timeout=10):
        waits = asyncio.ensure_future(segment.changed("changes", 10))
        await asyncio.sleep(0.05)
        segment["changes"] = 1
        await waits
asyncio.run(main())
versions = []
waits = threading.Thread(target=lambda: versions.append(segment.wait("waited", 10, newer_than=0)))
waits.start(); segment["waited"] = fractions.Fraction(1, 2); waits.join(); assert versions[0] > 0
with shmvar.attach(key, trust=False) as plain:
    plain["plain"] = [decimal.Decimal(1), collections.deque([fractions.Fraction(1, 7)])]
    assert plain["plain"][1][0].denominator == 7
assert segment.check().variables == len(segment) and isinstance(segment.info(), shmvar.SegmentInfo)
try:
    segment["missing"]
except KeyError:
    print("works", flush=True)
segment.remove("waited")
"""
REFUSED = """
for module in ("shmvar", "shmvar", "shmvar._core"):
    try:
        __import__(module)
    except ImportError as error:
        text = str(error)
        for part in ("shmvar works in one interpreter", "single-interpreter = true", "WSGIApplicationGroup %{GLOBAL}"):
            assert part in text, text
    else:
        raise SystemExit("it was imported")
print("refused", flush=True)
"""
AGAIN = """
import importlib
for name in [name for name in sys.modules if name.startswith("shmvar")]:
    del sys.modules[name]
old = shmvar
import shmvar
assert shmvar is not old and shmvar.Segment is old.Segment
importlib.reload(shmvar._core)
importlib.reload(shmvar)
"""


@pytest.fixture(scope="module")
def embed(tmp_path_factory):
    """Runs the program `embed.c` with a list of what it is to do."""
    if COMPILER is None or not CONFIG.exists():
        pytest.skip(f"needs a C compiler and {CONFIG}")
    program = tmp_path_factory.mktemp("embed") / "embed"
    asked = subprocess.run(
        [CONFIG, "--embed", "--cflags", "--ldflags"], capture_output=True, text=True, timeout=20, check=True
    )
    flags = [*asked.stdout.split(), f"-Wl,-rpath,{sysconfig.get_config_var('LIBDIR')}"]
    source = Path(__file__).with_name("embed.c")
    subprocess.run([COMPILER, source, "-o", program, *flags], timeout=60, check=True)
    return program


def steps(key, *what):
    """Words are passed as they are; programs get `sys.path` and `key` in front."""
    # The path of the program itself has the standard library.
    begin = f"import sys; sys.path += {installed_programs.packages()}; key = {key!r}\n"
    return [word if word.isalpha() else begin + word for word in what]


def run(embed, key, *what):
    """Runs it, which must succeed; returns what it printed, line by line."""
    done = subprocess.run([embed, *steps(key, *what)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"it ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.split("\n")[:-1]


USES = "import shmvar\n" + WORKS


def test_f58_python_that_begins_anew_in_a_process_is_refused_with_a_text_that_helps(embed, key):
    said = run(embed, key, "initialize", USES, "finalize", "initialize", REFUSED, "finalize", "initialize", REFUSED)
    assert said == ["works", "refused", "refused", "reached its end"]


def test_f58_a_sub_interpreter_is_refused_and_the_first_works_on(embed, key):
    said = run(embed, key, "initialize", USES, "new", REFUSED, "first", USES, "other", REFUSED, "end", USES, "finalize")
    assert said == ["works", "refused", "works", "refused", "works", "reached its end"]


def test_f58_a_sub_interpreter_that_comes_first_has_it_and_nobody_after_its_end(embed, key):
    said = run(embed, key, "initialize", "new", USES, "first", REFUSED, "other", USES, "end", REFUSED, "new", REFUSED)
    assert said == ["works", "refused", "works", "refused", "refused", "reached its end"]


def test_f58_the_same_interpreter_may_import_it_again_after_another_was_refused(embed, key):
    said = run(embed, key, "initialize", USES, "new", REFUSED, "first", AGAIN + WORKS, "end", "finalize")
    assert said == ["works", "refused", "works", "reached its end"]


def test_f58_python_that_began_anew_can_do_all_else(embed, key):
    """A refused import leaves nothing behind that harms."""
    # (In 3.12 some extension modules of the standard library crash here by themselves: `_decimal`, `_asyncio`.)
    also = (
        REFUSED + "import gc, json, pickle, uuid; gc.collect(); print(pickle.loads(pickle.dumps(uuid.UUID(int=1))).int)"
    )
    said = run(embed, key, "initialize", USES, "finalize", "initialize", also, "finalize")
    assert said == ["works", "refused", "1", "reached its end"]


@pytest.mark.parametrize("kept", ["builtins.kept = [shmvar.attach(key)]; kept[0].lock().acquire()", "lock.acquire()"])
def test_f9_python_that_ends_with_live_handles_and_locks_lets_go_of_them(embed, key, children, kept):
    """The process lives on, so it is not its end that releases them."""
    code = f"import builtins, shmvar\nsegment = shmvar.attach(key)\nlock = segment.lock()\n{kept}\n"
    code += "big = segment['big'] = bytearray(1_000_000); builtins.views = [segment.view('big'), segment['big']]"
    child = subprocess.Popen(
        [embed, *steps(key, "initialize", code, "finalize", "sleep", "initialize", REFUSED)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    children.append(child)
    assert child.stdout.readline() == "sleeps\n"
    with shmvar.attach(key) as segment, segment.lock(timeout=30):
        assert segment.view("big") == bytes(1_000_000)
    out, _ = child.communicate("\n", timeout=60)
    assert (child.returncode, out) == (0, "refused\nreached its end\n")


@pytest.mark.parametrize("waits", ["wait(1, newer_than=segment.version(1))", "lock().acquire()"])
def test_f9_threads_that_wait_when_python_ends_do_no_harm(embed, key, children, waits):
    """The threads wake up in a process without an interpreter and take nothing. (If another interpreter began then, any
    such thread, whatever it waits in, would meet memory that CPython has freed.)"""
    code = f"""
import shmvar, threading, time
segment = shmvar.attach(key)
segment[1] = 1
begun = threading.Semaphore(0)
def work():
    begun.release()
    segment.{waits}
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
for _ in range(3):
    begun.acquire()
time.sleep(0.2)
"""
    with shmvar.attach(key) as segment:
        lock = segment.lock()
        lock.acquire()
        child = subprocess.Popen(
            [embed, *steps(key, "initialize", code, "finalize", "sleep")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout.readline() == "sleeps\n"
        segment[1] = 2
        lock.release()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        with segment.lock(timeout=30):
            segment.check()
        out, _ = child.communicate("\n", timeout=60)
        assert (child.returncode, out) == (0, "reached its end\n")


# --- by the standard library's own sub-interpreters

SUB = """
try:
    import _interpreters as interpreters
    create = lambda: interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    create = lambda: interpreters.create(isolated=False)
def run(where, code):
    failed = interpreters.run_string(where, f"import sys; sys.path[:] = {sys.path!r}; key = {key!r}\\n" + code)
    assert failed is None, failed
"""


def test_f58_a_sub_interpreter_of_the_standard_library_is_refused(key):
    code = (
        SUB
        + f"""
other = create()
import shmvar
exec({WORKS!r}, globals())
run(other, {REFUSED!r})
interpreters.destroy(other)
other = create()
run(other, {REFUSED!r})
exec({WORKS!r}, globals())
"""
    )
    assert helpers.run(code, key).stdout.split() == ["works", "refused", "refused", "works"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs interpreters with a lock of their own, Python 3.12")
def test_f58_an_isolated_sub_interpreter_is_refused_with_the_same_text(key):
    code = SUB + f"other = interpreters.create()\nrun(other, {REFUSED!r})\nexec({WORKS!r}, globals())"
    assert helpers.run(code, key).stdout.split() == ["refused", "works"]


def test_f58_the_same_interpreter_may_import_it_again(key):
    assert helpers.run(AGAIN + WORKS, key).stdout.split() == ["works"]


def test_f58_a_forked_child_is_the_same_interpreter(key):
    code = f"""
shmvar.attach(key)[1] = 1
pid = os.fork()
if not pid:
    exec({AGAIN + WORKS!r}, globals())
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    assert helpers.run(code, key).stdout.split() == ["works"]
