"""Rust source as words and signs: without comments, and without what exists in tests only."""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<comment>/\*)
      | (?P<literal>(?:br|cr|r)(?P<hashes>\#*)".*?"(?P=hashes)
          | [bc]?"(?:\\.|[^"\\])*"
          | b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\])'
          | \d\w*)
      | (?P<lifetime>'\w+)
      | (?P<name>(?:r\#)?[^\W\d]\w*)
      | (?P<sign>::|->|=>|\.\.[.=]?|.)""",
    re.VERBOSE | re.DOTALL,
)
OPEN, CLOSE = frozenset("([{"), frozenset(")]}")
DEFINES = frozenset(["fn", "struct", "enum", "union", "trait", "type", "const", "static"])


class Token(NamedTuple):
    """One word or sign of the source."""

    text: str
    line: int
    kind: str


def tokens_of(text: str) -> list[Token]:
    """The words and signs of a source, without comments."""
    tokens, at, line = [], 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, "every character is a sign at least"
        start, at = at, match.end()
        if match["comment"]:
            depth = 1
            while depth and at < len(text):
                step = {"/*": 1, "*/": -1}.get(text[at : at + 2], 0)
                depth, at = depth + step, at + (2 if step else 1)
        elif kind := next((kind for kind in ("literal", "lifetime", "name", "sign") if match[kind]), None):
            tokens.append(Token(match[0].removeprefix("r#") if kind == "name" else match[0], line, kind))
        line += text.count("\n", start, at)
    return tokens


def closing(tokens: list[Token], at: int) -> int:
    """The place of the bracket that closes the one at `at`."""
    depth = 0
    for place in range(at, len(tokens)):
        if tokens[place].kind == "sign":
            depth += (tokens[place].text in OPEN) - (tokens[place].text in CLOSE)
            if depth == 0:
                return place
    return len(tokens) - 1


def is_for_tests(attribute: list[Token]) -> bool:
    """`#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ...))]`: what follows exists in tests only."""
    within: list[str] = []
    before = ""
    for text, _, kind in attribute:
        if text == "(":
            within.append(before)
        elif text == ")":
            within.pop()
        elif text == "test" and kind == "name" and set(within) <= {"cfg", "all"}:
            return True
        before = text
    return False


def end_of_item(tokens: list[Token], at: int) -> int:
    """The place after the item, statement, field or match arm that begins at `at`."""
    item = False
    while at < len(tokens):
        text = tokens[at].text
        if text in CLOSE:
            return at
        if text == ";" or (text == "," and not item):
            return at + 1
        item = item or text in DEFINES or text == "impl"
        if text in OPEN:
            at = closing(tokens, at)
            if text == "{":
                return at + 1
        at += 1
    return at


def without_tests(tokens: list[Token]) -> list[Token]:
    """The tokens without everything that exists in tests only."""
    kept: list[Token] = []
    at, run, run_ends = 0, 0, -1  # `run`: where the attributes of the coming item begin among those kept
    while at < len(tokens):
        inner = [token.text for token in tokens[at : at + 2]] == ["#", "!"]
        bracket = at + 2 if inner else at + 1
        if tokens[at].text == "#" and bracket < len(tokens) and tokens[bracket].text == "[":
            end = closing(tokens, bracket)
            if run_ends != at:
                run = len(kept)
            if is_for_tests(tokens[bracket + 1 : end]):
                if inner:
                    return []
                del kept[run:]
                at = end_of_item_after_attributes(tokens, end + 1)
            else:
                kept += tokens[at : end + 1]
                at = run_ends = end + 1
        else:
            kept.append(tokens[at])
            at += 1
    return kept


def end_of_item_after_attributes(tokens: list[Token], at: int) -> int:
    """The same as `end_of_item`, where more attributes may come first."""
    while at + 1 < len(tokens) and tokens[at].text == "#" and tokens[at + 1].text == "[":
        at = closing(tokens, at + 1) + 1
    return end_of_item(tokens, at)


def path_at(tokens: list[Token], at: int) -> tuple[tuple[str, ...], int]:
    """The path that begins at `at`, such as `crate::a::B`, and the place after it."""
    path = [tokens[at].text]
    while at + 2 < len(tokens) and tokens[at + 1].text == "::" and tokens[at + 2].kind == "name":
        at += 2
        path.append(tokens[at].text)
    return tuple(path), at + 1
