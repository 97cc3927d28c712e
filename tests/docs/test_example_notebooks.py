"""The notebooks of examples/notebooks run from the first cell to the last and show what their texts say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import installed_programs, jupyter

import shmvar

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
KEYS = {"first_steps": "first-steps", "simulation": "simulation", "two_kernels": "two-kernels"}

pytestmark = installed_programs.needs("nbclient", "nbformat", "ipykernel")
if not NAMES:
    pytest.skip("the notebooks are not beside the tests", allow_module_level=True)

RUN = """
import nbclient, nbformat, sys
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def read(path):
    import nbformat

    return nbformat.read(path, 4)


@pytest.fixture
def run(key, tmp_path):
    """Runs a notebook with a key of the test's own; returns by the id of each cell what the cell has shown."""

    def run_one(name):
        shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        text = path.read_text()
        path.write_text(re.sub(rf'(?<=[" ])({KEYS[name]})(?=[\\ "])', key, text))
        assert path.read_text().count(key) >= 2
        done = subprocess.run(
            [sys.executable, "-c", RUN, path.name],
            cwd=path.parent,
            env=jupyter.environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
        assert not shmvar.exists(key), "its last cell destroys the segment"
        return {cell.id: all_shown(cell.outputs) for cell in cells}

    return run_one


def all_shown(outputs):
    """What a cell has shown. What it printed may come in several outputs, cut anywhere: on a busy machine it does."""
    texts, last = [], None
    for output in outputs:
        stream = output.get("name")
        if stream is not None and stream == last:
            texts[-1] += output.text
        else:
            texts.append(shown(output))
        last = stream
    return "\n".join(texts).strip()


def shown(output):
    """The text of an output, and its HTML."""
    if output.output_type == "stream":
        return output.text
    return "\n".join(output.data[kind] for kind in ("text/plain", "text/html") if kind in output.data)


def test_the_first_steps(run, key):
    said = run("first_steps")
    assert f"key={key!r} variables=0" in said["attach"]
    assert said["put"] == "1.09"
    assert said["process"].splitlines() == [f"process {name} reads {{'EUR': 1.09, 'GBP': 1.27}}" for name in "ABC"]
    assert said["visits"] == "3000"
    for part in ("variables=7", "<table", "from A", "4711", "principal"):
        assert part in said["display"]
    assert key in said["magics"]
    assert said["push"].splitlines()[-1] == "1480.2442849183444"
    assert said["copy"] == "False"
    assert "CHF" in said["modify"]
    assert said["wait"] == "42"
    assert said["kill"].split() == ["I", "have", "the", "lock", "-9"]
    assert said["recovered"] == "1000"
    assert said["destroy"] == "False"


def test_the_simulation(run, key):
    pytest.importorskip("numpy")
    pytest.importorskip("anywidget")
    said = run("simulation")
    assert key in said["watch"] and "'distance'" in said["watch"] and "'done'" in said["watch"]
    assert said["progress"].splitlines()[-1] == "60"
    for line in said["result"].splitlines():
        found, theory = re.fullmatch(r"after .* steps: *([\d.]+), in theory *([\d.]+)", line).groups()
        assert abs(float(found) / float(theory) - 1) < 0.02
    array, segment = (int(number.replace(",", "")) for number in re.findall(r"[\d,]{5,}", said["memory"]))
    assert array == 60 * 1000 * 8 <= segment < 2 * array
    assert said["destroy"] == "False"


def test_two_kernels(run):
    pytest.importorskip("numpy")
    said = run("two_kernels")
    assert said["other"] == ""
    assert said["view"] == "64 MiB in view, their mean is 4,194,303.5, writable: False\ncopied: False"
    assert "held by views 64.0 MiB" in re.sub("<[^>]*>", "", said["held"])
    assert said["held-bytes"] == "the view still has 8,388,607 at its end\nheld: 64 MiB"
    assert said["back"] == "held: 0 MiB, the whole segment: 0 MiB"
    assert said["place"] == "[1. 1. 2. 3. 5.]"
    assert said["kill"] == "held: 0 MiB, the whole segment: 0 MiB, attached: 1"
    assert said["destroy"] == "False"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_outputs_and_as_jupyter_writes_it(name):
    """Outputs would be other ones after each run, and each change of a notebook would hide among them."""
    import nbformat

    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert path.read_text() == nbformat.writes(notebook) + "\n"
    assert all(re.fullmatch(r"[a-z-]+", cell.id) for cell in notebook.cells), "an id is a word, and stays"
    assert code[-1].source.startswith("seg.destroy()")
    assert all(len(line) <= 120 for cell in code for line in cell.source.splitlines())
