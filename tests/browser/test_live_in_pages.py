"""What moves in a page: the live table follows other processes, rests while it is hidden, and ends; the bar fills."""

import itertools

import helpers
import pytest
from helpers import browser

pytestmark = browser.marks("notebook", "jupyterlab", "ipykernel", "anywidget")

ATTACH = "import shmvar, shmvar.notebook, threading\nseg = shmvar.attach({key!r})"
WATCH = "shmvar.notebook.watch(seg)"
THREADS = "print(sorted(thread.name for thread in threading.enumerate() if thread.name.startswith('shmvar')))"
RUNNING = "['shmvar-show', 'shmvar-watch']"


def row(page, cell, index):
    """The row of an index in a live table."""
    return page.cell(cell).locator(".shmvar-watch tbody tr").filter(has=page.page.get_by_text(repr(index), exact=True))


def says(page, cell, number):
    """Runs a cell again and again until it prints that."""
    page.until(lambda: page.said(cell) == number)


@pytest.mark.parametrize("place", ["JupyterLab", "Notebook"])
def test_the_live_table_moves_while_another_process_writes(seg, key, open_notebook, place):
    page = open_notebook(ATTACH.format(key=key), WATCH, THREADS, place=place)
    seg["quiet"] = "<b>bold</b>"
    page.run(0)
    page.run(1)
    price, counts = row(page, 1, "price"), itertools.count(1)

    def changed():
        seg["price"] = next(counts)
        return price.count() and price.locator(".shmvar-text").inner_text().isdigit()

    page.until(changed)
    bars = price.locator("path").last
    first, at = bars.get_attribute("d"), int(price.locator(".shmvar-text").inner_text())

    def moved():
        seg["price"] = next(counts)
        now = int(price.locator(".shmvar-text").inner_text())
        return (
            now > at
            and bars.get_attribute("d") != first
            and float(price.locator(".shmvar-rate").inner_text().strip("≥ ")) > 0
        )

    page.until(moved)
    last = seg["price"]
    page.until(lambda: price.locator(".shmvar-text").inner_text() == str(last))
    assert row(page, 1, "quiet").locator(".shmvar-text").inner_text() == "'<b>bold</b>'"
    assert page.said(2) == RUNNING


def test_the_live_table_rests_while_it_is_hidden_and_ends_when_its_output_is_cleared(seg, key, open_notebook):
    seg["price"] = 0
    page = open_notebook(ATTACH.format(key=key), WATCH, THREADS)
    page.run(0)
    page.run(1)
    shown = row(page, 1, "price").locator(".shmvar-text")
    page.until(lambda: shown.inner_text() == "0")
    # Another tab covers the notebook. What is in the page then stands still, however often the variable changes.
    page.frame.command("launcher:create")
    page.until(lambda: not shown.is_visible())

    def stands_still():
        before = shown.text_content()
        for _ in range(10):
            seg.add("price")
            page.page.wait_for_timeout(100)
        return shown.text_content() == before

    page.until(stands_still)
    page.frame.command("application:activate-previous-tab")
    page.until(lambda: shown.is_visible() and shown.inner_text() == str(seg["price"]))
    # Run once more, the cell has a new table, and the threads of the old one end.
    page.run(1)
    says(page, 2, RUNNING)
    page.choose(1)
    page.frame.command("notebook:clear-cell-output")
    page.until(lambda: not page.page.locator(".shmvar-watch").count())
    says(page, 2, "[]")
    seg.add("price")


def test_a_progress_bar_fills_as_another_process_counts(seg, key, open_notebook):
    page = open_notebook(ATTACH.format(key=key), "shmvar.notebook.progress(seg, 'done', 40)")
    page.run(0)
    page.begin(1)
    bar = page.cell(1).locator(".jp-OutputArea")
    for done in (10, 20, 30):
        seg.add("done", 10)
        page.until(lambda done=done: f"{done}/40" in bar.inner_text())
        assert "*" in page.prompt(1), "the cell runs on"
    seg.add("done", 10)
    page.until(lambda: "40/40" in bar.inner_text() and "*" not in page.prompt(1))
    helpers.until(lambda: seg["done"] == 40)


def test_the_live_table_of_a_kernel_that_was_restarted_says_that_it_is_not_live(seg, key, open_notebook):
    """It would stand there with its last numbers and no changes, while others write."""
    seg["price"] = 0
    page = open_notebook(ATTACH.format(key=key), WATCH)
    page.run(0)
    page.run(1)
    row(page, 1, "price").wait_for()
    page.frame.command("notebook:restart-kernel")
    page.page.locator(".jp-Dialog button.jp-mod-accept").click()
    page.until(lambda: "not live any more" in page.cell(1).locator(".shmvar-state").inner_text())
    page.run(0)
    page.run(1)
    page.until(lambda: not page.cell(1).locator(".shmvar-state").inner_text())
