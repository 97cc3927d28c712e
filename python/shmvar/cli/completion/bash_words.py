"""How a word is inserted in bash, which replaces only the last piece of what is typed, and quotes nothing by itself.

readline looks for the last character of `COMP_WORDBREAKS` (`:`, `=` and quotes are among them) that is not quoted, or
for the quote that is open, and puts what it gets in place of what follows. Here that piece is found in the same way,
and the word is written so that the shell reads it back as it is: nothing in it is expanded, whatever it is.
"""

import string

from shmvar.cli.completion.line import Line

_SAFE = frozenset(string.ascii_letters + string.digits + "_-./:=@%+,")
_SPECIAL_PREFIXES = "$@"  # breaks that belong to what follows them


def start_of_piece(line: str, breaks: str) -> int:
    """Where the piece begins that readline replaces: `_rl_find_completion_word` of its complete.c."""
    quote = ""
    after_quote, escaped = 0, False
    quoted = set()
    for at, c in enumerate(line):
        if escaped:
            escaped = False
            quoted.add(at)
        elif c == "\\" and quote != "'":
            escaped = True
            quoted.add(at)
        elif quote:
            quoted.add(at)
            if c == quote:
                quote = ""
        elif c in "'\"":
            quote, after_quote = c, at + 1
            quoted.add(at)
    if quote:
        return after_quote
    for at in reversed(range(len(line))):
        if line[at] in breaks and at not in quoted:
            return at if line[at] in _SPECIAL_PREFIXES else at + 1
    return 0


def inserted(words: list[str], line: str, read: Line, breaks: str) -> list[str]:
    """What readline has to put in place of its piece, so that each of these words stands there.

    `line` ends at the cursor; `read` is what `line.read` made of it.
    """
    start = start_of_piece(line, breaks)
    before = read.pieces.get(start, "")
    return [_quoted(word[len(before) :], read.quote) for word in words if word.startswith(before)]


def _quoted(rest: str, quote: str) -> str:
    """The rest of a word, where this quote is open (or none); readline closes it, but for what is said below."""
    if not quote:
        return "".join(c if c in _SAFE or not c.isascii() else f"\\{c}" for c in rest)
    if quote == "'":
        text = rest.replace("'", "'\\''")
    else:
        # `!` stands for the history even there, and a backslash before it would stay.
        text = "".join({"!": "\"'!'\""}.get(c, f"\\{c}" if c in '\\"$`' else c) for c in rest)
    # readline takes the opening quote away before a text that begins with one, and adds no closing one after one: then
    # the text has to bring them.
    if not text:
        return quote * 2
    return quote * text.startswith(quote) + text + quote * text.endswith(quote)
