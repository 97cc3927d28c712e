"""The public names of the package with their signatures, as its stubs state them. Nothing is imported or run.

    python tools/public_names.py            compares with docs/api.txt; the exit status is 1 where they differ
    python tools/public_names.py --write    makes docs/api.txt anew (`make api`)

A name is public if the `__all__` of a public module has it; its members are public but for those that begin with one
underscore. What a class of the package has from a base that is not public is its own. Where a module has a stub, the
stub counts. The reference of the site (`tools/site/reference.py`) is made from the same reading.
"""

import argparse
import ast
import difflib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = "docs/api.txt"
NOT_PUBLIC = ("cli",)  # "no interface for programs", says its `__init__.py`
HEAD = """\
# Every public name of the package, and how it is called: made from the stubs by `make api`, compared by `make check`.
# A line that changes or goes is a change that others notice: it belongs into CHANGELOG.md.
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Name:
    """A public class, function, constant or module, or a member of a class. `module` is where people import it from."""

    module: str
    path: str  # within the module: `Segment.put`
    kind: str  # "module", "class", "function", "method", "property", "attribute", "constant"
    signatures: list[str]  # of overloads, each
    doc: str
    file: str
    members: list["Name"] = field(default_factory=list)

    @property
    def full(self) -> str:
        """As people write it."""
        return f"{self.module}.{self.path}" if self.path else self.module

    def walk(self) -> Iterator["Name"]:
        """Itself and all within."""
        yield self
        for member in self.members:
            yield from member.walk()


class Sources:
    """The files of the package, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "python"
        self.trees: dict[str, tuple[Path, ast.Module]] = {}

    def public_modules(self) -> list[str]:
        """`shmvar` itself, and what is within it and has no underscore before its name."""
        found = ["shmvar"]
        for path in sorted((self.folder / "shmvar").iterdir()):
            stem = path.name.partition(".")[0]
            module = (path / "__init__.py").exists() or path.suffix == ".py"
            if module and not stem.startswith("_") and stem not in NOT_PUBLIC:
                found.append(f"shmvar.{stem}")
        return found

    def tree(self, module: str) -> tuple[Path, ast.Module]:
        """The file of a module, its stub if it has one, and what is in it."""
        if module not in self.trees:
            base = self.folder.joinpath(*module.split("."))
            for path in (
                base / "__init__.pyi",
                base / "__init__.py",
                base.with_suffix(".pyi"),
                base.with_suffix(".py"),
            ):
                if path.exists():
                    self.trees[module] = path, ast.parse(path.read_text(encoding="utf-8"))
                    break
            else:
                raise SystemExit(f"{module} has no file below {self.folder}")
        return self.trees[module]

    def defined(self, module: str, name: str) -> tuple[str, list[ast.stmt]]:
        """The module that defines a name of another one, and what stands there: of overloads, each."""
        path, tree = self.tree(module)
        imported = None
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("shmvar"):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        imported = node.module or "", alias.name
        found = [node for node in tree.body if name in _binds(node)]
        if not found and imported is not None:
            return self.defined(*imported)
        if not found:
            raise SystemExit(f"{path}: {module} exports {name!r}, which is nowhere in it")
        return module, found


def _binds(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def exported(tree: ast.Module) -> list[str]:
    """The `__all__` of a module, with what is added to it by `+=`."""
    found: list[str] = []
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) else None
        if value is not None and "__all__" in (_binds(node) or [_augmented(node)]):
            found += ast.literal_eval(value)
    return sorted(found)


def _augmented(node: ast.stmt) -> str:
    return node.target.id if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) else ""


def _for_checkers(tree: ast.Module) -> list[str]:
    """What `from x import A as A` says is meant for others, though no `__all__` has it: imported when it is used."""
    return [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    ]


def read(root: Path = ROOT) -> list[Name]:
    """Each public module with its names in it, in the order of the alphabet."""
    sources = Sources(root)
    found = []
    for module in sources.public_modules():
        path, tree = sources.tree(module)
        name = Name(module, "", "module", [], ast.get_docstring(tree) or "", str(path.relative_to(root)))
        for public in sorted({*exported(tree), *_for_checkers(tree)}):
            name.members.append(_top(sources, module, public))
        found.append(name)
    return found


