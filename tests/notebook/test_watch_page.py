"""What a browser makes of the pictures: `widget.js` on a page, with a model that the test plays. Needs Chromium."""

import json
import shutil
import subprocess
import time
from importlib import resources

import pytest

import shmvar.notebook

FOLDER = resources.files("shmvar.notebook")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
EVIL = "<img src=x onerror='window.evil=1'><script>window.evil=1</script>&amp;\"'"
PAGE = """<!doctype html><meta charset="utf-8"><style>%s</style>
<div id="place"></div><div id="far" style="height: 5000px"></div>
<script type="module">
const blob = new Blob([%s], { type: "text/javascript" });
const widget = (await import(URL.createObjectURL(blob))).default;
window.said = [];
window.shows = 0;
const listeners = new Map();
window.model = {
  get: () => window.picture,
  on: (name, listener) => listeners.set(name, listener),
  off: (name) => listeners.delete(name),
  send: (message) => window.said.push(message),
};
window.put = (picture) => {
  window.picture = picture;
  listeners.get("change:picture")?.();
};
window.tell = (event) => listeners.get(event)?.();
window.begin = (picture) => {
  window.picture = picture;
  window.end = widget.render({ model: window.model, el: document.getElementById("place") });
};
window.ready = true;
</script>"""


def row(number, index, **parts):
    """A row of a picture, as `_picture.py` makes it."""
    plain = {"number": str(index) if isinstance(index, int) else None, "index": repr(index), "whole": repr(index)}
    facts = {"type": "int", "size": "32 B", "version": number, "text": str(number), "wrong": False}
    return {"id": number, "gone": False, "at_least": False, "counts": [], **plain, **facts, **parts}


def picture(*rows, **parts):
    """A picture that was made a moment ago."""
    head = {"key": "'key'", "count": str(len(rows)), "used": "1.0 KiB", "size": "1.0 GiB", "part": 0.25}
    head |= {"told": [], "made": []}
    head |= parts.pop("head", {})
    whole = {"head": head, "rows": list(rows), "more": "", "at": 1000, "since": 900, "wall": time.time()}
    return {**whole, "state": "live", "why": "", "asked": 0, **parts}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1000, "height": 400})
    errors, fetched = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: fetched.append(request.url))
    page.route("**/*", lambda route: route.abort())
    script = json.dumps(FOLDER.joinpath("widget.js").read_text("utf-8")).replace("</", "<\\/")
    page.set_content(PAGE % (FOLDER.joinpath("widget.css").read_text("utf-8"), script))
    page.wait_for_function("window.ready")
    yield page
    page.close()
    assert not errors
    assert all(url.startswith("blob:") for url in fetched), f"it fetched {fetched}"


HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def begin(page, shown):
    page.evaluate("picture => window.begin(picture)", shown)


def put(page, shown):
    page.evaluate("picture => window.put(picture)", shown)


def column(page, name):
    return page.evaluate(f"[...document.querySelectorAll('tbody .shmvar-{name}')].map(cell => cell.textContent)")


def said(page):
    return page.evaluate("window.said")


pytestmark = pytest.mark.xdist_group("page")


def test_the_table_shows_the_picture_and_is_changed_where_it_changed(page):
    begin(page, picture(row(1, "done", counts=[5, 5, 5, 5, 5, 5]), row(2, 4711, type="dict", text="{}")))
    assert column(page, "index") == ["'done'", "4711"]
    assert column(page, "text") == ["1", "{}"] and column(page, "type") == ["int", "dict"]
    assert column(page, "rate") == ["5.0", "0"]
    page.evaluate("window.lines = [...document.querySelectorAll('tbody tr')]")
    put(page, picture(row(1, "done", text="changed", version=1234567), row(2, 4711), row(3, "new")))
    assert column(page, "text") == ["changed", "2", "3"] and column(page, "version")[0] == "1,234,567"
    kept = "window.lines.every((line, at) => line === document.querySelectorAll('tbody tr')[at])"
    assert page.evaluate(kept)
    put(page, picture(row(3, "new"), more="… 7 more", head={"count": "8"}))
    assert column(page, "index") == ["'new'"]
    assert page.locator(".shmvar-more").inner_text() == "… 7 more"
    assert "8 variables" in page.locator(".shmvar-head").inner_text()
    assert "1.0 KiB of 1.0 GiB used" in page.locator(".shmvar-head").inner_text()


