"""The command `manual`: the manual page, made from the parser. `docs/man` has it as it is installed."""

import argparse
import re
from collections.abc import Iterator

from shmvar.cli import outcome
from shmvar.cli.parser import Commands

DESCRIPTION = """\
A segment is a piece of shared memory in which processes of one machine, or of several by way of a server, keep Python
values under numbers and names. These commands read it, change it, look after it and show what goes on in it. Reading a
value never runs code unless --trust says so, and what is printed on a terminal cannot command it."""

KEYS = """\
A KEY names a segment, an INDEX a variable in it. Each is a number if it reads as one, in decimal or in hexadecimal (5,
-3, 0x1f), and otherwise a text. A text in quotes of its own, as ls, show and top print it, is a text in any case, with
the escapes of Python: "'5'" is the text 5, "'a\\nb'" has a line end. The shell takes away the outer quotes.

A KEY that is a URL is of a segment on a Valkey or Redis server: valkey://host:6379/#KEY, valkeys:// over TLS,
valkey+unix:///socket#KEY; the scheme redis does the same.

What begins with - and is no number is an option. Other such words come after --."""

STATUS = (
    (outcome.DONE, "It is done. has: the variable is there. doctor: all is well."),
    (outcome.REFUSED, "Something was not found, or was refused; a line on stderr says what, and what to do."),
    (outcome.USAGE, "The command line is wrong."),
    (outcome.INTERRUPTED, "Ctrl-C ended it, where that is not the usual end (as of watch and top)."),
    (outcome.BROKEN_PIPE, "Nobody reads what it prints any more."),
)

ENVIRONMENT = (
    (
        "SHMVAR_PASSWORD",
        "The password of a server. Others can see the words of a command line, so it is not in the URL.",
    ),
    ("SHMVAR_SENTINEL_PASSWORD", "The password of the sentinels, where these have one of their own."),
    ("NO_COLOR", "If it is there and not empty: no colours."),
    ("TERM", "dumb: no colours, and top prints tables."),
)

FILES = (
    ("/dev/shm/shmvar.i.*, /dev/shm/shmvar.s.*", "Segments with keys that are numbers, and texts."),
    ("/dev/shm/shmvar-lock.*", "What processes that may only read need of a segment."),
    ("/proc/sysvipc/shm", "What the kernel lists of the segments that PHP shares."),
)

EXAMPLES = (
    (
        "Store, read, and remove a variable",
        "shmvar put orders total 42\nshmvar get orders total\nshmvar remove orders total",
    ),
    ("What is there, and what goes on in it", "shmvar ls\nshmvar show orders\nshmvar top"),
    ("A value as JSON, for another program", "shmvar get orders total --json"),
    ("Wait for a change, at most a minute", "shmvar watch orders total --count 1 --timeout 60"),
    ("Save a segment, and store it again", "shmvar dump orders orders.dump\nshmvar load orders orders.dump"),
    ("Copy it to a server", "SHMVAR_PASSWORD=... shmvar copy orders valkey://host/#orders"),
    ("What PHP shares", "shmvar php ls\nshmvar php show 0x1267 --lock 0x1267"),
    ("Is everything all right?", "shmvar doctor"),
    ("Keys and indexes at a TAB, in bash", 'eval "$(shmvar completion bash)"'),
)


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    manual = commands.add("manual", _manual, "print this manual for man: shmvar manual | man -l -")
    manual.set_defaults(commands=commands)


def _manual(args: argparse.Namespace) -> int:
    print(page(args.commands), end="")
    return outcome.DONE


