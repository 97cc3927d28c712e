"""Values that need a class which this process lacks, above all one of another notebook's or script's `__main__`."""

import subprocess
import sys
import textwrap
import types

import helpers
import pytest
from helpers.main_classes import DEFINED, NAMES, READS, TRUST, Raises, is_said_to_be_missing, shows_the_way, store

import shmvar


@pytest.mark.parametrize("read", READS)
def test_every_read_says_what_is_missing_and_names_the_way_out(seg, key, read):
    store(key, "{'p': VALUES['Point']}")
    with pytest.raises(AttributeError) as caught:
        READS[read](seg, "p")
    assert type(caught.value) is AttributeError  # what the unpickler raises, and what callers catch
    assert shows_the_way(str(caught.value), "Point") and str(caught.value).startswith('index "p": ')
    assert any('index "p"' in note for note in caught.value.__notes__)
    assert is_said_to_be_missing("Point", str(caught.value.__cause__))
    assert seg.stat("p").type == "__main__.Point" and len(seg) == 1


def test_whatever_is_defined_there_is_named(seg, key):
    store(key, "VALUES")
    assert sorted(seg) == sorted(NAMES)
    for name in NAMES:
        with pytest.raises(AttributeError) as caught:
            seg[name]
        assert shows_the_way(str(caught.value), name)
    with pytest.raises(AttributeError, match="which is defined in the __main__"):
        seg.get_many(NAMES)
    assert seg.stat("Outer.Inner").type == "__main__.Outer.Inner"


def test_a_value_whose_buffers_lie_beside_its_pickle_says_so_too(seg, key):
    numpy = pytest.importorskip("numpy")
    store(key, "{1: [VALUES['Point'], bytearray(1 << 20)], 2: [bytearray(1 << 20), VALUES['Pair']]}")
    code = "import numpy as np\ns = shmvar.attach(key)\n"
    code += "s[3] = [np.array([None, 1]), np.ma.array([1, 2]), VALUES['Point']]\ns[4] = [np.zeros(1 << 18), Point(1)]"
    helpers.run(DEFINED + code, key)
    for index, name in {1: "Point", 2: "Pair", 3: "Point", 4: "Point"}.items():
        for read in (seg.get, seg.view):
            with pytest.raises(AttributeError) as caught:
                read(index)
            assert shows_the_way(str(caught.value), name)
    assert numpy is not None


def test_an_item_of_a_queue_and_a_result_of_memoize_say_so(seg, key):
    code = """
        s = shmvar.attach(key)
        for item in Point(1), 5, Point(2): s.queue("jobs").put(item)
        @s.memoize(name="made")
        def make(x): return Point(x)
        make(1)
    """
    helpers.run(DEFINED + textwrap.dedent(code), key)
    queue = seg.queue("jobs")
    with pytest.raises(AttributeError) as caught:
        queue.get(timeout=60)
    assert shows_the_way(str(caught.value), "Point") and 'an item of queue "jobs"' in str(caught.value)
    assert queue.get(timeout=60) == 5
    with pytest.raises(AttributeError) as caught, queue.take(timeout=60):
        pass
    assert shows_the_way(str(caught.value), "Point")
    with pytest.raises(AttributeError) as caught:
        seg.memoize(lambda x: x, name="made")(1)
    assert shows_the_way(str(caught.value), "Point")


def test_copying_reads_no_value_and_the_copy_says_so(seg, key, new_key):
    store(key, "VALUES")
    with shmvar.attach(new_key()) as target:
        assert shmvar.copy(seg, target) == len(NAMES)
        with pytest.raises(AttributeError) as caught:
            target["Point"]
        assert shows_the_way(str(caught.value), "Point")


