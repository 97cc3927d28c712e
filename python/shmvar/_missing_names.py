"""The error of a value that needs a class or function which this process lacks: which one, why, and the way out.

Pickle stores classes and functions by reference, as the names of module and class. `__main__` is another module in each
process, so what was defined in a notebook is found nowhere else, and the unpickler says "Can't get attribute 'Point' on
<module '__main__'>". The extension module imports this with the first such error.

What is raised is of the unpickler's class, which is what callers catch, and has the unpickler's error as its cause. The
explanation is its text and no note: a log, a test's summary or `shmvar get` shows an error as `str(error)`, which has
no notes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType

from shmvar._text import cut, one_line

_MAIN = ("__main__", "__mp_main__")  # the second: as multiprocessing calls the script in the processes that it spawns
_WIDTH = 128  # of a name, which may be hostile
_LACKS = "_shmvar_lacks_a_name"  # the attribute of an error of a value that names what this process lacks


def explained(error: Exception, of: str, names: Iterable[tuple[str, str]]) -> Exception | None:
    """The error to raise in place of `error`, which unpickling raised.

    `of` says whose value it is, and `names` what it names, as module and name. None: no name is missing, or it is the
    value's own code that raised the error. `lacks_a_name` tells the two apart.
    """
    by_code = _raised_by_code(error.__traceback__)
    if isinstance(error, ModuleNotFoundError):
        return None if by_code else _no_module(error, of, names)
    for module, name in names:
        if _lacks(module, name):
            break
    else:
        return None
    if by_code:
        setattr(error, _LACKS, True)
        return None
    text = _elsewhere(module, name) if module in _MAIN else _not_in(module, name)
    better = AttributeError(f"{of}: its value needs {_shown(name)}, {text}")
    setattr(better, _LACKS, True)
    return better


def lacks_a_name(error: Exception) -> bool:
    """Whether this process lacks what the value names from which unpickling raised this error.

    Also where Python code raised it. From Python 3.14 on that may be a module's `__getattr__`, which has raised it for
    the very name that is missing. An `ImportError` of any kind is about a module that this process cannot import.
    """
    return isinstance(error, ImportError) or getattr(error, _LACKS, False) is True


def _raised_by_code(traceback: TracebackType | None) -> bool:
    """Whether Python code raised the error: a `__setstate__`, say, or a module that was imported for the value.

    The unpickler itself has no line in a traceback; what calls it here has, and what imports modules may have.
    """
    while traceback is not None:
        frame = traceback.tb_frame
        calls = frame.f_globals.get("__name__") == "shmvar._read_only_arrays"
        if not calls and not frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        traceback = traceback.tb_next
    return False


def _lacks(module: str, name: str) -> bool:
    """Whether this process has the module, and the module lacks the name."""
    found = sys.modules.get(module)
    if found is None:
        return False
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        return True
    except Exception:  # a module's or class's `__getattr__` may raise anything, as it did before
        return False
    return False


def _no_module(error: ModuleNotFoundError, of: str, names: Iterable[tuple[str, str]]) -> Exception | None:
    if not isinstance(error.name, str):
        return None
    for module, name in names:
        if module == error.name or module.startswith(f"{error.name}."):
            text = _elsewhere(module, name)
            if module not in _MAIN:
                text = f"and this process cannot import the module {_shown(module)}: {cut(one_line(str(error)), 300)}"
                text += ". Who reads the value needs that module, too"
            return ModuleNotFoundError(
                f"{of}: its value needs {_shown(name)}, {text}", name=error.name, path=error.path
            )
    return None


def _elsewhere(module: str, name: str) -> str:
    """The text for a name in the `__main__` of another process."""
    child = ", here a child of multiprocessing" if module == "__mp_main__" else ""
    return (
        f"which is defined in the __main__ of the process that stored it (a notebook, a script, python -c{child}). The "
        f"__main__ of this process has no {_shown(name)}. Put it into a module that both processes import; or store "
        "cloudpickle.dumps(value) and read that with pickle.loads, with cloudpickle installed in both"
    )


def _not_in(module: str, name: str) -> str:
    """The text for a name that is gone from a module that is here."""
    file = getattr(sys.modules.get(module), "__file__", None)
    where = f" ({cut(one_line(file), 300)})" if isinstance(file, str) else ""
    return (
        f"and the module {_shown(module)} of this process{where} has no {_shown(name)}: it is another version than "
        "where the value was stored, or the name is made only when the program runs"
    )


def _shown(name: str) -> str:
    return cut(one_line(name), _WIDTH)
