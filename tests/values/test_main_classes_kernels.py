"""Values of classes that are defined in a notebook, between two kernels."""

import pytest
from helpers import kernels
from helpers.installed_programs import needs
from helpers.main_classes import DEFINED, NAMES, is_said_to_be_missing, shows_the_way

pytestmark = needs("ipykernel", "jupyter_client")


@pytest.fixture
def two(tmp_path):
    with kernels.Kernel(tmp_path / "a") as one, kernels.Kernel(tmp_path / "b") as other:
        yield one, other


@needs("cloudpickle")
def test_the_other_notebook_is_told_and_each_way_out_leads_out(seg, key, two, tmp_path):
    one, other = two
    attach = f"import shmvar\nseg = shmvar.attach({key!r})"
    one.run(f"{attach}\n{DEFINED}\nseg.put_many(VALUES)")
    other.run(attach)
    for name in NAMES:
        kind, text, shown = other.error(f"seg[{name!r}]")
        assert kind == "AttributeError" and shows_the_way(text, name)
        # The text is the last line of what the notebook shows, and the unpickler's own words come before it.
        assert shown.rstrip().splitlines()[-1].startswith(("AttributeError: index", "while reading index"))
        assert shows_the_way(" ".join(shown.split()), name) and is_said_to_be_missing(name, shown)

    # "... or store cloudpickle.dumps(value) and read that with pickle.loads"
    one.run("import cloudpickle\nfor name, value in VALUES.items(): seg[name] = cloudpickle.dumps(value)")
    printed = other.run("import pickle\nread = {name: pickle.loads(seg[name]) for name in seg}\nprint(read['Point'].x)")
    assert printed == "3\n"
    # What comes back is of a class that was made here, and goes on its way like any value of this notebook.
    other.run("import cloudpickle\npoint = read['Point']\npoint.x += 1\nseg['Point'] = cloudpickle.dumps(point)")
    assert one.run("import pickle\nback = pickle.loads(seg['Point'])\nprint(back.x, type(back) is Point)") == "4 True\n"

    # "Put it into a module that both processes import"
    (tmp_path / "shapes.py").write_text("class Point:\n    def __init__(self, x):\n        self.x = x\n")
    there = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})"
    one.run(f"{there}\nfrom shapes import Point\nseg['Point'] = Point(5)")
    assert other.run(f"{there}\nprint(seg['Point'].x)") == "5\n"


def test_a_restarted_notebook_is_told_of_what_it_has_stored_itself(seg, key, two):
    one, other = two
    attach = f"import shmvar\nseg = shmvar.attach({key!r})\n"
    one.run(f"{attach}class Point:\n    x = 7\nseg[1] = Point()")
    kind, text, _ = other.error(f"{attach}seg[1]")
    assert kind == "AttributeError" and shows_the_way(text, "Point")
    # The cell that defines it has to run again, as after each restart.
    assert other.run("class Point:\n    pass\nprint(type(seg[1]) is Point)") == "True\n"