def _top(sources: Sources, module: str, name: str) -> Name:
    home, nodes = sources.defined(module, name)
    file = str(sources.tree(home)[0].relative_to(sources.root))
    first = nodes[-1]
    if isinstance(first, ast.ClassDef):
        return _class(sources, module, home, first, file)
    functions = [node for node in nodes if isinstance(node, Function)]
    if functions:
        return _function(module, name, functions, file, method=False)
    annotation = next((node.annotation for node in nodes if isinstance(node, ast.AnnAssign)), None)
    value = next((node.value for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign) and node.value), None)
    said = f": {ast.unparse(annotation)}" if annotation else f" = {ast.unparse(value)}" if value else ""
    return Name(module, name, "constant", [said], _doc_after(sources.tree(home)[1].body, nodes[-1]), file)


def _doc_after(body: list[ast.stmt], node: ast.stmt) -> str:
    """The text that stands below a constant."""
    following = body[body.index(node) + 1 :][:1]
    for after in following:
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            return after.value.value
    return ""


def _class(sources: Sources, module: str, home: str, node: ast.ClassDef, file: str) -> Name:
    owners = list(_with_hidden_bases(sources, module, home, node))
    bases = [base for where, owner in owners for base in _shown_bases(sources, module, where, owner)]
    said = f"({', '.join(dict.fromkeys(bases))})" if bases else ""
    found = Name(module, node.name, "class", [said], ast.get_docstring(node) or "", file)
    seen: set[str] = set()
    for _, owner in owners:
        for name, nodes in _members(owner):
            if name not in seen and (owner is node or name != "__init__"):
                seen.add(name)
                found.members.append(_member(module, node.name, name, nodes, file))
    found.members.sort(key=lambda member: member.path.lower())
    return found


def _hidden_base(sources: Sources, module: str, home: str, base: str) -> bool:
    """Is it a class of the package that is not public itself?"""
    try:
        where, nodes = sources.defined(home, base)
    except SystemExit:
        return False
    public = exported(sources.tree(module)[1])
    return where.startswith("shmvar") and base not in public and isinstance(nodes[-1], ast.ClassDef)


def _shown_bases(sources: Sources, module: str, home: str, node: ast.ClassDef) -> list[str]:
    bases = [ast.unparse(base) for base in node.bases]
    return [base for base in bases if not _hidden_base(sources, module, home, base)]


def _with_hidden_bases(
    sources: Sources, module: str, home: str, node: ast.ClassDef
) -> Iterator[tuple[str, ast.ClassDef]]:
    """The class, and the bases that are a part of it, each with the module that it stands in."""
    yield home, node
    for base in node.bases:
        if _hidden_base(sources, module, home, ast.unparse(base)):
            where, nodes = sources.defined(home, ast.unparse(base))
            owner = nodes[-1]
            assert isinstance(owner, ast.ClassDef)
            yield from _with_hidden_bases(sources, module, where, owner)


def _members(node: ast.ClassDef) -> Iterator[tuple[str, list[ast.stmt]]]:
    """The public members of a class, each with all that stands under its name."""
    found: dict[str, list[ast.stmt]] = {}
    for part in node.body:
        for name in _binds(part):
            found.setdefault(name, []).append(part)
    for part in node.body:
        if isinstance(part, Function) and part.name == "__init__":
            for statement in ast.walk(part):
                for name in _sets(statement):
                    found.setdefault(name, []).append(part)
    for name, nodes in found.items():
        special = name.startswith("__") and name.endswith("__") and name not in _UNSAID
        if special or not name.startswith("_") or name in _SAID:
            yield name, nodes


_SAID = ("_asdict", "_replace", "_fields")  # public by their contract, as those of named tuples
_UNSAID = ("__module__", "__slots__", "__doc__", "__match_args__", "__hash__", "__dir__", "__repr__", "__str__")


