"""The magics of `%load_ext shmvar`: `%shm`, `%shm_watch`, `%shm_push` and `%shm_pull`.

`shmvar.load_ipython_extension` calls `load`. Each magic opens the segment that it is told, and detaches it again; only
a widget keeps its handle.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import itertools
import keyword
import pickle
import re
from types import ModuleType

import shmvar
from shmvar import _text
from shmvar._display import elements, listing, segment
from shmvar.cli import arguments, opening, suggestions, urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

MAGICS = ("shm", "shm_watch", "shm_push", "shm_pull")
MOST_PULLED = 1_000
"""Variables that `%shm_pull KEY` takes without being told their names."""
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_WORD = re.compile(r"""'(?:[^'\\]|\\.)*'(?!\S)|"(?:[^"\\]|\\.)*"(?!\S)|\S+""")
_TOLD = (shmvar.Error, OverflowError, ValueError)
"""Errors that are a matter of usage: there is no such segment, say, or it is another user's."""
_NEW = argparse.Namespace(size=None, perm=0o600, evict=None)
"""How a segment is made that is not there."""
_OF_IPYTHON = frozenset(("In", "Out", "display", "exit", "get_ipython", "open", "quit"))
"""Names that IPython itself gives a notebook. What it calls hidden has all that startup files define, too."""
_PLAIN_WORD = re.compile(r"[\w./%~-]+")
"""What IPython takes for one word when it completes."""


def load(ipython: Any) -> None:
    """Registers the magics, and what completes their arguments."""
    magics = _Magics(ipython)
    for name in MAGICS:
        ipython.register_magic_function(getattr(magics, name), "line", name)
        ipython.set_hook("complete_command", _completer(name), str_key=f"%{name}")


def unload(ipython: Any) -> None:
    """Takes the magics away again."""
    for name in MAGICS:
        ipython.magics_manager.magics["line"].pop(name, None)
        ipython.strdispatchers["complete_command"].strs.pop(f"%{name}", None)


class _Magics:
    """The magics of one shell."""

    def __init__(self, ipython: Any) -> None:
        self.ipython = ipython

    def shm(self, line: str) -> None:
        """Show the segments of this machine, or one of them: its variables, and a map of its memory.

            %shm            the segments, as a table
            %shm KEY        that segment
            %shm URL        the segments of a server, valkey://host, or one of them, valkey://host/#KEY

        KEY is a number if it reads as one. In quotes it is a text: %shm '4711'. Nothing that is shown runs code.
        """
        words = _words(line)
        if len(words) > 1:
            raise _usage(f"one KEY, not {len(words)} words: a KEY with spaces needs quotes")
        if not words or (urls.is_url(words[0]) and "#" not in words[0]):
            found = sorted(_told(shmvar.segments, *words), key=lambda info: info.name)
            titles = listing.OF_SERVERS if words else listing.TITLES
            _show(listing.html(found, titles), listing.plain(found, titles))
            return
        with _attached(words[0], readonly=True) as opened:
            _show(*segment.once(opened))

    def shm_watch(self, line: str) -> None:
        """Show what changes in a segment, as it changes: `shmvar.notebook.watch`.

        %shm_watch KEY
        """
        words = _words(line)
        if len(words) != 1:
            raise _usage("%shm_watch KEY")
        from IPython.display import display

        from shmvar.notebook import watch

        opened = _attached(words[0])
        try:
            display(watch(opened))
        except ModuleNotFoundError as error:  # the widget is an extra of its own
            opened.detach()
            raise _usage(str(error)) from None

    def shm_push(self, line: str) -> None:
        """Store notebook variables in a segment, under their names, all at one instant.

            %shm_push KEY name…

        If there is no such segment, one is made. If one of the names is not there, cannot be pickled or does not fit,
        nothing is stored.
        """
        key, *names = _words(line) or [""]
        if not names:
            raise _usage("%shm_push KEY name…")
        names = list(dict.fromkeys(names))
        space = self.ipython.user_ns
        if missing := [name for name in names if name not in space]:
            raise _usage(f"no such variable in this notebook: {_listed(missing)}. Nothing was pushed")
        values = {name: space[name] for name in names}
        with contextlib.ExitStack() as stack:
            opened = _told(stack.enter_context, opening.or_created(arguments.name(key), _NEW))
            try:
                opened.put_many(values)
            except Exception as error:  # pickling may raise anything
                raise _usage(f"{_not_stored(values, error)}. Nothing was pushed") from error
        print(f"pushed to {_shown(key)}: {_listed(names)}")

    def shm_pull(self, line: str) -> None:
        """Take variables from a segment into the notebook, by their names, all of one instant.

            %shm_pull KEY name…
            %shm_pull KEY           every variable whose index is a name

        If one of the names is not there, nothing is taken. Without names, what the notebook has under a name is
        replaced, but no module, no function and no class, and names of Python and IPython (id, sum, In) are left; where
        more than 1,000 indexes are names, they have to be said.
        """
        key, *names = _words(line) or [""]
        if not key:
            raise _usage("%shm_pull KEY [name…]")
        names = list(dict.fromkeys(names))
        if wrong := [name for name in names if not _may_be_named(name)]:
            raise _usage(f"no name for a variable of a notebook: {_listed(wrong)}. Nothing was pulled")
        space, left, builtin = self.ipython.user_ns, list[str](), list[str]()
        with _attached(key) as opened:
            if names:
                found = opened.get_many(names)
                if missing := [name for name in names if name not in found]:
                    raise _usage(f"no variable {_listed(missing)} in {_shown(key)}. Nothing was pulled")
            else:
                names, left, builtin = self._all_names(opened)
                found = opened.get_many(names)
        replaced = [str(name) for name in found if name in space]
        space.update(found)
        print(f"pulled from {_shown(key)}: {_listed(map(str, found)) or 'nothing'}")
        if replaced:
            print(f"replaced: {_listed(replaced)}")
        if left:
            print(f"left, because this notebook has code under these names: {_listed(left)}")
        if builtin:
            why = "left, because Python or IPython has these names; say them to have them all the same"
            print(f"{why}: {_listed(builtin)}")

    def _all_names(self, opened: shmvar.Segment) -> tuple[list[str], list[str], list[str]]:
        """The indexes that are names: those to pull, those of code of the notebook, and those of Python and IPython."""
        space = self.ipython.user_ns
        texts = (index for index in opened.keys("") if not index.startswith("_"))
        names = sorted(itertools.islice(filter(_may_be_named, texts), MOST_PULLED + 1))
        if len(names) > MOST_PULLED:
            many = _text.number(MOST_PULLED)
            raise _usage(f"more than {many} variables have names: say which, %shm_pull KEY name…. Nothing was pulled")
        builtin = [name for name in names if not _is_name(name)]
        names = [name for name in names if name not in builtin]
        left = [name for name in names if isinstance(space.get(name), ModuleType) or callable(space.get(name))]
        return [name for name in names if name not in left], left, builtin


