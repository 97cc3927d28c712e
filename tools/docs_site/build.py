"""Builds the site: `make site`, or `python tools/docs_site/build.py` where Sphinx, MyST and Furo are installed.

    python tools/docs_site/build.py [--out site] [--work target-site] [--sources-only]

What is built stands in the Markdown files of the repository and in the stubs, and nowhere else. Here the files are cut
into pages (`layout.py`), links are turned to where things are on the site (`links.py`), the reference is made from the
stubs (`reference.py`) and the examples are put on a page (`examples.py`). Sphinx makes HTML of that and fails at any
warning. Then `check.py` reads the HTML as a browser would. Nothing needs the network, neither now nor when it is read.

docs/architecture.md says why it is Sphinx.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

import check  # noqa: E402
import examples  # noqa: E402
import layout  # noqa: E402
import markdown  # noqa: E402
import public_names  # noqa: E402
import publish  # noqa: E402
import reference  # noqa: E402
from links import Links  # noqa: E402

GOES_ON = """\
*Where a block of this page begins with `segment`, that is the `segment = shmvar.attach("guide")` of the [first
page](#why-is-my-nested-change-lost), after `import shmvar`: the guide can be pasted from its first block to its
last.*
"""


class Failed(Exception):
    """The site cannot be built. Its arguments are the reasons."""


def sources(root: Path) -> tuple[dict[str, str], set[str]]:
    """The text of each page by its path, and the pictures of the repository that they show."""
    files = {page.source: (root / page.source).read_text(encoding="utf-8") for page in layout.PAGES}
    parts = {source: markdown.sections(text) for source, text in files.items()}
    wrong = layout.check({source: list(found) for source, found in parts.items()})
    links = Links(root)
    made = {page.path: composed(page, files, parts, links) for page in layout.PAGES}
    made[examples_page()] = examples.page(root / "examples", lambda text, file: links.of_part(text, file, "examples"))
    made["license"] = licenses(root)
    stubs = reference.Reference(public_names.read(root))
    made |= stubs.pages
    made["index"] += contents(made)
    made["guide/index"] += guide_contents()
    wrong += links.broken + stubs.wrong
    if wrong:
        raise Failed(*wrong)
    return made, links.pictures


def examples_page() -> str:
    """Its path."""
    return "examples"


def composed(page: layout.Page, files: dict[str, str], parts: dict[str, dict[str, str]], links: Links) -> str:
    """A page of one file: the whole, or some of its sections."""
    if page.sections is None:
        text = files[page.source]
    else:
        found = parts[page.source]
        pieces = []
        for section in page.sections:
            if section == "":
                pieces.append(found[""])
            elif section in found and section == page.title:
                pieces.append(promoted(found[section]))
            elif section in found:
                pieces.append(f"## {section}\n{found[section]}")
        text = "\n".join(pieces)
        if "" not in page.sections:
            note = GOES_ON if page.path.startswith("guide/") and goes_on(text) else ""
            text = f"# {page.title}\n\n{note}{text}"
    return links.rewritten(markdown.with_firm_spaces(markdown.with_languages(text)), page)


def promoted(text: str) -> str:
    """The headings of a section that is a page: each is one level higher."""
    return markdown.outside_code(text, lambda part: re.sub(r"^#(#{2,}) ", r"\1 ", part, flags=re.MULTILINE))


def goes_on(text: str) -> bool:
    """Does a block use what a block of another page has made?"""
    before = ""
    for block in check.python_blocks(text):
        used = re.search(r"^(?!.*\bimport\b).*\bsegment\b", block, re.MULTILINE)
        if used and not re.search(r"\bsegment\s*=|\bas segment\b", before + block[: used.end() + 12]):
            return True
        before += block
    return False


def contents(made: dict[str, str]) -> str:
    """The end of the first page: the sidebar, and what there is besides."""
    lines = ["\n## Where to go\n", "| | |\n| --- | --- |"]
    for caption, paths in layout.SIDEBAR:
        titles = [(path, title(made[path])) for path in paths]
        lines.append(f"| **{caption}** | {' · '.join(f'[{name}]({path}.md)' for path, name in titles)} |")
    lines.append("\nLicensed under [MIT or Apache-2.0](license.md), as you like.\n")
    for caption, paths in layout.SIDEBAR:
        lines += [f"```{{toctree}}\n:hidden:\n:caption: {caption}\n:maxdepth: 1\n", *paths, "```\n"]
    lines += ["```{toctree}\n:hidden:\n", "license", "```\n"]
    return "\n".join(lines)


def title(text: str) -> str:
    """The first heading of a page, plain."""
    found = re.search(r"^# (.*)$", text, re.MULTILINE)
    return found[1].replace("`", "") if found else ""


def guide_contents() -> str:
    """The pages of the guide, with the questions that each answers."""
    lines = [""]
    for page in layout.PAGES:
        if page.path.startswith("guide/") and page.sections != ("",):
            sections = [section for section in page.sections or () if section != page.title]
            name = page.path.removeprefix("guide/")
            asked = ": " + ", ".join(f"[{s}]({name}.md#{markdown.slug(s)})" for s in sections if s in guide_sections())
            lines.append(f"- [**{page.title}**]({name}.md){asked if sections else ''}")
    return "\n".join(lines) + "\n"


def guide_sections() -> set[str]:
    """The sections that are there."""
    return set(markdown.sections((ROOT / layout.GUIDE).read_text(encoding="utf-8")))


def licenses(root: Path) -> str:
    """Both licences, as they are."""
    parts = ["# License\n\nEither of the two, as you like.\n"]
    for heading, file in (("MIT", "LICENSE-MIT"), ("Apache-2.0", "LICENSE-APACHE")):
        parts.append(f"## {heading}\n\n```text\n{(root / file).read_text(encoding='utf-8').strip()}\n```\n")
    return "\n".join(parts)


def write(made: dict[str, str], pictures: set[str], work: Path) -> Path:
    """The folder that Sphinx reads."""
    folder = work / "source"
    shutil.rmtree(folder, ignore_errors=True)
    for path, text in made.items():
        file = folder / f"{path}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (folder / "pictures").mkdir()
    for picture in pictures:
        shutil.copy(ROOT / picture, folder / "pictures")
    shutil.copy(HERE / "conf.py", folder)
    shutil.copytree(HERE / "static", folder / "static")
    (folder / "facts.json").write_text(json.dumps({"version": publish.version(ROOT)}))
    return folder


def build(out: Path, work: Path) -> list[str]:
    """Builds all of it, and returns what is wrong."""
    made, pictures = sources(ROOT)
    wrong = check.blocks(made, ROOT)
    folder = write(made, pictures, work)
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-E"]
    done = subprocess.run([*command, "-d", work / "doctrees", folder, out], check=False)
    if done.returncode:
        raise Failed("Sphinx has warned, see above")
    for left in (".buildinfo", "objects.inv.tmp"):
        (out / left).unlink(missing_ok=True)
    names = {name.full for module in public_names.read(ROOT) for name in module.members}
    return wrong + check.site(out, names)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Builds the site and checks it.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="the folder of the site, made anew (site)")
    parser.add_argument("--work", type=Path, default=ROOT / "target-site", help="what is kept in between (target-site)")
    parser.add_argument("--sources-only", action="store_true", help="write the pages for Sphinx, and do not run it")
    options = parser.parse_args()
    try:
        if options.sources_only:
            made, pictures = sources(ROOT)
            wrong = check.blocks(made, ROOT)
            print(write(made, pictures, options.work))
        else:
            wrong = build(options.out.resolve(), options.work.resolve())
    except Failed as error:
        wrong = list(error.args)
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        print(f"site: {len(wrong)} faults", file=sys.stderr)
        return 1
    if not options.sources_only:
        print(f"site: {check.summary(options.out)}; open {options.out}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
