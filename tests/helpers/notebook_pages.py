"""A notebook in a page of JupyterLab or Notebook 7: its cells are run and looked at, as a person does it."""

import itertools
import re

from helpers import browser

PLACES = {
    # Each page in a workspace of its own: the default one opens what another page has open, too.
    "JupyterLab": "lab/workspaces/{number}/tree/{name}",
    "Notebook": "notebooks/{name}",
}
NUMBERS = itertools.count(1)

READY = """async () => {
    const notebook = window.jupyterapp?.shell.currentWidget;
    if (!notebook?.sessionContext) return false;
    await notebook.context.ready;
    await notebook.sessionContext.ready;
    await notebook.sessionContext.session.kernel.info;
    return true;
}"""

# What these pages say with a notebook that has nothing to do with us, too.
ALLOWED = {
    "JupyterLab": [],
    # Notebook 7.6, before a cell has run: plugins of JupyterLab ask for settings and for a file browser that are not
    # on its page.
    "Notebook": [r"exception: Cannot read properties of undefined \(reading 'schema'\)", r".*filebrowser:open-path"],
}


class NotebookPage(browser.Page):
    """A notebook of a server (`helpers.jupyter`), whose kernel is ready."""

    def __init__(self, context, server, name, place="JupyterLab"):
        super().__init__(context)
        self.place = place
        self.page.goto(server.url(PLACES[place].format(name=name, number=next(NUMBERS))))
        self.until(lambda: self.page.evaluate(READY))

    def complaints(self):
        """What went wrong in the page, but for what is known to be of the page itself."""
        return [text for text in self.wrong if not any(re.match(known, text) for known in ALLOWED[self.place])]

    def command(self, name, **arguments):
        """Gives a command, as a menu does; does not wait for what comes of it."""
        self.page.evaluate("words => void jupyterapp.commands.execute(...words)", [name, arguments])

    def theme(self, name):
        """Changes the colours: "Light" or "Dark". The server keeps this for its other pages."""
        self.command("apputils:change-theme", theme=f"JupyterLab {name}")
        self.page.locator(f"body[data-jp-theme-name='JupyterLab {name}']").wait_for(state="attached")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def cell(self, number):
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def prompt(self, number):
        """What stands left of a cell: "[ ]:", "[*]:" while it runs, then its number."""
        return self.cell(number).locator(".jp-InputArea-prompt").inner_text()

    def begin(self, number):
        """Runs a cell; waits until it has begun."""
        before = self.prompt(number)
        self.cell(number).locator(".jp-InputArea-prompt").click()
        self.command("notebook:run-cell")
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
