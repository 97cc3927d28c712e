"""`Segment.memoize`: results of a function in a segment, so that one process computes what all of them use.

A result is a variable of its own. Its index is the name of the function and a digest of the arguments, which is the
same in every process. While a caller computes, it holds the named lock of that index: the others wait for the lock, and
find the result once they have it. The lock ends with its owner, so the next one computes if the computer is killed.
"""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import struct
from collections import namedtuple
from hashlib import blake2b

from shmvar._core import _encode_parts
from shmvar._errors import Error, LockLostError, SegmentBusyError, SegmentFullError, SegmentUnavailableError
from shmvar._own_errors import comes_again, version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from shmvar._core import Segment

CacheInfo = namedtuple("CacheInfo", ["hits", "misses"])
CacheInfo.__doc__ = "How often this process found a result (hits), and how often it called the function (misses)."

_DIGEST = 16
"""Bytes of a digest. It is followed by nothing, so an index of a function is its name, a colon and so many digits."""
_MISSING = object()
_PASSING = (LockLostError, SegmentBusyError, SegmentUnavailableError)
"""What storing a result, or the end of its lock, may raise though nothing is wrong with it: it is returned then."""
_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
_ALONE = 16 << 10
"""Larger buffers of a value are not copied where it is pickled only to see whether that fails."""
_REMEMBERED = 4096
"""So many indexes each function remembers, at most, each of at most `_SHORT` bytes of arguments."""
_SHORT = 200
_KEYWORDS = type("_Keywords", (), {})()
"""Stands between the positional arguments and the keywords where the index of arguments is remembered."""


def _encoded(value: Any) -> bytes:
    """The canonical bytes of a value: equal for equal values of equal types, and different for any others.

    Each part begins with a tag and ends where its length or its mark says, so no two sequences give the same bytes.
    """
    kind = type(value)
    if kind is str:
        data = value.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(data), data)
    if kind is int:
        return b"i%x;" % value
    if kind is bool or value is None:
        return b"T" if value else b"N" if value is None else b"F"
    if kind is float:
        return b"f" + struct.pack("<d", value)
    if kind is complex:
        return b"c" + struct.pack("<dd", value.real, value.imag)
    if kind is bytes:
        return b"b%d:%b" % (len(value), value)
    if kind is tuple:
        return b"(%d:%b" % (len(value), b"".join(map(_encoded, value)))
    if kind is frozenset:
        return b"{%d:%b" % (len(value), b"".join(sorted(map(_encoded, value))))
    # Of one protocol, because processes may run different versions of Python.
    data = pickle.dumps(value, protocol=5)
    return b"p%d:%b" % (len(data), data)


class _Indexes:
    """The indexes of the results of one function."""

    def __init__(self, name: str, key: Callable[..., Any] | None) -> None:
        self.prefix = name + ":"
        self.length = len(self.prefix) + 2 * _DIGEST
        self.key = key
        # By the types of the arguments and of what is in a tuple among them, and then by the arguments. Types are
        # compared first, because 1, 1.0 and True are equal; only plain types are in here, whose comparison runs no code
        # of the program.
        self.known: dict[tuple[Any, ...], dict[tuple[Any, ...], str]] = {}
        self.count = 0

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self.key is not None:
            args, kwargs = (self.key(*args, **kwargs),), {}
        # As passed, and not sorted: another order of keywords is remembered separately, and has the same index.
        flat = (*args, _KEYWORDS, *kwargs, *kwargs.values()) if kwargs else args
        types: tuple[Any, ...] = tuple(map(type, flat))
        if tuple in types:
            for part in flat:
                if type(part) is tuple:
                    types += (tuple(map(type, part)),)
        known = self.known.get(types)
        index = None if known is None else known.get(flat)
        if index is None:
            values = [_encoded(part) for pair in sorted(kwargs.items()) for part in pair]
            data = b"%d:%b" % (len(args), b"".join([*map(_encoded, args), *values]))
            index = self.prefix + blake2b(data, digest_size=_DIGEST).hexdigest()
            if len(data) <= _SHORT and all(_plain(part) for part in flat):
                self._remember(types, flat, index)
        return index

    def _remember(self, types: tuple[Any, ...], flat: tuple[Any, ...], index: str) -> None:
        if self.count >= _REMEMBERED:
            self.known, self.count = {}, 0
        self.known.setdefault(types, {})[flat] = index
        self.count += 1

    def has(self, index: int | str) -> bool:
        """Whether a variable is a result of this function."""
        return isinstance(index, str) and len(index) == self.length and index.startswith(self.prefix)


