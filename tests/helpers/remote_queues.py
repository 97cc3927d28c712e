"""Queues on a server: what the tests of them share."""

import pytest

from helpers import servers

SIZES = {"short": 7, "long": b"x" * 5_000, "large": b"y" * 50_000}
"""An item that `get` is given at once, one that is read after it was taken, and one in chunks."""


def options(url, **named):
    """A URL with options."""
    before, _, key = url.partition("#")
    return f"{before}?{'&'.join(f'{name}={value}' for name, value in named.items())}#{key}"


def through(proxy, key):
    """The URL of the same segment by way of a proxy."""
    return servers.Server.tcp(None, key.partition("#")[2], port=proxy.port)


def charged(segment):
    """Verifies all that is kept twice, and returns what is charged."""
    return segment.check().used


def put_all(segment):
    for name, value in SIZES.items():
        segment.queue(name).put(value)
        segment.queue(name).put("next")


def raised(queue):
    item = queue.take()
    with pytest.raises(KeyError), item as value:
        raise KeyError
    return value, item.attempts


def finished(queue):
    item = queue.take()
    with item as value:
        pass
    return value, item.attempts
