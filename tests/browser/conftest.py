"""One server and one browser for all tests of this folder, and notebooks in pages that are closed after each test."""

import shutil
import tempfile
from pathlib import Path

import pytest
from helpers import browser, jupyter, notebook_pages


@pytest.fixture(scope="package")
def directory():
    """A directory whose path is short: the sockets that a browser makes in it may have paths of 107 bytes only."""
    path = Path(tempfile.mkdtemp(prefix="shmvar-browser-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="package")
def server(directory):
    with jupyter.Server(directory) as server:
        yield server


@pytest.fixture(scope="package")
def chromium(directory):
    (directory / "browser").mkdir()
    with browser.started(directory / "browser") as chromium:
        yield chromium


@pytest.fixture(scope="package")
def context(chromium):
    """What the pages share: the cache, so that the second one is there sooner, and the cookie of the server."""
    return chromium.new_context(viewport={"width": 1280, "height": 900})


@pytest.fixture
def open_notebook(server, context, new_key):
    """Writes a notebook with some cells and opens it in a page. Nothing may have gone wrong in it until the end."""
    opened = []

    def open_one(*cells, place="JupyterLab"):
        name = f"{new_key()}.ipynb"
        server.write(name, cells)
        page = notebook_pages.NotebookPage(context, server, name, place)
        opened.append((name, page))
        return page

    yield open_one
    wrong = []
    for name, page in opened:
        wrong += page.complaints()
        page.page.close()
        server.end_kernel(name)
    assert not wrong, wrong
