"""What becomes of a request that a server refused, or whose connection was lost: docs/remote.md, "the server says"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shmvar._errors import CorruptSegmentError, IncompatibleSegmentError, SegmentAccessError
from shmvar._remote.connections import exceptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shmvar._remote.url import Server

# What a server says that is on its way to another state: nothing was done, and the next try may succeed.
_PASSING = (exceptions.BusyLoadingError, exceptions.TryAgainError)
_PASSING_TEXTS = ("BUSY ", "MISCONF ")
# The same, and another server may be the primary by now.
_DEMOTED = (exceptions.ReadOnlyError, exceptions.ClusterDownError, exceptions.MasterDownError)
_DEMOTED_TEXTS = ("NOREPLICAS ", "UNBLOCKED ")
_IN_SCRIPTS = (
    # Only a script that has written nothing can be killed.
    "Script killed by user",
    # A slot on its way: some of the segment's keys are at the other node. No script meets this after its first write.
    "access a non local key in a cluster node",
    # The same, as Valkey says it where one command has several such keys.
    "undeclared keys were accessed during rehashing of the slot",
    "while the cluster is down",
)
_NO_RIGHT = ("The user executing the script can't", "ACL failure in script")
"""What Redis 7.0 and Valkey 8.1 say of a right that is missing within a script."""


class OutOfMemory(Exception):
    """The server's own memory is full: it has refused the request."""


class UnknownScript(Exception):
    """The server has not seen this script since it was started."""


@dataclass
class Passing:
    """Why a request was not carried out, where the next try may succeed."""

    why: str
    moved: tuple[str, int] | None = None
    """Where the slot is from now on."""
    ask: tuple[str, int] | None = None
    """Where to send this one request."""
    elsewhere: bool = False
    """The primary may be another server by now."""


def refusal(server: Server, place: str, error: Any) -> Passing:
    """Why the server said no, if it may say yes in a moment. Raises the error of every other refusal."""
    text = str(error)
    if isinstance(error, exceptions.MovedError | exceptions.AskError):
        # In the library a MovedError is an AskError.
        at = error.host, error.port
        moved = isinstance(error, exceptions.MovedError)
        return Passing(f"its slot is on its way to {at[0]}:{at[1]}", *((at, None) if moved else (None, at)))
    if isinstance(error, exceptions.ReadOnlyError):
        # The next try may find it promoted. If nobody does that, the URL has the wrong address.
        return Passing(
            f"it says {text.rstrip('.')}. Remedies, if it stays a replica: the address of its primary in the URL; "
            "readonly=True, to read only",
            elsewhere=True,
        )
    if isinstance(error, _DEMOTED) or text.startswith(_DEMOTED_TEXTS):
        return Passing(f"it says {text}", elsewhere=True)
    if isinstance(error, _PASSING) or text.startswith(_PASSING_TEXTS) or any(part in text for part in _IN_SCRIPTS):
        return Passing(f"it says {text}")
    if isinstance(error, exceptions.NoScriptError):
        raise UnknownScript
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM "):
        raise OutOfMemory(text)
    if isinstance(error, exceptions.NoPermissionError | exceptions.AuthenticationError):
        raise refused(server, place, text)
    if any(part in text for part in _NO_RIGHT):
        raise refused(server, place, text)
    if "WRONGTYPE" in text:
        raise IncompatibleSegmentError(
            f"{place}: a key with the name of a segment holds something else ({text}); nothing was written to it"
        )
    if "cluster mode" in text:
        raise in_cluster(server, place)
    if isinstance(error, exceptions.InvalidResponse):
        raise IncompatibleSegmentError(f"{place} is no Valkey or Redis: its answer is none")
    if "WAITAOF" in text:
        raise IncompatibleSegmentError(
            f"{place} cannot keep fsync=1: it says {text}. Remedies: appendonly yes; Valkey, or Redis 7.2 or newer"
        )
    if "nknown command" in text or "shebang" in text.lower():
        raise IncompatibleSegmentError(f"{place} is too old or no Valkey or Redis: it says {text}")
    if text.startswith("DAMAGED ") or "user_script" in text:
        raise CorruptSegmentError(f"{place}: what it keeps of the segment is damaged: {text}")
    raise IncompatibleSegmentError(f"{place} says {text}")


def lost(server: Server, place: str, error: BaseException) -> str:
    """Why a connection failed. Raises the error that no repetition will mend."""
    text = str(error)
    if isinstance(error, exceptions.AuthenticationError):
        raise refused(server, place, text) from None
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == "SSLCertVerificationError" or "CERTIFICATE_VERIFY_FAILED" in str(cause):
            raise SegmentAccessError(
                f"{place}: its certificate is not accepted: {cause}. Remedies: a certificate for this name; the option "
                "ca= with the authority that signed it"
            ) from None
        cause = cause.__cause__ or cause.__context__
    return text or type(error).__name__


def refused(server: Server, place: str, text: str) -> SegmentAccessError:
    """The error of a user whom the server does not let."""
    who = f"user {server.user}" if server.user else "the default user"
    return SegmentAccessError(
        f"{place} refuses {who}: {text}. Remedies: the password (in the URL, in a password_file or in "
        "SHMVAR_PASSWORD); the rights that docs/remote.md lists"
    )


def in_cluster(server: Server, place: str) -> IncompatibleSegmentError:
    """The error of a URL that names a database of a cluster."""
    return IncompatibleSegmentError(f"{place} is part of a cluster, where segments are in database 0, not {server.db}")
