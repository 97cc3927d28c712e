"""Thousands of damaged segments: no signal, no hang, no memory without bound, and nothing written by a refused call."""

import json
import mmap
import os
import random
import resource
import struct

import helpers
import pytest
from helpers import php_damage, system_v
from helpers.system_v import chunk, segment_bytes

import shmvar
from shmvar import php

STORM = """
import json, mmap, resource
sys.path.insert(0, sys.argv[4])
from helpers import php_damage
first, count, noted = int(key), int(sys.argv[2]), sys.argv[3]
with open(noted, "r+b") as file:
    notes = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
counts = php_damage.storm(range(first, first + count), notes)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([counts, grown]))
"""


def storm(first, count, tmp_path):
    """Examines these segments in a child process. Returns the counts of each kind, and by how many kB it has grown."""
    noted = tmp_path / "seeds"
    noted.write_bytes(bytes(8 * php_damage.THREADS))
    done = helpers.run(STORM, first, count, noted, helpers.TESTS, timeout=300, check=False)
    seeds = struct.unpack(f"<{php_damage.THREADS}Q", noted.read_bytes())
    assert done.returncode == 0, f"status {done.returncode} at one of the seeds {seeds}\n{done.stderr[-3000:]}"
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_of_10400_damaged_segments_each_is_read_as_the_document_says_or_refused(tmp_path, part):
    count = 2600
    counts, grown = storm(part * count, count, tmp_path)
    assert sum(counts.values()) == count and all(counts[kind] > count // 50 for kind in ("header", "chain", "sound"))
    assert grown < 64 << 10, f"the process has grown by {grown} kB"


@pytest.mark.slow
def test_segments_of_new_seeds(tmp_path):
    """Other segments in each run: a failure names its seed."""
    counts, _ = storm(int.from_bytes(os.urandom(6)), 400, tmp_path)
    assert sum(counts.values()) == 400


def test_bytes_that_change_all_the_time_harm_nobody(php_key, tmp_path):
    """Somebody writes damage into the segment while every call is made: values or errors, no signal, no hang."""
    code = """
        import random
        sys.path.insert(0, sys.argv[2])
        from helpers import php_damage, system_v
        from helpers.php_damage import INDEXES, outcome
        from shmvar import php
        segment, draw = php.attach(int(key)), random.Random(4)
        print("go", flush=True)
        while not os.path.exists(sys.argv[3]):
            for _ in range(200):
                index = draw.choice(INDEXES)
                outcome(lambda: segment[index])
                outcome(lambda: segment.put(index, "x" * draw.randrange(200)))
                outcome(lambda: segment.remove(index))
                outcome(lambda: list(segment.items()))
                outcome(segment.info)
                outcome(lambda: len(segment))
    """
    size = 4096
    good = segment_bytes([chunk(1, b"i:1;"), chunk(2, b's:5:"hello";')], size)
    system_v.make(php_key, good)
    end = tmp_path / "end"
    with system_v.RawSegment(php_key) as raw:
        child = helpers.start(code, php_key, helpers.TESTS, end)
        try:
            seed = 0
            for _ in helpers.looks(seconds=5):
                for _ in range(50):
                    seed += 1
                    content = php_damage.damaged(seed)[:size]
                    raw[: len(content)] = content
                    raw[:] = good
            end.touch()
            child.communicate(timeout=100)
            assert child.returncode == 0, child.returncode
        finally:
            helpers.end(child)


BOMBS = {
    "an array of a thousand million": lambda: b"a:1000000000:{",
    "a string of a thousand million": lambda: b's:1000000000:"',
    "nesting": lambda: b"a:1:{i:0;" * 200_000 + b"N;" + b"}" * 200_000,
    "nesting without an end": lambda: b"a:1:{i:0;" * 1_000_000,
    "nesting of objects": lambda: b'O:1:"A":1:{s:1:"a";' * 100_000,
    "many small arrays": lambda: b"a:400000:{" + b"".join(b"i:%d;a:0:{}" % n for n in range(400_000)) + b"}",
    "references to references": lambda: b"a:3:{i:0;a:1:{i:0;R:1;}i:1;R:2;i:2;R:3;}",
    "doubling": lambda: b"a:2:{i:0;a:1:{i:0;i:1;}i:1;R:2;}",
    "colliding keys": lambda: b"a:200000:{" + b"".join(b"i:%d;N;" % (n << 40) for n in range(200_000)) + b"}",
    "a length of many digits": lambda: b"s:" + b"9" * 1_000_000 + b':"',
    "a number of many digits": lambda: b"i:" + b"9" * 1_000_000 + b";",
    "a float of many digits": lambda: b"d:0." + b"1" * 1_000_000 + b";",
}


VALUES_OR_ERRORS = (shmvar.CorruptSegmentError, php.UnserializeError, list, dict, float)
"""`UnserializeError`: the text is whole, and asks for more than the limits allow."""


@pytest.mark.parametrize("what", BOMBS)
def test_a_text_that_is_a_bomb_is_a_value_or_an_error_within_the_limits(php_key, what):
    text = BOMBS[what]()

    def work():
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        with php.attach(php_key, len(text) + 1000) as segment:
            result = php_damage.outcome(lambda: segment[1])
            assert isinstance(result, VALUES_OR_ERRORS), type(result)
            again = php_damage.outcome(lambda: php.loads(text, max_values=100_000, max_memory=50 << 20, max_depth=1000))
            assert isinstance(again, (php.UnserializeError, list, dict, float)), type(again)
            if isinstance(result, shmvar.Error):
                assert system_v.names(result, php_key, 1)
            del result, again
            segment[1] = "mended"
            assert segment[1] == "mended"

    system_v.make(php_key, segment_bytes([chunk(1, text)], len(text) + 1000))
    helpers.in_child(work, timeout=100)


@pytest.mark.parametrize("limit", ["max_depth", "max_values", "max_memory"])
def test_each_limit_of_loads_is_an_error_that_names_it(limit):
    deep = b"a:1:{i:0;" * 50 + b"N;" + b"}" * 50
    wide = b"a:1000:{" + b"".join(b'i:%d;s:9:"xxxxxxxxx";' % n for n in range(1000)) + b"}"
    text, value = {"max_depth": (deep, 49), "max_values": (wide, 900), "max_memory": (wide, 2000)}[limit]
    with pytest.raises(php.UnserializeError) as caught:
        php.loads(text, **{limit: value})
    assert str(value) in str(caught.value).replace(",", "")
    assert php.dumps(php.loads(text)) == text


@pytest.mark.slow
def test_no_short_text_of_any_bytes_harms_the_reader(tmp_path):
    """100,000 texts, and all short ones over a small alphabet."""

    def work():
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        draw = random.Random(11)
        alphabet = b'aisdObNCErRS:;"{}0129-'
        for _ in range(50_000):
            text = php_damage.damaged_text(draw)
            php_damage.outcome(lambda text=text: php.loads(text))
            text = bytes(draw.choices(alphabet, k=draw.randrange(12)))
            result = php_damage.outcome(lambda text=text: php.loads(text))
            page[0] += 1
            if php_damage.is_error(result):
                assert isinstance(result, php.UnserializeError) and 0 <= result.offset <= len(text)

    page = memoryview(mmap.mmap(-1, 8)).cast("Q")
    helpers.in_child(work, timeout=200)
    assert page[0] == 50_000
