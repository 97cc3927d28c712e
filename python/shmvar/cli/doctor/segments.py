"""Findings about a segment: repairs what dead processes left in it, checks it, and looks at what it takes."""

import json
import os
import select
import shlex
import signal
from collections.abc import Callable, Iterator

import shmvar
from shmvar._core import _repair
from shmvar.cli import arguments, printing
from shmvar.cli.doctor.findings import NEARLY_FULL, Facts, Finding, finding, may_repair
from shmvar.cli.doctor.machine_facts import SHM

CHECK_WITHIN = 300  # seconds, for one segment
TOLD_EVERY = 0.1  # seconds
# What a segment may take of memory without a warning: so many times what is stored, and so many bytes
# (docs/guide.md, "How much memory it takes").
KEPT_TIMES = 2.25
KEPT = 72 << 20


def findings(seen: Facts, facts: Facts, repair: bool, told: Callable[[], None]) -> Iterator[Finding]:
    """Checks the segment `seen`, and repairs it if `repair`. Adds what it learns of the segment to `seen`.

    `told` is called now and then while the check goes on.
    """
    about = f"segment {seen['key']!r}"
    path = f"{SHM}/{seen['name']}"
    write = repair and os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    dead = [participant for participant in seen["participants"] if participant["alive"] is False]
    seen["dead"] = len(dead)
    seen["writer_died"] = seen["writer"] in {participant["number"] for participant in dead}
    found = in_child(lambda: visit(seen["key"], write), told)
    if found["result"] == "gone":
        seen["kind"] = "gone"
        return
    seen["info"], seen["check"] = found.pop("info", None), found
    reaped = max(found.pop("reaped", 0), len(dead) if write and found["result"] == "sound" else 0)
    yield from _of_dead(about, seen, reaped, repair)
    yield from _of_check(about, seen, found)
    if seen["links"] > 1:
        text = f"it has {seen['links']} names: when it is destroyed, its memory stays until the others are removed, too"
        yield finding("warning", about, text, f"find {SHM} -samefile '{path}', and remove the other names")
    limit = facts["limits"]["address_space"]
    if limit is not None and seen["length"] > limit // 2:
        text = f"it takes {seen['length']} bytes of addresses, and this process may use {limit} (ulimit -v)"
        yield finding("warning", about, text, "ulimit -v unlimited, in every process that attaches it")
    yield from _of_memory(about, seen["info"])
    evicts = bool(seen["info"] and seen["info"]["evict"])  # then it is as full as it is meant to be
    if seen["used"] > NEARLY_FULL * seen["size"] and not evicts:
        text = f"{seen['used']} of {seen['size']} bytes are used"
        remedy = "remove variables, or raise its limit: attach(key, size), resize(size), or shmvar put with --size"
        yield finding("warning", about, text, remedy)


def _of_dead(about: str, seen: Facts, reaped: int, repair: bool) -> Iterator[Finding]:
    """Processes that died while they were attached; `reaped` of them have been cleaned up after."""
    number = reaped or seen["dead"]
    processes = "a process" if number == 1 else f"{number} processes"
    if reaped:
        change = ", and finished or dropped the change that one of them was making" if seen["writer_died"] else ""
        yield finding("repaired", about, f"cleaned up after {processes} that died{change}")
    elif seen["dead"]:
        where = " (one of them in a change)" if seen["writer_died"] else ""
        level = "warning" if repair else "problem"
        remedy = "run shmvar doctor as a user who may write to it" if repair else "run shmvar doctor without --no-fix"
        yield finding(level, about, f"{processes} died, and nobody has cleaned up yet{where}", remedy)


