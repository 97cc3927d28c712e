"""Findings about a server: what it lacks, and what it does to segments. Each has a remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmvar import _text
from shmvar.cli.doctor.findings import NEARLY_FULL, finding
from shmvar.cli.doctor.server import rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmvar._remote.url import Server as Place
    from shmvar.cli.doctor.findings import Finding
    from shmvar.cli.doctor.server.facts import Facts

LEAST = (7, 0)
CHUNK = 4 << 20
"""Bytes of a chunk of a large value: the longest string that is sent."""
BEHIND = 1.0
"""Seconds by which the clock of a replica may be behind: sooner nobody promotes it."""
ANSWER = 64 << 20
"""Bytes of an answer that a client should be able to take: a batch of large values."""
SLOWEST_SCRIPT = 1000
"""Milliseconds that a script of the package may take: a batch of 262,144 variables takes some 900."""


def findings(facts: Facts, place: Place) -> Iterator[Finding]:
    """What is wrong with a server, from `facts.survey`, for whoever uses this URL."""
    about = f"server {facts['place']}"
    yield from _of_software(about, facts)
    yield from _of_memory(about, facts["memory"], place)
    yield from _of_persistence(about, facts)
    yield from _of_replicas(about, facts, place)
    yield from _of_cluster(about, facts["cluster"], place)
    yield from _of_limits(about, facts["limits"])
    yield from _of_clock(about, facts["clock"])
    yield from _of_door(about, place)


def _of_software(about: str, facts: Facts) -> Iterator[Finding]:
    newer = "use Valkey, or Redis 7.0 or newer: Debian's package valkey-server, Docker's valkey/valkey"
    if facts["mode"] == "sentinel":
        text = "it is a Sentinel, which keeps no data"
        yield finding("problem", about, text, "name the primary in the URL: valkey://sentinel:26379/?sentinel=NAME#KEY")
        return
    if facts["software"] == "Redis" and _numbers(facts["version"]) < LEAST:
        yield finding("problem", about, f"it is Redis {facts['version']}, which is too old", newer)
    if facts["role"] == "replica":
        text = "it is a replica: nothing can be changed here"
        yield finding("problem", about, text, "name the primary in the URL, or a Sentinel with sentinel=NAME")
    if facts["primary_link"] == "down":
        text = "it is a replica that has lost its primary: what it has may be old"
        yield finding("problem", about, text, "look at the network, the primary, and masterauth")


def _of_memory(about: str, memory: Facts, place: Place) -> Iterator[Finding]:
    limit, policy = memory["limit"], memory["policy"] or ""
    if limit == 0:
        text = "it has no maxmemory: where the machine has no memory left, the kernel kills the server"
        yield finding("warning", about, text, "CONFIG SET maxmemory, well below the machine's memory; noeviction")
    if limit and policy.startswith("allkeys"):
        level = "warning" if place.evicting else "problem"
        text = f"where its memory is full it may delete any data, a whole segment at once (maxmemory-policy {policy})"
        remedy = "CONFIG SET maxmemory-policy noeviction, and in the server's file; or evicting=allow in the URL, for "
        yield finding(level, about, text, f"{remedy}what may be lost")
    elif limit and policy.startswith("volatile"):
        text = f"where its memory is full it may delete large values that are on their way (maxmemory-policy {policy})"
        remedy = "CONFIG SET maxmemory-policy noeviction, and in the server's file"
        yield finding("warning", about, text, remedy)
    if memory["evicted"] and policy != "noeviction":
        text = f"it has deleted {memory['evicted']} keys to make room, since it was started"
        yield finding("warning", about, text, "a larger maxmemory, or noeviction")
    if limit and memory["used"] is not None and memory["used"] > NEARLY_FULL * limit:
        text = f"{memory['used']} of {limit} bytes (maxmemory) are used: then changes are refused"
        yield finding("warning", about, text, "a larger maxmemory; remove variables, destroy segments")


def _of_persistence(about: str, facts: Facts) -> Iterator[Finding]:
    kept = facts["persistence"]
    append = "CONFIG SET appendonly yes, and in the server's file"
    if kept["append_only"] is False and kept["snapshots"] == "":
        if facts["replicas"]:
            text = (
                "it keeps nothing on a disk: if it is restarted before a replica is promoted, it is empty, and empties "
                "its replicas"
            )
            yield finding("problem", about, text, f"{append}; or no automatic restart (systemd: Restart=no)")
        else:
            text = "it keeps nothing on a disk: a restart loses everything"
            yield finding("warning", about, text, append)
    elif kept["append_only"] is False:
        snapshots = f"snapshots ({kept['snapshots']})" if kept["snapshots"] else "snapshots, if any"
        text = f"it keeps {snapshots}, and no file of each change: what came after the last one is lost if it dies"
        yield finding("warning", about, text, append)
    if kept["append_only"] and kept["fsync"] == "no":
        text = "its file is written when the kernel likes (appendfsync no): a power failure loses half a minute"
        yield finding("warning", about, text, "CONFIG SET appendfsync everysec")
    for works, what in ((kept["append_only_works"], "append-only file"), (kept["snapshots_work"], "snapshot")):
        if works is False:
            text = f"its last {what} could not be written: it may refuse every change (MISCONF)"
            yield finding("problem", about, text, "look at its disk, its rights there, and its log")


def _of_replicas(about: str, facts: Facts, place: Place) -> Iterator[Finding]:
    replicas, acks = facts["replicas"], place.acks
    good = [replica for replica in replicas if replica["state"] == "online"]
    if acks > len(good):
        text = f"acks={acks}, and {len(good)} replicas are there: each change would be SegmentUnavailableError"
        yield finding("problem", about, text, f"{acks + 1} replicas, one of which may be lost")
    elif acks and acks == len(good):
        text = f"acks={acks}, and {len(good)} replicas are there: when one is lost, each change fails until it is back"
        yield finding("warning", about, text, f"{acks + 1} replicas")
    if replicas and facts["min_replicas_to_write"] == 0:
        text = "it goes on taking changes when it is cut off from its replicas, and these are lost when it is back"
        remedy = "CONFIG SET min-replicas-to-write 1, min-replicas-max-lag 10, and in the server's file"
        yield finding("warning", about, text, remedy)
    for replica in replicas:
        name = f"replica {replica['host']}:{replica['port']}"
        if replica["state"] != "online":
            text = f"it is not there yet ({replica['state']}): what is promoted now loses data"
            yield finding("warning", name, text, "wait, or look at the network and at its log")
        yield from _of_replicas_clock(name, replica, facts["clock"])


def _of_replicas_clock(name: str, replica: Facts, primary: Facts | None) -> Iterator[Finding]:
    """What is behind is worse than what is ahead: versions go on from the new primary's clock."""
    clock = replica["clock"]
    if clock is None or primary is None:
        return
    ahead, within = clock["ahead"] - primary["ahead"], clock["within"] + primary["within"]
    if ahead < -BEHIND - within:
        text = (
            f"its clock is {-ahead:.1f} s behind its primary's: if it is promoted, versions may be given a second time"
        )
        yield finding("problem", name, text, "the same time on both: chrony or systemd-timesyncd")
    elif ahead > BEHIND + within:
        text = f"its clock is {ahead:.1f} s ahead of its primary's: if it is promoted, variables expire so much earlier"
        yield finding("warning", name, text, "the same time on both: chrony or systemd-timesyncd")


