"""The displays of what is smaller than a segment: infos, reports, locks and queues."""

import os

import helpers
import pytest
from helpers.shown_html import shown

from shmvar import _core, _display

EVIL = "</table><script>alert('1')</script>\u202e\x1b[31m"


def facts(object):
    """The names and what they are, as the only table of a display says."""
    found = shown(_display.html(object))
    return dict(found.tables[0]), found.text


def test_facts_about_a_segment(seg):
    seg["x"] = bytes(2_000_000)
    told, text = facts(seg.info())
    assert repr(seg.key) in text and "1 variable " in text and "of 1.0 GiB (0 %)" in text
    assert told["mode, owner"] == f"600, user {os.geteuid()}" and told["attached for writing"] == "1 process"
    assert told["free"].endswith(f"({seg.info().free:,} bytes)") and told["evicts"] == "nothing"
    assert seg.info()._repr_html_() == seg.info()._repr_mimebundle_()["text/html"]
    assert seg.info()._repr_mimebundle_()["text/plain"] == repr(seg.info())


@pytest.mark.parametrize("state", ["damaged", "foreign", "refused"])
def test_facts_about_what_is_no_usable_segment(state):
    info = _core._segment_info(None, EVIL, (0, 0, [0] * 7, 0), [0o600, 0, 0], ([], []), (state, EVIL, None))
    told, text = facts(info)
    assert state in text and "<script>" in text and "\\u202e\\x1b[31m" in text and set(told) == {"memory", "owner"}


def test_facts_that_only_damage_makes():
    words = (0, 2**64 - 1, [1, 2, 0, 0, 0, 0, 0], 0)
    info = _core._segment_info(5, "shmvar.i.5", words, [0o600, 0, 0], ([], []), ("usable", None, "lru"))
    told, text = facts(info)
    assert told["evicts"] == "lru: 0 so far" and told["created"].startswith("2554-07-2")
    assert "2 B of 1 B (200 %)" in text


def test_facts_about_a_variable(seg):
    seg.put("x", [1, 2], ttl=20_000)
    told, _ = facts(seg.stat("x"))
    assert told["type"] == "list" and told["size"] == f"{seg.stat('x').size} bytes" and told["expires"] == "in 6 h"
    assert told["version"] == f"{seg.version('x'):,}" and told["in place"] == "no"
    assert told["view() copies"] == "less than 16 KiB"
    seg.put_many({"text": "x" * 100_000, "bytes": bytes(100_000)})
    assert facts(seg.stat("text"))[0]["view() copies"] == "the value, in part or whole"
    assert facts(seg.stat("bytes"))[0]["view() copies"] == "less than 16 KiB"
    hostile = _core._variable_info(2**40, 1, None, EVIL)
    told, _ = facts(hostile)
    assert told["type"] == EVIL.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b") and told["expires"] == "stays"
    assert told["size"] == "1.0 TiB (1,099,511,627,776 bytes)"


def test_a_report_of_a_check(seg):
    seg.put_many({number: "x" * 100 for number in range(1500)})
    told, text = facts(seg.check())
    assert "no damage found" in text and told["variables"] == "1,500" and told["charged for them"].startswith("2")
    assert len(told) == len(seg.check()._asdict())
    undecided = _core._check_report(([0] * 5, [0] * 7, [0, 0, 1234]))
    assert "1,234 could not be compared" in facts(undecided)[1]


def test_a_lock_free_and_held_and_of_a_detached_handle(seg, key):
    lock = seg.lock(EVIL[:20], timeout=90)
    told, text = facts(lock)
    assert told["state"] == "free" and repr(EVIL[:20]) in text and told["of"] == f"segment {key!r}"
    with lock:
        assert facts(lock)[0]["state"] == f"held by this process (pid {os.getpid()})"
        other = helpers.run("import sys; print(shmvar.attach(key).lock(sys.argv[2])._repr_html_())", key, EVIL[:20])
        assert dict(shown(other.stdout.strip()).tables[0])["state"] == f"held by process {os.getpid()}"
    seg.detach()
    assert facts(lock)[0]["state"].startswith("DetachedError")
    assert "text/html" in lock._repr_mimebundle_()


def test_a_queue_and_one_of_a_detached_handle(seg):
    queue = seg.queue("jobs", maxsize=5000)
    assert facts(queue)[0]["items"] == "0 items of 5,000 waiting"
    queue.put(1), queue.put(2)
    with queue.take():
        told, text = facts(queue)
    assert told["items"].startswith("1 item of 5,000 waiting, 1 taken, ") and "'jobs'" in text
    seg.detach()
    assert facts(queue)[0]["items"].startswith("DetachedError")
    assert "text/html" in queue._repr_mimebundle_()


def test_an_object_of_another_kind_is_named_and_not_an_error():
    found = shown(_display.html(object()))
    assert "not shown" in found.text and "object object" in found.text
