"""What a store must be able to do, so that it can be measured beside the others."""

import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from stores.values import COUNT, KINDS


class Missing(Exception):
    """The store cannot be used on this machine; its text says how to install it."""


class Store:
    """A store of one kind of values, created by one process and attached by others, by the same arguments.

    `get` and `put` are whatever the library's documentation calls for one access; `keys` are in its own form.
    """

    name = ""
    packages: Sequence[str] = ()
    """Distributions of the package index."""
    kinds: Sequence[str] = KINDS
    can_add = can_wait = one_writer = False
    """Has it an `add`, a `receiver`? Has each variable one process that may put it?"""
    way_to_add = "none documented"
    way_to_wait = "polls"
    note = ""

    get: Callable
    put: Callable

    def __init__(self, where: Path, word: str, kind: str) -> None:
        """`where` is a folder in memory that is removed afterwards; `word` is a name that nobody else uses."""
        self.where, self.word, self.kind = where, word, kind
        self.keys: list = list(range(COUNT[kind]))

    @classmethod
    def version(cls) -> str:
        """What is installed. Raises `Missing`."""
        if not cls.packages:
            return f"Python {platform.python_version()}"
        try:
            return ", ".join(f"{name} {metadata.version(name)}" for name in cls.packages)
        except metadata.PackageNotFoundError as error:
            raise Missing(f"pip install {' '.join(cls.packages)}") from error

    def create(self) -> None:
        raise NotImplementedError

    def attach(self) -> None:
        """In another process."""
        raise NotImplementedError

    def first(self, key) -> float:
        """The first element of an array, in the quickest way."""
        return self.get(key)[0]

    def add(self) -> None:
        """Adds 1 to a variable that `create` has made, so that nobody's addition is lost. Only if `can_add`."""
        raise NotImplementedError

    def total(self) -> int:
        """What `add` has counted."""
        raise NotImplementedError

    def send(self, key, value) -> None:
        """As `put`, and wakes whoever waits."""
        self.put(key, value)

    def receiver(self, key) -> Callable[[], object]:
        """A call that sleeps until the variable has changed, and returns its value. Only if `can_wait`."""
        raise NotImplementedError

    def close(self) -> None:
        pass

    def remove(self) -> None:
        """Called by the process that created it, and after `close`."""