def _sets(node: ast.AST) -> list[str]:
    """`self.name = …`, where `name` is public."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [
        target.attr
        for target in targets
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
        and not target.attr.startswith("_")
    ]


def _member(module: str, owner: str, name: str, nodes: list[ast.stmt], file: str) -> Name:
    path = f"{owner}.{name}"
    functions = [node for node in nodes if isinstance(node, Function) and node.name == name]
    if functions:
        if any("property" in ast.unparse(mark) for mark in functions[0].decorator_list):
            returns = f" -> {ast.unparse(functions[0].returns)}" if functions[0].returns else ""
            return Name(module, path, "property", [returns], ast.get_docstring(functions[0]) or "", file)
        return _function(module, path, functions, file, method=True)
    annotation = next((node.annotation for node in nodes if isinstance(node, ast.AnnAssign)), None)
    said = f": {ast.unparse(annotation)}" if annotation else ""
    return Name(module, path, "attribute", [said], "", file)


def _function(module: str, path: str, nodes: list[Function], file: str, *, method: bool) -> Name:
    overloads = [node for node in nodes if any("overload" in ast.unparse(mark) for mark in node.decorator_list)]
    doc = next((text for node in reversed(nodes) if (text := ast.get_docstring(node))), "")
    signatures = [signature(node, method=method) for node in overloads or nodes[-1:]]
    return Name(module, path, "method" if method else "function", signatures, doc, file)


def signature(node: Function, *, method: bool) -> str:
    """How it is called, without `self`, and what it returns."""
    static = any(ast.unparse(mark) == "staticmethod" for mark in node.decorator_list)
    arguments = _arguments(node.args)
    if method and not static:
        arguments = arguments[1:]
        if arguments[:1] == ["/"]:
            arguments = arguments[1:]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({', '.join(arguments)}){returns}"


def _arguments(found: ast.arguments) -> list[str]:
    """Each argument with its type and default; `/` and `*` stand between them as in Python."""
    places = [*found.posonlyargs, *found.args]
    defaults = [None] * (len(places) - len(found.defaults)) + list(found.defaults)
    said = [_argument(argument, default) for argument, default in zip(places, defaults, strict=True)]
    if found.posonlyargs:
        said.insert(len(found.posonlyargs), "/")
    if found.vararg:
        said.append(f"*{_argument(found.vararg, None)}")
    elif found.kwonlyargs:
        said.append("*")
    said += [
        _argument(argument, default) for argument, default in zip(found.kwonlyargs, found.kw_defaults, strict=True)
    ]
    return said + ([f"**{_argument(found.kwarg, None)}"] if found.kwarg else [])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    said = argument.arg
    if argument.annotation:
        said += f": {ast.unparse(argument.annotation)}"
    if default is None:
        return said
    text = ast.unparse(default)
    if argument.arg in ("perm", "permissions") and text.isdecimal():
        text = f"0o{int(text):o}"  # as everybody writes them
    return f"{said} = {text}" if argument.annotation else f"{said}={text}"


def listing(modules: Iterable[Name]) -> str:
    """The snapshot."""
    lines = [HEAD.rstrip("\n")]
    for module in modules:
        if not module.members:
            continue
        lines += ["", module.full]
        for top in module.members:
            for name in top.walk():
                indent = "    " if name is top else "        "
                short = name.path.rpartition(".")[2]
                mark = f"{name.kind} " if name.kind in ("class", "property") else ""
                lines += [f"{indent}{mark}{short}{said}" for said in name.signatures]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compares the public names with docs/api.txt.")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--write", action="store_true", help="make the file anew")
    options = parser.parse_args()
    file = options.tree / SNAPSHOT
    made = listing(read(options.tree.resolve()))
    if options.write:
        file.write_text(made, encoding="utf-8")
        return 0
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    if made != kept:
        lines = difflib.unified_diff(kept.splitlines(), made.splitlines(), SNAPSHOT, "the stubs", lineterm="")
        print(*lines, sep="\n")
        print("The public names have changed. If that is meant: `make api`, and a line in CHANGELOG.md.")
        return 1
    print(f"public names: {sum(1 for line in made.splitlines() if line.startswith(' '))} lines, as in {SNAPSHOT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
