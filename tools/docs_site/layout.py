"""Which pages the site has, in which order, and what each is made of.

A page is made of whole Markdown files of the repository, or of their second-level sections by their headings. `check`
says what no page has: a section of a file that is split is on exactly one page.
"""

from dataclasses import dataclass

GUIDE, README = "docs/guide.md", "README.md"


@dataclass(frozen=True)
class Page:
    """`path` of the page without `.md`; `title`: None keeps the file's own; `sections`: None takes the whole file."""

    path: str
    source: str
    title: str | None = None
    sections: tuple[str, ...] | None = None


def guide(path: str, title: str, *sections: str) -> Page:
    """A page of the guide."""
    return Page(f"guide/{path}", GUIDE, title, sections)


# What stands before the first section of a file that is split is on the page that has the section "".
PAGES = [
    Page("index", README, None, ("", "Install", "What it guarantees", "Speed")),
    Page("tour", README, "A short tour", ("A short tour",)),
    guide("index", "Guide", ""),
    guide(
        "values",
        "Sizes, life, copies",
        "Which size?",
        "What survives what?",
        "Why is my nested change lost?",
        "How do I take a copy?",
    ),
    guide("safety", "Who may read and write", "Is it safe?", "Read-only handles", "What is at my key?"),
    guide("together", "Working together", "Working together"),
    guide("caches", "Caches", "Caches"),
    guide("arrays", "Arrays", "Arrays, and other large values", "Arrays that processes write in place"),
    guide("dumps", "Dumps", "Dumps"),
    guide("servers", "Past one machine", "Past one machine"),
    guide("terminal", "In a terminal", "In a terminal"),
    guide("notebooks", "In a notebook", "In a notebook"),
    guide("php", "With PHP", "PHP-style functions", "Together with PHP"),
    guide(
        "programs",
        "Threads, forks, servers, frozen programs",
        "Threads, fork, multiprocessing, Jupyter",
        "Web servers, and several interpreters in one process",
        "Frozen applications",
    ),
    guide(
        "memory",
        "Memory and limits",
        "How much memory it takes",
        "A full memory file system",
        "A process without memory",
        "Limits",
    ),
    guide(
        "operation",
        "Containers and health",
        "Docker and Kubernetes",
        "RemoveIPC",
        "Is everything all right?",
    ),
    Page("recipes", "docs/recipes.md"),
    Page("compared", "docs/compared.md"),
    Page("performance", "docs/performance.md"),
    Page("security", "SECURITY.md"),
    Page("upgrades", "docs/upgrades.md"),
    Page("changelog", "CHANGELOG.md"),
    Page("format", "docs/format.md"),
    Page("protocol", "docs/protocol.md"),
    Page("remote", "docs/remote.md"),
    Page("remote-format", "docs/remote-format.md"),
    Page("php-format", "docs/php.md"),
    Page("architecture", "docs/architecture.md"),
    Page("testing", "docs/testing.md"),
    Page("contributing", "CONTRIBUTING.md"),
]
# Sections that the site says in its own way: its sidebar is what "More" is in the README.
LEFT_OUT = {(README, "More")}
# Sections that need not be there (yet).
OPTIONAL = {(GUIDE, "Together with PHP")}

# The sidebar: a caption, and the pages below it. `reference/…` and `examples` are made by `reference.py` and
# `examples.py`.
SIDEBAR = [
    ("Begin", ["tour", "recipes", "examples", "compared", "performance"]),
    ("Guide", [page.path for page in PAGES if page.path.startswith("guide/")]),
    ("Reference", ["reference/index"]),
    ("Trust", ["security", "upgrades", "changelog"]),
    (
        "Inside",
        ["architecture", "format", "protocol", "remote", "remote-format", "php-format", "testing", "contributing"],
    ),
]


def check(sections: dict[str, list[str]]) -> list[str]:
    """What is wrong with the pages. `sections`: the headings of each file, "" for what stands before the first."""
    placed: dict[tuple[str, str], str] = {}
    wrong = []
    for page in PAGES:
        for section in page.sections or ():
            if (page.source, section) in placed:
                wrong.append(f"{page.source}, {section!r}: on {placed[page.source, section]} and on {page.path}")
            placed[page.source, section] = page.path
            if section not in sections[page.source] and (page.source, section) not in OPTIONAL:
                wrong.append(f"{page.source}: {page.path} wants the section {section!r}, which is not there")
    for source in {page.source for page in PAGES if page.sections is not None}:
        for section in sections[source]:
            if (source, section) not in placed and (source, section) not in LEFT_OUT:
                wrong.append(
                    f"{source}: the section {section!r} is on no page: name it in {__file__.split('/tools/')[-1]}"
                )
    in_sidebar = [path for _, paths in SIDEBAR for path in paths]
    wrong += [f"{page.path} is not in the sidebar" for page in PAGES if page.path not in ["index", *in_sidebar]]
    return wrong
