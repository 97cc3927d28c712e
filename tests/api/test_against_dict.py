"""A segment against a dict, through handles of two processes, in steps that hypothesis chooses."""

import itertools
import os
import pickle
import subprocess

import helpers
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import shmvar

WORKER = """
import pickle
segment = None
while True:
    try:
        name, args = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        if name == "attach":
            segment = shmvar.attach(*args)
            outcome = True
        elif name == "dict":
            outcome = dict(segment)
        elif name == "detach":
            outcome = segment.detach()
        elif name == "len":
            outcome = len(segment)
        else:
            outcome = getattr(segment, name)(*args)
    except Exception as error:
        outcome = error
    sys.stdout.buffer.write(pickle.dumps(outcome))
    sys.stdout.buffer.flush()
"""

NUMBER = itertools.count()
INDEXES = st.one_of(
    st.integers(-3, 12), st.sampled_from(["", "a", "b", "a longer index", "é" * 40, 2**63 - 1, -(2**63)])
)
SMALL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=60), st.binary(max_size=60)
)
LARGE = st.builds(lambda byte, length: bytes([byte]) * length, st.integers(0, 255), st.integers(0, 400_000))
VALUES = st.one_of(
    SMALL,
    LARGE,
    st.lists(SMALL, max_size=5),
    st.dictionaries(st.text(max_size=5), SMALL, max_size=4),
    st.builds(lambda value, length: [value] * length, st.integers(), st.integers(0, 5000)),
)
MISSING = object()


class Other:
    """A handle in another process."""

    def __init__(self):
        self.child = subprocess.Popen(helpers.command(WORKER), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, name, *args):
        pickle.dump((name, args), self.child.stdin)
        self.child.stdin.flush()
        outcome = pickle.load(self.child.stdout)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def end(self):
        self.child.stdin.close()
        assert self.child.wait(20) == 0
        self.child.stdout.close()


class Here:
    """A handle in this process, with the same interface as the other."""

    def __init__(self, key):
        self.segment = shmvar.attach(key)

    def call(self, name, *args):
        if name == "dict":
            return dict(self.segment)
        return len(self.segment) if name == "len" else getattr(self.segment, name)(*args)


class SegmentAgainstDict(RuleBasedStateMachine):
    other = None

    @initialize()
    def begin(self):
        if SegmentAgainstDict.other is None:
            SegmentAgainstDict.other = Other()
        self.key = f"test-stateful-{os.getpid()}-{next(NUMBER)}"
        self.here, self.model, self.full = Here(self.key), {}, False
        self.other.call("attach", self.key)

    def who(self, other):
        return self.other if other else self.here

    def try_put(self, act, index, value):
        """Either the put fits, or the segment is full and nothing has changed."""
        try:
            act()
        except shmvar.SegmentFullError as error:
            assert self.full and error.needed > error.free
        else:
            self.model[index] = value

    @rule(other=st.booleans(), index=INDEXES, value=VALUES)
    def put(self, other, index, value):
        self.try_put(lambda: self.who(other).call("put", index, value), index, value)

    @rule(other=st.booleans(), index=INDEXES)
    def get(self, other, index):
        got = self.who(other).call("get", index, "missing")
        assert repr(got) == repr(self.model.get(index, "missing"))
        assert self.who(not other).call("has", index) is (index in self.model)

    @rule(other=st.booleans(), index=INDEXES)
    def remove(self, other, index):
        assert self.who(other).call("remove", index) is (self.model.pop(index, MISSING) is not MISSING)

    @rule(other=st.booleans(), index=INDEXES)
    def pop(self, other, index):
        assert repr(self.who(other).call("pop", index, "gone")) == repr(self.model.pop(index, "gone"))

    @rule(other=st.booleans())
    def popitem(self, other):
        try:
            index, value = self.who(other).call("popitem")
        except KeyError:
            assert not self.model
        else:
            assert repr(self.model.pop(index)) == repr(value)

    @rule(other=st.booleans(), index=INDEXES, value=VALUES)
    def setdefault(self, other, index, value):
        if index in self.model:
            assert repr(self.who(other).call("setdefault", index, value)) == repr(self.model[index])
        else:
            self.try_put(lambda: self.who(other).call("setdefault", index, value), index, value)

    @rule(other=st.booleans(), first=st.integers(100, 4000), count=st.integers(1, 900), value=SMALL)
    @precondition(lambda self: not self.full)
    def many(self, other, first, count, value):
        items = {first + n * 17: value for n in range(count)}
        self.who(other).call("update", items)
        self.model.update(items)

    @rule(other=st.booleans())
    def remove_many(self, other):
        for index in [index for index in self.model if isinstance(index, int) and index >= 100][:300]:
            assert self.who(other).call("remove", index)
            del self.model[index]

    @rule(other=st.booleans())
    def clear(self, other):
        self.who(other).call("clear")
        self.model.clear()

    @rule(other=st.booleans())
    def trim(self, other):
        self.who(other).call("trim")

    @rule(other=st.booleans(), tight=st.booleans())
    def resize(self, other, tight):
        used = self.here.call("info").used
        self.who(other).call("resize", used + 40_000 if tight else 1 << 30)
        self.full = tight

    @rule()
    def reattach(self):
        self.other.call("detach")
        self.other.call("attach", self.key)

    @rule(stay=st.booleans())
    def other_process_dies_and_is_replaced(self, stay):
        if not stay:
            self.other.child.kill()
            self.other.child.wait(20)
            self.other.child.stdin.close()
            self.other.child.stdout.close()
            SegmentAgainstDict.other = Other()
            self.other.call("attach", self.key)

    @invariant()
    def both_agree_with_the_dict(self):
        if hasattr(self, "model"):
            for who in (self.here, self.other):
                assert who.call("len") == len(self.model)

    def teardown(self):
        if not hasattr(self, "model"):
            return
        try:
            for who in (self.here, self.other):
                found = who.call("dict")
                assert found.keys() == self.model.keys()
                assert all(repr(found[index]) == repr(value) for index, value in self.model.items())
            assert self.here.call("check").variables == len(self.model)
            info = self.here.call("info")
            assert info.used == sum(self.here.call("stat", index).size for index in self.model) and info.attached == 2
            self.other.call("clear")
            assert self.here.call("info").used == 0 == self.here.call("check").variables
            self.other.call("detach")
            assert self.here.call("info").attached == 1
        finally:
            self.here.segment.destroy()
            self.here.segment.detach()


@pytest.mark.slow
def test_a_segment_and_a_dict_agree_through_two_processes():
    SegmentAgainstDict.other = None
    try:
        steps = settings(
            max_examples=220,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        run_state_machine_as_test(SegmentAgainstDict, settings=steps)
    finally:
        if SegmentAgainstDict.other is not None:
            SegmentAgainstDict.other.end()
