"""What a notebook shows of a segment, in every state that a segment may be in."""

import os
import signal
import sys

import helpers
import pytest
from helpers.shown_html import shown

import shmvar
from shmvar import _core, _text
from shmvar._display import elements, memory

HEAD = ["index", "type", "size", "version", "expires in", "value"]


def of(segment):
    return shown(segment._repr_html_())


def test_head_table_and_map_say_what_the_segment_is(key):
    with shmvar.attach(key, 1 << 20) as seg:
        seg.put_many({5: [1, 2], "text": "hello", -3: 2.5, "big": bytes(100_000)})
        seg.put("soon", None, ttl=20_000)
        found, info = of(seg), seg.info()
        for part in (repr(key), "5 variables", "mode 600", "1 process attached", " trusted", "of 1.0 MiB (10 %)"):
            assert part in found.text, part
        assert "read-only" not in found.text and "not trusted" not in found.text and "more" not in found.text
        assert any(label.endswith(" of 1.0 MiB used, 10 %") for label in found.labels)
        assert found.tables[0][0] == HEAD
        rows = {row[0]: row[1:] for row in found.rows()}
        assert list(rows) == ["-3", "5", "'big'", "'soon'", "'text'"]
        version = f"{seg.version(5):,}"
        assert rows["5"] == ["list", "32 B", version, "", "[1, 2]"]
        assert rows["-3"][0] == "float" and rows["-3"][4] == "2.5" and rows["'text'"][4] == "'hello'"
        assert rows["'big'"][1] == "97.8 KiB" and rows["'big'"][4] == "…"
        assert rows["'soon'"][3] == "6 h" and rows["'soon'"][4] == "None"
        assert info.used > 100_000


def test_numbers_have_separators_and_more_variables_are_counted(seg):
    seg.put_many({number: number for number in range(12_345)})
    found = of(seg)
    assert "12,345 variables" in found.text and "… 12,245 more" in found.text
    assert len(found.rows()) == 100


def test_of_some_thousand_the_first_ones_in_order_are_shown(seg):
    seg.put_many({number: number for number in range(4_000)})
    seg["text"] = seg[-1] = 0
    assert [row[0] for row in of(seg).rows()] == [str(number) for number in range(-1, 99)]


def test_a_hundred_variables_are_all_shown(seg):
    seg.put_many({number: number for number in range(100)})
    found = of(seg)
    assert [row[0] for row in found.rows()] == [str(n) for n in range(100)] and "more" not in found.text


def test_an_empty_one_says_so(seg):
    found = of(seg)
    assert "0 variables" in found.text and "no variables" in found.text and not found.tables


def test_a_full_one_is_seen_to_be_full(key):
    with shmvar.attach(key, 100_000) as seg:
        seg["much"] = bytes(95_000)
        html = seg._repr_html_()
    assert "(95 %)" in shown(html).text and "width:95.1%;background-color:#d97706" in html


def test_a_detached_handle_says_so_and_nothing_else(seg):
    seg["secret"] = "value"
    seg.detach()
    found = of(seg)
    assert "detached" in found.text and repr(seg.key) in found.text and not found.tables
    assert "trusted" not in found.text and "value" not in found.text


def test_a_destroyed_one_is_shown_and_said_to_be_destroyed(key):
    with shmvar.attach(key) as seg:
        seg["x"] = 1
        seg.destroy()
        found = of(seg)
    assert "destroyed" in found.text and found.rows()[0][0] == "'x'"


def test_read_only_and_untrusted_handles_say_so(seg, key):
    seg["x"] = 1
    with shmvar.attach(key, readonly=True, trust=False) as other:
        found = of(other)
    assert "read-only" in found.text and "not trusted" in found.text and found.rows()[0][5] == "1"


def test_one_that_evicts_says_what_and_how_many(key):
    with shmvar.attach(key, 100_000, evict="lru") as seg:
        for number in range(20):
            seg[number] = bytes(10_000)
        found, evicted = of(seg), seg.info().evicted
    assert "evicts: lru" in found.text and evicted and f"{evicted} variables evicted so far" in found.titles


