"""`watch` and `progress` in a real kernel: the test is its front end, and reads what the kernel sends."""

import queue
import sys
import time

import helpers
import pytest

pytest.importorskip("anywidget", reason="anywidget is not installed")
jupyter_client = pytest.importorskip("jupyter_client", reason="jupyter_client is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

VIEW = "application/vnd.jupyter.widget-view+json"
THREADS = "[t.name for t in __import__('threading').enumerate() if t.name.startswith('shmvar')]"


class FrontEnd:
    """A client of a kernel that keeps all that the kernel publishes."""

    def __init__(self, folder):
        self.manager = jupyter_client.KernelManager(connection_file=str(folder / "kernel.json"))
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.manager.kernel_cmd = command  # older ones ask for it, newer ones for the specification
        self.manager.kernel_spec.argv = command
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60 * helpers.machine.SLOWER)
        self.messages = []

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def start(self, code, **options):
        """Begins to run a cell; returns the id of the request."""
        return self.client.execute(code, store_history=False, **options)

    def read(self, timeout=0.05):
        """Reads what has come."""
        while True:
            try:
                self.messages.append(self.client.get_iopub_msg(timeout=timeout))
            except queue.Empty:
                return self

    def of(self, kind, request=None):
        """The contents of the messages of a kind, or of those that belong to a request."""
        found = [m for m in self.messages if m["msg_type"] == kind]
        return [m["content"] for m in found if request is None or m["parent_header"].get("msg_id") == request]

    def is_idle(self, request):
        return any(status["execution_state"] == "idle" for status in self.read().of("status", request))

    def run(self, code):
        """Runs a cell to its end, and returns its text."""
        request = self.start(code)
        helpers.until(lambda: self.is_idle(request), 60, code)
        assert not self.of("error", request), self.of("error", request)
        return "".join(part["text"] for part in self.of("stream", request) if part["name"] == "stdout")

    def pictures(self, model):
        """All that a widget was sent."""
        updates = [m["data"] for m in self.of("comm_msg") if m["comm_id"] == model]
        return [update["state"]["picture"] for update in updates if "picture" in update.get("state", {})]

    def shown(self, model):
        pictures = self.read().pictures(model)
        return {row["whole"]: row["text"] for row in pictures[-1]["rows"]} if pictures else {}

    def say(self, model, **message):
        """What a view says to the kernel."""
        content = {"comm_id": model, "data": {"method": "custom", "content": message}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))


@pytest.fixture(scope="module")
def front_end(tmp_path_factory):
    front_end = FrontEnd(tmp_path_factory.mktemp("kernel"))
    yield front_end
    front_end.end()


@pytest.fixture
def model(front_end, seg, key):
    """A live table of the segment, which is displayed."""
    front_end.messages.clear()
    seg["n"] = 0
    front_end.run(f"import shmvar, shmvar.notebook\nsegment = shmvar.attach({key!r})")
    request = front_end.start("shmvar.notebook.watch(segment)")
    helpers.until(lambda: front_end.is_idle(request))
    (shown,) = front_end.of("execute_result", request) + front_end.of("display_data", request)
    assert shown["data"]["text/plain"].startswith(f"shmvar {key!r}: 1 variable,")
    yield shown["data"][VIEW]["model_id"]
    front_end.run("import ipywidgets; ipywidgets.Widget.close_all(); segment.detach()")
    helpers.until(lambda: front_end.run(f"print({THREADS})").strip() == "[]")


pytestmark = pytest.mark.xdist_group("kernel")


def test_it_follows_while_a_cell_runs_and_before_a_browser_answers(front_end, seg, model):
    request = front_end.start("segment.wait('stop')")
    helpers.until(lambda: front_end.read().of("execute_input", request))
    front_end.say(model, kind="view", view="one", visible=True)  # which is heard when the cell has ended
    for number in range(1, 4):
        seg["n"] = f"value {number}"
        helpers.until(lambda number=number: front_end.shown(model).get("'n'") == f"'value {number}'")
    assert not front_end.is_idle(request)
    seg["stop"] = True
    helpers.until(lambda: front_end.is_idle(request))
    assert not front_end.of("error", request)


