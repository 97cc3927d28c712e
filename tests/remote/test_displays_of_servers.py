"""What a notebook shows of a segment on a server, also while the server does not answer."""

import helpers
import pytest
from helpers import servers
from helpers.shown_html import shown

import shmvar
from shmvar import _display, _preview
from shmvar._display import facts


def test_a_segment_on_a_server_is_shown_with_its_variables(seg, key):
    seg.put_many({"<b>": "<i>text</i>", 5: [1, 2], "large": bytes(100_000)})
    seg.queue("jobs").put(1)
    with seg.lock("mine"):
        html = seg._repr_html_()
    found = shown(html)
    assert seg.url in found.text and "3 variables" in found.text and "not trusted" in found.text
    rows = {row[0]: row for row in found.rows()}
    assert rows["5"][5] == "[1, 2]" and rows["'<b>'"][5] == "'<i>text</i>'" and rows["'large'"][5] == "…"
    assert "'jobs': 1 item waiting" in found.text and "'mine' by" in found.text
    assert "memory" not in found.text and "mode" not in found.text and "attached" not in found.text
    bundle = seg._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"} and bundle["text/plain"] == repr(seg)
    assert seg._ipython_key_completions_() == ["<b>", "large", 5]


def test_its_locks_and_queues_are_shown(seg):
    lock, queue = seg.lock("mine"), seg.queue("jobs", maxsize=2)
    queue.put(1)
    with lock:
        assert "held by process" in shown(lock._repr_html_()).text
    assert "free" in shown(lock._repr_html_()).text
    assert "1 item of 2 waiting, 0 taken" in shown(queue._repr_html_()).text


def test_a_detached_handle_asks_no_server(seg):
    seg.detach()
    found = shown(seg._repr_html_())
    assert "detached" in found.text and not found.tables and seg._ipython_key_completions_() == []


def test_a_destroyed_one_says_so(seg, key):
    seg["x"] = 1
    shmvar.destroy(key)
    assert "destroyed" in shown(seg._repr_html_()).text


def test_rows_are_fetched_for_a_limited_time(seg, monkeypatch):
    seg.put_many({number: number for number in range(50)})
    clock = [0.0]
    monkeypatch.setattr(facts.time, "monotonic", lambda: clock[0])
    variables = _preview.variables

    def far(*arguments):
        clock[0] += facts.TRIPS / 10
        return variables(*arguments)

    monkeypatch.setattr(_preview, "variables", far)
    found = shown(_display.html(seg))
    assert 10 <= len(found.rows()) <= 12 and f"… {50 - len(found.rows())} more" in found.text


def test_a_server_that_does_not_answer_is_given_up_soon(own_server):
    one = own_server()
    with shmvar.attach(one.url("test"), create=True) as seg:
        seg["x"] = 1
        lock = seg.lock()
        with one.stopped(), helpers.promptly():
            found = shown(seg._repr_html_())
            assert "unavailable" in found.text and "has not answered within 1 s" in found.text
            assert "has not answered" in shown(lock._repr_html_()).text
            assert seg._ipython_key_completions_() == []
        helpers.until(lambda: len(shown(seg._repr_html_()).tables) == 1)


def test_a_password_of_the_url_is_not_shown(own_server):
    one = own_server("--requirepass", "s3cret", port=servers.free_port())
    with shmvar.attach(one.tcp("test", credentials=":s3cret@"), create=True) as seg:
        seg["x"] = 1
        assert "s3cret" not in str(seg._repr_mimebundle_())
        assert len(shown(seg._repr_html_()).rows()) == 1
        seg.destroy()


SHELL = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
shell.run_line_magic("load_ext", "shmvar")
for line in sys.argv[1:]:
    shell.user_ns["number"] = shell.user_ns.get("number", 0) + 1
    assert shell.run_cell("%shm" + line).success
"""


def test_the_magics_take_urls(seg, key, server):
    pytest.importorskip("IPython", reason="needs IPython")
    seg["number"] = 41
    of_server = server.url().rstrip("#")
    said = helpers.run(SHELL, f" {of_server}", f" {key}", f"_pull {key} number", f"_push {key} number").stdout
    assert repr(seg.key) in said and seg.url in said and "'number'" in said and "owner" not in said
    assert seg["number"] == 42  # what was pulled, and 1


def test_the_magics_say_no_password(own_server):
    pytest.importorskip("IPython", reason="needs IPython")
    one = own_server("--requirepass", "s3cret", port=servers.free_port())
    key = one.tcp("test", credentials=":s3cret@")
    said = helpers.run(SHELL, f"_push {key} number", f"_pull {key} number", f"_pull {key}", f" {key}")
    assert "s3cret" not in said.stdout + said.stderr and "pulled from valkey://" in said.stdout
    shmvar.destroy(key)
