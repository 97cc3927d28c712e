"""The command line. Reading never runs code from a value unless `--trust` says so."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import shmvar

DONE, REFUSED, USAGE = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 130, 141  # as a shell reports SIGINT and SIGPIPE

_MISSING = object()
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Refused(Exception):
    """Not found or refused: one line for stderr."""


class _Parser(argparse.ArgumentParser):
    """Takes -5, -0x1f and -1e3 for numbers, not for options: no option of ours begins with a digit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._negative_number_matcher = re.compile(r"-\.?[0-9]")


def name(text: str) -> int | str:
    """A KEY or INDEX: an int if it reads as one, else the text."""
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    return text


def literal(text: str) -> Any:
    """A VALUE: a Python literal if it reads as one, else the text."""
    import ast
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" is a text like any other
            parsed = ast.parse(text.lstrip(" \t"), mode="eval")
        if any(isinstance(node, ast.Constant) and node.value is ... for node in ast.walk(parsed)):
            return text  # "..." is a literal, too, but of no data
        return ast.literal_eval(parsed)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def mode(text: str) -> int:
    """Permission bits, in octal."""
    if not re.fullmatch(r"(0o?)?[0-7]{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no mode: three octal digits, as in 660")
    return int(text.removeprefix("0o"), 8)


def amount(text: str) -> int:
    """Bytes, with K, M or G for the powers of 1024."""
    found = re.fullmatch(r"([0-9]+)([KMG]?)", text, re.IGNORECASE)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: bytes from 1 on, as in 4096, 64M or 2G")
    return int(found[1]) * _UNITS[found[2].upper()]


def seconds(text: str) -> float:
    """A time that ends."""
    try:
        if 0 < (number := float(text)) <= 86_400:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from above 0 to 86400")


