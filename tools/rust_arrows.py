"""Reads the Rust sources of a crate: which file uses a name that another file defines, and in which line.

The crate is read from its `lib.rs` along the `mod` lines, as the compiler does. A name is followed through `use`,
`pub use` and globs to the file that defines it: a file that uses a re-exported name depends on the definition, not on
the file that re-exports it. A `use` of a module as such is no arrow; each path through it is one. A glob is an arrow to
the module as well as to what it brings. Code under `#[cfg(test)]`, comments and literals are left out.

This is no Rust parser. It knows items, paths and macros by name, and nothing of types: a method call is not followed.
That is why `floors.py` also asks where the inherent `impl` blocks stand.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rust_tokens import CLOSE, DEFINES, OPEN, Token, closing, path_at, tokens_of, without_tests


class Arrow(NamedTuple):
    """A place where one file uses a name that another file defines."""

    source: str
    line: int
    target: str
    name: str


class Mention(NamedTuple):
    """A path as it stands in the source. `alias` is the name that a `use` binds, `*` for a glob."""

    line: int
    path: tuple[str, ...]
    alias: str = ""


@dataclass(eq=False)
class Module:
    """A module: a file, or a block `mod name { ... }` of one."""

    file: str
    folder: Path  # where the files of its child modules are
    parent: "Module | None"
    children: dict[str, "Module"] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)  # each name defined here, and the file that defines it
    macros: set[str] = field(default_factory=set)
    uses: list[Mention] = field(default_factory=list)
    paths: list[Mention] = field(default_factory=list)
    impls: list[Mention] = field(default_factory=list)
    words: dict[str, int] = field(
        default_factory=dict
    )  # single names and the first line of each: they may be of a glob


class Crate:
    """The modules of a crate and what each mentions."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.files: list[str] = []
        self.modules: list[Module] = []
        self.shared_macros: dict[str, str] = {}  # of modules under `#[macro_use]`, and exported ones
        source = tree / "src"
        self.root = self.read_file(source / "lib.rs", source, None)

    def read_file(self, file: Path, folder: Path, parent: Module | None, macro_use: bool = False) -> Module:
        """Reads the file of a module, and those of the modules below it."""
        name = file.relative_to(self.tree).as_posix()
        module = Module(name, folder, parent)
        self.modules.append(module)
        self.files.append(name)
        self.read(module, without_tests(tokens_of(file.read_text())))
        if macro_use:
            self.shared_macros.update(dict.fromkeys(module.macros, name))
        return module

    def read(self, module: Module, tokens: list[Token]) -> None:
        """Reads the tokens of a module: what it defines, imports and mentions."""
        attributes: list[list[Token]] = []
        macro_ends = -1  # items that are written within a macro call of the module's own level are the module's
        depth, at = 0, 0
        tokens = [*tokens, *[Token("", 0, "end")] * 4]
        while tokens[at].kind != "end":
            text, line, kind = tokens[at]
            after, second = tokens[at + 1], tokens[at + 2]
            before = tokens[at - 1].text if at else ";"
            on_top = depth == 0 or at < macro_ends
            next_at = at + 1
            if kind == "sign":
                depth += (text in OPEN) - (text in CLOSE)
                if text == "#" and after.text == "[":
                    attributes.append(tokens[at + 2 : closing(tokens, at + 1)])
                elif text in {";", "{", "}"}:
                    attributes = []
            elif kind != "name" or before == "." or (before == "$" and text != "crate"):
                pass
            elif text == "mod" and after.kind == "name" and second.text in {";", "{"}:
                if second.text == "{":
                    end = closing(tokens, at + 2)
                    child = Module(module.file, module.folder / after.text, module)
                    self.modules.append(child)
                    module.children[after.text] = child
                    self.read(child, tokens[at + 3 : end])
                    next_at = end + 1
                else:
                    self.read_child(module, after.text, attributes)
                    next_at = at + 2
            elif text == "use" and after.text != "<" and before not in {"+", "::"}:
                end = next(place for place in range(at, len(tokens)) if tokens[place].text in {";", ""})
                module.uses += use_tree(tokens[at + 1 : end], ())
                next_at = end
            elif text == "macro_rules" and after.text == "!":
                module.items[second.text] = module.file
                module.macros.add(second.text)
                if any(attribute[0].text == "macro_export" for attribute in attributes):
                    self.shared_macros[second.text] = module.file
                next_at = at + 3
            elif text == "impl" and before in {";", "{", "}", "]", "unsafe"}:
                module.impls += inherent_impl(tokens, at)
            elif text in DEFINES and after.kind == "name" and before != "::":
                word = second if after.text == "mut" else after
                if on_top and word.text not in DEFINES and word.text not in {"unsafe", "extern", "async"}:
                    module.items.setdefault(word.text, module.file)
                    next_at = at + 2
            elif before != "::":
                path, next_at = path_at(tokens, at)
                called = tokens[next_at].text == "!" and tokens[next_at + 1].text in OPEN
                if called and len(path) == 1:
                    module.paths.append(Mention(line, path, "!"))
                    if depth == 0:
                        macro_ends = closing(tokens, next_at + 1)
                elif len(path) == 1:
                    module.words.setdefault(text, line)
                elif not (before == "in" and tokens[at - 2].text == "("):  # `pub(in path)` says who may look, no more
                    module.paths.append(Mention(line, path))
            at = next_at

    def read_child(self, module: Module, name: str, attributes: list[list[Token]]) -> None:
        """Reads the module of a line `mod name;`."""
        given = [attribute[2].text.strip('"') for attribute in attributes if attribute[0].text == "path"]
        here = (self.tree / module.file).parent
        places = [here / given[0]] if given else [module.folder / f"{name}.rs", module.folder / name / "mod.rs"]
        file = next((place for place in places if place.is_file()), None)
        if file and name not in module.children:
            macro_use = any(attribute[0].text == "macro_use" for attribute in attributes)
            folder = file.parent if file.name == "mod.rs" else file.parent / file.stem
            module.children[name] = self.read_file(file, folder, module, macro_use)

    def found(self, module: Module, name: str, busy: frozenset[tuple[int, str]]) -> Iterator[Module | str]:
        """Everything that a name means in a module: modules, and the files that define items of that name."""
        key = (id(module), name)
        if key in busy:
            return
        busy |= {key}
        if name in module.items:
            yield module.items[name]
        if name in module.children:
            yield module.children[name]
        for use in module.uses:
            if use.alias == name:
                yield from self.resolved(module, use.path, busy)
            elif use.alias == "*":
                for target in self.resolved(module, use.path, busy):
                    if isinstance(target, Module):
                        yield from self.found(target, name, busy)
        if module is self.root and name in self.shared_macros:
            yield self.shared_macros[name]

    def resolved(
        self, module: Module, path: tuple[str, ...], busy: frozenset[tuple[int, str]] = frozenset()
    ) -> list[Module | str]:
        """Everything that a path means in a module. Nothing: it is a path of another crate, or a local name."""
        starts: dict[str, Module | None] = {"crate": self.root, "self": module, "super": module.parent}
        first = starts.get(path[0])
        targets: list[Module | str] = [first] if first else list(self.found(module, path[0], busy))
        for name in path[1:]:
            inside = next((target for target in targets if isinstance(target, Module)), None)
            if inside is None:
                break  # What follows the name of an item is its own: a variant, a method.
            if name == "super":
                targets = [inside.parent or self.root]
            elif name != "self":
                # What is not found in a module was made by a macro there, or comes through it from another crate.
                targets = list(self.found(inside, name, busy)) or [inside.file]
        return targets

    def file_of(self, module: Module, path: tuple[str, ...]) -> str | None:
        """The file that defines what a path names. `None`: not of this crate, or a module as such."""
        return next((target for target in self.resolved(module, path) if isinstance(target, str)), None)

    def is_module(self, module: Module, path: tuple[str, ...]) -> bool:
        """Does a path name a module, whatever else it names?"""
        return any(isinstance(target, Module) for target in self.resolved(module, path))

    def file_of_macro(self, module: Module, name: str) -> str | None:
        """The file that defines a macro called by its name alone, where no `use` brought the name here."""
        above: Module | None = module
        while above:
            if name in above.macros:
                return above.file
            above = above.parent
        return self.shared_macros.get(name)

    def arrows(self) -> Iterator[Arrow]:
        """Every use of a name that another file defines."""
        for module in self.modules:
            bound = {use.alias for use in module.uses if not self.is_module(module, use.path)}
            paths = [path for path in module.paths if path.path[0] not in bound]  # The `use` is the arrow.
            for line, path, alias in [*module.uses, *paths]:
                target = self.file_of_macro(module, path[0]) if alias == "!" else self.file_of(module, path)
                if alias == "*" and target is None:
                    target = next((m.file for m in self.resolved(module, path) if isinstance(m, Module)), None)
                name = "::".join(path) + {"*": "::*", "!": "!"}.get(alias, "")
                if target and target != module.file:
                    yield Arrow(module.file, line, target, name)
            if any(use.alias == "*" for use in module.uses):
                for word, line in module.words.items():
                    target = self.file_of(module, (word,))
                    if target and target != module.file and all(use.alias != word for use in module.uses):
                        yield Arrow(module.file, line, target, word)

    def inherent_impls(self) -> Iterator[Arrow]:
        """Every inherent `impl` of a type that another file defines."""
        for module in self.modules:
            for line, path, _ in module.impls:
                target = self.file_of(module, path)
                if target and target != module.file:
                    yield Arrow(module.file, line, target, path[-1])