def page(commands: Commands) -> str:
    """The manual page, in the macros of man(7)."""
    return "\n".join(_lines(commands.parser)) + "\n"


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield '.\\" Made by `shmvar manual` from the parser of the command line.'
    yield '.TH SHMVAR 1 "" shmvar "User Commands"'
    yield from _section("NAME")
    yield f"shmvar \\- {_escaped((parser.description or '').rstrip('.'))}"
    yield from _section("SYNOPSIS")
    yield ".B shmvar"
    yield r"\fICOMMAND\fR [\fIARGUMENT\fR ...]"
    yield ".br"
    yield r"\fBshmvar\fR [\fB\-\-help\fR | \fB\-\-version\fR]"
    yield from _section("DESCRIPTION")
    yield from _text(DESCRIPTION)
    yield from _section("COMMANDS")
    yield from _commands(parser)
    yield from _section("KEYS AND INDEXES")
    yield from _text(KEYS)
    yield from _section("EXIT STATUS")
    for status, about in STATUS:
        yield from _item(str(status), about)
    yield from _section("ENVIRONMENT")
    for name, about in ENVIRONMENT:
        yield from _item(name, about)
    yield from _section("FILES")
    for name, about in FILES:
        yield from _item(name, about)
    yield from _section("EXAMPLES")
    for number, (about, lines) in enumerate(EXAMPLES):
        if number:
            yield ".PP"
        yield from _text(f"{about}:")
        yield ".PP"
        yield ".RS 4"
        yield ".nf"
        yield from map(_escaped, lines.split("\n"))
        yield ".fi"
        yield ".RE"


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The commands below a parser, each with those below itself."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:
                yield from _command(listed, action)
                yield from _commands(action.choices[listed.dest])


def _command(
    listed: argparse.Action, subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]"
) -> Iterator[str]:
    """A command: how it is called, what it does, its arguments and options."""
    command = subparsers.choices[listed.dest]
    aliases = [name for name, other in subparsers.choices.items() if other is command and name != listed.dest]
    yield f'.SS "{_escaped(command.prog.partition(" ")[2])}"'
    usage = " ".join(filter(None, map(_usage, command._actions)))
    yield rf"\fB{_escaped(command.prog)}\fR {usage}".rstrip()
    yield ".PP"
    about = command.description or ""
    yield from _text(f"{about} {', '.join(aliases)} is the same." if aliases else about)
    for action in command._actions:
        if action.help and action.dest != "help" and action.help != argparse.SUPPRESS:
            yield from _item(_call(action), f"{_sentence(action.help)}")
    if command.epilog:
        yield ".PP"
        yield from _text(command.epilog)


def _usage(action: argparse.Action) -> str:
    """An argument in the line that says how a command is called."""
    if action.dest == "help" or action.help == argparse.SUPPRESS:
        return ""
    if action.option_strings:
        return f"[{_call(action)}]"
    if isinstance(action, argparse._SubParsersAction):
        return r"\fICOMMAND\fR [\fIARGUMENT\fR ...]"
    name = rf"\fI{_escaped(_name(action))}\fR"
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}.get(str(action.nargs), name)


def _name(action: argparse.Action) -> str:
    """What an argument or the value of an option is called."""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _call(action: argparse.Action) -> str:
    """An option with its value, or an argument."""
    if not action.option_strings:
        return rf"\fI{_escaped(_name(action))}\fR"
    names = ", ".join(rf"\fB{_escaped(name)}\fR" for name in action.option_strings)
    return names if action.nargs == 0 else rf"{names} \fI{_escaped(_name(action))}\fR"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}" + ("" if text.endswith((".", "?")) else ".")


def _section(title: str) -> Iterator[str]:
    yield f'.SH "{title}"'


def _item(name: str, about: str) -> Iterator[str]:
    """A name and, indented below it, what it means. A name without escapes of its own is bold."""
    yield ".TP"
    yield name if name.startswith("\\") else rf"\fB{_escaped(name)}\fR"
    yield from _text(about)


def _text(text: str) -> Iterator[str]:
    """Paragraphs, a sentence on each line: so the page changes where the text does."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        for sentence in re.split(r"(?<=[.?]) (?=[A-Z0-9])", " ".join(paragraph.split())):
            yield _escaped(sentence)


def _escaped(text: str) -> str:
    """Text as such: no escapes, no requests, and a minus that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith(".") else text
