"""What may stand at the cursor, by the parser of the command line: nothing is listed twice."""

import argparse
from collections.abc import Sequence

from shmvar.cli import arguments, urls
from shmvar.cli.completion import names

FILES = None
"""Stands for: the names of files, which every shell knows itself."""

Offers = list[tuple[str, str]]
_KEYS = ("KEY", "KEY|URL", "FROM", "TO")
_NUMBERS = "0123456789."


class _Place:
    """Where in the parser the words before the cursor lead."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.given: dict[str, str | None] = {}  # the last word of each argument
        self.seen: set[argparse.Action] = set()
        self.enter(parser)

    def enter(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.left = [action for action in parser._actions if not action.option_strings]
        self.options = {name: action for action in parser._actions for name in action.option_strings}
        self.ended = False  # by --: what follows is no option
        self.pending: argparse.Action | None = None  # an option whose value comes next

    def take(self, word: str | None) -> None:
        """A whole word."""
        if self.pending is not None:
            self.pending = None
        elif word == "--" and not self.ended:
            self.ended = True
        elif word is not None and self.is_option(word):
            name, equals, _ = word.partition("=")
            action = self.options.get(name)
            if action is not None:
                self.seen.add(action)
                self.pending = action if action.nargs != 0 and not equals else None
        elif self.left:
            action = self.left[0]
            self.given[action.dest] = word
            if isinstance(action.choices, dict):
                if word in action.choices:
                    self.enter(action.choices[word])
                else:
                    self.left = []  # of a command that does not exist nothing is known
                    self.options = {}
            elif action.nargs not in ("*", "+"):
                self.left.pop(0)

    def is_option(self, word: str) -> bool:
        return not self.ended and len(word) > 1 and word[0] == "-" and word[1] not in _NUMBERS


def offers(parser: argparse.ArgumentParser, words: Sequence[str | None], typed: str) -> Offers | None:
    """The words that may stand at the cursor and begin with `typed`, and what they mean; or `FILES`.

    `words`: those before it, without the command itself; None stands for one that nobody knows.
    """
    place = _Place(parser)
    for word in words:
        place.take(word)
    if place.pending is not None:
        return _values(place, place.pending, typed)
    if not place.ended and typed.startswith("-") and typed[1:2] not in tuple(_NUMBERS):
        name, equals, value = typed.partition("=")
        if equals and name in place.options:
            found = _values(place, place.options[name], value)
            return found and [(f"{name}={word}", about) for word, about in found]
        return _options(place, typed)
    if place.left:
        return _values(place, place.left[0], typed)
    return [] if typed else _options(place, typed)


def _options(place: _Place, typed: str) -> Offers:
    long = {name: action for name, action in place.options.items() if name.startswith("--") and name != "--help"}
    long |= {name: action for name, action in place.options.items() if name == "--help"}  # it comes last
    return [
        (name, action.help or "")
        for name, action in long.items()
        if name.startswith(typed) and action not in place.seen and action.help != argparse.SUPPRESS
    ]


def _values(place: _Place, action: argparse.Action, typed: str) -> Offers | None:
    """Values of an argument or an option."""
    if isinstance(action, argparse._SubParsersAction):
        return _commands(action, typed)
    if action.choices is not None:
        return [(choice, "") for choice in map(str, action.choices) if choice.startswith(typed)]
    if action.type is arguments.php_key:
        return names.php_keys(typed)
    if action.type is arguments.php_index:
        key = place.given.get("key")
        return [] if key is None else names.php_indexes(arguments.php_key(key), typed)
    if action.metavar in _KEYS:
        return [] if urls.is_url(typed) else names.keys(typed)
    if action.metavar == "INDEX":
        key = next((place.given[name] for name in ("key", "from") if name in place.given), None)
        return [] if key is None else names.indexes(arguments.name(key), typed)
    return FILES if action.metavar == "FILE" else []


def _commands(action: "argparse._SubParsersAction[argparse.ArgumentParser]", typed: str) -> Offers:
    """Commands by their names; by an alias only where nothing else begins so."""
    named = [(each.dest, each.help or "") for each in action._choices_actions]
    found = [(name, about) for name, about in named if name.startswith(typed)]
    return found or [(alias, "") for alias in action.choices if alias.startswith(typed)]
