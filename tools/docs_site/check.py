"""Checks the pages before they are built, and the HTML afterwards.

Before: each block of Python stands on a page that a test runs, so that nothing is shown that does not run. Afterwards:
each link within the site leads to a file, and to an element of it if it has a fragment; nothing is loaded from
elsewhere (scripts, styles, fonts, pictures); each public name is defined once.
"""

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Which test runs the blocks of a page of the repository. That it does is what its text says: it names the page.
RUN_BY = {
    "README.md": "tests/docs/test_guide.py",
    "docs/guide.md": "tests/docs/test_guide.py",
    "docs/recipes.md": "tests/docs/test_guide.py",
    "docs/remote-format.md": "tests/remote/test_format_page.py",
    "docs/upgrades.md": "tests/docs/test_upgrades_page.py",
}
# The examples of docstrings, which the reference shows, are run by this one.
DOCSTRINGS_TEST = "tests/docs/test_docstring_examples.py"
EXAMPLES = "examples"
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def python_blocks(text: str) -> list[str]:
    """The sources of the blocks of Python."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def blocks(made: dict[str, str], root: Path) -> list[str]:
    """Blocks of Python that no test runs, and tests that are not there."""
    wrong = []
    tested: set[str] = set()
    for page, test in RUN_BY.items():
        if Path(page).name not in (root / test).read_text(encoding="utf-8"):
            wrong.append(f"{test} does not name {page}, whose blocks it should run")
        tested |= set(python_blocks((root / page).read_text(encoding="utf-8")))
    if not (root / DOCSTRINGS_TEST).exists():
        wrong.append(f"{DOCSTRINGS_TEST} is not there, which runs the examples of the reference")
    for path, text in made.items():
        if "```pycon" in text and not path.startswith("reference/"):
            wrong.append(f"{path}: no test runs the examples at a prompt")
        if path == EXAMPLES:
            continue
        wrong += [
            f"{path}: no test runs the block {block[:60]!r}" for block in python_blocks(text) if block not in tested
        ]
    texts = [file.read_text(encoding="utf-8") for file in sorted((root / "tests").rglob("*.py"))]
    for example in sorted((root / EXAMPLES).rglob("*")):
        if example.suffix in (".py", ".rs", ".php", ".ipynb"):
            # Tests name a file with or without its suffix; a module is named by the notebook that imports it.
            named = re.compile(rf"\b{example.stem}({re.escape(example.suffix)}|\")")
            importing = [file.read_text(encoding="utf-8") for file in example.parent.glob("*.ipynb")]
            if not any(map(named.search, texts)) and not any(f"import {example.stem}" in text for text in importing):
                wrong.append(f"{EXAMPLES}: no test names {example.relative_to(root)}")
    return wrong


class Read(HTMLParser):
    """What a page of HTML has: its ids, what it loads, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.titles = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids[found["id"]] += 1
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("index", "search", "next", "prev", "canonical", "author"):
            self.loads.append(found.get("href", ""))
        elif tag in ("script", "img", "iframe", "source", "audio", "video", "embed"):
            self.loads += [found[name] for name in ("src", "srcset") if name in found]
        elif tag == "link":
            self.links.append(found.get("href", ""))
        self.titles += tag == "h1"


def site(out: Path, names: set[str]) -> list[str]:
    """What is wrong with the HTML. `names`: each is defined once."""
    pages = {file: Read(file.read_text(encoding="utf-8")) for file in sorted(out.rglob("*.html"))}
    wrong = []
    for file, page in pages.items():
        here = file.relative_to(out)
        for link in page.links:
            wrong += [f"{here}: {link}: {why}" for why in leads_nowhere(link, file, out, pages)]
        for load in page.loads:
            if is_elsewhere(load):
                wrong.append(f"{here}: loads {load} from elsewhere")
            elif not load.startswith("data:") and not (file.parent / unquote(urlsplit(load).path)).exists():
                wrong.append(f"{here}: loads {load}, which is not there")
        wrong += [f"{here}: two elements are called {name}" for name, count in page.ids.items() if count > 1]
        if page.titles != 1 and here.name not in ("search.html", "genindex.html", "py-modindex.html"):
            wrong.append(f"{here}: {page.titles} titles")
    for style in sorted(out.rglob("*.css")):
        for load in re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style.read_text(encoding="utf-8")):
            if is_elsewhere("".join(load)):
                wrong.append(f"{style.relative_to(out)}: loads {''.join(load)} from elsewhere")
    defined = Counter(name for page in pages.values() for name in page.ids)
    wrong += [f"{name} is defined {defined[name]} times, not once" for name in sorted(names) if defined[name] != 1]
    return wrong


def is_elsewhere(link: str) -> bool:
    """Does it need the network?"""
    return bool(re.match(r"([a-z]+:)?//", link, re.IGNORECASE))


def leads_nowhere(link: str, file: Path, out: Path, pages: dict[Path, Read]) -> Iterator[str]:
    """Why a link does not lead to something that is there."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        if parts.scheme == "http" and parts.hostname != "localhost":
            yield "no https"
        return
    if parts.scheme:
        yield f"a link of the kind {parts.scheme}"
        return
    to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not to.is_relative_to(out.resolve()) or not to.is_file():
        yield "no such file"
    elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].ids:
        yield "no such element"


def summary(out: Path) -> str:
    """What was built and checked."""
    pages = [Read(file.read_text(encoding="utf-8")) for file in sorted(out.rglob("*.html"))]
    inside = sum(not urlsplit(link).scheme for page in pages for link in page.links)
    return f"{len(pages)} pages, {inside:,} links within it, each leads somewhere; nothing is loaded from elsewhere"
