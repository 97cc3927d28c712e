"""A Jupyter server of the test's own, for JupyterLab and Notebook 7, with its kernels and notebooks written for it.

It reads nothing of the user's own configuration, writes only in a directory of its own, and asks nothing of the
network: extension manager, news and language servers are off. Its kernels are the interpreter that runs the tests.
"""

import json
import os
import secrets
import sys
import urllib.request

from helpers import installed_programs, process_trees

SETTINGS = {  # as the menu "Settings" writes them: no question about news on the first page, no save while a test looks
    "apputils-extension/notification": {"fetchNews": "false"},
    "docmanager-extension/plugin": {"autosave": False},
}


def environment(directory):
    """Variables for a program of Jupyter: it keeps to this directory, and imports the package that the tests import."""
    folders = {name: directory / name for name in ("config", "data", "runtime", "ipython", "home", "tmp")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    return inherited | {
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "IPYTHONDIR": str(folders["ipython"]),
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["tmp"]),
        "PYTHONPATH": os.pathsep.join(installed_programs.packages()),
    }


class Server(installed_programs.Server):
    """A server that runs until the end of the `with`, and its kernels no longer; its notebooks are in `work`."""

    def __init__(self, directory):
        self.token, self.work = secrets.token_hex(16), directory / "work"
        self.work.mkdir()
        for name, settings in SETTINGS.items():
            file = directory / "config" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(settings))
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": 0,
            "ServerApp.root_dir": self.work,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "IdentityProvider.token": self.token,
            "LanguageServerManager.autodetect": False,
            "LabApp.extension_manager": "readonly",
            "LabApp.news_url": None,
            # `window.jupyterapp`, by which a test gives the commands of menus
            "LabApp.expose_app_in_browser": True,
            "JupyterNotebookApp.expose_app_in_browser": True,
        }
        # The program of Notebook 7 serves JupyterLab, too.
        command = [sys.executable, "-m", "notebook", *(f"--{name}={value}" for name, value in options.items())]
        ready = r"http://127\.0\.0\.1:(\d+)/tree\?token"
        super().__init__(command, directory, ready, env=environment(directory))

    def end(self):
        everything = process_trees.below(self.process.pid)
        super().end()
        process_trees.end(everything)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def write(self, name, cells):
        """Writes a notebook with these cells of code, which have not run yet."""
        import nbformat

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
        nbformat.write(notebook, self.work / name)

    def asked(self, method, path):
        """What the server's own interface answers."""
        with urllib.request.urlopen(urllib.request.Request(self.url(path), method=method), timeout=120) as answer:
            return json.loads(answer.read() or "null")

    def end_kernel(self, name):
        """Ends the kernel of a notebook."""
        for session in self.asked("GET", "api/sessions"):
            if session["path"] == name:
                self.asked("DELETE", f"api/sessions/{session['id']}")