def duration(text: str) -> float:
    """Seconds, as many as you like."""
    try:
        if 0 < (number := float(text)) < float("inf"):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def many(text: str) -> int:
    """How often."""
    if not re.fullmatch(r"[0-9]{1,18}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _put(args: argparse.Namespace) -> int:
    with shmvar.attach(args.key, args.size, perm=args.perm) as segment:
        segment.put(args.index, literal(args.value), ttl=args.ttl)
    return DONE


def _reader(args: argparse.Namespace) -> shmvar.Segment:
    return shmvar.attach(args.key, create=False, readonly=True, trust=getattr(args, "trust", False))


def _get(args: argparse.Namespace) -> int:
    with _reader(args) as segment:
        if not segment.has(args.index):  # an index that cannot be is no fault of the value
            raise Refused(_no_variable(args))
        try:
            value = segment.get(args.index, _MISSING)
        except shmvar.UntrustedValueError as error:
            kind = segment.stat(args.index).type
            raise Refused(f"a value of type {kind} is not read without --trust: {error}") from None
        except (shmvar.Error, OSError, MemoryError):
            raise
        except Exception as error:  # a value's own code raises what it likes
            raise Refused(f"reading the value raised {type(error).__name__}: {error}") from None
    if value is _MISSING:
        raise Refused(_no_variable(args))
    try:
        text = _json(value) if args.json else value if isinstance(value, str) else repr(value)
    except Exception as error:  # no JSON form, an int of too many digits, a value's own __repr__
        form = "JSON" if args.json else "text"
        raise Refused(f"the value has no form as {form}: {type(error).__name__}: {error}") from None
    print(_harmless(text) if _terminal() else text)
    return DONE


def _has(args: argparse.Namespace) -> int:
    with _reader(args) as segment:
        if not segment.has(args.index):
            raise Refused(_no_variable(args))
    return DONE


def _remove(args: argparse.Namespace) -> int:
    if args.index is None:
        if not shmvar.destroy(args.key):
            raise Refused(f"no segment of key {args.key!r}")
        return DONE
    with shmvar.attach(args.key, create=False) as segment:
        if not segment.remove(args.index):
            raise Refused(_no_variable(args))
    return DONE


def _ls(args: argparse.Namespace) -> int:
    found = sorted(shmvar.segments(), key=lambda info: info.name)
    if args.json:
        # Of locks only who attaches knows.
        print(_json([{name: value for name, value in info._asdict().items() if name != "locks"} for info in found]))
    elif found:
        titles = ("KEY", "COUNT", "USED", "SIZE", "MEMORY", "PROCS", "OWNER", "MODE", "CREATED", "STATE")
        _table(titles, map(_row, found))
    elif _terminal():
        print("no segments")
    return DONE


def _row(info: shmvar.SegmentInfo) -> tuple[str, ...]:
    what = repr(info.key) if info.key is not None else _line_of(f"/dev/shm/{info.name}")
    rights = (_owner(info.uid), f"{info.perm:03o}")
    state = info.state if info.why is None else _line_of(f"{info.state}: {info.why}")
    if info.state != "usable":  # of its contents nothing is known
        return (what, "-", "-", "-", _size(info.resident), "-", *rights, "-", state)
    sizes = (_size(info.used), _size(info.size), _size(info.resident))
    created = _time(info.created_at, "minutes")
    return (what, str(info.count), *sizes, str(info.attached), *rights, created, state)


def _info(args: argparse.Namespace) -> int:
    with _reader(args) as segment:
        info = segment.info()
    if args.json:
        print(_json(info._asdict() | {"locks": locks_of(info)}))
        return DONE
    shown = info._asdict() | {"key": repr(info.key), "perm": f"{info.perm:03o}", "count": str(info.count)}
    shown |= {"uid": f"{info.uid} ({_owner(info.uid)})", "created_at": _time(info.created_at)}
    for field in ("size", "used", "free", "largest_put", "resident", "held", "spare"):
        number = shown[field]
        shown[field] = f"{number:,} bytes" if number < 1024 else f"{number:,} bytes ({_size(number)})"
    shown["locks"] = ", ".join(map(lock_text, locks_of(info))) or "none held"
    _table((), ((field, str(value)) for field, value in shown.items()))
    return DONE


def locks_of(info: shmvar.SegmentInfo) -> list[dict[str, Any]]:
    """Named locks that are held: in JSON an object could not tell 5 from "5"."""
    return [{"name": name, "pid": pid} for name, pid in info.locks.items()]


def lock_text(lock: dict[str, Any]) -> str:
    """Name and owner of a lock; names may hold anything."""
    return _line_of(f"{lock['name']!r} by {lock['pid']}")


def _watch(args: argparse.Namespace) -> int:
    from shmvar import _watch as watch

    with watch.attached(args.key, args.trust) as segment:
        if args.index is None:
            changes = watch.of_all(segment, args.timeout)
        else:
            changes = watch.of_one(segment, args.index, args.timeout)
        try:
            for number, change in enumerate(changes, 1):
                print(_changed(change, args.json), flush=True)
                if number == args.count:
                    break
        except KeyboardInterrupt:
            pass  # the way to end it
    return DONE


def _changed(change: Any, as_json: bool) -> str:
    """A change as one line."""
    text, error = "gone", change.error
    if change.version and error is None:
        try:
            text = _json(change.value) if as_json else repr(change.value)
        except Exception as failure:  # as for `get`
            error = f"no form as {'JSON' if as_json else 'text'}: {type(failure).__name__}: {failure}"
    if not as_json:
        return _line_of(repr(change.index)) + f"\t{change.version}\t" + _line_of(f"<{error}>" if error else text)
    there = bool(change.version)
    head = _json({"index": change.index, "version": change.version, "there": there, "error": error})
    return f'{head[:-1]}, "value": {text if there and error is None else "null"}}}'


def _show(args: argparse.Namespace) -> int:
    from shmvar import _show as show

    with _reader(args) as segment:
        found = list(show.variables(segment))
    if args.json:
        print(_json(found))
    elif found:
        _table(("INDEX", "TYPE", "SIZE", "VERSION", "EXPIRES", "VALUE"), map(_shown, found))
    elif _terminal():
        print("no variables")
    return DONE


def _shown(variable: dict[str, Any]) -> tuple[str, ...]:
    """Made harmless for files, too: an index or a value may hold line ends."""
    expires = "" if variable["expires_in"] is None else f"{variable['expires_in']:.1f} s"
    text = variable["repr"] if variable["error"] is None else f"<{variable['error']}>"
    size = "" if variable["size"] is None else _size(variable["size"])
    row = (repr(variable["index"]), variable["type"] or "", size, str(variable["version"] or ""), expires, text or "…")
    return tuple(map(_line_of, row))


def _line_of(text: str) -> str:
    return _harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def _dump(args: argparse.Namespace) -> int:
    from shmvar import _dump as dumps

    if args.file == "-" and _terminal():
        raise Refused("a dump is no text for a terminal: give a FILE, or send it on")
    with _reader(args) as segment, dumps.made(args.file) as file:
        dumps.dump(segment, file)
        file.flush()
    return DONE


def _load(args: argparse.Namespace) -> int:
    from shmvar import _dump as dumps

    with dumps.opened(args.file) as file:
        try:
            variables = dumps.verify(file)
        except dumps.Damaged as error:
            raise Refused(f"{error}; nothing was loaded") from None
        file.seek(0)
        loaded = 0
        with shmvar.attach(args.key, args.size, perm=args.perm) as segment:
            try:
                for _ in dumps.load(segment, file):
                    loaded += 1
            except (shmvar.Error, OSError, MemoryError, ValueError, OverflowError) as error:
                raise Refused(f"{loaded} of {variables} variables were loaded: {error}") from None
    return DONE


def _doctor(args: argparse.Namespace) -> int:
    from shmvar import _doctor as doctor

    return doctor.run(args.fix, args.json)


def _demo(args: argparse.Namespace) -> int:
    from shmvar import _demo as demo

    return demo.run(args.seconds, as_json=args.json)


def _no_variable(args: argparse.Namespace) -> str:
    return f"no variable {args.index!r} in the segment {args.key!r}"


def _json(value: Any) -> str:
    import json

    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _harmless(text: str) -> str:
    """Whoever wrote the value shall not command the terminal that shows it."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if not _terminal():  # for grep and cut: nothing is wrapped or shortened
        for row in ([titles] if titles else []) + list(rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(titles))
    for row in rows:
        table.add_row(*map(Text, row))
    for column in table.columns[1:]:
        column.no_wrap = True
    table.columns[0].overflow = "fold"
    Console(highlight=False).print(table)


def _size(number: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if number >= 1 << shift:
            return f"{number / (1 << shift):.1f} {unit}"
    return f"{number} B"


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _time(timestamp: float, precision: str = "seconds") -> str:
    import datetime

    return datetime.datetime.fromtimestamp(timestamp).isoformat(" ", precision)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="shmvar",
        description="Python values shared between processes, by number, through memory.",
        epilog="KEY and INDEX are ints if they read as such (also 0x...), else texts. Exit status: 0 done, "
        "1 not found or refused, 2 usage. What begins with - and is no number comes after --.",
    )
    parser.add_argument("--version", action="version", version=f"shmvar {shmvar.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def command(names: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        title, *aliases = names.split()
        described = f"{text[0].upper()}{text[1:]}."
        made = commands.add_parser(title, aliases=aliases, help=text, description=described)
        made.set_defaults(run=run)
        return made

    def named(made: argparse.ArgumentParser, *arguments: str, **options: Any) -> None:
        for argument in arguments:
            made.add_argument(argument.lower(), metavar=argument, type=name, **options)

    put = command("put send", _put, "store a value, in a new segment if there is none")
    named(put, "KEY", "INDEX")
    put.add_argument("value", metavar="VALUE", help="a Python literal if it reads as one, else the text")
    put.add_argument("--ttl", type=duration, metavar="SECONDS", help="after which the variable is gone")

    get = command("get", _get, "print a value")
    named(get, "KEY", "INDEX")

    named(command("has", _has, "exit with 0 if the variable is there, else with 1"), "KEY", "INDEX")

    remove = command("remove delete", _remove, "remove a variable; without INDEX, destroy the segment")
    named(remove, "KEY")
    named(remove, "INDEX", nargs="?")

    ls = command("ls", _ls, "list the segments, and what else is at the names of segments")
    info = command("info", _info, "show a segment in numbers")
    named(info, "KEY")

    show = command("show", _show, "list a segment's variables, with values that are short and plain")
    named(show, "KEY")

    watch = command("watch", _watch, "print a line for each change of a variable; without INDEX, of any variable")
    named(watch, "KEY")
    named(watch, "INDEX", nargs="?")
    watch.add_argument("--count", type=many, metavar="N", help="end after so many; else with Ctrl-C")
    watch.add_argument("--timeout", type=duration, metavar="SECONDS", help="give up after so long without one")
    for made in (get, watch):
        made.add_argument("--trust", action="store_true", help="read values that run code")

    dump = command("dump", _dump, "save a segment's variables to a file, as they are stored")
    named(dump, "KEY")
    dump.add_argument("file", metavar="FILE", help="- for stdout")

    load = command(
        "load", _load, "store the variables of a dump, over what is there, in a new segment if there is none"
    )
    named(load, "KEY")
    load.add_argument("file", metavar="FILE", help="- for stdin")
    for made in (put, load):
        limit = "bytes the segment may hold (4096, 64M, 2G); raises that of an existing one"
        made.add_argument("--size", type=amount, help=limit)
        rights = "mode of a new segment, octal (600); one that shares lets this open another user's, too"
        made.add_argument("--perm", type=mode, default=0o600, help=rights)

    doctor = command("doctor", _doctor, "check every segment and the machine, repair what is safe to repair")
    doctor.add_argument("--no-fix", dest="fix", action="store_false", help="repair nothing, only look")

    demo = command("demo", _demo, "processes share values and are killed; see what is lost")
    demo.add_argument("--seconds", type=seconds, default=6.0, metavar="N", help="how long (6)")

    for made in (get, ls, info, show, watch, doctor, demo):
        made.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _complain(error: BaseException) -> None:
    line = " ".join(str(error).split()) or type(error).__name__
    print(f"shmvar: {line}", file=sys.stderr)


def _silence() -> None:
    """Nothing more to stdout: the interpreter's last flush would fail as ours did."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a text may hold what the terminal cannot show
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        _silence()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Refused, shmvar.Error, MemoryError) as error:
        _complain(error)
        return REFUSED
    except OSError as error:
        _silence()
        _complain(error)
        return REFUSED
    except (ValueError, TypeError, OverflowError) as error:
        _complain(error)
        return USAGE
