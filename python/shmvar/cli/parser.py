"""The parser that the modules of commands add their commands and options to."""

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import shmvar
from shmvar import _text
from shmvar.cli import arguments, urls
from shmvar.cli.outcome import DONE
from shmvar.cli.suggestions import did_you_mean


class _Parser(argparse.ArgumentParser):
    """Takes -5, -0x1f and -1e3 for numbers, not for options: no option of this program begins with a digit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._words: list[str] = []
        self._negative_number_matcher = re.compile(r"-\.?[0-9]")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Fails for a command that does not exist; the choices of other arguments are argparse's own matter."""
        if not isinstance(action.choices, dict):
            super()._check_value(action, value)
        elif value not in action.choices:
            hint = did_you_mean(value, action.choices) or f"; the commands are {', '.join(action.choices)}"
            self.error(f"{value!r} is no command{hint}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As `argparse` does it; an error can name words."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._words, namespace)

    def error(self, message: str) -> NoReturn:
        if "arguments are required" in message and (word := self._no_option()):
            known = [name for name in self._option_string_actions if name.startswith("--")]
            hint = did_you_mean(word.partition("=")[0], known)
            message += hint or f"; {word} is read as an option: words that begin with - come after --"
        super().error(_text.one_line(urls.shown(message)))

    def _no_option(self) -> str | None:
        """The first word that looks like an option and is none."""
        for word in itertools.takewhile(lambda word: word != "--", self._words):
            looks = len(word) > 1 and word[0] == "-" and not self._negative_number_matcher.match(word)
            if looks and word.partition("=")[0] not in self._option_string_actions:
                return word
        return None

    def _print_message(self, message: str, file: Any = None) -> None:
        """Prints a help; unlike that of `argparse`, one that cannot be written is an error."""
        if message and file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)

    def unknown(self, words: Sequence[str]) -> None:
        """Fails for words that no argument takes."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        hints = (did_you_mean(word.partition("=")[0], known) for word in words if word.startswith("-"))
        self.error(f"unrecognized arguments: {' '.join(words)}{next(filter(None, hints), '')}")


class CommandGroup:
    """Commands below a parser, which alone prints its help."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.parser.set_defaults(run=self._help, parser=self.parser)
        self._commands = self.parser.add_subparsers(metavar="COMMAND", title="commands")

    def _help(self, _args: argparse.Namespace) -> int:
        self.parser.print_help()
        return DONE

    def add(self, names: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """A command, to which options can be added. `names`: its name and aliases; `text`: its line in the help."""
        name, *aliases = names.split()
        command = self._commands.add_parser(
            name, aliases=aliases, help=text, description=f"{text[0].upper()}{text[1:]}."
        )
        command.set_defaults(run=run, parser=command)
        return command


class Commands(CommandGroup):
    """All commands. `parse` turns a command line into `args`; `args.run(args)` returns the exit status."""

    def __init__(self) -> None:
        parser = _Parser(
            prog="shmvar",
            description="Python values shared between processes, by number, through memory.",
            epilog="A KEY or INDEX is an int if it reads as one (0x... too), otherwise a text; in quotes of its "
            "own, as ls and show print it, it is a text in any case: \"'5'\". A KEY that is a URL is of a segment on a "
            "Valkey or Redis server: valkey://host/#KEY (valkeys:// over TLS, valkey+unix:///socket#KEY), "
            "with the password in SHMVAR_PASSWORD or a password_file=, for others can see the words of a command. "
            "Exit status: 0 done, "
            "1 not found or refused, 2 wrong usage. Arguments that begin with - and are no numbers come after --.",
        )
        parser.add_argument("--version", action="version", version=f"shmvar {shmvar.__version__}")
        super().__init__(parser)

    def parse(self, words: Sequence[str] | None) -> argparse.Namespace:
        """The arguments of a command line (of this process's if `words` is None). Ends the program if it is wrong."""
        args: argparse.Namespace
        args, unknown = self.parser.parse_known_args(words)
        if unknown:
            args.parser.unknown(unknown)
        return args

    def group(self, name: str, text: str, *, epilog: str) -> CommandGroup:
        """A command that has commands of its own."""
        described = f"{text[0].upper()}{text[1:]}."
        return CommandGroup(self._commands.add_parser(name, help=text, description=described, epilog=epilog))


def add_names(command: argparse.ArgumentParser, *names: str, **options: Any) -> None:
    """Arguments that are keys or indexes."""
    for name in names:
        about = {"help": "a number or a text, or valkey://host/#KEY for a segment on a server"} if name == "KEY" else {}
        command.add_argument(name.lower(), metavar=name, type=arguments.name, **about | options)


def add_creation(command: argparse.ArgumentParser) -> None:
    """Options of a command that creates the segment if there is none: see `opening.or_created`."""
    limit = "how many bytes the segment may hold (4096, 64M, 1.5G, 2T); raises the limit of an existing one"
    command.add_argument("--size", type=arguments.size, help=limit)
    rights = "mode of a new segment, octal (600); a mode that shares also allows opening another user's segment"
    command.add_argument("--perm", type=arguments.mode, default=0o600, help=rights)
    forgets = "what a new segment removes where a value has no room: what was used least recently, or expires soonest"
    command.add_argument("--evict", choices=("lru", "ttl"), help=forgets)


def add_trust(command: argparse.ArgumentParser) -> None:
    """The option of a command that reads values."""
    command.add_argument("--trust", action="store_true", help="also read values that run code when they are read")


def add_json(command: argparse.ArgumentParser) -> None:
    """The option of a command that can print JSON."""
    command.add_argument("--json", action="store_true", help="print JSON")
