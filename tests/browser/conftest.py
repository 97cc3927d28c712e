"""One server for all tests of this folder, one browser and one page of JupyterLab for each of its files.

Each test opens notebooks in that page. The browser ends with its file, because Playwright leaves an event loop running
in the thread for as long as it drives one: no other test of the process could use `asyncio.run` meanwhile. A scope
"package" would not do: this folder has no `__init__.py`, and pytest then ends what has that scope with the whole run.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from helpers import browser, jupyter, notebook_pages


@pytest.fixture(scope="session")
def directory():
    """A directory whose path is short: the sockets that a browser makes in it may have paths of 107 bytes only."""
    path = Path(tempfile.mkdtemp(prefix="shmvar-browser-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(directory):
    with jupyter.Server(directory) as server:
        yield server


@pytest.fixture(scope="module")
def chromium(directory):
    profile = tempfile.mkdtemp(prefix="browser-", dir=directory)
    with browser.started(profile) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def context(chromium):
    """What the pages share: the cache, so that the second one is there sooner, and the cookie of the server."""
    return chromium.new_context(viewport={"width": 1280, "height": 900})


@pytest.fixture(scope="module")
def labs():
    """The page of JupyterLab, if there is one: it takes seconds to load, and a notebook in it does not."""
    return []


@pytest.fixture
def open_notebook(server, context, labs, new_key):
    """Writes a notebook with some cells and opens it. Nothing may go wrong in its page until the end of the test."""
    opened = []

    def open_one(*cells, place="JupyterLab"):
        name = f"{new_key()}.ipynb"
        server.write(name, cells)
        if place == "JupyterLab" and not labs:
            labs.append(notebook_pages.Frame(context, server, place))
        frame = labs[0] if place == "JupyterLab" else notebook_pages.Frame(context, server, place, name)
        opened.append(notebook_pages.Notebook(frame, name))
        return opened[-1]

    yield open_one
    wrong = []
    for notebook in opened:
        wrong += notebook.frame.complaints()
        if notebook.frame in labs and not notebook.page.locator("dialog").count():
            notebook.close()
        else:  # a page of its own, or one that a test that failed has left in some state
            labs[:] = [lab for lab in labs if lab is not notebook.frame]
            notebook.page.close()
        server.end_kernel(notebook.name)
    assert not wrong, wrong
