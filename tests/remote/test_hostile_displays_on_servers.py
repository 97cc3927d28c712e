"""Whatever a segment on a server holds, and whatever it is called, is shown as harmless text; nothing of it runs."""

import sys
import urllib.parse

import pytest
from helpers import screens
from helpers.hostile_texts import (
    CLASSES,
    TEXTS,
    VALUES,
    assert_harmless,
    assert_of_terminal,
    bombs,
    for_key,
    instance_of,
    left_by,
)
from helpers.shown_html import shown

import shmvar
from shmvar.cli import main as cli


@pytest.fixture
def hostile_key(key):
    """The URL of a segment that is hostile itself."""
    made = key + urllib.parse.quote(for_key(TEXTS[0] + TEXTS[7] + TEXTS[9]), safe="")
    yield made
    shmvar.destroy(made)


@pytest.fixture
def full(hostile_key):
    with shmvar.attach(hostile_key, trust=True) as segment:
        segment.put_many(dict.fromkeys(TEXTS, 1) | dict(enumerate(VALUES)))
        for at, (module, name) in enumerate(CLASSES):
            segment._put_pickle(1000 + at, instance_of(module, name), None)
        locks = [segment.lock(text) for text in TEXTS]
        for text, lock in zip(TEXTS, locks, strict=True):
            lock.acquire()
            segment.queue(text).put(text)
        yield segment
        for lock in locks:
            lock.release()


def test_every_display_is_html_without_anything_of_theirs(full, hostile_key):
    with shmvar.attach(hostile_key) as careful:
        for segment in (full, careful):
            for one in (
                segment,
                segment.info(),
                *map(segment.stat, segment),
                segment.lock("a"),
                segment.queue(TEXTS[9]),
            ):
                bundle = one._repr_mimebundle_()
                shown(bundle["text/html"]), assert_harmless("".join(bundle.values()), 400_000)
                assert_harmless(repr(one) + str(one))
            for index in segment._ipython_key_completions_():
                assert_harmless(repr(index))


def test_every_error_has_a_harmless_text(full):
    for text in TEXTS:
        for call in (
            lambda text=text: full[text + "?"],
            lambda text=text: full.wait(text, 0),
            lambda text=text: full.queue("?" + text[:900]).get_nowait(),
            lambda text=text: full.add(text, "x"),
        ):
            with pytest.raises((KeyError, TypeError, shmvar.Error)) as caught:
                call()
            assert_harmless(str(caught.value), 10_000)
    for at in range(len(CLASSES)):
        with pytest.raises((AttributeError, ImportError, shmvar.Error)) as caught:
            full[1000 + at]
        assert_harmless(str(caught.value) + "".join(caught.value.__notes__ or ""), 10_000)


def commands(key):
    yield from (["ls", key.partition("#")[0]], ["info", key], ["show", key], ["top", "--once", key], ["doctor", key])


def test_commands_print_harmless_text(full, hostile_key, capsys):
    pytest.importorskip("pyte", reason="needs pyte")
    for words in [*commands(hostile_key), ["show", "--json", hostile_key], ["get", hostile_key, "1000"]]:
        capsys.readouterr()
        assert cli.main(words) in (0, 1)
        said = capsys.readouterr()
        assert_harmless(said.out + said.err, 400_000)
    for words in commands(hostile_key):
        on_terminal = screens.run(*words, columns=60, status=None)
        assert_of_terminal(on_terminal.raw, 60)
        # A plain table is a plain table.
        assert words[0] == "top" or not on_terminal.too_long(), words


def test_nothing_that_is_shown_is_unpickled_with_trust(key, capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    with shmvar.attach(key, trust=True) as segment:
        for name, bomb in bombs(tmp_path).items():
            segment[name] = bomb
            segment.queue(f"queue {name}").put(bomb)
        segment._put_pickle("imported", instance_of("imported_bomb", "C"), None)
        for one in (segment, segment.info(), *map(segment.stat, segment), segment.queue("queue alone")):
            one._repr_mimebundle_(), repr(one), str(one)
        segment._ipython_key_completions_()
        for words in commands(key):
            assert cli.main(words) in (0, 1)
        assert "alone" in capsys.readouterr().out
        assert left_by(tmp_path) == [] and "imported_bomb" not in sys.modules
        segment.get("alone")
        assert left_by(tmp_path) == ["alone"]
