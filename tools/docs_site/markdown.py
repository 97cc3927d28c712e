"""Markdown as the pages of this repository have it: sections, blocks of code, links, and names of headings."""

import re
from collections.abc import Callable, Iterator

FENCE = re.compile(r"^(`{3,})(\S*)[^\n]*\n.*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#{1,6}) (.+?) *$", re.MULTILINE)
FIGURE = re.compile(r"(\d) ((?:ns|us|µs|ms|s|x|KiB|MiB|GiB|TiB|of \d+)\b)")
# A picture, or a link whose text may have brackets within backticks; then what it leads to.
LINK = re.compile(r"(!?)\[((?:`[^`]*`|[^\[\]`])*)\]\(([^()\s]+)\)")


def sections(text: str) -> dict[str, str]:
    """The second-level sections by their headings, each without its heading; "" is what stands before the first."""
    found = {"": ""}
    current = ""
    for kind, part in pieces(text):
        if kind == "code":
            found[current] += part
            continue
        for line in part.splitlines(keepends=True):
            heading = re.match(r"## (.+?) *\n", line)
            if heading:
                current = heading[1]
                if current in found:
                    raise ValueError(f"two sections are called {current!r}")
                found[current] = ""
            else:
                found[current] += line
    return found


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """The text in its order: ("code", a fenced block), and ("text", what is between)."""
    at = 0
    for found in FENCE.finditer(text):
        yield "text", text[at : found.start()]
        yield "code", found[0]
        at = found.end()
    yield "text", text[at:]


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with what stands outside of fenced blocks changed."""
    return "".join(part if kind == "code" else change(part) for kind, part in pieces(text))


def slug(heading: str, taken: dict[str, int] | None = None) -> str:
    """The name of a heading, by GitHub's rule. `taken` counts: the second one of a page gets a number."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
    if taken is None:
        return name
    number = taken.get(name, 0)
    taken[name] = number + 1
    return f"{name}-{number}" if number else name


def headings(text: str) -> Iterator[tuple[int, str, str]]:
    """Level, text and name of each heading, with their places in the order of the text."""
    taken: dict[str, int] = {}
    for kind, part in pieces(text):
        if kind == "text":
            for found in HEADING.finditer(part):
                yield len(found[1]), found[2], slug(found[2], taken)


def with_languages(text: str) -> str:
    """Indented blocks as fenced ones: what begins with a prompt is a session of a shell, everything else plain text."""
    return outside_code(text, _fence_indented)


def with_firm_spaces(text: str) -> str:
    """No line ends between a figure and its unit in a cell of a table."""

    def change(part: str) -> str:
        return re.sub(r"^\|.*$", lambda row: FIGURE.sub("\\1\u00a0\\2", row[0]), part, flags=re.MULTILINE)

    return outside_code(text, change)


def _fence_indented(text: str) -> str:
    lines = text.split("\n")
    made: list[str] = []
    at = 0
    while at < len(lines):
        before = next((line for line in reversed(made) if line.strip()), "")
        begins = lines[at].startswith("    ") and lines[at].strip() and not (made and made[-1].strip())
        if not begins or re.match(r" *([-*+]|\d+\.) ", before):  # a part of an item of a list
            made.append(lines[at])
            at += 1
            continue
        end = last = at
        while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
            last = end if lines[end].strip() else last
            end += 1
        block = [line.removeprefix("    ") for line in lines[at : last + 1]]
        kind = "console" if any(line.startswith("$ ") for line in block) else "text"
        made += [f"```{kind}", *block, "```"]
        at = last + 1
    return "\n".join(made)
