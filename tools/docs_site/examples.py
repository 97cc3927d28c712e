"""The page of the examples: each program as it stands, and the cells of each notebook."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path

LANGUAGES = {".py": "python", ".rs": "rust", ".php": "php"}
# What to read first; what is not named here comes after these.
ORDER = (
    "two_scripts",
    "work_queue.py",
    "multiprocessing_pool.py",
    "thread_pool.py",
    "parallel_fill.py",
    "ring_buffer.py",
)
LAST = ("remote", "php", "notebooks", "exchange.py", "exchange.rs")
HEAD = """\
# Examples

Programs that run as they stand; the tests run them. In the sources they are the folder `examples`.
"""


def page(folder: Path, linked: Callable[[str, str], str]) -> str:
    """All of them, those of a folder below its name. A heading is the path, so that links find it.

    `linked`: turns the links of a text that stands in that file.
    """
    parts = [HEAD]
    for path in sorted(folder.iterdir(), key=place):
        if path.suffix in LANGUAGES:
            parts += [f"## {path.name}\n", code(path)]
        elif path.is_dir() and path.name != "__pycache__":
            parts.append(f"## {path.name}\n")
            for file in sorted(path.iterdir()):
                if file.suffix in LANGUAGES:
                    parts += [f"### {path.name}/{file.name}\n", code(file)]
                elif file.suffix == ".ipynb":
                    texts = (linked(part, f"examples/{path.name}/{file.name}") for part in cells(file))
                    parts += [f"### {path.name}/{file.name}\n", *texts]
    return "\n".join(parts)


def place(path: Path) -> tuple[int, str]:
    """Where an example comes, as a key to sort by."""
    if path.name in ORDER:
        return ORDER.index(path.name), ""
    if path.name in LAST:
        return len(ORDER) + 1 + LAST.index(path.name), ""
    return len(ORDER), path.name


def code(path: Path) -> str:
    """A file as a block."""
    return f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"


def cells(path: Path) -> Iterator[str]:
    """The cells of a notebook; headings within it are lower than that of the notebook."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            lines = [f"**{line.lstrip('# ')}**" if line.startswith("#") else line for line in text.splitlines()]
            yield "\n".join(lines) + "\n"
        elif text:
            yield f"```{'text' if has_magics(text) else 'python'}\n{text}\n```\n"


def has_magics(text: str) -> bool:
    """Is it more than Python?"""
    try:
        ast.parse(text)
    except SyntaxError:
        return True
    return False