def _not_stored(values: dict[str, Any], error: Exception) -> str:
    """Why these could not be stored, with the names that are to blame: the error itself has none."""
    lengths: dict[str, int] = {}
    for name, value in values.items():
        try:
            lengths[name] = _length(value)
        except Exception as found:
            return f"{name} cannot be pickled: {elements.message(found)}"
    told = elements.message(error).rstrip(".")
    if not isinstance(error, shmvar.SegmentFullError):
        return f"{_listed(values)}: {told}"
    largest = max(lengths, key=lengths.__getitem__)
    which = "" if len(values) == 1 else f" (the largest is {largest}, {_text.size(lengths[largest])})"
    return f"{_listed(values)}{which}: {told}"


def _length(value: Any) -> int:
    """Bytes that a value takes as a pickle and beside it."""
    beside: list[pickle.PickleBuffer] = []
    short = pickle.dumps(value, 5, buffer_callback=beside.append)
    return len(short) + sum(buffer.raw().nbytes for buffer in beside)


def _usage(text: str) -> Exception:
    """The error that IPython prints as one line, without a traceback."""
    from IPython.core.error import UsageError

    error: Exception = UsageError(_shown(text))
    return error


def _shown(text: str) -> str:
    """A text in one line, without the passwords of URLs in it."""
    return _text.one_line(urls.shown(text))


def _words(line: str) -> list[str]:
    """The words of a line; one in quotes may have spaces, and keeps its quotes."""
    words: list[str] = _WORD.findall(line)
    if wrong := [word for word in words if word[0] in "'\"" and not _QUOTED.fullmatch(word)]:
        raise _usage(f"no closing quote, or something right behind it: {wrong[0]}")
    return words


def _told(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call returns. Its errors of usage are told in one line."""
    try:
        return call(*arguments, **options)
    except _TOLD as error:
        raise _usage(str(error)) from None


def _attached(word: str, *, readonly: bool = False) -> shmvar.Segment:
    """The segment of a KEY as it is written on the command line. There must be one."""
    key = arguments.name(word)
    try:
        return shmvar.attach(key, create=False, readonly=readonly)
    except shmvar.SegmentNotFoundError as error:
        raise _usage(f"{error}{suggestions.for_key(key)}") from None
    except _TOLD as error:
        raise _usage(str(error)) from None


def _show(html: str, plain: str) -> None:
    from IPython.display import display

    display({"text/html": html, "text/plain": plain}, raw=True)


def _listed(names: Iterable[str]) -> str:
    return _text.cut(_text.one_line(", ".join(names)), 500)


def _may_be_named(index: str) -> bool:
    """Whether a variable of a notebook may be called that."""
    return index.isidentifier() and not keyword.iskeyword(index)


def _is_name(index: str) -> bool:
    """Whether that also hides nothing of Python's or IPython's."""
    return _may_be_named(index) and index not in _OF_IPYTHON and not hasattr(builtins, index)


def _completer(magic: str) -> Callable[[Any, Any], list[str]]:
    """What offers the arguments of a magic: keys, then names in the notebook or in the segment."""

    def complete(ipython: Any, event: Any) -> list[str]:
        before = event.text_until_cursor[: len(event.text_until_cursor) - len(event.symbol)]
        try:
            words = _words(before)
            if len(words) <= 1:
                return list(_keys())
            if magic == "shm_push":
                return [name for name in ipython.user_ns if not name.startswith("_")]
            if magic == "shm_pull":
                with _attached(words[1], readonly=True) as opened:
                    return [index for index in segment_names(opened) if _is_name(index)]
        except Exception:  # the Tab key is no place for an error
            pass
        return []

    return complete


def _keys() -> Iterable[str]:
    """The keys that are one word to IPython, and that this word stands for."""
    for info in shmvar.segments():
        word = str(info.key)
        if info.key is not None and _PLAIN_WORD.fullmatch(word) and arguments.name(word) == info.key:
            yield word


def segment_names(opened: shmvar.Segment) -> list[str]:
    """The texts among the indexes; none where these are many."""
    from shmvar._display import completing

    return [index for index in completing.indexes(opened) if isinstance(index, str)]