def test_it_is_a_table_for_those_who_do_not_see_it(page):
    begin(page, picture(row(1, "done", counts=[1, 2])))
    heads = "[...document.querySelectorAll('th')].map(cell => cell.scope)"
    assert page.evaluate(heads) == ["col"] * 7 + ["row"]
    assert "Variables of the segment 'key'" in page.locator("caption").text_content()
    assert page.locator("tbody svg").get_attribute("aria-label") == "in the last minute up to 2 a second"
    assert page.locator("[aria-sort=descending]").inner_text().startswith("Changes/s")
    assert page.get_by_role("button", name="Index").count() == 1


def test_hostile_texts_stay_texts(page):
    evil = row(1, EVIL, type=EVIL, size=EVIL, text=EVIL, wrong=True)
    begin(page, picture(evil | {"index": EVIL, "whole": EVIL}, more=EVIL, why=EVIL, head={"key": EVIL, "used": EVIL}))
    put(page, picture(evil | {"index": EVIL}, row(2, 2), more=EVIL, head={"key": EVIL, "count": EVIL}, state="ended"))
    assert column(page, "index")[0] == EVIL and column(page, "text")[0] == EVIL
    assert page.evaluate("window.evil") is None
    assert page.locator("img, script:not([type=module])").count() == 0


def test_the_kernel_is_told_when_it_comes_is_hidden_and_goes(page):
    begin(page, picture(row(1, "done")))
    page.wait_for_function("window.said.length === 1")
    page.evaluate("window.scrollTo(0, 4000)")
    page.wait_for_function("window.said.length === 2")
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_function("window.said.length === 3")
    page.evaluate("window.end()")
    told = said(page)
    assert [(message["kind"], message.get("visible")) for message in told] == [
        ("view", True),
        ("view", False),
        ("view", True),
        ("gone", None),
    ]
    assert len({message["view"] for message in told}) == 1
    page.evaluate("window.scrollTo(0, 4000)")
    page.evaluate("window.put({ head: {}, rows: [] })")
    page.wait_for_timeout(200)
    assert len(said(page)) == 4


def test_a_hidden_page_is_a_hidden_view(page):
    begin(page, picture(row(1, "done")))
    page.wait_for_function("window.said.length === 1")
    page.evaluate(HIDE, True)
    page.evaluate(HIDE, True)
    page.evaluate(HIDE, False)
    assert [message["visible"] for message in said(page)] == [True, False, True]


def test_a_page_that_goes_says_so_and_one_that_stays_after_all_is_there_again(page):
    begin(page, picture(row(1, "done")))
    page.wait_for_function("window.said.length === 1")
    page.evaluate("window.dispatchEvent(new Event('beforeunload'))")
    page.evaluate(HIDE, True)  # as of every page that goes
    assert [message["kind"] for message in said(page)] == ["view", "gone"]
    page.evaluate("delete document.hidden")
    page.wait_for_function("window.said.length === 3")
    assert said(page)[2]["kind"] == "view" and said(page)[2]["visible"]


def test_asked_or_paused_it_answers(page):
    begin(page, picture(row(1, "done"), asked=3))
    page.wait_for_function("window.said.length === 1")
    put(page, picture(row(1, "done"), asked=3))
    assert len(said(page)) == 1
    put(page, picture(row(1, "done"), asked=4))
    put(page, picture(row(1, "done"), asked=4))
    assert len(said(page)) == 2
    put(page, picture(row(1, "done"), asked=4, state="paused"))
    assert [message["visible"] for message in said(page)] == [True] * 3


