"""The scripts against a model in Python, in steps that hypothesis chooses, on a clock that the test sets.

The model knows more than a dict: versions to the number, deadlines, what is charged, which call does not fit. After
each step `check` verifies what the server keeps twice.
"""

import itertools
import math

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import shmvar
from shmvar._remote import scripts
from shmvar._remote.link import Link
from shmvar._remote.records import Stored

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

CLOCK = b"shmvar-test-clock"
NUMBER = itertools.count(1)
INDEXES = st.sampled_from([0, -1, 7, 2**63 - 1, "", "a", "b", "ключ" * 20, "k" * 1000])
INTS = st.one_of(
    st.integers(-5, 5),
    st.integers(-(10**17), 10**17),
    st.sampled_from([10**15, 10**15 - 1, 10**15 + 1, -(10**15), 2**53, 2**63, 10**599, -(10**600), 10**640]),
    st.integers(-(10**40), 10**40),
)
NUMBERS = st.one_of(INTS, st.floats(allow_nan=False))
LARGE = st.builds(lambda byte, length: bytes([byte]) * length, st.integers(0, 255), st.integers(16_000, 40_000))
# No containers: their pickles are written by one of two writers, and differ in length.
VALUES = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=40), LARGE)
TTLS = st.one_of(st.none(), st.none(), st.integers(1, 30), st.sampled_from([0.000001, 1e9, 1e300]))
ENDLESS = 2**53


@pytest.fixture
def clock(server, monkeypatch):
    """The scripts ask a key for the time, in microseconds, instead of the server."""
    code = b"(function() local us = redis.call('GET', '%b') return {0, tonumber(us)} end)()" % CLOCK
    for name, script in vars(scripts).items():
        if isinstance(script, scripts.Script):
            text = script.text.replace(b"redis.call('TIME')", code)
            changed = scripts.Script.__new__(scripts.Script)
            changed.reads, changed.text = script.reads, text
            changed.sha = scripts.hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
            monkeypatch.setattr(scripts, name, changed)
    yield
    server.call("DEL", CLOCK)


class Summed(float):
    """A float that the server has added, and writes with all of its digits."""


class Variable:
    def __init__(self, value, version, ends):
        self.value, self.version, self.ends = value, version, ends


def charged(index, value, ends):
    """What a variable is charged: docs/remote.md."""
    stored = Stored(value)
    length = len(f"{value:.17g}") if type(value) is Summed else len(stored.payload) + stored.total
    text = len(index.encode()) if isinstance(index, str) else 0
    return 32 + text + (9 if ends is None else 17) + length


