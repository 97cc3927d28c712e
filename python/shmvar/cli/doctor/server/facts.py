"""Reads what a server is and how it is set. A fact that cannot be seen is None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmvar.cli.doctor.server.asking import Server

Facts = dict[str, Any]
_MOST_REPLICAS = 1000

SETTINGS = (
    "appendfsync",
    "save",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "proto-max-bulk-len",
    "client-output-buffer-limit",
    "busy-reply-threshold",
    "lua-time-limit",
    "cluster-node-timeout",
)


def survey(server: Server) -> Facts:
    """Everything that one server says of itself."""
    info, settings = informed(server), _settings(server)
    software, version = software_of(info)
    replicas = [
        _replica(info[f"slave{at}"])
        for at in range(min(_number(info.get("connected_slaves")) or 0, _MOST_REPLICAS))
        if f"slave{at}" in info
    ]
    seen = bool(info)
    fewest = _number(settings.get("min-replicas-to-write"))
    if fewest is None and seen:
        # The line is there only if the setting is not 0.
        fewest = None if "min_slaves_good_slaves" in info else 0
    busy = settings.get("busy-reply-threshold", settings.get("lua-time-limit"))
    return {
        "place": server.link.place,
        "user": server.user,
        "software": software,
        "version": version,
        "mode": info.get("server_mode", info.get("redis_mode")),
        "role": {"master": "primary", "slave": "replica"}.get(info.get("role", ""), info.get("role")),
        "primary_link": info.get("master_link_status"),
        "memory": {
            "used": _number(info.get("used_memory")),
            "limit": _number(info.get("maxmemory")),
            "policy": info.get("maxmemory_policy"),
            "evicted": _number(info.get("evicted_keys")),
        },
        "persistence": {
            "append_only": _yes(info.get("aof_enabled")),
            "fsync": settings.get("appendfsync"),
            # Empty: none. None: it cannot be seen.
            "snapshots": settings.get("save"),
            "append_only_works": _ok(info.get("aof_last_write_status")),
            "snapshots_work": _ok(info.get("rdb_last_bgsave_status")),
        },
        "replicas": replicas,
        "min_replicas_to_write": fewest,
        "min_replicas_max_lag": _number(settings.get("min-replicas-max-lag")),
        "cluster": _cluster(server, settings) if info.get("cluster_enabled") == "1" else None,
        "limits": {
            "proto_max_bulk_len": _number(settings.get("proto-max-bulk-len")),
            "client_output_buffer_limit": _buffers(settings.get("client-output-buffer-limit")),
            "busy_reply_threshold": _number(busy),
            "clients": _number(info.get("connected_clients")),
            "max_clients": _number(info.get("maxclients")),
        },
    }


def informed(server: Server) -> dict[str, str]:
    """The lines of INFO; none if it cannot be seen."""
    text = server.ask(b"INFO")
    lines = text.decode(errors="replace").splitlines() if isinstance(text, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


def software_of(info: dict[str, str]) -> tuple[str | None, str | None]:
    """What it is and in which version. A Valkey says in `redis_version` with which Redis it is compatible."""
    if "valkey_version" in info:
        return "Valkey", info["valkey_version"]
    return ("Redis", info["redis_version"]) if "redis_version" in info else (None, None)


def _settings(server: Server) -> dict[str, str]:
    answer = server.ask(b"CONFIG", b"GET", *(name.encode() for name in SETTINGS), name="CONFIG GET")
    if not isinstance(answer, list):
        return {}
    texts = [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in answer]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _cluster(server: Server, settings: dict[str, str]) -> Facts:
    """State of the cluster, as this node sees it."""
    text = server.ask(b"CLUSTER", b"INFO", name="CLUSTER INFO")
    lines = text.decode(errors="replace").splitlines() if isinstance(text, bytes) else []
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    numbers = {name: _number(said.get(f"cluster_{name}")) for name in ("slots_assigned", "slots_fail", "known_nodes")}
    waits = _number(settings.get("cluster-node-timeout"))
    return {"state": said.get("cluster_state"), "node_timeout": waits, **numbers}


def _replica(line: str) -> Facts:
    """`ip=127.0.0.1,port=6380,state=online,offset=14,lag=0`"""
    parts = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
    return {
        "host": parts.get("ip", ""),
        "port": _number(parts.get("port")),
        "state": parts.get("state"),
        "lag": _number(parts.get("lag")),
    }


def _buffers(text: str | None) -> dict[str, list[int]] | None:
    """Of each class of clients: hard limit, soft limit, seconds; 0 is no limit."""
    words = (text or "").split()
    found = {}
    for at in range(0, len(words) - 3, 4):
        numbers = [_number(word) for word in words[at + 1 : at + 4]]
        if None not in numbers:
            name = {"slave": "replica"}.get(words[at], words[at])
            found[name] = [number or 0 for number in numbers]
    return found or None


def _number(text: str | None) -> int | None:
    """A number that a server wrote. A text of many digits is none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 19 else None


def _yes(text: str | None) -> bool | None:
    return None if text is None else text == "1"


def _ok(text: str | None) -> bool | None:
    return None if text is None else text == "ok"