def _of_check(about: str, seen: Facts, found: Facts) -> Iterator[Finding]:
    """What the check found."""
    ours = may_repair(seen["uid"])
    level = "problem" if ours else "warning"
    match found["result"]:
        case "damaged":
            remedy = (
                "save what can still be read (shmvar show, get, dump), then run "
                f"{_removal(seen['key'])}; a damaged segment is not repaired: nobody knows what was in it"
            )
            yield finding(level, about, found["why"], remedy)
        case "busy":
            remedy = found.pop("remedy", "let that process go on (kill -CONT PID), or end it")
            yield finding(level, about, found["why"], remedy)
        case "killed":
            remedy = f"run {_removal(seen['key'])}, if the object was cut short; make room, if /dev/shm is full"
            yield finding(level, about, found["why"], remedy)
        case "not checked" if ours:
            yield finding("warning", about, f"not checked: {found['why']}", "run it as a user who may read the segment")


def _removal(key: int | str) -> str:
    """The command that destroys a segment, as a shell takes it."""
    word = str(key) if str(key).isprintable() and arguments.name(str(key)) == key else repr(key)
    return f"shmvar remove {'-- ' if word.startswith('-') and isinstance(key, str) else ''}{shlex.quote(word)}"


def _of_memory(about: str, info: Facts | None) -> Iterator[Finding]:
    """Much more memory than what is stored accounts for, and why."""
    if not info or info["resident"] <= KEPT_TIMES * info["used"] + KEPT:
        return
    text = f"it takes {info['resident']} bytes of memory for {info['used']} bytes that are stored"
    if info["held"] > info["spare"]:
        text += f": {info['held']} bytes are of values that were replaced or removed, but are still in view"
        yield finding("warning", about, text, "drop views and arrays of old values, in every process that has them")
    else:
        text += f": {info['spare']} bytes are free and kept, the rest lies between what is stored"
        remedy = (
            "call segment.trim() in a process that may write; if that gives nothing back, a process was stopped in the "
            "middle of a read: look for it (ps, state T), and let it go on or end it"
        )
        yield finding("warning", about, text, remedy)


def visit(key: int | str, write: bool) -> Facts:
    """Checks a segment through a handle of its own, and repairs it if `write`.

    Has `result` ("sound", "damaged", "busy", "gone" or "not checked"), and as far as they are known `why`, `info`,
    `report` and `reaped`, the number of dead processes that were cleaned up after.
    """
    found: Facts = {"result": "not checked"}
    try:
        with shmvar.attach(key, create=False, readonly=not write, trust=False) as segment:
            if write:
                found["reaped"] = _repair(segment)
            # The process that checks is attached, too: it is not counted.
            found["report"] = segment.check()._asdict()
            found["report"]["living"] -= int(write)
            info = segment.info()
            found["info"] = printing.facts(info) | printing.named(info)
            found["info"]["attached"] -= int(write)
            return found | {"result": "sound"}
    except shmvar.CorruptSegmentError as error:
        return found | {"result": "damaged", "why": str(error)}
    except shmvar.SegmentBusyError as error:
        return found | {"result": "busy", "why": str(error)}
    except shmvar.SegmentNotFoundError:
        return {"result": "gone"}
    except (shmvar.Error, OSError, MemoryError) as error:
        return found | {"why": str(error) or type(error).__name__}


def in_child(act: Callable[[], Facts], told: Callable[[], None]) -> Facts:
    """What `act` returns, in a forked child: a process that may write can cut a segment short, which kills a reader."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(CHECK_WITHIN)
            with open(writer, "wb") as pipe:
                pipe.write(json.dumps(act()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with open(reader, "rb") as pipe:
            while not select.select([pipe], [], [], TOLD_EVERY)[0]:
                told()
            written = pipe.read()
    finally:
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        remedy = "run it again when the segment and the machine are less busy"
        return {"result": "busy", "why": f"the check took longer than {CHECK_WITHIN} s", "remedy": remedy}
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return {"result": "killed", "why": f"a process that checks it is killed by {name}"}
    found: Facts = json.loads(written) if written else {"result": "not checked", "why": "the check failed"}
    return found
