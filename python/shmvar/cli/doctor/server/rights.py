"""Which rights this user has of those that the package needs: docs/remote.md, "Trust and rights".

The server is asked in a script, as the package's own scripts ask before they write. Nothing is tried out, and the user
need not have the right to look at users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import shmvar
from shmvar.cli.doctor.server.asking import refused_only

if TYPE_CHECKING:
    from shmvar.cli.doctor.server.asking import Server
    from shmvar.cli.doctor.server.facts import Facts

READING, CHANGES = "reading", "changes"
WAITING = "waiting"
DATABASE, CLUSTERS = "another database than 0", "clusters"
ACKS = "acks, and large values where there are replicas"
NEEDS: dict[str, str] = {
    READING: "hget hmget hkeys hlen hscan hgetall exists get time zrangebyscore zcount zscore zcard ping",
    CHANGES: "hset hdel hvals hrandfield set unlink persist zadd zrem spublish info",
    "the list of segments": "scan",
    "the memory that `info` and `ls` tell": "memory|usage",
    WAITING: "ssubscribe sunsubscribe",
    "locks, and what is taken from queues": "pubsub|shardnumsub",
    "queues": "rpush lpop llen lindex lrange",
    ACKS: "wait",
    "fsync": "waitaof",
    CLUSTERS: "cluster|slots cluster|shards asking readonly",
    DATABASE: "select",
}
"""What each purpose needs beside the right to run scripts, as rights are written in an ACL."""
ON_DEMAND = ("fsync", CLUSTERS, DATABASE)
"""What only some need, who say so in the URL."""
SCRIPTS, SCRIPTS_OF_READERS = ("eval", "evalsha"), ("eval_ro", "evalsha_ro")
CONNECTING = ("auth", "hello", "client|setname", "client|setinfo")
"""A user who has got as far as here has them, or does without."""
_WITHOUT_KEY = {"time", "ping", "info", "scan", "wait", "waitaof", "select"}
_WITHOUT_KEY |= {"cluster|slots", "cluster|shards", "asking", "readonly"}
_CHANNELS = {"spublish", "ssubscribe", "sunsubscribe", "pubsub|shardnumsub"}


def survey(server: Server, prefix: bytes) -> Facts:
    """What each purpose lacks, for the segment whose keys begin with `prefix`. `error`: why it cannot be seen.

    `unknown` are commands that this server does not have.
    """
    import json

    every = [*SCRIPTS, *SCRIPTS_OF_READERS, *(right for rights in NEEDS.values() for right in rights.split())]
    key = prefix.decode()
    arguments = [json.dumps(_words(right, key)).encode() for right in every]
    answer, error = _asked(server, arguments)
    if answer is None:
        return {"error": error, "lacking": None, "unknown": [], "readonly": True}
    said = {right: one.decode(errors="replace") for right, one in zip(every, answer, strict=True)}
    lacking = {what: [r for r in rights.split() if said[r] == "no"] for what, rights in NEEDS.items()}
    # A user who only reads has other scripts.
    if not all(said[right] == "yes" for right in SCRIPTS_OF_READERS):
        lacking[READING] += [right for right in SCRIPTS if said[right] == "no"]
    lacking[CHANGES] += [right for right in SCRIPTS if said[right] == "no"]
    unknown = [right for right in every if said[right] == "unknown"]
    # A user who may only run scripts that read.
    readonly = any(said[right] != "yes" for right in SCRIPTS)
    lacking = {what: rights for what, rights in lacking.items() if rights}
    return {"error": None, "lacking": lacking, "unknown": unknown, "readonly": readonly}


def reads_only(facts: Facts) -> bool:
    """Whether this is a user who shall only read: who has no right that stores or removes anything."""
    return {"hset", "hdel", "set", "unlink"} <= set((facts["lacking"] or {}).get(CHANGES, []))


def _words(right: str, key: str) -> list[str]:
    """The command to ask for."""
    command = [part.upper() for part in right.split("|")]
    if right in _WITHOUT_KEY:
        return command
    if right.startswith("eval"):
        return [*command, "return 1", "1", key]
    return [*command, f"{key}:000000000000:w" if right in _CHANNELS else key]


def _asked(server: Server, arguments: list[bytes]) -> tuple[list[bytes] | None, str | None]:
    from shmvar._remote.scripts import Script

    script, error = Script("rights", "no-writes"), ""
    for readonly in (False, True):
        try:
            answer: Any = server.link.script(script, (), arguments, server.link.waited(), readonly)
        except (shmvar.SegmentAccessError, shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError) as refused:
            error = str(refused)
            if not (isinstance(refused, shmvar.SegmentAccessError) and refused_only(refused)):
                break
        else:
            return answer, None
    return None, error
