"""Whatever a segment holds, and whatever its parts are called, notebooks, reprs and errors show as harmless text."""

import contextlib
import io
import json
import pickle
import random
import re
import sys
import traceback

import helpers
import pytest
from helpers.hostile_texts import (
    CLASSES,
    TEXTS,
    assert_harmless,
    bombs,
    fill,
    for_key,
    left_by,
    plant,
)
from helpers.shown_html import shown
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shmvar
from shmvar import _core, _display, _preview

MOST = 200_000
"""Characters of a display: a screen, its style sheet, and what the pointer shows."""


@pytest.fixture
def hostile_key(key):
    """A key that is hostile itself."""
    made = key + for_key(TEXTS[0] + TEXTS[7] + TEXTS[10])
    yield made
    shmvar.destroy(made)


@pytest.fixture
def full(hostile_key):
    """A segment in which everything is hostile. All handles on it are closed in the end."""
    with shmvar.attach(hostile_key) as segment:
        locks = fill(segment)
        yield segment
        for lock in locks:
            lock.release()


def each_of(segment):
    """Every object that comes from a segment and is shown."""
    yield segment
    yield segment.info()
    yield segment.check()
    yield from shmvar.segments()
    for index in segment:
        yield segment.stat(index)
    for text in TEXTS:
        yield segment.lock(text)
        yield segment.queue(text)


def handles(key):
    yield shmvar.attach(key)
    yield shmvar.attach(key, trust=False)
    yield shmvar.attach(key, readonly=True)


def test_every_display_is_html_without_anything_of_theirs(full, hostile_key):
    for segment in handles(hostile_key):
        with segment:
            for one in each_of(segment):
                html = one._repr_html_()
                assert_harmless(shown(html).html, MOST)
                bundle = one._repr_mimebundle_()
                assert_harmless("".join(bundle.values()), 2 * MOST)
                # The text of a CheckReport and of an info may be long; that of a segment has one line.
                assert_harmless(bundle["text/plain"])
                assert_harmless(repr(one)), assert_harmless(str(one))


def test_no_text_is_a_formula(full):
    """JupyterLab has MathJax look through every output: it would obey `$...$`, in which styles and addresses may be."""
    for one in each_of(full):
        assert re.match(r'<div class="shmvar mathjax_ignore', one._repr_html_())


def test_a_detached_a_destroyed_and_a_damaged_one_are_shown_too(key):
    hostile = key + for_key(TEXTS[9])
    segment = shmvar.attach(hostile)
    fill(segment)
    segment.destroy()
    shown(segment._repr_html_()), assert_harmless(repr(segment))
    segment.detach()
    shown(segment._repr_html_()), assert_harmless(repr(segment))


def test_what_a_handle_completes_is_shown_by_its_repr(full):
    found = full._ipython_key_completions_()
    assert set(found) == set(full) and _preview.first(full, 10_000)[1] == len(full)
    for index in found:
        assert_harmless(repr(index))


def test_the_widgets_picture_is_harmless_text(full):
    notebook = pytest.importorskip("shmvar.notebook._picture")
    from shmvar.notebook._rates import Rates

    for rows in (10, 1000):
        pictures = notebook.Pictures(full, None, rows)
        picture = pictures.make(pictures.look(Rates(0.0), 0.0))
        assert_harmless(json.dumps(picture, ensure_ascii=False), 500_000)
        assert_harmless(notebook.as_text(full, None, rows))


def test_a_bar_of_progress_is_harmless(full, capsys, monkeypatch):
    from shmvar.notebook import progress

    for without_tqdm in (False, True):
        if without_tqdm:
            monkeypatch.setitem(sys.modules, "tqdm", None)
            monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        for text in TEXTS:
            assert progress(full, text, 1) == 1
            assert progress(full, text, 1, desc=text) == 1
        for index in (0, 1000, 1001, 1022, 2000):
            with pytest.raises(TypeError) as caught:
                progress(full, index, 1)
            assert_harmless(str(caught.value), 500)
        said = capsys.readouterr()
        assert_harmless((said.out + said.err).replace("\r", "\n").replace("\x1b[A", ""))