def use_tree(tokens: list[Token], prefix: tuple[str, ...]) -> Iterator[Mention]:
    """What a `use` imports: one mention for each name, in the line in which the name stands."""
    path, line, at, alias = list(prefix), 0, 0, ""
    while at < len(tokens):
        text, line_here, kind = tokens[at]
        if text == "{":
            yield from use_tree(tokens[at + 1 : closing(tokens, at)], tuple(path))
            path, at = [], closing(tokens, at)
        elif text == ",":
            if path and line:
                yield Mention(line, tuple(path), alias or path[-1])
            path, line, alias = list(prefix), 0, ""
        elif text == "as":
            at += 1
            alias = tokens[at].text
        elif text == "*":
            yield Mention(line_here, tuple(path) or ("self",), "*")
            path = []
        elif text == "::" and not path:
            path = [text]  # The path of another crate.
        elif kind == "name":
            line = line_here
            if not (text == "self" and path):
                path.append(text)
        at += 1
    if path and line:
        yield Mention(line, tuple(path), alias or path[-1])


def inherent_impl(tokens: list[Token], at: int) -> Iterator[Mention]:
    """The type of the `impl` block at `at`, where it is no trait's."""
    line, depth, started = tokens[at].line, 0, False
    path: tuple[str, ...] = ()
    at += 1
    while tokens[at].kind != "end":
        text, _, kind = tokens[at]
        if depth == 0 and text in {"{", "where"}:
            if path:
                yield Mention(line, path)
            return
        if depth == 0 and text == "for" and started:
            return
        if kind == "name" and depth == 0 and not started and text not in {"dyn", "mut", "const"}:
            started = True
            path, at = path_at(tokens, at)
        else:
            depth += (text in {"<", "(", "["}) - (text in {">", ")", "]"})
            at += 1