def test_bars_fall_to_zero_by_themselves_and_then_nothing_moves(page):
    page.clock.install()
    page.clock.pause_at(time.time() + 10)
    now = page.evaluate("Date.now() / 1000")
    begin(page, picture(row(1, "done", counts=[7, 7, 7, 7, 7, 7]), head={"told": [7] * 6, "made": [9] * 6}, wall=now))
    assert column(page, "rate") == ["7.0"]
    assert "≥ 7.0 changes/s" in page.locator(".shmvar-total").inner_text()
    page.clock.run_for(3000)
    first = page.locator("tbody svg path:not(.shmvar-ground)").get_attribute("d")
    page.clock.run_for(2000)
    assert page.locator("tbody svg path:not(.shmvar-ground)").get_attribute("d") != first
    page.clock.run_for(61_000)
    assert column(page, "rate") == ["0"]
    assert not page.locator("tbody svg path:not(.shmvar-ground)").get_attribute("d")
    assert page.locator("tbody svg").get_attribute("aria-label") == "no change in the last minute"
    changes = "new MutationObserver(() => window.shows++).observe(document.body, { subtree: true, childList: true,"
    page.evaluate(changes + " attributes: true, characterData: true })")
    page.clock.run_for(10_000)
    assert page.evaluate("window.shows") == 0 and not [message for message in said(page) if message["kind"] != "view"]


def test_a_picture_that_was_kept_is_as_old_as_it_is(page):
    old = picture(row(1, "done", counts=[9, 9, 9]), wall=time.time() - 3600)
    begin(page, old)
    assert column(page, "rate") == ["0"]


def test_the_busiest_come_first_or_the_order_is_that_of_the_indexes(page):
    rows = [
        row(1, 10),
        row(2, 9, counts=[1]),
        row(3, "b"),
        row(4, "a", counts=[3]),
        row(5, -(2**63)),
        row(6, 2**63 - 1),
    ]
    begin(page, picture(*rows))
    assert column(page, "index")[:2] == ["'a'", "9"]
    page.get_by_role("button", name="Index").click()
    assert column(page, "index") == [str(-(2**63)), "9", "10", str(2**63 - 1), "'a'", "'b'"]
    assert page.locator("[aria-sort=ascending]").inner_text().startswith("Index")
    page.get_by_role("button", name="Changes/s").click()
    assert column(page, "index")[:2] == ["'a'", "9"]


def test_what_ended_says_why_and_what_was_removed_is_struck_out(page):
    begin(page, picture(row(1, "done", gone=True, version=0, text="removed, or expired")))
    assert page.locator("tr.shmvar-gone").count() == 1 and column(page, "version") == [""]
    put(page, picture(row(1, "done"), state="ended", why="the segment was destroyed"))
    assert page.get_by_role("status").inner_text() == "the segment was destroyed"
    assert page.locator(".shmvar-ended").count() == 1 and page.locator("tr.shmvar-gone").count() == 0


def test_a_table_whose_kernel_is_gone_says_so_and_one_that_ended_keeps_its_reason(page):
    begin(page, picture(row(1, "done")))
    page.evaluate("tell('comm_live_update')")
    assert "not live any more" in page.get_by_role("status").inner_text()
    assert page.locator(".shmvar-ended").count() == 1 and column(page, "index") == ["'done'"]
    put(page, picture(row(1, "done")))  # it was the connection, which is there again
    assert page.get_by_role("status").inner_text() == "" and page.locator(".shmvar-ended").count() == 0
    put(page, picture(row(1, "done"), state="ended", why="the segment was destroyed"))
    page.evaluate("tell('comm_live_update')")
    assert page.get_by_role("status").inner_text() == "the segment was destroyed"


def test_an_index_that_was_not_there_yet_is_not_struck_out(page):
    from shmvar.notebook._picture import ABSENT

    rows = [row(1, "removed", gone=True, text="removed, or expired"), row(2, "never", gone=True, text=ABSENT)]
    begin(page, picture(*rows, row(3, "there")))
    decoration = "cells => cells.map(cell => getComputedStyle(cell).textDecorationLine)"
    assert page.locator("tbody th").evaluate_all(decoration) == ["line-through", "none", "none"]
    colour = "cells => cells.map(cell => getComputedStyle(cell).color)"
    removed, never, there = page.locator("tbody th").evaluate_all(colour)
    assert removed == never != there
    put(page, picture(row(1, "removed", gone=True, text="removed, or expired"), row(2, "never"), row(3, "there")))
    assert page.locator("tr.shmvar-gone").count() == 1 and page.locator("tr.shmvar-absent").count() == 0


