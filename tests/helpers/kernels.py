"""Kernels of IPython, as a notebook has them, without a server and without a browser."""

import contextlib
import os
import re

from helpers import installed_programs
from helpers.machine import SLOWER


class Kernel:
    """A kernel that runs until the end of the `with`, with files only in a new directory, whose path must be short."""

    def __init__(self, directory):
        from jupyter_client import KernelManager

        directory.mkdir()
        # Sockets in the directory and no ports: nobody else on the machine can meet them.
        connection = {"ip": str(directory / "k"), "connection_file": str(directory / "c.json")}
        self.manager = KernelManager(transport="ipc", **connection)
        names = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        packages = os.pathsep.join(installed_programs.packages())
        self.environment = {**os.environ, **dict.fromkeys(names, str(directory)), "PYTHONPATH": packages}

    def __enter__(self):
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.manager.shutdown_kernel, now=True)
            self.manager.start_kernel(env=self.environment)
            self.client = self.manager.blocking_client()
            self.client.start_channels()
            on_failure.callback(self.client.stop_channels)
            self.client.wait_for_ready(timeout=100 * SLOWER)
            self.end = on_failure.pop_all().close
        return self

    def __exit__(self, *_):
        self.end()

    def messages(self, code):
        """Runs a cell, and returns what it sends to the notebook: type and content of each message."""
        sent = []
        self.client.execute_interactive(
            code, timeout=100 * SLOWER, output_hook=lambda told: sent.append((told["msg_type"], told["content"]))
        )
        return sent

    def run(self, code):
        """Runs a cell, which must succeed, and returns what it printed."""
        sent = self.messages(code)
        assert not [content for kind, content in sent if kind == "error"], sent
        return "".join(content["text"] for kind, content in sent if kind == "stream")

    def error(self, code):
        """Runs a cell, which must fail: the error's class, its text, and the traceback as the notebook shows it."""
        (error,) = [content for kind, content in self.messages(code) if kind == "error"]
        return error["ename"], error["evalue"], re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))