def _of_cluster(about: str, cluster: Facts | None, place: Place) -> Iterator[Finding]:
    if cluster is None:
        return
    if cluster["state"] not in (None, "ok"):
        text = f"its cluster is down (cluster_state {cluster['state']}): no call gets an answer"
        yield finding("problem", about, text, "valkey-cli --cluster check, then --cluster fix")
    waits = 2 * (cluster["node_timeout"] or 0) / 1000  # to notice, and to elect
    if waits > min(place.timeout, place.lease):
        text = (
            f"a failover takes up to {waits:g} s (cluster-node-timeout), longer than a call goes on trying (timeout, "
            f"{place.timeout:g} s) or a lock is kept without its owner (lease, {place.lease:g} s)"
        )
        remedy = f"CONFIG SET cluster-node-timeout 3000 on each node, or timeout={waits:g}&lease={waits:g} in the URL"
        yield finding("warning", about, text, remedy)
    if cluster["slots_fail"]:
        text = f"{cluster['slots_fail']} slots of its cluster have no node that lives"
        yield finding("problem", about, text, "start these nodes, or valkey-cli --cluster fix")
    if cluster["slots_assigned"] is not None and cluster["slots_assigned"] < 16384:
        text = f"{16384 - cluster['slots_assigned']} slots of its cluster belong to no node"
        yield finding("problem", about, text, "valkey-cli --cluster fix")


