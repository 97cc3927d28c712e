"""Facts about a server and its segments, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmvar import _text
from shmvar.cli import printing
from shmvar.cli.doctor.findings import Row
from shmvar.cli.doctor.server import rights

if TYPE_CHECKING:
    from shmvar.cli.doctor.findings import Facts

MOST = 200
"""Segments that are shown."""


def sections(found: Facts) -> list[tuple[str, list[Row]]]:
    """Titles, each with its rows."""
    server = found["server"]
    if server is None:
        return []
    shown = [(f"server {server['place']}", _server(server))]
    for one in (server, *found["others"]):
        if one is not server:
            shown.append((f"server {one['place']}", _server(one)))
        for replica in one["replicas"]:
            shown.append((f"replica {replica['host']}:{replica['port']}", _replica(replica, one["clock"])))
    if found["rights"] is not None:
        shown.append((f"user {server['user']}", [Row("rights", _rights(found["rights"]))]))
    for segment in found["segments"][:MOST]:
        shown.append((f"segment {segment['key']!r}", _segment(segment)))
    if len(found["segments"]) > MOST:
        shown.append(("other segments", [Row("…", f"{len(found['segments']) - MOST} more")]))
    if found["unseen"]:
        shown.append(("cannot be seen", [Row("refused", ", ".join(found["unseen"]))]))
    return shown


def _server(server: Facts) -> list[Row]:
    memory, kept, limits = server["memory"], server["persistence"], server["limits"]
    rows = [Row("version", f"{server['software'] or 'unseen'} {server['version'] or ''}".strip())]
    rows.append(Row("role", f"{_fact(server['role'])}, {_fact(server['mode'])}"))
    limit = "no maxmemory" if memory["limit"] == 0 else f"maxmemory {_size(memory['limit'])}"
    rows.append(Row("memory", f"{_size(memory['used'])} used, {limit}, {_fact(memory['policy'])}"))
    file = {True: f"append-only file, fsync {_fact(kept['fsync'])}", False: "no append-only file", None: "unseen"}
    snapshots = "no snapshots" if kept["snapshots"] == "" else f"snapshots {_fact(kept['snapshots'])}"
    rows.append(Row("persistence", f"{file[kept['append_only']]}; {snapshots}"))
    fewest, lag = server["min_replicas_to_write"], server["min_replicas_max_lag"]
    least = f"min-replicas-to-write {_fact(fewest)}, max-lag {_fact(lag)}"
    rows.append(Row("replicas", f"{len(server['replicas'])}; {least}"))
    if (cluster := server["cluster"]) is not None:
        rows.append(Row("cluster", f"{_fact(cluster['state'])}, {_fact(cluster['known_nodes'])} nodes"))
    rows.append(Row("clock", _clock(server["clock"], "this machine's")))
    buffers = limits["client_output_buffer_limit"]
    texts = [f"{name} {' '.join(map(str, numbers))}" for name, numbers in (buffers or {}).items()]
    rows.append(Row("strings", f"proto-max-bulk-len {_size(limits['proto_max_bulk_len'])}"))
    rows.append(Row("output buffers", ", ".join(texts) or "unseen"))
    busy = limits["busy_reply_threshold"]
    rows.append(Row("scripts", "unseen" if busy is None else f"slow after {busy} ms"))
    rows.append(Row("connections", f"{_fact(limits['clients'])} of {_fact(limits['max_clients'])}"))
    return rows


def _replica(replica: Facts, primary: Facts | None) -> list[Row]:
    clock = replica["clock"]
    if clock is not None and primary is not None:
        clock = {"ahead": clock["ahead"] - primary["ahead"], "within": clock["within"] + primary["within"]}
    state = f"{_fact(replica['state'])}, {_fact(replica['lag'])} s behind"
    return [Row("state", state), Row("clock", _clock(clock, "the primary's"))]


def _clock(clock: Facts | None, whose: str) -> str:
    if clock is None:
        return "unseen"
    how = "ahead of" if clock["ahead"] >= 0 else "behind"
    return f"{abs(clock['ahead']):.3f} s {how} {whose}, to {clock['within']:.3f} s"


def _rights(may: Facts) -> str:
    if may["lacking"] is None:
        return "no scripts"
    lacking = {what: lacks for what, lacks in may["lacking"].items() if what not in rights.ON_DEMAND}
    text = "; ".join(f"{what}: lacks {', '.join(lacks)}" for what, lacks in lacking.items())
    return text or "all that are needed"


def _segment(segment: Facts) -> list[Row]:
    info, check = segment["info"], segment["check"]
    rows = [Row("url", segment["url"])]
    if info:
        largest = f", largest put {_size(info['largest_put'])}"
        rows.append(Row("created", printing.time(info["created_at"])))
        share = info["used"] / info["size"] if info["size"] else None
        text = f"{info['count']}, {_size(info['used'])} of {_size(info['size'])}{largest}"
        rows.append(Row("values", text, share=share))
    rows.append(Row("check", check["result"] + (f": {check['why']}" if "why" in check else "")))
    return rows


def _size(number: int | None) -> str:
    return "unseen" if number is None else _text.size(number)


def _fact(fact: object) -> str:
    return "unseen" if fact is None else str(fact)
