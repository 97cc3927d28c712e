"""The ends of messages about names that do not exist: a question where a name is close, otherwise nothing."""

import itertools
from collections.abc import Iterable

import shmvar
from shmvar.cli import urls

# So many names are compared: a message must not take seconds.
MOST = 5_000


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Asks for the closest of `names`, in which upper and lower case are the same.

    In a name of two or three letters one letter is much of it, so the same letters in another order are close, too.
    """
    import difflib

    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_lower, 1, 0.7)
    close = close or [name for name in by_lower if sorted(name) == sorted(word.lower())]
    return f": did you mean {by_lower[close[0]]}?" if close else ""


def for_index(segment: shmvar.Segment, index: int | str) -> str:
    """Asks for the variable that is closest to one that is missing."""
    try:
        return _for_name(index, segment)
    except (shmvar.Error, OSError):
        return ""


def for_key(key: int | str) -> str:
    """Asks for the segment that is closest to one that is missing. A server is not searched for the sake of that."""
    if urls.is_url(key):
        return ""
    try:
        return _for_name(key, [info.key for info in shmvar.segments() if info.key is not None])
    except (shmvar.Error, OSError):
        return ""


def _for_name(wrong: int | str, names: Iterable[int | str]) -> str:
    """5 and "5" are taken for one another. Numbers that are close to each other have nothing to do with each other."""
    names = list(itertools.islice(names, MOST))
    for name in names:
        if type(name) is not type(wrong) and str(name) == str(wrong):
            return f": did you mean {name!r}?"
    if isinstance(wrong, int):
        return ""
    # A text is shown in quotes, as `show` and `ls` print it.
    return did_you_mean(repr(wrong), [repr(name) for name in names if isinstance(name, str)])