def test_nothing_is_shown_before_the_first_picture_and_nothing_breaks(page):
    begin(page, {})
    page.wait_for_function("window.said.length === 1")
    put(page, picture(row(1, "done")))
    assert column(page, "index") == ["'done'"]


VSCODE = ":root { --vscode-editor-background: #1f1f1f; --vscode-editor-foreground: #cccccc;"
VSCODE += " --vscode-descriptionForeground: #9d9d9d; --vscode-errorForeground: #f85149;"
VSCODE += " --jp-content-font-color1: #212121; --jp-content-font-color2: #616161 }"


@pytest.mark.parametrize(
    "scheme, colours, ground",
    [("light", "", "rgb(255, 255, 255)"), ("dark", "", "rgb(18, 18, 18)"), ("light", VSCODE, "rgb(31, 31, 31)")],
    ids=["light", "dark", "VS Code, dark, which puts widgets on white"],
)
def test_text_can_be_read_in_every_theme(browser, scheme, colours, ground):
    page = browser.new_page(color_scheme=scheme)
    style = FOLDER.joinpath("widget.css").read_text("utf-8")
    page.set_content(
        f"<style>:root {{ color-scheme: light dark }} {colours} {style}</style>"
        "<div class='shmvar-watch'><span class='shmvar-state'>text</span><span class='shmvar-more'>text</span></div>"
    )
    own = page.evaluate("getComputedStyle(document.querySelector('div')).backgroundColor")
    assert own == (ground if colours else "rgba(0, 0, 0, 0)")
    for colour in page.evaluate("[...document.querySelectorAll('div, span')].map(e => getComputedStyle(e).color)"):
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{colour} is too faint"
    page.close()


def luminance(colour):
    """The relative luminance of WCAG."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@needs_node
def test_rates_and_bars_without_a_browser(tmp_path):
    module = tmp_path / "widget.mjs"
    module.write_text(FOLDER.joinpath("widget.js").read_text("utf-8"), "utf-8")
    code = """
    import { rateOf, rateText, barsOf } from "./widget.mjs";
    const found = [
      rateOf([5, 5, 5, 5, 5, 2], 1000, 1000, 0), // the second that has begun does not count
      rateOf([5, 5, 5, 5, 5, 2], 1000, 1001, 0),
      rateOf([4, 2], 1000, 1000, 999), // of one whole second
      rateOf([3], 1000, 1000, 1000), // there is no whole one yet
      rateOf([], 1000, 1000, 0),
      rateOf([9], 1000, 2000, 0),
      ["0", 0, "0.2", 0.2, "9.9", 9.94, "12", 12.4, "1,235", 1234.5, "1,000,000", 1e6]
        .every((text, at, all) => at % 2 || rateText(all[at + 1]) === text),
      barsOf([1, 0, 4], 1000, 1000).most,
      barsOf([1, 0, 4], 1000, 1000).path.split("M").length - 1,
      barsOf([1, 0, 4], 1000, 1059).path.split("M").length - 1,
      barsOf([1, 0, 4], 1000, 1060).path,
    ];
    console.log(JSON.stringify(found));
    """
    (tmp_path / "run.mjs").write_text(code, "utf-8")
    done = subprocess.run([NODE, tmp_path / "run.mjs"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [5, 4.4, 4, 3, 0, 0, True, 4, 2, 1, ""]


def test_the_names_of_the_page_are_those_of_the_package():
    assert shmvar.notebook.__all__ == ["progress", "watch"]
    script = FOLDER.joinpath("widget.js").read_text("utf-8")
    from shmvar.notebook import _rates
    from shmvar.notebook._follow import ENDED, NOBODY
    from shmvar.notebook._picture import ABSENT, UNREAD

    assert f"const WINDOW = {_rates.WINDOW};" in script and f"const RECENT = {_rates.RECENT};" in script
    assert f'const UNREAD = "{UNREAD}";' in script and f'const ABSENT = "{ABSENT}";' in script
    assert f'"{ENDED}"' in script and f'"{NOBODY}"' in script
