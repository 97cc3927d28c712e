"""The Python of a page: its blocks, and a program that runs them as somebody does who pastes them.

    python -m helpers.pages PAGE HOW [PREFIX]    # HOW is "blocks" or "lines"

It is a process of its own, because what a page imports and attaches must stand in the page. It prints a line for each
block that it leaves out, and ends with an error that names the line of the page where something is wrong. Where it
cannot have a /dev/shm of 64 MiB to itself (or with a PREFIX), the keys get a prefix, and their segments are destroyed.
"""

import ast
import code
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL_SHM = "size=64m"
"""What a container has unless it is told otherwise."""

# What a block needs that may be missing here: a pattern in its source, and a module.
NEEDS = {
    r"\bnumpy\b|\bnp\.|\.array\(": "numpy",
    r"\bpandas\b|\bpd\.": "pandas",
    r"\bimport cloudpickle\b": "cloudpickle",
    r"notebook\.watch": "anywidget",
}
SERVER = "a server"
"""What a block with a URL needs. It waits for another program, too: tests/remote/test_past_one_machine.py runs it."""


PHP = "PHP's objects"
"""What a block needs that shares something with PHP, under keys of few bits, which others may have, too:
tests/php/test_php_guide.py runs such blocks, with keys of its own."""
WITH_PHP = r"\bphp\.|\bimport php\b|\bsemaphore\b|What PHP stored"


def blocks(page: str, heading: str | None = None) -> Iterator[tuple[int, str]]:
    """Yields the line in the page and the source of each block of Python, or of those below a heading."""
    return ((at, source) for at, language, source in of_languages(page, heading) if language == "python")


def of_languages(page: str, heading: str | None = None) -> Iterator[tuple[int, str, str]]:
    """Yields the line in the page, the language and the source of each block that has one."""
    text = (ROOT / page).read_text()
    start, end = 0, len(text)
    if heading is not None:
        # A remark in a block may look like a heading.
        prose = re.sub(r"^```.*?^```$", lambda block: " " * len(block[0]), text, flags=re.DOTALL | re.MULTILINE)
        found = re.search(rf"^(#+) {re.escape(heading)}\n", prose, re.MULTILINE)
        following = re.compile(rf"^#{{1,{len(found[1])}}} ", re.MULTILINE).search(prose, found.end())
        start, end = found.end(), following.start() if following else end
    for found in re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE).finditer(text, start, end):
        yield text.count("\n", 0, found.start()) + 2, found[1], found[2]


def lacks(source: str) -> str | None:
    """What this block needs that is not here."""
    if "valkey://" in source:
        return SERVER
    if re.search(WITH_PHP, source):
        return PHP
    for pattern, module in NEEDS.items():
        if re.search(pattern, source) and not _importable(module):
            return module
    return None


def _importable(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None  # None: made impossible
    return importlib.util.find_spec(module) is not None


def stated(line: str) -> tuple:
    """The value that the remark at the end of a line states, in a tuple; empty if it states none."""
    _, _, remark = line.partition("  # ")
    try:
        return (ast.literal_eval(remark),)
    except (SyntaxError, ValueError):
        return ()


class _Remarks(ast.NodeTransformer):
    """Passes each value whose remark states one to `__stated__`, with the number of its line."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if stated(self.lines[node.end_lineno - 1]):
            call = ast.Call(ast.Name("__stated__", ast.Load()), [node.value, ast.Constant(node.end_lineno)], [])
            return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node))
        return node


def run_block(source: str, names: dict) -> int:
    """Runs a block, and compares values with what the remarks behind them state; returns how many it compared."""
    lines, compared = source.splitlines(), 0

    def compare(value, number):
        nonlocal compared
        (wanted,) = stated(lines[number - 1])
        assert (value, type(value)) == (wanted, type(wanted)), f"it gave {value!r}: {lines[number - 1]}"
        compared += 1

    names["__stated__"] = compare
    exec(compile(_Remarks(lines).visit(ast.parse(source)), "<page>", "exec"), names)
    return compared


class Prompt(code.InteractiveConsole):
    """An interpreter's prompt, which ends where a prompt would show an error and go on."""

    def showtraceback(self):
        raise

    def showsyntaxerror(self, *_args, **_options):
        raise

    def paste(self, source: str) -> None:
        """Enters these lines, and one empty line after them."""
        for line in [*source.splitlines(), ""]:
            self.push(line)
        assert not self.buffer, f"not complete: {self.buffer}"


def run_page(page: str, how: str) -> None:
    """Runs the blocks of a page one after the other in the names of a new `__main__`."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    prompt, compared = Prompt(main.__dict__), 0
    for at, source in blocks(page):
        if missing := lacks(source):
            print(f"left out: line {at} needs {missing}")
            continue
        try:
            if how == "lines":
                prompt.paste(source)
            else:
                compared += run_block(source, main.__dict__)
        except BaseException as error:
            error.add_note(f"in the block of {page} that begins in line {at}")
            raise
    print(f"compared: {compared}")


def with_prefix(prefix: str) -> set[str]:
    """Makes `attach` and `shm_attach` take other keys from here on; returns the set of these keys."""
    import shmvar

    keys = set()

    def renamed(attach):
        def call(key, *args, **options):
            keys.add(f"{prefix} {key}")
            return attach(f"{prefix} {key}", *args, **options)

        return call

    shmvar.attach, shmvar.shm_attach = renamed(shmvar.attach), renamed(shmvar.shm_attach)
    return keys


def main(page: str, how: str, prefix: str = "") -> None:
    import shmvar
    from helpers.machine import private_shm

    if not prefix and private_shm(SMALL_SHM):
        run_page(page, how)
        return
    keys = with_prefix(prefix or f"test-page-{os.getpid()}")
    try:
        run_page(page, how)
    finally:
        for key in keys:
            shmvar.destroy(key)


if __name__ == "__main__":
    main(*sys.argv[1:])
