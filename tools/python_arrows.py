"""Reads the Python sources of a package: which module imports which other one, and in which line.

Every import counts, wherever it stands: in a function, under `TYPE_CHECKING`, in a branch. The extension module is no
module here: it has no Python source, and what it imports it imports by name from Rust.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from rust_arrows import Arrow


class Package:
    """The modules of all packages in a folder."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        source = tree / "python"
        self.modules: dict[str, str] = {}  # the file of each module
        for file in sorted(source.rglob("*.py")):
            parts = file.relative_to(source).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self.modules[name] = file.relative_to(tree).as_posix()
        self.files = sorted(self.modules.values())

    def arrows(self) -> Iterator[Arrow]:
        """Every import of a module of these packages."""
        for module, file in self.modules.items():
            source = (self.tree / file).read_text()
            for node in ast.walk(ast.parse(source, file)):
                for line, name in self.imported(node, module):
                    target = self.modules[name]
                    if target != file:
                        yield Arrow(file, line, target, name)

    def imported(self, node: ast.AST, module: str) -> Iterator[tuple[int, str]]:
        """The modules that one statement imports. A name that is no module is of the module it is imported from."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from self.known(alias.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            package = self.package_of(module, node.level) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                if name in self.modules:
                    yield alias.lineno, name
                elif not self.is_extension(name):
                    yield from self.known(alias.lineno, base)

    def package_of(self, module: str, level: int) -> str:
        """The package that so many leading dots mean in a module."""
        parts = module.split(".")
        up = level - 1 if self.modules[module].endswith("/__init__.py") else level
        return ".".join(parts[: len(parts) - up])

    def is_extension(self, name: str) -> bool:
        """Is it a module that has only a stub, as an extension module has?"""
        return (self.tree / "python" / name.replace(".", "/")).with_suffix(".pyi").is_file()

    def known(self, line: int, name: str) -> Iterator[tuple[int, str]]:
        """The module of this name, if it is one of these packages."""
        if name in self.modules:
            yield line, name
