"""Notebooks in a page of JupyterLab or Notebook 7: their cells are run and looked at, as a person does it."""

import re

from helpers import browser

PLACES = {"JupyterLab": "lab", "Notebook": "notebooks/{name}"}
THERE = {
    "JupyterLab": "async () => window.jupyterapp && (await jupyterapp.restored, true)",
    "Notebook": "() => Boolean(window.jupyterapp)",
}

# Both pages ask every 10 s which kernels and sessions there are. Jupyter's server cannot tell while a kernel starts:
# it has no `last_activity` yet.
LISTS = r"console: Failed to load resource: .* status of 500 .*/api/(kernels|sessions)\?\d+\)"
# What these pages say with a notebook that has nothing to do with us, too.
ALLOWED = {
    # What JupyterLab, its debugger too, had asked a kernel that was killed.
    "JupyterLab": [LISTS, r"(console|exception): .*Canceled future for \w+ message before replies were done"],
    # Notebook 7.6, before a cell has run: plugins of JupyterLab ask for settings and for a file browser that are not
    # on its page.
    "Notebook": [
        LISTS,
        r"exception: Cannot read properties of undefined \(reading 'schema'\)",
        r".*filebrowser:open-path",
    ],
}

FIND = "const found = [...jupyterapp.shell.widgets('main')].find(one => one.context?.path === name);"
OPEN = "name => void jupyterapp.commands.execute('docmanager:open', { path: name, factory: 'Notebook' })"
READY = f"""async name => {{
    if (!window.jupyterapp) return null;
    {FIND}
    if (!found?.sessionContext) return null;
    await found.context.ready;
    await found.sessionContext.ready;
    if (!found.sessionContext.session?.kernel) return null;
    await found.sessionContext.session.kernel.info;
    return found.id;
}}"""
STATUS = f"name => {{ {FIND} return found.sessionContext.session?.kernel?.status; }}"
SHOW = f"name => {{ {FIND} jupyterapp.shell.activateById(found.id); }}"
CLOSE = f"name => {{ {FIND} found?.dispose(); }}"


class Frame(browser.Page):
    """A page in which notebooks are opened: JupyterLab has a tab for each, Notebook 7 a page for one."""

    def __init__(self, context, server, place, name=""):
        super().__init__(context)
        self.place = place
        self.page.goto(server.url(PLACES[place].format(name=name)))
        self.until(lambda: self.page.evaluate(THERE[place]))

    def complaints(self):
        """What went wrong since this was asked last, but for what is known to be of the page itself."""
        wrong, self.wrong[:] = list(self.wrong), []
        return [text for text in wrong if not any(re.match(known, text) for known in ALLOWED[self.place])]

    def command(self, name, **arguments):
        """Gives a command, as a menu does; does not wait for what comes of it."""
        self.page.evaluate("words => void jupyterapp.commands.execute(...words)", [name, arguments])

    def theme(self, name):
        """Changes the colours: "Light" or "Dark". The server keeps this for its other pages."""
        self.command("apputils:change-theme", theme=f"JupyterLab {name}")
        self.page.locator(f"body[data-jp-theme-name='JupyterLab {name}']").wait_for(state="attached")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")


class Notebook:
    """A notebook that is open in such a page, with its kernel."""

    def __init__(self, frame, name):
        self.frame, self.page, self.until, self.name = frame, frame.page, frame.until, name
        if frame.place == "JupyterLab":
            self.page.evaluate(OPEN, name)
        panel = self.until(lambda: self.page.evaluate(READY, name))
        self.panel = self.page.locator(f"[id='{panel}']")

    def status(self):
        """Of the kernel, as the page knows it."""
        return self.page.evaluate(STATUS, self.name)

    def close(self):
        """Closes its tab, unsaved."""
        self.page.evaluate(CLOSE, self.name)

    def cell(self, number):
        return self.panel.locator(".jp-CodeCell").nth(number)

    def choose(self, number):
        """Makes a cell the one that commands are about."""
        self.page.evaluate(SHOW, self.name)
        self.cell(number).locator(".jp-InputArea-prompt").click()

    def prompt(self, number):
        """What stands left of a cell: "[ ]:", "[*]:" while it runs, then its number."""
        return self.cell(number).locator(".jp-InputArea-prompt").inner_text()

    def begin(self, number):
        """Runs a cell; waits until it has begun."""
        self.choose(number)
        before = self.prompt(number)
        self.frame.command("notebook:run-cell")
        self.until(lambda: self.prompt(number) != before)

    def run(self, number):
        """Runs a cell; waits until it has ended, without an error. Returns its output, as something to look into."""
        self.begin(number)
        self.until(lambda: re.search(r"\d", self.prompt(number)))
        output = self.cell(number).locator(".jp-OutputArea")
        assert not output.locator("[data-mime-type='application/vnd.jupyter.stderr']").count(), output.inner_text()
        return output

    def said(self, number):
        """Runs a cell; returns the text of its output."""
        return self.run(number).inner_text().strip()
