"""Keys that are URLs of segments on a server: docs/remote.md."""

import re
from typing import TypeGuard

_SCHEME = r"(?:valkey|redis)s?(?:\+unix)?://"
_PASSWORD = re.compile(rf"({_SCHEME}[^\s:/?#@]*):\S*@")


def is_url(key: object) -> TypeGuard[str]:
    """Whether a KEY is the URL of a segment on a server, or of a server."""
    return isinstance(key, str) and re.match(_SCHEME, key) is not None


def shown(text: str) -> str:
    """`text` without the passwords of the URLs in it, of which no message may have a piece."""
    return _PASSWORD.sub(r"\1@", text)
