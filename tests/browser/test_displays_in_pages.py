"""What a page shows of segments: it is legible in light and dark, hostile text stays text, the Tab key completes."""

import contextlib
import sys
import types

import pytest
from helpers import browser

import shmvar

pytestmark = browser.marks("notebook", "jupyterlab", "ipykernel")

ATTACH = "import shmvar\n%load_ext shmvar\nseg = shmvar.attach({key!r})\nseg"
SMALL = "from IPython.display import display\ndisplay(seg.info(), seg.stat('prices'), seg.check(), seg.lock('a'))"

BAD = "window.wrong = (window.wrong || '') + "
HOSTILE = [
    f"<img src=x onerror=\"{BAD}'img'\">",
    f"<script>{BAD}'script'</script>",
    f"</code></td></tr></table></div></style><svg onload=\"{BAD}'svg'\">",
    f"'\"><iframe srcdoc='<script>parent.{BAD}1</script>'>",
    f'<a href="javascript:{BAD}">a link</a>',
    "$\\frac{1}{2}$ and \\(x^2\\)",
    "\u202egnp.exe\u2066 \x1b[31mred\x1b]8;;http://x\x07 \x00\r\n\t",
]
"""Texts that would run, lead away, be typeset or turn around if a page took them for more than text."""

VISUAL_STUDIO_CODE = {
    "light": {"editor-background": "#ffffff", "foreground": "#3b3b3b", "widget-border": "#e5e5e5"},
    "dark": {"editor-background": "#1f1f1f", "foreground": "#cccccc", "widget-border": "#313131"},
}
"""Variables of its themes, as it gives them to what a notebook shows."""


def fill(segment):
    segment.put_many({"prices": {"EUR": 1.09}, "principal": 12.5, "names": ["Ada", "Bob"]})
    segment.put_many({f"x{number}": number for number in range(150)})
    segment.put("session", "abc", ttl=3600)


def test_the_display_of_a_segment_is_read_in_light_and_dark_and_the_small_ones_are(seg, key, open_notebook):
    fill(seg)
    page = open_notebook(ATTACH.format(key=key), SMALL, "%shm")
    shown = [page.run(number) for number in range(3)]
    for part in (key, "154 variables", "prices", "{'EUR': 1.09}", "… 54 more", "trusted", "memory"):
        assert part in shown[0].inner_text()
    assert key in shown[2].inner_text()
    widths = {title.inner_text(): title.bounding_box()["width"] for title in shown[0].locator("thead th").all()}
    assert max(widths, key=widths.get) == "value", "a page's own rules make all columns equally wide"
    try:
        for theme in ("Light", "Dark"):
            page.frame.theme(theme)
            for output in shown:
                output.scroll_into_view_if_needed()
                assert 50 < output.bounding_box()["height"] <= 900, "of a screen"
                for part in output.locator(".jp-OutputArea-output").all():
                    assert page.frame.hard_to_read(part) == []
    finally:
        page.frame.theme("Light")


@pytest.fixture
def hostile_class(monkeypatch):
    """A class of which a pickle says only where it is, and whose name and module are markup."""
    module, name = (
        types.ModuleType("<u>module</u>"),
        f"<input onfocus=\"{BAD}'class'\" autofocus>".replace(".", "&#46;"),
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    setattr(module, name, type(name, (), {"__module__": module.__name__}))
    return getattr(module, name)


def test_text_that_is_hostile_is_shown_as_text_and_nothing_of_it_runs(key, hostile_class, open_notebook):
    keys = [key + text for text in HOSTILE]
    made = [shmvar.attach(one) for one in keys]
    try:
        for number, segment in enumerate(made):
            segment.put_many({text: text for text in HOSTILE} | {number: [HOSTILE[number]]})
            segment["own"] = hostile_class()
        cells = [ATTACH.format(key=one) for one in keys] + ["%shm"]
        page = open_notebook(*cells)
        for number, _ in enumerate(cells):
            shown = page.run(number)
            for tag in ("script", "img", "iframe", "a", "u", "input", "mjx-container", "[onload]", "[onerror]"):
                assert shown.locator(tag).count() == 0, tag
            text = shown.inner_text()
            assert not set("\u202e\u2066\x1b\x07\x00") & set(text)
            if number < len(keys):
                assert "<script>window.wrong" in text
                assert "\\frac{1}{2}" in text
                assert "<u>module</u>" in text
        assert page.page.evaluate("window.wrong") is None
    finally:
        for segment in made:
            segment.destroy()


def test_the_tab_key_completes_an_index(seg, key, open_notebook):
    fill(seg)
    page = open_notebook(ATTACH.format(key=key), "")
    page.run(0)
    page.cell(1).locator(".cm-content").click()
    page.page.keyboard.type('seg["pri')
    offered = page.page.locator(".jp-Completer-match")

    def completed():
        """JupyterLab forgets an answer that takes longer than a second; then a person presses the key once more."""
        page.page.keyboard.press("Tab")
        page.page.wait_for_timeout(1500)
        return offered.count() >= 2

    page.until(completed)
    assert offered.all_inner_texts() == ["prices", "principal"]
    page.page.keyboard.press("Enter")
    page.until(lambda: 'seg["prices' in page.cell(1).locator(".cm-content").inner_text())


@pytest.mark.parametrize("theme", VISUAL_STUDIO_CODE)
def test_the_display_is_read_in_the_colours_of_visual_studio_code(seg, context, theme):
    """Its renderer cannot be had here: this is the display in a page with the variables that it gives to a page."""
    fill(seg)
    variables = "; ".join(f"--vscode-{name}: {value}" for name, value in VISUAL_STUDIO_CODE[theme].items())
    page = browser.Page(context)
    with contextlib.closing(page.page):
        page.page.set_content(
            f"<!doctype html><style>:root {{ {variables} }}"
            "body { background: var(--vscode-editor-background); color: var(--vscode-foreground) }</style>"
            f"<body class=vscode-{theme}><div id=output>{seg._repr_html_()}</div>"
        )
        output = page.page.locator("#output")
        assert "154 variables" in output.inner_text()
        assert page.hard_to_read(output) == []
        assert page.wrong == []