def test_locks_and_queues_are_named_some_of_them(seg):
    for number in range(9):
        seg.lock(f"lock {number}").acquire()
    seg.queue("jobs").put(1)
    text = of(seg).text
    assert text.count(f"by this process (pid {os.getpid()})") == 5 and "… 4 more" in text
    assert "'jobs': 1 item waiting, 0 taken" in text


def test_arrays_in_place_and_large_ones_are_described_and_not_read(seg):
    numpy = pytest.importorskip("numpy")
    seg.array("field", shape=(3, 4), dtype="f4")
    seg.buffer("ring", 1000)
    seg["large"] = numpy.zeros((250, 400))
    seg["dict of one"] = {"array": numpy.zeros(100_000)}
    rows = {row[0]: row for row in of(seg).rows()}
    assert rows["'field'"][5].startswith("in place: ") and "(3, 4)" in rows["'field'"][5]
    assert rows["'ring'"][5].startswith("in place: bytes")
    assert rows["'large'"][1] == "numpy.ndarray" and rows["'large'"][5] == "array: <f8 (250, 400)"
    assert rows["'dict of one'"][5] == "…"


def test_a_damaged_value_is_said_to_be_and_the_others_are_shown(key):
    with shmvar.attach(key) as seg:
        seg[1] = {"some": ["list"], "of": (1, 2)}
        seg["good"] = [7]
        with helpers.Raw(seg) as raw:
            offset, length = raw.record(1)
            raw.write(offset + length - 20, b"\xff" * 20)
        rows = {row[0]: row for row in of(seg).rows()}
        assert rows["'good'"][5] == "[7]" and "not readable: " in rows["1"][5]
        seg.destroy()


def test_a_damaged_segment_is_shown_as_far_as_it_can_be_read(key):
    with shmvar.attach(key) as seg:
        seg["x"] = 1
        with helpers.Raw(seg) as raw:
            for at in {raw.directory()[0], *(leaf.at for leaf in raw.leaves())}:
                raw.write(at, b"\xff" * 32)
        found = of(seg)
        assert repr(key) in found.text and "damaged" in found.text
        assert isinstance(seg._repr_mimebundle_()["text/plain"], str)
        seg.destroy()