def failures(segment, key):
    """Calls that must fail, and whose errors name what is hostile."""
    attach = shmvar.attach
    for text in TEXTS:
        absent = (text + "?")[-900:]
        yield lambda absent=absent: segment[absent]
        yield lambda absent=absent: segment.stat(absent)
        yield lambda absent=absent: segment.pop(absent)
        yield lambda text=text: segment.wait(text, 0)
        yield lambda text=text: segment.add(text, "x")
        yield lambda text=text: attach(for_key(text) + "?", create=False)
        yield lambda text=text: segment.queue(f"?{text[:900]}").get_nowait()
        yield lambda text=text: segment.queue(text, maxsize=1).put(1, timeout=0)
        yield lambda text=text: segment.put(text, bytes(segment.size + 1))
        yield lambda text=text: segment.array(text, (1,), text)
        yield lambda text=text: segment.wait_any([text], 0)
        yield lambda text=text: segment.memoize(lambda: 1, name=text * 99)
    yield lambda: attach(key, create=True)
    for at in range(len(CLASSES)):
        for call in (segment.get, segment.view, segment.add, segment.get_versioned):
            yield lambda call=call, at=at: call(1000 + at)
        yield lambda at=at: segment.modify(1000 + at, len)


def test_every_error_has_a_harmless_text_and_traceback(full, hostile_key):
    with shmvar.attach(hostile_key, trust=False) as careful:
        for segment in (full, careful):
            count = 0
            for call in failures(segment, hostile_key):
                try:
                    call()
                except Exception as error:
                    count += 1
                    assert_harmless(str(error), 10_000)
                    assert_harmless(repr(error))
                    for note in getattr(error, "__notes__", ()):
                        assert_harmless(note, 10_000)
                    if isinstance(error, shmvar.Error | KeyError):
                        assert_harmless("".join(traceback.format_exception(error)))
            assert count > 300


def test_a_lock_that_another_thread_holds_is_waited_for_in_harmless_words(full):
    def wait(_):
        for text in TEXTS:
            with pytest.raises(shmvar.WaitTimeoutError) as caught, full.lock(text, timeout=0):
                pass
            assert_harmless(str(caught.value), 10_000)

    helpers.in_threads(wait, 1)


@pytest.mark.parametrize("trust", [True, False])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.text(st.characters(), max_size=300) | st.recursive(st.text() | st.binary(), st.lists),
    st.binary(max_size=60),
)
def test_any_text_is_shown_harmless(seg, key, trust, index, value, name):
    index = index.encode()[:1000].decode(errors="ignore")
    with shmvar.attach(key, trust=trust) as segment:
        segment.clear()
        segment.put_many({index: value, 1: [value], 2: {value if isinstance(value, str) else 1: value}})
        name = name.replace(b"\n", b"")
        with contextlib.suppress(ValueError):  # no pickle has such a name
            _core._put_pickle(segment, 3, b"\x80\x04c" + name + b"\n" + name + b"\n)\x81.")
        for one in (segment, *map(segment.stat, segment), segment.lock(index), segment.queue(index)):
            bundle = one._repr_mimebundle_()
            shown(bundle["text/html"]), assert_harmless("".join(bundle.values()), MOST)
        for found in _preview.variables(segment, list(segment)):
            assert_harmless(_display.elements.message(ValueError(found["error"])) if found["error"] else "")