def _plain(part: Any) -> bool:
    """Whether an argument is equal to others of its types only if they have the same bytes; 0.0 is equal to -0.0."""
    if type(part) is tuple:
        return all(type(one) is not tuple and _plain(one) for one in part)
    return part is _KEYWORDS or (type(part) in _PLAIN and not (type(part) is float and part == 0))


def _name(function: Callable[..., Any]) -> str:
    """The name of a function that is the same in every process; fails if others may share it."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError(f"{function!r} has no name that other processes know: pass name=")
    if inspect.ismethod(function):
        raise ValueError(f"{name} is bound to an object, and results would be shared by all objects: pass name=")
    code = getattr(function, "__code__", None)
    if free := getattr(code, "co_freevars", ()):
        text = f"{name} uses variables of the function around it ({', '.join(free)}), which may have other values"
        raise ValueError(f"{text} where its result is found: pass name=, one for each set of values")
    if name.endswith("<lambda>") and code is not None:
        name = f"{name}@{code.co_firstlineno}"  # All lambdas of a module have one name.
    if module in ("__main__", "__mp_main__"):
        # Under spawn the script is the module `__mp_main__` of the children. What is typed in has no file.
        path = getattr(function, "__globals__", {}).get("__file__")
        module = "__main__" if path is None else os.path.abspath(os.fsdecode(path))
    return f"{module}.{name}".encode("utf-8", "backslashreplace").decode()


def _store(segment: Segment, index: str, value: Any, ttl: Any) -> None:
    """Stores a result, if there is room, if it can be pickled, and if the segment takes it."""
    try:
        segment.put(index, value, ttl=ttl)
    except (SegmentFullError, *_PASSING):
        pass  # Who has lost the lock stores nothing: another one has the lock by now.
    except Error:
        raise
    except MemoryError:
        pass
    except Exception as error:
        # Whatever pickling the value raises: the caller gets it all the same. What a signal handler raises is raised.
        if not comes_again(error, functools.partial(_encode_parts, value, _ALONE)):
            raise


def _missing_if_broken(segment: Segment, index: str, error: Exception) -> Any:
    """`_MISSING` if a result is stored that fails to be rebuilt, each time: it is computed again then. Else raises.

    An error of the package is about the segment, or the trust in it; a lack of memory, of stack, or of a class or a
    module that the value needs is this process's. (The processes that have that class, and those that lack it, would
    overwrite each other's results for ever.) An exception that comes only once is that of a signal handler, unless
    another result, which is returned, or none has taken the place of the broken one meanwhile.
    """
    while not (isinstance(error, (Error, MemoryError, RecursionError)) or _lacks_a_name(error)):
        version = version_of(error)
        try:
            value = segment.get(index, _MISSING)
        except Exception as again:
            if type(again) is type(error):
                return _MISSING
            if version_of(again) in (None, version):
                break
            error = again
        else:
            if version is None or segment.version(index) == version:
                break
            return value
    raise error


def _lacks_a_name(error: Exception) -> bool:
    if not isinstance(error, (AttributeError, ImportError)):
        return False
    from shmvar._missing_names import lacks_a_name

    return lacks_a_name(error)


def memoize(segment: Segment, function: Any, ttl: Any, key: Any, name: Any) -> Any:
    """What `Segment.memoize` does; `ttl` has been checked."""
    if key is not None and not callable(key):
        raise TypeError(f"key must be None or callable, not {type(key).__name__}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be None or a str, not {type(name).__name__}")
    if function is None:
        return functools.partial(memoize, segment, ttl=ttl, key=key, name=name)
    if not callable(function):
        raise TypeError(f"what is memoized must be callable, not {type(function).__name__}")
    indexes = _Indexes(_name(function) if name is None else name, key)
    segment.has(indexes.prefix + "0" * 2 * _DIGEST)  # Fails if the name is too long, or the handle detached.
    wrap = _of_coroutine if inspect.iscoroutinefunction(function) else _of_function
    return wrap(segment, function, ttl, indexes)


# In both of the following everything is in one function and not in parts, so that a hit is cheap, and a recursive
# function may call itself nearly as deep as without.


def _of_function(segment: Segment, function: Callable[..., Any], ttl: Any, indexes: _Indexes) -> Any:
    index_of, get, missing = indexes.of, segment.get, _MISSING
    hits = misses = 0

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        index = index_of(args, kwargs)
        try:
            value = get(index, missing)
        except Exception as error:
            value = _missing_if_broken(segment, index, error)
        if value is not missing:
            hits += 1
            return value
        locked = known = False
        if not segment.readonly:
            try:
                with segment.lock(index):
                    locked = True
                    try:
                        value = get(index, missing)
                    except Exception as error:
                        value = _missing_if_broken(segment, index, error)
                    if value is not missing:
                        hits += 1
                        known = True
                        return value
                    misses += 1
                    value = function(*args, **kwargs)
                    known = True
                    _store(segment, index, value, ttl)
                    return value
            except _PASSING:
                if not known:
                    raise
                return value
            except SegmentFullError:
                # Either the function's own, or so many locks are held that there was none left.
                if locked:
                    raise
        misses += 1
        return function(*args, **kwargs)

    def info() -> tuple[int, int]:
        return hits, misses

    def reset() -> None:
        nonlocal hits, misses
        hits = misses = 0

    return _with_calls(call, segment, indexes, info, reset)


def _of_coroutine(segment: Segment, function: Callable[..., Any], ttl: Any, indexes: _Indexes) -> Any:
    index_of, get, missing = indexes.of, segment.get, _MISSING
    hits = misses = 0

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        index = index_of(args, kwargs)
        try:
            value = get(index, missing)
        except Exception as error:
            value = _missing_if_broken(segment, index, error)
        if value is not missing:
            hits += 1
            return value
        locked = known = False
        if not segment.readonly:
            try:
                async with segment.lock(index):
                    locked = True
                    try:
                        value = get(index, missing)
                    except Exception as error:
                        value = _missing_if_broken(segment, index, error)
                    if value is not missing:
                        hits += 1
                        known = True
                        return value
                    misses += 1
                    value = await function(*args, **kwargs)
                    known = True
                    _store(segment, index, value, ttl)
                    return value
            except _PASSING:
                if not known:
                    raise
                return value
            except SegmentFullError:
                if locked:
                    raise
        misses += 1
        return await function(*args, **kwargs)

    def info() -> tuple[int, int]:
        return hits, misses

    def reset() -> None:
        nonlocal hits, misses
        hits = misses = 0

    return _with_calls(call, segment, indexes, info, reset)


def _with_calls(
    call: Any,
    segment: Segment,
    indexes: _Indexes,
    info: Callable[[], tuple[int, int]],
    reset: Callable[[], None],
) -> Any:
    """Gives a memoized function the calls that users have beside calling it."""

    def index(*args: Any, **kwargs: Any) -> str:
        """Return the index under which the result for these arguments is stored, or would be."""
        return indexes.of(args, kwargs)

    def invalidate(*args: Any, **kwargs: Any) -> bool:
        """Remove the result for these arguments. Return False if there was none."""
        return segment.remove(indexes.of(args, kwargs))

    def cache_clear() -> None:
        """Remove the results of this function, for all processes; the counts of this one begin at 0 again."""
        for one in segment:
            if indexes.has(one):
                segment.remove(one)
        reset()

    def cache_info() -> CacheInfo:
        """Return how often this process found a result, and how often it called the function."""
        return CacheInfo(*info())

    call.index, call.invalidate = index, invalidate
    call.cache_clear, call.cache_info = cache_clear, cache_info
    return call