def test_a_quiet_segment_sends_nothing(front_end, seg, model):
    helpers.until(lambda: front_end.shown(model))
    front_end.say(model, kind="view", view="one", visible=True)
    front_end.run("pass")
    front_end.messages.clear()
    time.sleep(1.5)
    assert front_end.read().of("comm_msg") == []


def test_many_changes_are_few_messages(front_end, seg, model):
    helpers.until(lambda: front_end.shown(model))
    front_end.messages.clear()
    began = time.monotonic()
    for _ in helpers.looks(seconds=1.0, turns=1000):
        seg.add("n")
    last = str(seg["n"])
    helpers.until(lambda: front_end.shown(model).get("'n'") == last)
    assert len(front_end.pictures(model)) <= (time.monotonic() - began) / 0.2 + 2


def test_hidden_it_sends_nothing_and_ends_when_its_last_view_goes(front_end, seg, model):
    helpers.until(lambda: front_end.shown(model))
    front_end.say(model, kind="view", view="one", visible=False)
    front_end.run("pass")
    front_end.messages.clear()
    for _ in range(10):
        seg.add("n")
    time.sleep(0.5)
    assert front_end.read().of("comm_msg") == []
    front_end.say(model, kind="view", view="one", visible=True)
    helpers.until(lambda: front_end.shown(model).get("'n'") == "10")
    front_end.say(model, kind="gone", view="one")
    helpers.until(lambda: front_end.run(f"print({THREADS})").strip() == "[]")


def test_a_closed_comm_ends_it(front_end, seg, model):
    helpers.until(lambda: front_end.shown(model))
    front_end.client.shell_channel.send(front_end.client.session.msg("comm_close", {"comm_id": model, "data": {}}))
    helpers.until(lambda: front_end.run(f"print({THREADS})").strip() == "[]")


def test_a_destroyed_segment_is_said_to_be(front_end, seg, model):
    helpers.until(lambda: front_end.shown(model))
    seg.destroy()
    helpers.until(lambda: front_end.read().pictures(model)[-1]["state"] == "ended")
    assert front_end.pictures(model)[-1]["why"] == "the segment was destroyed"


def test_progress_changes_one_display_in_place_where_there_is_no_tqdm(front_end, seg, model):
    code = "import sys; sys.modules['tqdm'] = sys.modules['tqdm.notebook'] = None\n"
    code += "print(shmvar.notebook.progress(segment, 'done', 20, desc='<b>work</b>'))\n"
    code += "del sys.modules['tqdm'], sys.modules['tqdm.notebook']"
    request = front_end.start(code)
    helpers.until(lambda: front_end.read().of("display_data", request))
    for _ in range(20):
        seg.add("done")
        time.sleep(0.02)
    helpers.until(lambda: front_end.is_idle(request))
    (first,) = front_end.of("display_data", request)
    updates = front_end.of("update_display_data", request)
    assert updates and len({shown["transient"]["display_id"] for shown in [first, *updates]}) == 1
    assert "100 %, 20 of 20" in updates[-1]["data"]["text/plain"]
    html = updates[-1]["data"]["text/html"]
    assert "&lt;b&gt;work&lt;/b&gt;" in html and 'value="1.0000"' in html
    assert "".join(part["text"] for part in front_end.of("stream", request)) == "20\n"


def test_progress_is_the_bar_of_tqdm_where_that_is_there(front_end, seg, model):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    request = front_end.start("print(shmvar.notebook.progress(segment, 'done', 5))")
    helpers.until(lambda: front_end.read().of("display_data", request))
    assert VIEW in front_end.of("display_data", request)[0]["data"]
    seg["done"] = 7
    helpers.until(lambda: front_end.is_idle(request))
    states = [m["data"].get("state", {}) for m in front_end.of("comm_msg")]
    assert any(state.get("value") == 5 for state in states)  # never more than the total
    assert not front_end.of("error", request)


def test_ctrl_c_ends_progress(front_end, seg, model):
    request = front_end.start("shmvar.notebook.progress(segment, 'done', 5)")
    helpers.until(lambda: front_end.read().of("display_data", request))
    front_end.manager.interrupt_kernel()
    helpers.until(lambda: front_end.is_idle(request))
    assert [error["ename"] for error in front_end.of("error", request)] == ["KeyboardInterrupt"]
