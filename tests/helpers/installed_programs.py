"""Servers and tools that people run Python in. Tests of one that is not installed are skipped, and name it."""

import contextlib
import importlib.util
import re
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import shmvar


def needs(*programs):
    """A mark for tests that need these: each is a module, or a program beside the interpreter."""
    missing = [name for name in programs if importlib.util.find_spec(name) is None and not beside(name).exists()]
    return pytest.mark.skipif(
        bool(missing), reason=f"needs {' and '.join(missing or programs)}, which `make test` installs"
    )


def beside(program):
    return Path(sysconfig.get_path("scripts")) / program


class Server:
    """A web server that runs until the end of the `with`, on a port of its own choice that it writes to its log."""

    def __init__(self, command, directory, ready, **options):
        self.command, self.directory, self.ready, self.options = command, directory, ready, options
        self.output = directory / "server.log"

    def __enter__(self):
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **self.options
            )
        try:
            self.port = int(self.wait_for(self.ready)[1])
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(20)

    def log(self):
        return self.output.read_text(errors="replace")

    def wait_for(self, pattern, seconds=60):
        """Waits until the log matches a pattern; returns the match."""
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.log())):
            assert self.process.poll() is None and time.monotonic() < until, f"no {pattern!r} in\n{self.log()}"
            time.sleep(0.02)
        return found

    def get(self, path="/"):
        """Requests a path; returns status and text of the answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return error.code, error.read().decode(errors="replace")


def packages():
    """The path entries on which this interpreter finds the package and everything else that is installed."""
    return [str(Path(shmvar.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path)]
