"""Without memory a call either works or raises `MemoryError`: never a signal, a panic or half of a change."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import system_v

import shmvar
from shmvar import php

PARENT = Path(__file__).with_name("calls_without_memory.py")
OF_PHP = Path(__file__).with_name("php_calls_without_memory.py")
#: How a call may end. A lack of address space or of threads is reported as such.
ENDS = ("right", "MemoryError", "no address space", "no thread", "the interpreter itself")
#: Methods that users do not call, or that are tested through another one.
INTERNAL = (
    "_ipython_key_completions_",
    "_repr_html_",
    "_repr_mimebundle_",
    "_late",
    "_mark",
    "_mark_all",
    "_nudge",
    "_watch",
    "_watch_count",
    "_watcher",
    "_end",
    "_may_try",
    "_release",
    "_try",
    "_may_step",
    "_round",
    "_step",
    "_turn",
    "_what",
    "_late_any",
    "_make_in_place",
    "_mark_any",
    "_refuse_in_place",
    "_stream",
    "_encode",
    "_end_holds",
    "_held",
    "_leave",
    "_leave_now",
    "_pickle",
    "_put_pickle",
    "_tickets",
    "_try_get",
    "_try_put",
    "_try_put_pickle",
    "_get_text",
    "_put_text",
    "_send_now",
)


def public():
    """Every call of the public interface: for a new one without a line in the table, the test below fails."""
    own = set(dir(object)) - {"__eq__", "__ne__", "__reduce__", "__repr__"} | {"__module__", *INTERNAL}
    # These need no memory; the order comparisons only say that there is no order.
    names = {f"Segment.{name}" for name in set(dir(shmvar.Segment)) - own}
    names |= {f"Lock.{name}" for name in set(dir(shmvar.Lock)) - own - {"__eq__", "__ne__", "__reduce__", "__repr__"}}
    plain = own | {"__eq__", "__ne__", "__reduce__", "__repr__"}
    names |= {f"Changes.{name}" for name in set(dir(shmvar.Changes)) - plain}
    names |= {f"Queue.{name}" for name in set(dir(shmvar.Queue)) - plain}
    names |= {f"TakenItem.{name}" for name in set(dir(shmvar.TakenItem)) - plain}
    functions = {name for name in shmvar.__all__ if callable(getattr(shmvar, name))}
    errors = {name for name in functions if isinstance(getattr(shmvar, name), type) and name.endswith("Error")}
    return names | of_php(plain) | functions - errors - {"Segment", "Lock", "Changes", "Queue", "TakenItem"}


def of_php(plain):
    """The same of `shmvar.php`."""
    functions = {name for name in php.__all__ if callable(getattr(php, name))}
    names = {name for name in functions if not name.endswith("Error")} - {"Segment"}
    for name in ("Segment", "Semaphore", "MessageQueue", "Shmop"):
        names |= {f"{name}.{member}" for member in set(dir(getattr(php, name))) - plain}
    return {f"php.{name}" for name in names}


class Parent:
    """The process whose children run out of memory."""

    def __init__(self, key, archive, php_keys):
        # A process that printed a backtrace without memory hung once.
        # The threads of numpy's libraries leave stacks behind, in which others then begin without memory.
        environment = {**os.environ, "RUST_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(PARENT), key, archive, *map(str, php_keys)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.names = json.loads(self.process.stdout.readline())
        self.answers = {}

    def ask(self, name):
        if name not in self.answers:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
            self.answers[name] = json.loads(self.process.stdout.readline())
        return self.answers[name]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    key = f"test-no-memory-{os.getpid()}"
    php_keys = [system_v.unused_key() for _ in range(4)]
    asked = Parent(key, str(tmp_path_factory.mktemp("no-memory") / "archive"), php_keys)
    yield asked
    asked.process.stdin.close()
    status = asked.process.wait(60)
    for name in (key, key + "-few"):
        shmvar.destroy(name)
    left = system_v.objects(set(php_keys))
    system_v.remove(left)
    assert (status, left) == (0, set())


def names():
    """Reads the table of calls from the source, without running it."""
    found = []
    for source in (PARENT.read_text(), OF_PHP.read_text()):
        table = source[source.index("\nCALLS = {") : source.index("\n}\n", source.index("\nCALLS = {"))]
        found += [line.split('"')[1] for line in table.splitlines() if line.startswith('    "')]
    return found


def test_every_public_call_is_tried(parent):
    tried = {name.split(":")[0] for name in parent.names}
    assert sorted(parent.names) == sorted(names())
    assert not public() - tried, "these calls are not tried without memory"


@pytest.mark.parametrize("name", names())
def test_without_memory_a_call_is_a_memory_error_or_right(parent, name):
    rows = parent.ask(name)
    assert len(rows) in (12, 14)
    wrong = [row for row in rows if row[2] not in ENDS]
    assert not wrong, f"limit, KiB to spare, what came of it: {wrong}"


@pytest.mark.parametrize("name", ["Segment.__iter__", "Segment.put_many", "Segment.check", "Segment.get_many"])
def test_the_limits_are_such_that_a_call_meets_them(parent, name):
    assert ["AS", 256, "MemoryError"] in parent.ask(name)