def test_a_damaged_dump_of_hostile_names_is_refused_in_harmless_words(seg):
    seg.put_many({text: text for text in TEXTS})
    whole = io.BytesIO()
    seg.dump(whole)
    drawn = random.Random(1)
    for text in TEXTS * 10:
        damaged = bytearray(whole.getvalue())
        at = drawn.randrange(len(damaged))
        damaged[at : at + drawn.randrange(40)] = text.encode()
        with contextlib.suppress(shmvar.DumpError):  # what was put there may be what was there
            seg.load(io.BytesIO(damaged))
            continue
        with pytest.raises(shmvar.DumpError) as caught:
            seg.load(io.BytesIO(damaged))
        assert_harmless(str(caught.value), 3000)


# --- nothing that is displayed is unpickled with trust


@pytest.fixture
def mined(seg, tmp_path, monkeypatch):
    """A segment of bombs, which is trusted, and the folder where they would leave something."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plant(seg, tmp_path)
    assert seg.trusted
    yield seg, tmp_path
    assert left_by(tmp_path) == []
    assert "imported_bomb" not in sys.modules


def test_the_bombs_go_off(seg, tmp_path, monkeypatch):
    """Otherwise the tests below would show nothing."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plant(seg, tmp_path)
    for index in seg:
        seg.get(index)
        sys.modules.pop("imported_bomb", None)
    assert left_by(tmp_path) == sorted([*bombs(tmp_path), "imported"])
    (tmp_path / "alone").rmdir()
    seg.queue("queue alone").get_nowait()
    assert (tmp_path / "alone").exists()


def test_no_display_sets_a_bomb_off(mined):
    seg, _ = mined
    for one in [seg, seg.info(), seg.check(), *map(seg.stat, seg), *shmvar.segments(), seg.lock("alone")]:
        one._repr_html_(), one._repr_mimebundle_(), repr(one), str(one)
    for name in list(seg.info().queues):
        seg.queue(name)._repr_mimebundle_(), repr(seg.queue(name)), seg.queue(name).qsize()
    seg._ipython_key_completions_()
    assert [found["repr"] for found in _preview.variables(seg, list(seg)) if found["repr"]] == []
    repr(seg.changes()), repr(seg.keys()), repr(seg.queue("queue alone").take())


def test_no_widget_and_no_bar_sets_a_bomb_off(mined):
    seg, _ = mined
    pictures = pytest.importorskip("shmvar.notebook._picture")
    from shmvar.notebook import progress

    assert "__main__" not in pictures.as_text(seg, None, 100)
    for index in seg:
        with pytest.raises(TypeError):
            progress(seg, index, 1)
    pytest.importorskip("anywidget", reason="needs anywidget")
    from shmvar.notebook import watch

    widget = watch(seg)
    repr(widget), widget._repr_mimebundle_()
    widget.close()


def test_no_magic_but_pull_sets_a_bomb_off(mined, key):
    pytest.importorskip("IPython", reason="needs IPython")
    code = f"""
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config
        sys.path.insert(0, {str(mined[1])!r})
        shell = InteractiveShell(config=Config({{"HistoryManager": {{"enabled": False}}}}))
        shell.run_line_magic("load_ext", "shmvar")
        shell.run_cell("import shmvar; seg = shmvar.attach({key!r})")
        for cell in ("%shm", "%shm {key}", "%shm_watch {key}", "seg", "%shm_pull {key} absent", "seg.info()"):
            shell.run_cell(cell)
        for line in ("%shm ", "%shm_pull {key} a", 'seg["', "seg['in"):
            shell.complete(None, line, len(line))
    """
    assert "alone" in helpers.run(code).stdout
    assert mined[0].trusted


def test_copies_and_waits_set_no_bomb_off(mined, new_key):
    seg, _ = mined
    with shmvar.attach(new_key()) as other:
        assert shmvar.copy(seg, other) == len(seg)
        shown(other._repr_html_())
    assert seg.wait("alone", 0, newer_than=0) == seg.version("alone")
    assert next(seg.changes(newer_than={}, timeout=60))[0] in seg
    pickle.loads(pickle.dumps(seg)).detach()
