"""Headless Chromium, driven by Playwright: pages whose errors are kept, and an end that leaves no process.

Playwright's package for Python brings its driver, but no browser: that is the system's own Chromium.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest

from helpers import installed_programs, process_trees

PATIENCE = 120  # seconds for one step of a page, which waits for what it asks for: this ends only what hangs

FLAGS = [
    "--no-sandbox",  # root, who CI is, has none
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm belongs to the tests
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",  # it would look for hosts of its maker
    "--disable-component-update",
    "--disable-sync",
]

LEGIBLE = (Path(__file__).parent / "legible.js").read_text()


def program():
    """The path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def marks(*programs):
    """Marks for tests that need a browser and these: where one is missing they are skipped, and name it."""
    missing = pytest.mark.skipif(program() is None, reason="needs chromium, which .ci/run installs")
    needs = installed_programs.needs("playwright", *programs)
    return [missing, needs, pytest.mark.slow, pytest.mark.xdist_group("browser")]


@contextlib.contextmanager
def started(directory):
    """Starts a browser with an empty profile; it ends with the block. Its files go into the directory."""
    from playwright.sync_api import sync_playwright

    with contextlib.ExitStack() as stack:
        # The driver makes a directory for itself, and one for the profile.
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("TMPDIR", str(directory))
        before = process_trees.below(os.getpid())
        playwright = sync_playwright().start()
        drivers = process_trees.below(os.getpid()) - before
        everything = set(drivers)
        stack.callback(process_trees.end, everything)
        stack.callback(playwright.stop)
        home = os.environ | {"HOME": str(directory)}  # where it notes how it crashed
        chromium = playwright.chromium.launch(executable_path=program(), args=FLAGS, env=home, timeout=PATIENCE * 1000)
        stack.callback(chromium.close)
        stack.callback(lambda: everything.update(*(process_trees.below(pid) for pid, _ in drivers)))
        yield chromium


class Page:
    """A page and what went wrong in it, in the order in which it did."""

    def __init__(self, context):
        self.page, self.wrong = context.new_page(), []
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("console", self.heard)
        self.page.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        self.page.on("requestfailed", lambda request: self.wrong.append(f"request failed: {request.url}"))
        self.page.on("dialog", self.asked)

    def heard(self, message):
        if message.type == "error":
            self.wrong.append(f"console: {message.text} ({message.location['url']})")

    def asked(self, dialog):
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def until(self, condition):
        """Waits until a condition about the page is true; the page goes on meanwhile."""
        end_at = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < end_at, f"it did not happen within {PATIENCE} s; {self.wrong}"
            self.page.wait_for_timeout(50)
        return found

    def hard_to_read(self, element):
        """Texts within it whose contrast to what is behind them is below 4.5, which is the least for a text to read."""
        return element.evaluate(LEGIBLE)