def test_the_command_line_says_so(seg, key):
    store(key, "VALUES")
    shmvar_get = [sys.executable, "-m", "shmvar", "get", key, "Outer.Inner"]
    done = subprocess.run([*shmvar_get, "--trust"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1 and shows_the_way(done.stderr, "Outer.Inner") and done.stdout == ""
    done = subprocess.run(shmvar_get, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1 and "__main__.Outer.Inner" in done.stderr and "module that they can" in done.stderr
    assert "cloudpickle" not in done.stderr


def test_a_segment_that_is_not_trusted_does_not_say_how_to_run_what_others_wrote(seg, key):
    store(key, "VALUES")
    seg["other"] = types.SimpleNamespace()
    with shmvar.attach(key, trust=False) as careful:
        for name in NAMES:
            with pytest.raises(shmvar.UntrustedValueError, match=rf"needs __main__\.{name}, .* in a module") as caught:
                careful[name]
            said = str(caught.value)
            assert "pickle.loads" not in said and f"store plain data, or {TRUST}. It was" in said
        with pytest.raises(shmvar.UntrustedValueError) as caught:
            careful["other"]
        remedy = f"; store plain data, or {TRUST}"
        assert str(caught.value).endswith(f"only plain data is decoded{remedy}")


def test_what_this_process_has_too_is_read_and_the_rest_is_named(seg, key):
    store(key, "VALUES")
    code = """
        class Point: pass
        class Outer: pass
        s = shmvar.attach(key)
        print(s["Point"].x, type(s["Point"]) is Point)
        try: s["Outer.Inner"]
        except AttributeError as error: print(error)
    """
    said, error = helpers.run(code, key).stdout.splitlines()
    assert said == "3 True" and shows_the_way(error, "Outer.Inner")


# --- the two ways out, as the text says them


@pytest.mark.parametrize("trust", [None, True])
def test_a_module_that_both_import_is_a_way_out(new_key, tmp_path, trust):
    """In a segment that others may write to with trust alone, as its error says."""
    (tmp_path / "shapes.py").write_text("class Point:\n    x = 3\n")
    there, key, perm = f"sys.path.insert(0, {str(tmp_path)!r})\n", new_key(), 0o660 if trust else 0o600
    helpers.run(there + f"from shapes import Point\nshmvar.attach(key, perm={perm})['p'] = Point()", key)
    read = helpers.run(there + f"p = shmvar.attach(key, trust={trust})['p']\nprint(type(p).__module__, p.x)", key)
    assert read.stdout.split() == ["shapes", "3"]
    if trust:
        with shmvar.attach(key, create=False) as careful, pytest.raises(shmvar.UntrustedValueError) as caught:
            careful["p"]
        assert "needs shapes.Point" in str(caught.value) and str(caught.value).endswith(f"or {TRUST}")
    shmvar.destroy(key)


def test_the_process_that_defines_a_class_reads_it_with_trust(seg, key):
    """The error without trust says nothing else to that process."""
    code = """
        for trust in False, True:
            with shmvar.attach(key, trust=trust) as segment:
                segment["p"] = Point(3)
                try: print(segment["p"].x)
                except shmvar.UntrustedValueError as error: print(error)
    """
    said, read = helpers.run(DEFINED + textwrap.dedent(code), key).stdout.splitlines()
    assert read == "3" and TRUST in said and "only that process" not in said


def test_cloudpickle_is_a_way_out(seg, key):
    pytest.importorskip("cloudpickle")
    code = DEFINED + "import cloudpickle\ns = shmvar.attach(key)\n"
    helpers.run(code + "for name, value in VALUES.items(): s[name] = cloudpickle.dumps(value)", key)
    code = """
        import pickle
        s = shmvar.attach(key)
        got = {name: pickle.loads(s[name]) for name in s}
        print(got["Point"].x, type(got["Outer.Inner"]).__name__, got["Reading"][0]["deep"][0].value,
              got["Colour"].name, got["Pair"].b, got["function"]())
        assert pickle.loads(s.view("Point")).x == 3
    """
    assert helpers.run(code, key).stdout.split() == ["3", "Inner", "1.5", "RED", "2", "None"]


# --- multiprocessing: under spawn the script is the module `__mp_main__` of the children

SPAWNED = """
import multiprocessing, sys
import shmvar

class Point:
    def __init__(self, x):
        self.x = x

def store(key):
    shmvar.attach(key)["by child"] = Point(1)

def read(key):
    print(shmvar.attach(key)["by parent"].x, flush=True)

if __name__ == "__main__":
    key = sys.argv[1]
    seg = shmvar.attach(key)
    seg["by parent"] = Point(2)
    for target in (store, read):
        child = multiprocessing.get_context("spawn").Process(target=target, args=(key,))
        child.start()
        child.join()
        assert child.exitcode == 0
    print(seg["by child"].x)
"""


def test_a_script_and_its_spawned_children_read_each_other_and_whoever_else_is_told(seg, key, tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    done = subprocess.run([sys.executable, script, key], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["2", "1"]
    # Whether there is a module `__mp_main__` depends on who has imported multiprocessing.
    for first in ("", "import multiprocessing; "):
        error = helpers.run(f"{first}\ntry: shmvar.attach(key)['by child']\nexcept Exception as e: print(repr(e))", key)
        assert error.stdout.startswith("AttributeError" if first else "ModuleNotFoundError")
        assert shows_the_way(error.stdout, "Point") and "a child of multiprocessing" in error.stdout


# --- modules that are here and lack a name, and modules that are not here


def store_of(seg, index, module, **members):
    """Stores an instance of the class `Inner` of a module that is there only meanwhile, or what `members` makes."""
    here = types.ModuleType(module)
    here.Inner = type("Inner", (), {"__module__": module, **members})
    outer = module.rpartition(".")[0]
    with pytest.MonkeyPatch.context() as there:
        if outer:
            there.setitem(sys.modules, outer, types.ModuleType(outer))
        there.setitem(sys.modules, module, here)
        seg[index] = [here.Inner()]


def test_a_module_that_lacks_the_name_is_said_to_be_another_version(seg, monkeypatch):
    store_of(seg, 7, "old_module")
    module = types.ModuleType("old_module")
    module.__file__ = "/somewhere/old\x1b[31m\u202emodule.py"
    monkeypatch.setitem(sys.modules, "old_module", module)
    with pytest.raises(AttributeError) as caught:
        seg[7]
    text = str(caught.value)
    assert text.startswith("index 7: its value needs Inner, and the module old_module of this process (/somewhere/old")
    assert "has no Inner: it is another version" in text and "__main__" not in text and text.isprintable()
    assert seg.stat(7).type == "list"


@pytest.mark.parametrize("module", ["gone", "gone.within"])
def test_a_module_that_is_not_here_is_named(seg, module):
    store_of(seg, 7, module)
    with pytest.raises(ModuleNotFoundError) as caught:
        seg[7]
    assert f"needs Inner, and this process cannot import the module {module}: No module" in str(caught.value)
    assert caught.value.name == "gone" and type(caught.value.__cause__) is ModuleNotFoundError
    assert "while reading index 7" in caught.value.__notes__[0] and f"needs {module}.Inner" in caught.value.__notes__[0]


# --- errors of a value's own code stay as they are


@pytest.mark.parametrize("kind", ["attribute", "own", "import", "within"])
def test_an_error_of_the_values_own_code_gets_no_explanation(seg, kind):
    seg[1] = Raises(kind)
    with pytest.raises((AttributeError, ModuleNotFoundError)) as caught:
        seg[1]
    assert caught.value.__cause__ is None and "its value needs" not in str(caught.value)
    assert caught.value.__notes__[0].startswith("while reading index 1, a value of")


def test_an_error_of_a_values_own_code_before_a_missing_class_stays_its_own(seg, key):
    """What is named later in the pickle is not what failed."""
    code = "from helpers.main_classes import Raises\nshmvar.attach(key)[1] = [Raises('own'), Point(1)]"
    helpers.run(f"{DEFINED}\nsys.path.insert(0, {helpers.TESTS!r})\n{code}", key)
    with pytest.raises(AttributeError) as caught:
        seg[1]
    assert caught.value.__cause__ is None and "its value needs" not in str(caught.value)


class Asks:
    def __reduce__(self):
        return (getattr, ("text", "no_such_name"))


def test_an_error_without_code_and_without_a_missing_name_stays_as_it_is(seg):
    seg[1] = Asks()
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'") as caught:
        seg[1]
    assert caught.value.__cause__ is None


def test_a_modules_own_getattr_decides_whether_a_name_is_missing(seg, monkeypatch):
    def named(name):
        if name == "Later":
            return dict
        raise (RuntimeError if name == "Strange" else AttributeError)(name)

    for index, name in enumerate(["Later", "Strange", "Absent"]):
        store_of(seg, index, "lazy_module", __qualname__="Inner")
        pickled = shmvar._core._get_pickle(seg, index).replace(b"\x05Inner", bytes([len(name)]) + name.encode())
        shmvar._core._put_pickle(seg, index, unframed(pickled))
    module = types.ModuleType("lazy_module")
    module.__getattr__ = named
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    assert seg[0] == [{}]
    with pytest.raises(RuntimeError, match="Strange"):
        seg[1]
    # From Python 3.14 on, the unpickler lets the module's own words through.
    says = "Absent\nwhile reading" if sys.version_info >= (3, 14) else "has no Absent: it is another version"
    with pytest.raises(AttributeError, match=says):
        seg[2]


def unframed(pickled):
    """A pickle of protocol 4 or 5 without its frame, whose length would have to fit."""
    return pickled[:2] + pickled[11:] if pickled[2:3] == b"\x95" else pickled


def test_a_hostile_name_is_shown_cut_and_harmless(seg):
    for name in (
        "A" * (1 << 20),
        "A\x1b]52;c;x\x07\u202e\u2066\x9b31m\n\u200bB",
        "Äé".encode().decode() + "\u0301" * 999,
    ):
        text = name.encode()
        pickled = b"\x80\x04\x8c\x08__main__X" + len(text).to_bytes(4, "little") + text + b"\x93)\x81."
        shmvar._core._put_pickle(seg, 1, pickled)
        with pytest.raises(AttributeError) as caught:
            seg[1]
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
        assert "which is defined in the __main__" in str(caught.value)
        assert seg.stat(1).type.isprintable() and len(seg.stat(1).type) < 300


def test_a_pickle_that_names_very_much_ends(seg):
    names = b"".join(b"c__main__\nA%d\n" % n for n in range(30_000))
    shmvar._core._put_pickle(seg, 1, b"\x80\x04(" + names + b"t.")
    with pytest.raises(AttributeError, match="needs A0, which"):
        seg[1]
    # The names that are here come first, so many that the missing one is not looked for.
    shmvar._core._put_pickle(seg, 1, b"\x80\x04(" + b"cos\nopen\n" * 30_000 + b"c__main__\nA\nt.")
    with pytest.raises(AttributeError) as caught:
        seg[1]
    assert is_said_to_be_missing("A", str(caught.value))


def test_what_a_signal_handler_raises_while_the_explanation_is_imported_comes_through(seg, key):
    store(key, "{'p': VALUES['Point']}")
    code = """
        import signal
        seg, hit = shmvar.attach(key), []
        def handler(*_): raise TimeoutError("the time is over")
        signal.signal(signal.SIGALRM, handler)
        def hook(event, arguments):
            if event == "import" and arguments[0] == "shmvar._missing_names" and not hit:
                hit.append(1)
                signal.raise_signal(signal.SIGALRM)
        sys.addaudithook(hook)
        for _ in range(2):
            try: seg["p"]
            except Exception as error: print(type(error).__name__, str(error)[:17], len(hit))
    """
    said = helpers.run(code, key).stdout.splitlines()
    assert said == ["TimeoutError the time is over 1", 'AttributeError index "p": its va 1']


def test_where_the_explanation_cannot_be_imported_the_unpicklers_error_is_raised(seg, key):
    store(key, "{'p': VALUES['Point']}")
    code = """
        seg, tries = shmvar.attach(key), []
        def hook(event, arguments):
            if event == "import" and arguments[0] == "shmvar._missing_names":
                tries.append(1)
                raise OSError("no file can be read")
        sys.addaudithook(hook)
        try: seg["p"]
        except AttributeError as error: print(str(error)[:19], error.__notes__[0][:23], len(tries))
    """
    assert helpers.run(code, key).stdout == 'Can\'t get attribute while reading index "p" 2\n'
