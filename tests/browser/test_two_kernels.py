"""JupyterLab with two notebooks, each with a kernel of its own, that share values; one kernel is killed."""

import os
import signal

import helpers
import pytest
from helpers import browser

import shmvar

pytest.importorskip("numpy")
pytestmark = browser.marks("notebook", "jupyterlab", "ipykernel")

ATTACH = """
import os
import numpy as np
import shmvar
seg = shmvar.attach({key!r})
print(os.getpid())
"""

CHANGE = """
with seg.lock("accounts"):
    round = 0
    while True:
        round += 1
        seg.put_many({"left": np.full(50_000, round), "right": np.full(50_000, -round)})
"""

LOOK = """
with seg.lock("accounts", timeout=120):
    both = seg.get_many(["left", "right"])
left, right = both["left"], both["right"]
seg.check()
whole = (left == left[0]).all() and (right == -left[0]).all()
seg["seen"] = int(left[0])
print("whole" if whole else "torn")
"""


def test_two_kernels_share_values_and_one_is_killed_while_it_changes_some_under_a_lock(key, open_notebook):
    one = open_notebook(ATTACH.format(key=key), "seg['words'] = {'from': 'one'}", CHANGE, "seg['seen']")
    two = open_notebook(ATTACH.format(key=key), "seg['words']", LOOK)
    pids = [int(page.said(0)) for page in (one, two)]
    assert pids[0] != pids[1]
    one.run(1)
    assert two.said(1).endswith("{'from': 'one'}")
    with shmvar.attach(key, create=False) as segment:
        one.begin(2)
        helpers.until(lambda: "left" in segment and segment.view("left")[0] >= 20, what="what the first notebook does")
        assert segment.lock("accounts").locked()
        os.kill(pids[0], signal.SIGKILL)
        assert two.said(2) == "whole"
        # JupyterLab notices, says so, once or twice, and starts another kernel, which finds all that is there.
        said = one.page.get_by_role("dialog").filter(has_text="appears to have died")
        said.wait_for()
        one.page.add_locator_handler(said, lambda dialog: dialog.get_by_role("button", name="OK").click())
        one.until(lambda: one.status() == "idle")
        assert int(one.said(0)) not in pids
        assert one.said(3).endswith(str(segment["seen"]))
        assert segment["seen"] >= 20
