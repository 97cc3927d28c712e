"""What a browser makes of a display in which every name is hostile: no formula, no element, nothing that runs."""

from helpers import browser
from helpers.hostile_texts import TEXTS

import shmvar

pytestmark = browser.marks("notebook", "jupyterlab", "ipykernel")

FORMULA = "$x^2$"


def test_no_name_is_drawn_as_a_formula_and_none_runs(open_notebook, key):
    with shmvar.attach(key) as segment:
        segment[FORMULA] = FORMULA
        locks = [segment.lock(name) for name in (FORMULA, *TEXTS[9:12])]
        for lock in locks:
            lock.acquire()
        segment.queue(FORMULA).put(1)
        code = f"import shmvar\nfrom IPython.display import HTML, display\nseg = shmvar.attach({key!r})\n"
        # The formula below the display shows that this page draws formulas, and has come to the end.
        page = open_notebook(code + "display(seg)\nHTML('<p id=\"formula\">$x^2$</p>')")
        page.run(0)
        page.page.wait_for_selector("#formula mjx-container", state="attached")
        display = page.page.wait_for_selector(".shmvar")
        assert display.query_selector_all("mjx-container, script, img, a, b") == []
        assert display.inner_text().count(FORMULA) == 4 and "<script>" in display.inner_text()
        for lock in locks:
            lock.release()
