"""Makes the picture of the README: a segment in JupyterLab, while worker processes change it.

    python tests/browser/picture.py docs/pictures/notebook.png

It needs what the tests of this folder need, and Pillow if the file is to be small. Look at the picture afterwards.
"""

import contextlib
import math
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import browser, jupyter, notebook_pages

import shmvar

KEY = "simulation"
VIEW = {"viewport": {"width": 1000, "height": 960}, "device_scale_factor": 1.5}
CELLS = [
    'import shmvar, shmvar.notebook\n\nseg = shmvar.attach("simulation")\nseg',
    "shmvar.notebook.watch(seg)",
    'shmvar.notebook.progress(seg, "done", 10_000)',
]


def work(segment, number):
    """What a worker does until it is killed."""
    field = segment.array("field")
    while True:
        done = segment.add("done")
        field[done % len(field)] = done
        segment.touch("field")
        if done % (7 * number) == 0:
            segment[f"best of worker {number}"] = {"energy": -100 - done % 17}
        time.sleep(0.05 * (1.2 + math.sin(time.monotonic() / (1 + number))))


def fill(segment):
    segment.array("field", (512, 2048), "f4")
    segment["parameters"] = {"temperature": 2.27, "seed": 4711}
    segment["started by"] = "Ada"
    segment.put("token", "not for ever", ttl=3600)
    segment["frame"] = b"x" * (3 << 20)
    held = segment.view("frame")
    segment["frame"] = b"y" * (1 << 20)
    return held


def take(path, directory):
    with shmvar.attach(KEY, 16 << 20, create=True) as segment, contextlib.ExitStack() as stack:
        stack.callback(segment.destroy)
        held = fill(segment)
        workers = [multiprocessing.Process(target=work, args=(segment, number), daemon=True) for number in (1, 2, 3)]
        for worker in workers:
            worker.start()
            stack.callback(worker.kill)
        server = stack.enter_context(jupyter.Server(directory))
        (directory / "browser").mkdir()
        chromium = stack.enter_context(browser.started(directory / "browser"))
        server.write("simulation.ipynb", CELLS)
        frame = notebook_pages.Frame(chromium.new_context(**VIEW), server, "JupyterLab")
        notebook = notebook_pages.Notebook(frame, "simulation.ipynb")
        frame.command("application:toggle-left-area")
        notebook.run(0)
        notebook.run(1)
        frame.page.wait_for_timeout(40_000)  # so the bars of the last minute have some length
        notebook.run(0)
        notebook.begin(2)
        frame.page.wait_for_timeout(4_000)
        notebook.cell(0).scroll_into_view_if_needed()
        notebook.panel.screenshot(path=path)
        del held


def make_small(path):
    """Stores the picture with 256 colours, which nobody sees."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        print("Pillow is not installed: the picture has all its colours")
        return
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    with tempfile.TemporaryDirectory(prefix="shmvar-picture-") as made:
        take(sys.argv[1], Path(made))
    make_small(sys.argv[1])
    print(f"{sys.argv[1]}: {os.path.getsize(sys.argv[1]):,} bytes")