class ScriptsAgainstModel(RuleBasedStateMachine):
    server = None

    @initialize(start=st.sampled_from([1_700_000_000_000_000, 2**52]))
    def begin(self, start):
        self.key = self.server.url(f"model-{next(NUMBER)}")
        self.time, self.variables, self.limit = start, {}, 1 << 30
        self.set_clock()
        self.segment = shmvar.attach(self.key)
        self.handles = [self.segment, shmvar.attach(self.key, trust=True)]
        self.last, self.twice = self.time, False

    def set_clock(self):
        self.server.call("SET", CLOCK, self.time)

    # --- the model

    def live(self, index):
        found = self.variables.get(index)
        return found if found is not None and (found.ends is None or found.ends > self.time) else None

    def all_live(self):
        return {index: found for index in self.variables if (found := self.live(index))}

    def next_version(self):
        self.last = max(self.last + 1, self.time)
        return self.last

    def ends(self, ttl):
        if ttl is None:
            return None
        ends = self.time + max(1, round(min(ttl * 1e6, 2**53)))
        return None if ends > ENDLESS else ends

    def fits(self, changes):
        """Whether these variables, {index: (value, deadline)}, can be stored. What has expired is in nobody's way."""
        cost = sum(charged(index, *what) for index, what in changes.items())
        others = sum(charged(index, v.value, v.ends) for index, v in self.all_live().items() if index not in changes)
        there = sum(charged(index, v.value, v.ends) for index in changes if (v := self.variables.get(index)))
        return cost + others <= self.limit, cost, there

    def store(self, act, changes, kept=False):
        """Carries out a call that stores these variables, {index: (value, deadline)}, or is refused and stores none."""
        fits, cost, _ = self.fits(changes)
        before = {index: self.variables.get(index) for index in changes}
        try:
            result = act()
        except shmvar.SegmentFullError as error:
            assert not fits and error.needed == cost and error.needed > error.free and error.size == self.limit
            assert all(self.variables.get(index) is found for index, found in before.items())
            return None, False
        # A variable may take less than before in a segment that others have filled.
        smaller = sum(charged(i, v.value, v.ends) for i, v in before.items() if v)
        assert fits or cost <= smaller
        version = self.next_version()
        for index, (value, ends) in changes.items():
            self.variables[index] = Variable(value, version, ends)
        return result, True

    def handle(self, other):
        return self.handles[other]

    def same(self, got, value):
        assert type(got) is (float if type(value) is Summed else type(value)) and repr(got) == repr(value)

    # --- time, and answers that are lost

    @rule(seconds=st.sampled_from([0, 0, 1e-6, 0.5, 3, 12, 40, 1e9 + 1]))
    def time_passes(self, seconds):
        self.time = min(self.time + round(seconds * 1e6), 2**53 - 2**40)
        self.set_clock()

    @rule(seconds=st.sampled_from([1e-6, 1, 3600]))
    def the_clock_is_set_back(self, seconds):
        """Versions grow all the same."""
        # What has expired would be there again, unless it was removed meanwhile.
        if all(found.ends is None for found in self.variables.values()):
            self.time -= round(seconds * 1e6)
            self.set_clock()

    @rule()
    def every_request_is_sent_twice(self):
        self.twice = True
        ScriptsAgainstModel.repeats = 2

    @rule()
    def each_is_sent_once(self):
        ScriptsAgainstModel.repeats = 1

    # --- changes of one variable

    @rule(other=st.booleans(), index=INDEXES, value=VALUES, ttl=TTLS)
    def put(self, other, index, value, ttl):
        self.store(lambda: self.handle(other).put(index, value, ttl=ttl), {index: (value, self.ends(ttl))})

    @rule(other=st.booleans(), index=INDEXES, amount=NUMBERS, ttl=TTLS)
    def add(self, other, index, amount, ttl):
        found = self.live(index)
        old = found.value if found else 0
        act = lambda: self.handle(other).add(index, amount, ttl=ttl)  # noqa: E731
        if type(old) not in (int, float, Summed):
            with pytest.raises(TypeError):
                act()
            return
        try:
            value = (float(old) if type(old) is Summed else old) + amount
        except OverflowError:
            with pytest.raises(OverflowError):
                act()
            return
        longest = len(str(old)) if type(old) is int else len(str(amount)) if type(amount) is int else 0
        if found and type(value) is float and longest <= 300 and (type(amount) is float or abs(amount) < 10**15):
            value = Summed(value)
        result, stored = self.store(act, {index: (value, found.ends if found else self.ends(ttl))})
        if stored:
            self.same(result, value)

    @rule(other=st.booleans(), index=INDEXES, amounts=st.lists(INTS, min_size=1, max_size=6))
    def count(self, other, index, amounts):
        """Sums of ints of any length are Python's."""
        self.put(other, index, 0, None)
        if self.live(index) and self.live(index).value == 0:
            for amount in amounts:
                self.add(other, index, amount, None)

    @rule(other=st.booleans(), index=INDEXES)
    def remove(self, other, index):
        found = self.live(index)
        assert self.handle(other).remove(index) is (found is not None)
        self.removed(index, found)

    def removed(self, index, found):
        if found:
            del self.variables[index]
            self.next_version()

    @rule(other=st.booleans(), index=INDEXES)
    def delete(self, other, index):
        found = self.live(index)
        try:
            del self.handle(other)[index]
        except KeyError:
            assert not found
        else:
            assert found
        self.removed(index, found)

    @rule(other=st.booleans(), index=INDEXES)
    def pop(self, other, index):
        found = self.live(index)
        self.same(self.handle(other).pop(index, "none"), found.value if found else "none")
        self.removed(index, found)

    @rule(other=st.booleans())
    def popitem(self, other):
        try:
            index, value = self.handle(other).popitem()
        except KeyError:
            assert not self.all_live()
            return
        found = self.live(index)
        self.same(value, found.value)
        self.removed(index, found)

    @rule(other=st.booleans(), index=INDEXES, value=VALUES, ttl=TTLS)
    def swap(self, other, index, value, ttl):
        found = self.live(index)
        act = lambda: self.handle(other).swap(index, value, "none", ttl=ttl)  # noqa: E731
        result, stored = self.store(act, {index: (value, self.ends(ttl))})
        if stored:
            self.same(result, found.value if found else "none")

    @rule(other=st.booleans(), index=INDEXES, value=VALUES, ttl=TTLS)
    def setdefault(self, other, index, value, ttl):
        found = self.live(index)
        if found:
            self.same(self.handle(other).setdefault(index, value, ttl=ttl), found.value)
            return
        act = lambda: self.handle(other).setdefault(index, value, ttl=ttl)  # noqa: E731
        result, stored = self.store(act, {index: (value, self.ends(ttl))})
        if stored:
            self.same(result, value)

    @rule(other=st.booleans(), index=INDEXES, value=VALUES, ttl=TTLS, off=st.sampled_from([0, 0, 1, -1, 2**60]))
    def compare_and_put(self, other, index, value, ttl, off):
        found = self.live(index)
        version = (found.version if found else 0) + off
        if version < 0:
            version = 2**53
        act = lambda: self.handle(other).compare_and_put(index, version, value, ttl=ttl)  # noqa: E731
        if version != (found.version if found else 0):
            assert act() is False
            return
        result, stored = self.store(act, {index: (value, self.ends(ttl))})
        assert result is True or not stored

    @rule(other=st.booleans(), index=INDEXES, value=VALUES, ttl=TTLS, missing=st.booleans())
    def modify(self, other, index, value, ttl, missing):
        found = self.live(index)
        given = []

        def function(old):
            given.append(old)
            return value

        act = lambda: self.handle(other).modify(index, function, *["first"] * missing, ttl=ttl)  # noqa: E731
        if not found and not missing:
            with pytest.raises(KeyError):
                act()
            return
        kept = ttl is None and found
        result, stored = self.store(act, {index: (value, found.ends if kept else self.ends(ttl))})
        self.same(given[0], found.value if found else "first")
        if stored:
            self.same(result, value)

    @rule(other=st.booleans(), index=INDEXES)
    def touch(self, other, index):
        found = self.live(index)
        version = self.handle(other).touch(index)
        if found:
            found.version = self.next_version()
            assert version == found.version
        else:
            assert version == 0

    @rule(other=st.booleans(), index=INDEXES, ttl=TTLS)
    def expire(self, other, index, ttl):
        found = self.live(index)
        ends = self.ends(ttl)
        try:
            assert self.handle(other).expire(index, ttl) is (found is not None)
        except shmvar.SegmentFullError:
            assert found and found.ends is None and not self.fits({index: (found.value, ends)})[0]
            return
        if found:
            found.ends = ends

    # --- changes of many

    @rule(other=st.booleans(), values=st.dictionaries(INDEXES, VALUES, max_size=6), ttl=TTLS)
    def put_many(self, other, values, ttl):
        if not values:
            self.handle(other).put_many({}, ttl=ttl)
            return
        changes = {index: (value, self.ends(ttl)) for index, value in values.items()}
        self.store(lambda: self.handle(other).put_many(values, ttl=ttl), changes)

    @rule(other=st.booleans(), first=st.integers(100, 200), count=st.integers(1, 60), ttl=TTLS)
    def put_range(self, other, first, count, ttl):
        self.put_many(other, {number: number for number in range(first, first + count)}, ttl)

    @rule(other=st.booleans())
    def clear(self, other):
        self.handle(other).clear()
        self.variables.clear()
        self.next_version()

    @rule(other=st.booleans())
    def trim(self, other):
        self.handle(other).trim()
        self.variables = self.all_live()

    @rule(other=st.booleans(), room=st.sampled_from([0, 10, 100, 20_000, 1 << 30, -1]))
    def resize(self, other, room):
        used = sum(charged(index, v.value, v.ends) for index, v in self.all_live().items())
        size = max(used + room, 1)
        try:
            self.handle(other).resize(size)
        except shmvar.SegmentFullError as error:
            assert size < used and error.needed > size
        else:
            assert size >= used
            self.limit = size
        assert self.segment.size == self.limit

    # --- reads

    @rule(other=st.booleans(), index=INDEXES)
    def read(self, other, index):
        handle, found = self.handle(other), self.live(index)
        self.same(handle.get(index, "none"), found.value if found else "none")
        assert handle.has(index) is (index in handle) is (found is not None)
        assert handle.version(index) == (found.version if found else 0)
        if not found:
            for call in (handle.__getitem__, handle.view, handle.get_versioned, handle.stat):
                with pytest.raises(KeyError):
                    call(index)
            return
        self.same(handle[index], found.value)
        value, version = handle.get_versioned(index)
        self.same(value, found.value)
        assert version == found.version
        facts = handle.stat(index)
        assert (facts.size, facts.version) == (charged(index, found.value, found.ends), found.version)
        left = None if found.ends is None else (found.ends - self.time) / 1e6
        assert (facts.expires_in is None) == (left is None)
        assert left is None or math.isclose(facts.expires_in, left, rel_tol=1e-6, abs_tol=1e-6)

    @rule(other=st.booleans(), indexes=st.lists(INDEXES, max_size=8))
    def get_many(self, other, indexes):
        found = self.handle(other).get_many(indexes)
        wanted = {index: v.value for index in dict.fromkeys(indexes) if (v := self.live(index))}
        assert list(found) == list(wanted) and repr(found) == repr(wanted)

    @rule(other=st.booleans())
    def copy(self, other):
        found = self.handle(other).copy()
        assert {index: repr(value) for index, value in found.items()} == {
            index: repr(variable.value) for index, variable in self.all_live().items()
        }

    @invariant()
    def what_is_kept_twice_agrees(self):
        if not hasattr(self, "segment"):
            return
        live = self.all_live()
        report, facts = self.segment.check(), self.segment.info()
        least = sum(charged(index, v.value, v.ends) for index, v in live.items())
        most = sum(charged(index, v.value, v.ends) for index, v in self.variables.items())
        assert least <= report.used == facts.used <= most and facts.size == self.limit
        assert len(live) == len(self.segment) == facts.count <= report.variables <= len(self.variables)
        assert set(self.segment) == set(live)

    def teardown(self):
        ScriptsAgainstModel.repeats = 1
        if hasattr(self, "segment"):
            try:
                self.trim(False)
                self.what_is_kept_twice_agrees()
                assert self.segment.check().variables == len(self.variables)
                self.clear(False)
                assert self.segment.info().used == 0
                assert not self.server.call("KEYS", self.segment._requests.data + b"b:*")
            finally:
                self.segment.destroy()


ScriptsAgainstModel.repeats = 1


@pytest.mark.slow
def test_the_scripts_and_a_model_agree_after_each_step(server, clock, monkeypatch):
    run = Link.run

    def repeated(self, requests, waited, answers_to=None):
        """Every change arrives as often as its answer was lost."""
        for _ in range(ScriptsAgainstModel.repeats - 1 if waited.changes else 0):
            run(self, requests, waited, answers_to)
        return run(self, requests, waited, answers_to)

    def first(self, *arguments):
        """What is drawn by chance would be another one when hypothesis repeats its steps."""
        if arguments[0] == b"HRANDFIELD":
            return sorted(call(self, b"HKEYS", arguments[1]))[:1]
        return call(self, *arguments)

    call = Link.call
    monkeypatch.setattr(Link, "call", first)
    monkeypatch.setattr(Link, "run", repeated)
    monkeypatch.setattr(ScriptsAgainstModel, "server", server)
    deep = not settings().derandomize
    steps = settings(
        max_examples=1000 if deep else 80,
        stateful_step_count=60 if deep else 30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(ScriptsAgainstModel, settings=steps)
