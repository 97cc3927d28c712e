"""Reads a command line up to the cursor as a shell does, without expanding anything.

What only the shell could know (`$variables`, the output of commands) makes a word unknown: nothing is looked up for it.
"""

_OPERATORS = ";&|(\n"
_REDIRECTIONS = "<>"
_ESCAPED_IN_DOUBLE_QUOTES = '\\"$`'


class Line:
    """The words before the cursor, and the one that ends at it."""

    def __init__(self) -> None:
        self.words: list[str | None] = []
        """The whole words of the last command, with the command itself; None stands for one that is unknown."""

        self.typed: str | None = ""
        """The word at the cursor, as far as it is typed, without quotes. None if it is unknown."""

        self.quote = ""
        """The quote that is open at the cursor, or nothing."""

        self.pieces: dict[int, str] = {}
        """What has been read of the word at the cursor before each position of the line at which it goes on."""

        self.to_file = False
        """Whether the word at the cursor is the file of a redirection."""


class _Reader:
    def __init__(self, line: str, fish: bool) -> None:
        self.line = line
        self.fish = fish
        self.read = Line()
        self.text: str | None = None  # of the word that is read; None where there is none
        self.known = True
        self.at = 0

    def whole(self) -> Line:
        while self.at < len(self.line):
            c = self.line[self.at]
            if c in " \t":
                self.end_word()
            elif c in _OPERATORS:
                self.read = Line()
                self.text, self.known = None, True
            elif c in _REDIRECTIONS:
                self.end_word()
                self.read.to_file = True
            else:
                self.piece(c)
                continue
            self.at += 1
        self.read.typed = (self.text or "") if self.known else None
        self.read.pieces[self.at] = self.text or ""
        return self.read

    def piece(self, c: str) -> None:
        """One character of a word, or a piece of it in quotes."""
        if self.text is None:
            self.text = ""
        self.read.pieces[self.at] = self.text
        self.at += 1
        if c in "'\"":
            self.quoted(c)
        elif c == "\\":
            self.text += self.line[self.at : self.at + 1]
            self.at += 1
        else:
            self.known = self.known and c not in "$`"
            self.text += c

    def quoted(self, quote: str) -> None:
        """What stands in quotes, up to the closing one or the cursor."""
        assert self.text is not None
        self.read.quote = quote
        while self.at < len(self.line):
            self.read.pieces[self.at] = self.text
            c, after = self.line[self.at], self.line[self.at + 1 : self.at + 2]
            self.at += 1
            if c == quote:
                self.read.quote = ""
                return
            escaped = _ESCAPED_IN_DOUBLE_QUOTES if quote == '"' else "\\'" if self.fish else ""
            if c == "\\" and after and after in escaped:
                c = after
                self.at += 1
            elif quote == '"' and c in "$`":
                self.known = False
            self.text += c

    def end_word(self) -> None:
        if self.text is not None:
            if not self.read.to_file:
                self.read.words.append(self.text if self.known else None)
            self.read.to_file = False
        self.text, self.known = None, True
        self.read.pieces.clear()


def read(line: str, *, fish: bool = False) -> Line:
    """`line`, which ends at the cursor, by the rules of bash and zsh, or by those of fish."""
    return _Reader(line, fish).whole()
