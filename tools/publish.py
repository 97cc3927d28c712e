"""Makes a tree of the sources ready to be built for others: `python tools/publish.py TREE [--home URL] [--site URL]`.

On a package index nothing is beside the description, so a link to `docs/guide.md` leads nowhere. Where the sources can
be read is known to whoever publishes them (the release workflow is told by the service that runs it), not to the
sources. So this writes into TREE, which `make wheels` has made for it:

- `README.md`, the long description: each link to a file or heading becomes one to that file at the tag of this version
  below `--home`. Without a home it becomes the text of the link, and a picture goes.
- `pyproject.toml`: `[project.urls]`, of the home and of the site of the documentation, those of them that are given.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

PICTURES = (".png", ".svg")
# A picture, or a link whose text may have brackets within backticks; then what it leads to.
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:`[^`]*`|[^\[\]`])*)\]\((?P<to>[^()\s]+)\)")
BLOCKS = re.compile(r"(^```.*?^```$|^    .*?$)", re.DOTALL | re.MULTILINE)


def version(tree: Path) -> str:
    """Of the package, which has it from the crate."""
    found: str = tomllib.loads((tree / "Cargo.toml").read_text())["package"]["version"]
    return found


def description(readme: str, home: str | None, tag: str) -> str:
    """The README for readers who do not have the repository beside it. Blocks of code stay as they are."""

    def leading(found: re.Match[str]) -> str:
        to = found["to"]
        if re.match(r"[a-z]+:", to):
            return found[0]
        if home is None:
            return "" if found["picture"] else found["text"]
        if to.startswith("#"):
            to = f"README.md{to}"
        kind = "raw" if to.endswith(PICTURES) else "blob"
        return f"{found['picture']}[{found['text']}]({home}/{kind}/{tag}/{to})"

    parts = BLOCKS.split(readme)
    parts[::2] = [LINK.sub(leading, part) for part in parts[::2]]
    return re.sub(r"\n{3,}", "\n\n", "".join(parts))


def urls(home: str | None, site: str | None, tag: str) -> dict[str, str]:
    """What an index shows beside the description, by the labels that it knows."""
    found = {}
    if site or home:
        found["Homepage"] = site or home or ""
    if site:
        found["Documentation"] = site
    if home:
        found["Source"] = home
        found["Issues"] = f"{home}/issues"
        found["Changelog"] = f"{home}/blob/{tag}/CHANGELOG.md"
    return found


def prepare(tree: Path, home: str | None, site: str | None) -> None:
    """Writes both files."""
    tag = f"v{version(tree)}"
    readme, project = tree / "README.md", tree / "pyproject.toml"
    readme.write_text(description(readme.read_text(), home, tag))
    text = project.read_text()
    if "urls" in tomllib.loads(text)["project"]:
        raise SystemExit(f"{project} has [project.urls] already")
    lines = [f'{label} = "{address}"' for label, address in urls(home, site, tag).items()]
    if lines:
        head = "[project.scripts]\n"
        if text.count(head) != 1:
            raise SystemExit(f"{project} has no {head.strip()}, before which the addresses are written")
        project.write_text(text.replace(head, "\n".join(["[project.urls]", *lines, "", head])))


def address(text: str) -> str | None:
    """An address as the workflow hands it on; an empty one stands for none."""
    if text and not re.fullmatch(r"https://[\w.-]+(/[\w.~/-]*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address that begins with https://")
    return text.rstrip("/") or None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="a copy of the sources, which is changed")
    parser.add_argument("--home", type=address, metavar="URL", help="where the repository can be read")
    parser.add_argument("--site", type=address, metavar="URL", help="where the built site is")
    options = parser.parse_args()
    if (options.tree / ".git").exists():
        parser.error(f"{options.tree} is a working tree: give a copy (git archive HEAD | tar x)")
    prepare(options.tree, options.home, options.site)
    return 0


if __name__ == "__main__":
    sys.exit(main())
