"""Keys that are pressed, from the bytes that a terminal sends for them."""

import re

_NAMES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[C": "right",
    "\x1bOC": "right",
    "\x1b[D": "left",
    "\x1bOD": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[7~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x1b[8~": "end",
    "\x1b": "escape",
    "\n": "enter",
    "\r": "enter",
    " ": "space",
}
# A whole sequence, the beginning of one at the end of what was read, or a character.
_SEQUENCE = re.compile(
    r"\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1bO[ -~]|(?P<part>\x1b(?:\[[0-9;?<>=]*[ -/]*|O))\Z|.", re.DOTALL
)
_LONGEST = 32


class Keys:
    """Names of keys. A sequence of bytes that arrives in pieces is put together."""

    def __init__(self) -> None:
        self._part = ""

    def read(self, data: bytes) -> list[str]:
        """The keys in `data`: a character, or a name such as "up". What means nothing has a name that nobody uses."""
        text = self._part + data.decode("utf-8", "replace")
        self._part = ""
        found = []
        for match in _SEQUENCE.finditer(text):
            if match["part"] and len(match["part"]) < _LONGEST:
                self._part = match["part"]
            else:
                found.append(_NAMES.get(match[0], match[0]))
        return found