def _of_limits(about: str, limits: Facts) -> Iterator[Finding]:
    longest = limits["proto_max_bulk_len"]
    if longest is not None and longest < CHUNK:
        text = f"it takes strings of {longest} bytes at most (proto-max-bulk-len), and large values come in {CHUNK}"
        yield finding("problem", about, text, "CONFIG SET proto-max-bulk-len 512mb, which is the default")
    buffers = limits["client_output_buffer_limit"] or {}
    hard = buffers.get("normal", [0])[0]
    if 0 < hard < ANSWER:
        text = f"it cuts off a client with {hard} bytes that wait for it (client-output-buffer-limit normal)"
        yield finding(
            "warning", about, text, f'CONFIG SET client-output-buffer-limit "normal 0 0 0", or {ANSWER} bytes'
        )
    soft = buffers.get("pubsub", [0, 0])[1]
    if 0 < soft < 1 << 20:
        text = f"it cuts off whoever waits, with {soft} bytes of messages (client-output-buffer-limit pubsub)"
        remedy = 'CONFIG SET client-output-buffer-limit "pubsub 33554432 8388608 60", which is the default'
        yield finding("warning", about, text, remedy)
    busy = limits["busy_reply_threshold"]
    if busy is not None and 0 < busy < SLOWEST_SCRIPT:
        text = f"it calls a script slow after {busy} ms (busy-reply-threshold), and refuses others meanwhile"
        yield finding("warning", about, text, "CONFIG SET busy-reply-threshold 5000, which is the default")
    clients, most = limits["clients"], limits["max_clients"]
    if clients is not None and most and clients > NEARLY_FULL * most:
        text = f"{clients} of {most} connections (maxclients) are taken: beyond that nobody can attach"
        yield finding("warning", about, text, "CONFIG SET maxclients; each thread of a process has one")


def _of_clock(about: str, clock: Facts | None) -> Iterator[Finding]:
    if clock is not None and abs(clock["ahead"]) > 60 + clock["within"]:
        how = "ahead of" if clock["ahead"] > 0 else "behind"
        text = (
            f"its clock is {abs(clock['ahead']):.0f} s {how} this machine's: times to live are right all the same, but "
            "`created_at` is not, and versions that count microseconds mislead"
        )
        yield finding("warning", about, text, "the same time on both: chrony or systemd-timesyncd")


def _of_door(about: str, place: Place) -> Iterator[Finding]:
    """Who else gets in, from what it took to get in here."""
    if place.path or all(host in ("localhost", "::1") or host.startswith("127.") for host, _ in place.hosts):
        return
    if place.password is None and place.cert is None:
        text = "it asks for no password: whoever reaches it reads, changes and deletes everything"
        yield finding("warning", about, text, "users and passwords: docs/remote.md, Trust and rights")
    if not place.tls:
        text = "passwords and values go over the network as they are, and anybody on the way may change them"
        yield finding("warning", about, text, "TLS (valkeys://), or a network that only you reach")


def of_rights(facts: Facts, user: str, place: Place, cluster: bool) -> Iterator[Finding]:
    """What this user may not do. `cluster`: whether the server is a part of one."""
    about = f"user {user}"
    if facts["lacking"] is None:
        text = f"it may not run scripts, without which nothing works: {facts['error']}"
        yield finding(
            "problem", about, text, f"ACL SETUSER {user} +eval +evalsha (who only reads: +eval_ro +evalsha_ro)"
        )
        return
    reads_only = rights.reads_only(facts)
    wanted = {
        "fsync": place.fsync,
        rights.CLUSTERS: cluster,
        rights.DATABASE: False,  # then not even this had been possible
    }
    for what, lacks in facts["lacking"].items():
        if not wanted.get(what, True) or (reads_only and what not in (rights.READING, rights.WAITING)):
            continue
        needed = what in (rights.READING, rights.CHANGES) or wanted.get(what) or (what == rights.ACKS and place.acks)
        level = "problem" if needed else "warning"
        grants = " ".join(f"+{right}" for right in lacks)
        keys, channels = "keys %R~shmvar:*" if reads_only else "keys ~shmvar:*", "channels &shmvar:*"
        patterns = f"; {keys} and {channels}, if it lacks them"
        text = f"it lacks rights for {what}: {', '.join(lacks)}"
        yield finding(level, about, text, f"ACL SETUSER {user} {grants}{patterns}")


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in (version or "").split(".")[:2])


def nearly_full(about: str, info: Facts) -> Iterator[Finding]:
    """A segment that has little room left."""
    if info["used"] > NEARLY_FULL * info["size"]:
        text = f"{_text.size(info['used'])} of {_text.size(info['size'])} are used"
        remedy = "remove variables, or raise its limit: attach(url, size), resize(size), or shmvar put with --size"
        yield finding("warning", about, text, remedy)
