"""The HTML of a display, taken apart by a reader that forgives nothing: what browsers mend is an error here."""

import re
from html.parser import HTMLParser

TAGS = {"div", "span", "strong", "code", "style", "table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"class", "style", "role", "aria-label", "title", "scope", "tabindex"}
INLINE = {
    "background", "background-color", "border", "border-radius", "display", "height", "margin", "margin-right",
    "max-height", "max-width", "opacity", "overflow", "padding", "text-align", "vertical-align", "white-space", "width",
}  # fmt: skip
"""Properties in `style` attributes: those that JupyterLab leaves in a notebook that is not trusted."""


class Shown(HTMLParser):
    """A display: its texts, its tables, and the labels of what it draws."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.html = html
        self.open = []
        self.texts = []
        self.sheets = []
        self.labels = []
        self.titles = []
        self.tables = []
        """Of each table the rows, of each row the texts of its cells."""
        self.styles = []
        """(class, style) of each element that has a style."""
        assert not re.search(r"&(?!amp;|lt;|gt;|quot;|#x27;|#39;)", html), "an & that begins nothing"
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS, f"a tag {tag}"
        names = [name for name, _ in attributes]
        assert set(names) <= ATTRIBUTES, f"attributes {names}"
        assert len(set(names)) == len(names), f"twice: {names}"
        assert all(value is not None for _, value in attributes)
        assert self.get_starttag_text() == self._written(tag, attributes)
        given = dict(attributes)
        for part in filter(None, given.get("style", "").split(";")):
            name, _, value = part.partition(":")
            assert name in INLINE, f"JupyterLab takes away {part!r}"
            assert "var(" not in value and "url" not in value, part
        if "style" in given:
            self.styles.append((given.get("class"), given["style"]))
        if given.get("role") == "img":
            assert given["aria-label"] and given["title"]
            self.labels.append(given["aria-label"])
        if "title" in given:
            self.titles.append(given["title"])
        if tag == "th":
            assert given.get("scope") in ("col", "row")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.open.append(tag)

    def _written(self, tag, attributes):
        """How the tag must be written: each value in double quotes, with `&`, `<`, `>` and quotes escaped."""
        raw = self.get_starttag_text()
        assert re.fullmatch(r'<[a-z]+( [a-z-]+="[^"<>]*")*>', raw), raw
        return raw

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.sheets.append(data)
            return
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment {data!r}")

    handle_decl = handle_pi = unknown_decl = handle_comment

    @property
    def text(self):
        return "".join(self.texts)

    def rows(self, table=0):
        """The rows of a table below its head."""
        return self.tables[table][1:]


def shown(html):
    """Takes a display apart, and fails if anything in it is not as it should be."""
    found = Shown(html)
    assert found.html.startswith('<div class="shmvar mathjax_ignore tex2jax_ignore"><style>')
    [sheet] = found.sheets
    assert "<" not in sheet and "url(" not in sheet and "@import" not in sheet and "expression" not in sheet
    selectors = [selector for rule in sheet.split("}") if rule for selector in rule.partition("{")[0].split(",")]
    assert all(re.fullmatch(r"\.shmvar(?![\w-]).*", selector) for selector in selectors), "it styles the whole page"
    assert all(c.isprintable() for c in found.text), "a character that commands a terminal, or turns text around"
    return found