def test_a_stopped_writer_holds_no_display_up(seg, key, children):
    """The lock is held by a process that is stopped: each call that waits for it would wait for 10 seconds."""
    seg.put_many({"x": 1, "y": "text"})
    child = helpers.start("s = shmvar.attach(key); print('go', flush=True); sys.stdin.read()", key)
    children.append(child)
    with helpers.Raw(seg) as raw:
        raw.hold_lock(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        try:
            with helpers.promptly():
                found = of(seg)
            assert [row[5] for row in found.rows()] == ["1", "'text'"] and "2 processes attached" in found.text
        finally:
            raw.free_lock()


def test_hostile_text_is_text_wherever_it_stands(new_key):
    evil = "</td></table></div><script>alert('1')</script><b>&amp;\"'\n\t\x1b[31m\u202eevil\u2066\x00"
    key = new_key() + evil[:40]
    with shmvar.attach(key, 1 << 20) as seg:
        try:
            seg[evil] = evil
            seg["list"] = [evil]
            seg.lock(evil).acquire()
            seg.queue(evil).put(evil)
            _core._put_pickle(seg, "class", b"\x80\x04c" + b"<b>mod\x1b[31m&ule" * 9 + b"\n<i>class\n.")
            found = of(seg)
            for part in (repr(key)[:50], "<script>alert", "</td></table></div><script>"):
                assert part in found.text
            assert "\\x1b[31m" in found.text and "\\u202e" in found.text
        finally:
            seg.destroy()


class Bomb:
    went_off = 0

    def __reduce__(self):
        return _go_off, ()


def _go_off():
    Bomb.went_off += 1


def test_no_code_of_a_value_is_run_although_the_handle_trusts(seg):
    seg.put_many({"bomb": Bomb(), "in a list": [Bomb()], "plain": 1})
    assert seg.trusted
    rows = {row[0]: row for row in of(seg).rows()}
    assert Bomb.went_off == 0
    assert rows["'bomb'"][5] == rows["'in a list'"][5] == "…" and rows["'plain'"][5] == "1"
    assert seg["bomb"] is None and Bomb.went_off == 1  # it would have


def test_what_cannot_be_shown_is_named_and_never_raised(seg, monkeypatch):
    seg["x"] = 1

    def fails(*_):
        raise RuntimeError("<b>broken\n</b>")

    for module, name in ((_core, "_memory"), (_core, "_activity"), (sys.modules["shmvar._preview"], "first")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            found = of(seg)
            assert "RuntimeError: <b>broken\\n</b>" in found.text and repr(seg.key) in found.text
            assert "not shown" not in found.text and len(found.tables) == (name != "first")
    monkeypatch.setattr(sys.modules["shmvar._display.head"], "of", fails)
    found = of(seg)
    assert "RuntimeError" in found.text and "not shown" in found.text and repr(seg.key) in found.text


def test_the_bundle_has_both_forms_or_those_that_are_asked_for(seg):
    seg["x"] = 1
    bundle = seg._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"} and bundle["text/plain"] == repr(seg)
    assert set(seg._repr_mimebundle_(include=["text/plain"])) == {"text/plain"}
    assert set(seg._repr_mimebundle_(exclude=["text/plain"])) == {"text/html"}
    assert seg._repr_mimebundle_(include=["text/html"], exclude={"text/html"}) == {}
    assert set(seg._repr_mimebundle_(None, [])) == {"text/html", "text/plain"}


def test_the_map_shows_what_memory_is_used_for(seg):
    seg["value"] = bytes(8 << 20)
    view = seg.view("value")
    seg["value"] = bytes(4 << 20)
    totals, _ = _core._memory(seg, 8)
    found = of(seg)
    [label] = [label for label in found.labels if label.startswith("memory: ")]
    assert "held by views 8.0 MiB" in label and "in use 4." in label and totals["held"] >= 8 << 20
    assert "held by views 8.0 MiB" in found.text
    assert "memory set aside" in found.text and label.endswith("what was never written to takes no memory yet")
    del view


def test_the_map_says_that_small_values_are_in_the_table(seg):
    """With "in use 0 B, table 64 MiB" a million variables would seem to be nowhere."""
    seg.put_many(dict.fromkeys(range(50_000), 7))
    totals, _ = _core._memory(seg, 8)
    assert totals["used"] == 0 and totals["table"] > 50_000 * 32
    assert f"table and small values {_text.size(totals['table'])}" in of(seg).text


def cell(**kinds):
    return dict.fromkeys((*memory.KINDS, "absent"), 0) | kinds


def widths(html):
    return [style.split(";")[0] for kind, style in shown(elements.document(html)).styles if kind is None]


def test_cells_of_the_map_are_in_tenths_and_what_is_there_is_seen():
    cells = [cell(used=10)] * 2 + [cell(used=5, held=5), cell(absent=9), cell(used=1, spare=10**9), cell()]
    html = memory.of({"used": 1}, cells)
    assert widths(html)[:5] == ["width:33.33%", "width:16.67%", "width:16.67%", "width:16.67%", "width:16.67%"]
    blue, orange, grey = (memory.KINDS[kind][1] for kind in ("used", "held", "spare"))
    assert f"height:100%;background-color:{blue}" in html
    assert f"linear-gradient(to top,{blue} 0%,{blue} 50%,{orange} 50%,{orange} 100%)" in html
    assert f"linear-gradient(to top,{blue} 0%,{blue} 10%,{grey} 10%,{grey} 100%)" in html
    assert f"{blue} 0%,{blue} 10%,transparent 10%" in memory.of({}, [cell(used=1, absent=10**6)])
