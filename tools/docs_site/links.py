"""Where a link of a file in the repository leads to on the site."""

import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path

import markdown
from layout import PAGES, Page

EXAMPLES = "examples"
LICENSES = {"LICENSE-MIT": "license", "LICENSE-APACHE": "license"}
PICTURES = (".svg", ".png")


@dataclass
class Links:
    """What each page and each heading of the repository is called on the site. `root`: the repository."""

    root: Path
    pages: dict[str, str] = field(default_factory=dict)  # whole files
    places: dict[tuple[str, str], str] = field(default_factory=dict)  # a heading of a file that is split -> its page
    pictures: set[str] = field(default_factory=set)  # of the repository, that some page shows
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for page in PAGES:
            if page.sections is None:
                self.pages[page.source] = page.path
                continue
            parts = markdown.sections((self.root / page.source).read_text())
            for section in page.sections:
                if section == "":
                    self.pages[page.source] = page.path
                elif section in parts:
                    for _, _, name in markdown.headings(f"## {section}\n{parts[section]}"):
                        if (page.source, name) in self.places:
                            self.broken.append(f"{page.source}: two headings are called {name}")
                        self.places[page.source, name] = page.path

    def rewritten(self, text: str, page: Page) -> str:
        """The text of a page with its links as they are on the site."""
        return markdown.outside_code(text, lambda part: self.of_part(part, page.source, page.path))

    def of_part(self, text: str, source: str, path: str) -> str:
        """The links of a text that comes from a file of the repository and goes to a page."""

        def changed(found: re.Match[str]) -> str:
            picture, words, to = found.groups()
            if re.match(r"[a-z]+:", to):
                return found[0]
            if re.fullmatch(r"(docs/)?[\w-]+\.md", words):
                words = self.title(to, source) or words
            return f"{picture}[{words}]({self.target(to, source, path)})"

        # What stands in backticks is no link.
        parts = re.split(r"(`+[^`]*`+)", text)
        if not any("](" in part for part in parts[1::2]):
            return markdown.LINK.sub(changed, text)
        parts[::2] = [markdown.LINK.sub(changed, part) for part in parts[::2]]
        return "".join(parts)

    def title(self, to: str, source: str) -> str:
        """What stands for the name of a file where a link has no other text: the title of its page, or the heading."""
        file, _, heading = to.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
        if file not in self.pages:
            return ""
        levels = markdown.headings((self.root / file).read_text())
        return next((text for level, text, name in levels if name == heading or (not heading and level == 1)), "")

    def target(self, to: str, source: str, path: str) -> str:
        """Where a link of `source` leads to, from the page `path`."""
        file, _, heading = to.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), file)) if file else source
        here = posixpath.dirname(path)
        if file.endswith(PICTURES) and (self.root / file).is_file():
            self.pictures.add(file)
            return posixpath.relpath(f"pictures/{posixpath.basename(file)}", here or ".")
        if file in self.pages or file in {page.source for page in PAGES}:
            page = self.places.get((file, heading), "") if heading else self.pages[file]
            if not page and file in self.pages and not self._is_split(file):
                page = self.pages[file]
            if not page:
                self.broken.append(f"{source}: {to} leads to no heading of {file}")
                return to
        elif file in LICENSES:
            page = LICENSES[file]
        elif file == EXAMPLES or file.startswith(f"{EXAMPLES}/"):
            page = EXAMPLES
            heading = markdown.slug(file.removeprefix(EXAMPLES).strip("/")) if file != EXAMPLES else ""
            if not (self.root / file).exists():
                self.broken.append(f"{source}: {to} is not there")
        else:
            self.broken.append(f"{source}: {to} is no page of the site")
            return to
        name = posixpath.relpath(f"{page}.md", here or ".")
        return f"{name}#{heading}" if heading else name

    def _is_split(self, file: str) -> bool:
        return any(page.source == file and page.sections is not None for page in PAGES)
