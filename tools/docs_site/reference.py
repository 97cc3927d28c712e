"""The pages of the reference, made from the stubs: every public name once, with its docstring.

Docstrings are Markdown but for what they have of their own: sections (`Args:`), and examples that begin with `>>>`.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from public_names import Name

SECTIONS = {
    "Args": "Arguments",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "Attributes": "Attributes",
}
RESULTS = ("Returns", "Yields")  # sections of plain text


@dataclass(frozen=True)
class Group:
    """A page: of one module, the names that `has` is true of."""

    path: str
    title: str
    module: str
    has: Callable[[str], bool]


def _of(*names: str) -> Callable[[str], bool]:
    return lambda name: name in names


def _is_error(name: str) -> bool:
    return name.endswith("Error")


# The first that has a name is its page.
GROUPS = [
    Group(
        "functions",
        "Opening segments",
        "shmvar",
        _of("attach", "copy", "destroy", "exists", "ftok", "segments", "__version__"),
    ),
    Group("segment", "Segment", "shmvar", _of("Segment")),
    Group("together", "Locks, queues, changes", "shmvar", _of("Lock", "Queue", "TakenItem", "Changes")),
    Group("facts", "What is known of a segment", "shmvar", _of("SegmentInfo", "VariableInfo", "CheckReport")),
    Group("errors", "Errors", "shmvar", _is_error),
    Group("remote-segment", "RemoteSegment", "shmvar", _of("RemoteSegment")),
    Group("php-functions", "The functions of PHP", "shmvar", lambda name: name.startswith("shm_")),
    Group("notebook", "shmvar.notebook", "shmvar.notebook", lambda name: True),
    Group("php-errors", "Errors of shmvar.php", "shmvar.php", _is_error),
    Group("php", "shmvar.php", "shmvar.php", lambda name: True),
]


@dataclass
class Reference:
    """Pages by their paths, and what is wrong."""

    modules: list[Name]
    pages: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = {name.full for module in self.modules for name in module.walk()}
        on: dict[str, list[Name]] = {}
        for module in self.modules:
            for name in module.members:
                group = next((g for g in GROUPS if g.module == name.module and g.has(name.path)), None)
                if group is None:
                    self.wrong.append(f"{name.full} is on no page of the reference: see GROUPS in reference.py")
                else:
                    on.setdefault(group.path, []).append(name)
        groups = [group for group in GROUPS if group.path in on]
        for group in groups:
            self.pages[f"reference/{group.path}"] = self._page(group, on[group.path])
        self.pages["reference/index"] = self._index(groups, on)

    def _index(self, groups: list[Group], on: dict[str, list[Name]]) -> str:
        parts = [
            "# Reference\n",
            "Each public name, from the stubs of the package: what `help()` shows, and what type checkers see. Names "
            "that begin with an underscore, and all that is not named here, may change at any time.\n",
        ]
        parts += [f"```{{py:module}} {module.full}\n```\n" for module in self.modules if module.members]
        for group in groups:
            parts += [f"## [{group.title}]({group.path}.md)\n", "| | |\n| --- | --- |"]
            for name in on[group.path]:
                kind = {"class": "class", "function": "func"}.get(name.kind, "obj")
                first = self._linked(_first_sentence(name.doc), name) if name.doc else ""
                call = "" if name.kind != "function" else "()"
                parts.append(
                    f"| {{py:{kind}}}`{name.path}{call} <{name.full}>` | {first.replace('|', chr(92) + '|')} |"
                )
            parts.append("")
        parts += ["```{toctree}\n:hidden:\n", *[group.path for group in groups], "```\n"]
        return "\n".join(parts)

    def _page(self, group: Group, names: list[Name]) -> str:
        parts = [f"# {group.title}\n", f"```{{py:currentmodule}} {group.module}\n```\n"]
        module = next(module for module in self.modules if module.full == group.module)
        if group.module != "shmvar" and not group.path.endswith("-errors"):
            parts.append(self._text(module.doc, module))
        for name in names:
            if len(names) > 1 and name.kind == "class" and not _is_error(name.path):
                parts.append(f"## {name.path}\n")
            parts += self._directive(name, "``````")
        return "\n".join(parts)

    def _qualified(self, said: str, name: Name) -> str:
        """A signature in which names of `shmvar` are called so: its modules have classes of the same names."""

        def full(found: re.Match[str]) -> str:
            own, outer = f"{name.module}.{found[0]}", f"shmvar.{found[0]}"
            return outer if own not in self.known and outer in self.known else found[0]

        return re.sub(r"(?<![\w.'\"])[A-Z]\w+\b", full, said)

    def _directive(self, name: Name, fence: str) -> Iterator[str]:
        signatures = [self._qualified(said, name) for said in name.signatures]
        directive = {"constant": "data"}.get(name.kind, name.kind)
        short = name.path
        if name.kind in ("property", "attribute", "constant"):
            said = signatures[0]
            kind = said.removeprefix(" -> ").removeprefix(": ") if not said.startswith(" = ") else ""
            yield f"{fence}{{py:{directive}}} {short}"
            if kind:
                yield f":type: {kind}"
            elif said:
                yield f":value: {said.removeprefix(' = ')}"
        else:
            *before, last = signatures
            if name.kind == "class":
                init = next((member for member in name.members if member.path == f"{name.path}.__init__"), None)
                last = self._qualified(init.signatures[-1], name).removesuffix(" -> None") if init is not None else ""
            for said in before:
                yield f"{fence}{{py:{directive}}} {short}{said}\n:no-index:\n{fence}\n"
            yield f"{fence}{{py:{directive}}} {short}{last}"
        yield ""
        if name.kind == "class" and name.signatures[0]:
            yield f"Derives from {self._bases(name)}.\n"
        yield self._text(name.doc, name)
        yield from self._members(name, fence[:-1])
        yield f"{fence}\n"

    def _bases(self, name: Name) -> str:
        bases = [base.strip() for base in re.split(r",\s*(?![^\[]*\])", name.signatures[0].strip("()"))]
        return " and ".join(self._linked(f"`{base}`", name) for base in bases)

    def _members(self, name: Name, fence: str) -> Iterator[str]:
        said = [member for member in name.members if member.doc]
        unsaid = [
            member.path.rpartition(".")[2]
            for member in name.members
            if not member.doc and not member.path.rpartition(".")[2].startswith("_") and member.kind != "attribute"
        ]
        if unsaid:
            # What a class says nothing of is what its model says.
            model = {"RemoteSegment": "Segment"}.get(name.path)
            if model is None:
                self.wrong.append(f"{name.full}: no docstring for {', '.join(unsaid)}")
            else:
                links = [f"{{py:meth}}`{part} <{name.module}.{model}.{part}>`" for part in unsaid]
                yield f"As those of {{py:class}}`{model} <{name.module}.{model}>`: {', '.join(links)}.\n"
        plain = [member for member in said if not member.path.rpartition(".")[2].startswith("__")]
        for member in [m for m in plain if m.kind == "property"] + [m for m in plain if m.kind != "property"]:
            yield from self._directive(member, fence)
        for member in said:
            if member not in plain:
                yield from self._directive(member, fence)
        # The fields of a named tuple: their text is that of the class.
        for member in name.members:
            if member.kind == "attribute" and not member.doc and member.signatures[0]:
                yield from self._directive(member, fence)

    # --- docstrings

    def _text(self, doc: str, name: Name) -> str:
        parts = []
        for title, body in _sections(doc):
            if title is None:
                parts.append(self._paragraphs(body, name))
            elif title in RESULTS:
                parts.append(f"**{SECTIONS[title]}:** {self._paragraphs(body, name)}")
            else:
                items = [f"- {self._item(names, name)}: {self._linked(text, name)}" for names, text in _items(body)]
                parts.append(f"**{SECTIONS[title]}**\n\n" + "\n".join(items) + "\n")
        return "\n".join(parts)

    def _item(self, names: str, name: Name) -> str:
        return ", ".join(self._linked(f"`{each.strip()}`", name) for each in names.split(","))

    def _paragraphs(self, text: str, name: Name) -> str:
        parts = []
        for paragraph in re.split(r"\n{2,}", text.strip("\n")):
            if paragraph.lstrip().startswith(">>>"):
                lines = [re.sub(r"\s*# doctest:.*", "", line) for line in textwrap.dedent(paragraph).split("\n")]
                parts.append("```pycon\n" + "\n".join(lines) + "\n```")
            else:
                parts.append(self._linked(paragraph, name))
        return "\n\n".join(parts) + "\n"

    def _linked(self, text: str, name: Name) -> str:
        """The text with links for names of the package that stand in backticks."""

        def link(found: re.Match[str]) -> str:
            word = found[1]
            owner = name.path.split(".")[0] if name.path else ""
            for full in (word, f"{name.module}.{word}", f"{name.module}.{owner}.{word}", f"shmvar.{word}"):
                # No link to where one is already.
                if full in self.known and full not in (name.full, name.module):
                    return f"{{py:obj}}`{word} <{full}>`"
            return found[0]

        text = re.sub(r"(?<!`)`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)", link, text)
        return re.sub(r"\bdocs/(remote|format|guide)\.md", lambda found: _page_link(found[1]), text)


def _page_link(page: str) -> str:
    titles = {"guide": ("the guide", "guide/index"), "remote": ("Segments on a server", "remote")}
    title, path = titles.get(page, ("the format", page))
    return f"[{title}](../{path}.md)"


def _first_sentence(doc: str) -> str:
    paragraph = " ".join(doc.split("\n\n")[0].split())
    found = re.match(r"(.*?[.:])(?: |$)", paragraph)
    return found[1].rstrip(":") if found else paragraph


def _sections(doc: str) -> Iterator[tuple[str | None, str]]:
    """What stands before the first section, and each section with its indented lines."""
    title: str | None = None
    lines: list[str] = []
    for line in doc.split("\n"):
        head = re.fullmatch(r"(\w+):", line)
        if head and head[1] in SECTIONS:
            if title is not None or "\n".join(lines).strip():
                yield title, textwrap.dedent("\n".join(lines))
            title, lines = head[1], []
        elif title is not None and line.strip() and not line.startswith(" "):
            yield title, textwrap.dedent("\n".join(lines))
            title, lines = None, [line]
        else:
            lines.append(line)
    if title is not None or "\n".join(lines).strip():
        yield title, textwrap.dedent("\n".join(lines))


def _items(body: str) -> Iterator[tuple[str, str]]:
    """`name: text` with its further lines, each."""
    names, text = "", ""
    for line in body.strip("\n").split("\n"):
        head = re.match(r"([\w., *]+?): (.*)", line) if not line.startswith(" ") else None
        if head:
            if names:
                yield names, " ".join(text.split())
            names, text = head[1], head[2]
        else:
            text += f" {line}"
    if names:
        yield names, " ".join(text.split())
