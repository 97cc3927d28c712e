"""`shmvar doctor`: looks at every segment and the machine, repairs what is safe to, has a remedy for the rest."""

import json
import os
import pwd
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from shlex import quote
from typing import Any

import shmvar
from shmvar import _cli as cli
from shmvar import _machine as machine
from shmvar._core import _remove_stale, _repair, _survey

Facts = dict[str, Any]
Finding = dict[str, str]

STALE_AFTER = 60.0  # seconds; docs/protocol.md, "Stale objects"
CHECK_WITHIN = 300  # seconds, for one segment
UNSURE = ("closed", "named", "unknown")  # why an object stays that may be stale all the same
# What a segment may keep without a word (docs/guide.md, "How much memory it takes").
KEPT_TIMES = 2.25
KEPT = 72 << 20
NEARLY_FULL = 0.95
ADDRESSES = 4 << 30  # what a segment of the usual size begins with, and the file of it


def examine(repair: bool) -> Facts:
    """Everything there is to say, as plain data."""
    looked_at = time.time()
    facts = machine.survey()
    objects: list[Facts] = []
    findings = list(of_machine(facts))
    for seen in () if "error" in facts["memory_file_system"] else _survey():
        objects.append(seen)
        findings += of_segment(seen, facts, repair) if seen["kind"] == "segment" else of_object(seen, repair)
    findings += of_logouts(objects, facts)
    return {
        "shmvar": shmvar.__version__,
        "looked_at": looked_at,
        "uid": os.geteuid(),
        "healthy": not any(finding["level"] == "problem" for finding in findings),
        "machine": facts,
        "segments": [seen for seen in objects if seen["kind"] == "segment"],
        "objects": [seen for seen in objects if seen["kind"] not in ("segment", "gone")],
        "findings": findings,
    }


def finding(level: str, about: str, text: str, remedy: str = "") -> Finding:
    """`level`: `problem` needs a person, `warning` may come to hurt, `repaired` was put right."""
    return {"level": level, "about": about, "text": text, "remedy": remedy}


# --- segments


def of_segment(seen: Facts, facts: Facts, repair: bool) -> Iterator[Finding]:
    """Repairs and checks a segment; what was found is added to `seen`."""
    about = f"segment {seen['key']!r}"
    path = f"{machine.SHM}/{seen['name']}"
    write = repair and os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    dead = [person for person in seen["participants"] if person["alive"] is False]
    seen["dead"] = len(dead)
    seen["writer_died"] = seen["writer"] in {person["number"] for person in dead}
    found = in_child(lambda: visit(seen["key"], write))
    if found["result"] == "gone":
        seen["kind"] = "gone"
        return
    seen["info"], seen["check"] = found.pop("info", None), found
    buried = max(found.pop("buried", 0), len(dead) if write and found["result"] == "sound" else 0)
    people = processes(buried or len(dead))
    if buried:
        change = ", and finished or dropped the change that one of them was at" if seen["writer_died"] else ""
        yield finding("repaired", about, f"tidied up after {people} that died{change}")
    elif dead:
        where = " (one of them in a change)" if seen["writer_died"] else ""
        level = "warning" if repair else "problem"
        remedy = "shmvar doctor, by a user who may write to it" if repair else "shmvar doctor, without --no-fix"
        yield finding(level, about, f"{people} died, and nobody tidied up{where}", remedy)
    yield from of_check(about, seen, found)
    if seen["links"] > 1:
        text = f"it has {seen['links']} names: once it is destroyed, its memory stays until the others are removed, too"
        yield finding("warning", about, text, f"find {machine.SHM} -samefile '{path}', and remove the others")
    limit = facts["limits"]["address_space"]
    if limit is not None and seen["length"] > limit // 2:
        text = f"it takes {seen['length']} bytes of addresses, and this process may use {limit} (ulimit -v)"
        yield finding("warning", about, text, "ulimit -v unlimited, for whoever attaches it")
    yield from of_memory(about, seen["info"])
    if seen["used"] > NEARLY_FULL * seen["size"]:
        text = f"{seen['used']} of {seen['size']} bytes are used"
        yield finding("warning", about, text, "remove variables, or raise its limit: attach(key, size), resize(size)")


def of_memory(about: str, info: Facts | None) -> Iterator[Finding]:
    """More memory than what is stored accounts for, and why."""
    if not info or info["resident"] <= KEPT_TIMES * info["used"] + KEPT:
        return
    text = f"takes {info['resident']} bytes of memory, for {info['used']} that are stored"
    if info["held"] > info["spare"]:
        text += f": {info['held']} are of values that were replaced or removed and are still in somebody's view"
        yield finding("warning", about, text, "drop views and arrays of old values, in whatever process has them")
    else:
        text += f": {info['spare']} are free and kept, the rest lies between what is stored"
        remedy = (
            "segment.trim(), by a process that may write; where that gives nothing back, a process stands still in the "
            "middle of a read: look for a stopped one (ps, state T), let it go on or end it"
        )
        yield finding("warning", about, text, remedy)


def processes(number: int) -> str:
    """So many of them."""
    return "a process" if number == 1 else f"{number} processes"


def of_check(about: str, seen: Facts, found: Facts) -> Iterator[Finding]:
    """What the check came to."""
    ours = mine(seen["uid"])
    level = "problem" if ours else "warning"
    match found["result"]:
        case "damaged":
            remedy = (
                "save what can still be read (shmvar show, get, dump), then, in Python, "
                f"shmvar.destroy({seen['key']!r}); a damaged segment is not repaired: nobody could say what it held"
            )
            yield finding(level, about, found["why"], remedy)
        case "busy":
            remedy = found.pop("remedy", "let that process go on (kill -CONT PID), or end it")
            yield finding(level, about, found["why"], remedy)
        case "killed":
            remedy = (
                f"in Python, shmvar.destroy({seen['key']!r}), if the object was cut short; make room, if the memory "
                "file system is full"
            )
            yield finding(level, about, found["why"], remedy)
        case "not checked" if ours:
            yield finding("warning", about, f"not checked: {found['why']}", "run it as a user who may read the segment")


def visit(key: int | str, write: bool) -> Facts:
    """Repairs, and checks, through a handle of its own."""
    found: Facts = {"result": "not checked"}
    try:
        with shmvar.attach(key, create=False, readonly=not write, trust=False) as segment:
            if write:
                found["buried"] = _repair(segment)
            # Of the process that checks only this much is said: that it is not counted.
            found["report"] = segment.check()._asdict()
            found["report"]["living"] -= int(write)
            info = segment.info()
            found["info"] = info._asdict() | {"locks": cli.locks_of(info)}
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


def in_child(act: Callable[[], Facts]) -> Facts:
    """What `act` gives, in a child: who may write to a segment may cut it short, and whoever looks then is killed."""
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
            said = pipe.read()
    finally:
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        remedy = "once more when others use the segment, and the machine, less"
        return {"result": "busy", "why": f"the check took longer than {CHECK_WITHIN} s", "remedy": remedy}
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return {"result": "killed", "why": f"whoever checks it is killed by {name}"}
    found: Facts = json.loads(said) if said else {"result": "not checked", "why": "the check failed"}
    return found


# --- other objects


def of_object(seen: Facts, repair: bool) -> Iterator[Finding]:
    """What is at a segment's name and is none, and what dead processes left."""
    path = f"{machine.SHM}/{seen['name']}"
    ours = mine(seen["uid"])
    level = "problem" if ours else "warning"
    match seen["kind"]:
        case "damaged":
            yield finding(level, path, seen["why"], f"nothing can be read from it: rm {quote(path)}")
        case "foreign":
            remedy = f"use the version of shmvar that made it; if it is nobody's, rm {quote(path)}"
            if "if it is nobody's" in seen["why"]:  # no file: what removes it stands there
                remedy = ""
            yield finding(level, path, f"{seen['why']}; nobody can attach a segment of its key", remedy)
        case "locks" | "temporary":
            if seen["kind"] == "locks" and seen["named_by"] is not None:
                return
            stays = _remove_stale(seen["name"], STALE_AFTER, not repair) if ours else ("foreign", "another user's")
            code, why = stays or (None, None)
            seen["stays"] = why
            what = (
                "a lock object whose segment is gone"
                if seen["kind"] == "locks"
                else "a segment that was never finished"
            )
            if code is None and repair:
                yield finding("repaired", path, f"{what}: removed")
            elif code is None:
                yield finding("problem", path, what, "shmvar doctor, without --no-fix")
            elif code in UNSURE:
                yield finding("warning", path, f"{what}, perhaps: {why}", f"if no process uses it, rm {quote(path)}")


def mine(uid: int) -> bool:
    """May this user do something about it?"""
    return os.geteuid() in (0, uid)


# --- the machine


def of_machine(facts: Facts) -> Iterator[Finding]:
    """What it lacks."""
    files = facts["memory_file_system"]
    about = machine.SHM
    if "error" in files:
        remedy = "mount -t tmpfs tmpfs /dev/shm -o mode=1777"
        yield finding("problem", about, f"there is no shared memory here: {files['error']}", remedy)
        return
    if files["type"] == "ramfs":
        text = "it is not a memory file system but ramfs, which cannot reserve pages: no segment can be made"
        yield finding("problem", about, text, "mount -t tmpfs tmpfs /dev/shm -o mode=1777")
    elif files["type"] not in ("tmpfs", None):
        text = f"it is not a memory file system but {files['type']}: values go to a disk, and stay there"
        yield finding("warning", about, text, "mount -t tmpfs tmpfs /dev/shm -o mode=1777")
    if files["readonly"]:
        yield finding("problem", about, "it is mounted read-only", "mount -o remount,rw /dev/shm")
    enlarge = (
        "remove variables and trim(), destroy segments, or enlarge it (mount -o remount,size=…; docker --shm-size; "
        "Kubernetes: a memory emptyDir)"
    )
    if files["size"] is not None and files["free"] < (1 - NEARLY_FULL) * files["size"]:
        level = "problem" if files["free"] < 1 << 16 else "warning"
        yield finding(level, about, f"{files['free']} of {files['size']} bytes are free", enlarge)
    if files["objects"] is not None and files["objects_free"] < (1 - NEARLY_FULL) * files["objects"]:
        level = "warning" if files["objects_free"] else "problem"
        text = (
            f"{files['objects_free']} of {files['objects']} objects are left: too many segments, not too little memory"
        )
        yield finding(level, about, text, "destroy segments, or mount -o remount,nr_inodes=… /dev/shm")
    group = facts["control_group"]
    if group and group["limit"] is not None and (files["size"] is None or group["limit"] < files["size"]):
        text = (
            f"this control group may use {group['limit']} bytes of memory, less than {about} holds: where the limit is "
        )
        remedy = "a larger limit, or sizes of segments well below it"
        yield finding("warning", "control group", f"{text}reached the kernel kills, and nothing raises", remedy)
    yield from of_limits(facts)


def of_limits(facts: Facts) -> Iterator[Finding]:
    """Of this process and of the kernel."""
    limits, kernel, spaces = facts["limits"], facts["kernel"], facts["namespaces"]
    for name, option, what in [("address_space", "-v", "addresses"), ("file_size", "-f", "bytes of a file")]:
        if limits[name] is not None and limits[name] < ADDRESSES:
            text = f"this process may use {limits[name]} {what}: a segment that it makes can be raised less far, or"
            yield finding("warning", f"ulimit {option}", f"{text} is refused", f"ulimit {option} unlimited")
    if limits["descriptors"] is not None and limits["descriptors"] < 64:
        text = f"{limits['descriptors']} descriptors, and a process keeps two for each segment"
        yield finding("warning", "ulimit -n", text, "ulimit -n 1024")
    if kernel["max_map_count"] is not None and kernel["max_map_count"] < 8192:
        text = (
            f"{kernel['max_map_count']} maps in a process: each segment takes two, and large values are copied instead"
        )
        yield finding("warning", "vm.max_map_count", text, "sysctl vm.max_map_count=65530")
    if kernel["overcommit_memory"] == 2:
        text = "2: stored values count against the machine's commit limit, and are refused beyond it"
        yield finding(
            "warning", "vm.overcommit_memory", text, "sysctl vm.overcommit_memory=0, or a larger commit limit"
        )
    if spaces["time"]["initial"] is False:
        text = (
            "its clocks may run differently from those of processes outside: variables that expire do so at other times"
        )
        yield finding("warning", "time namespace", text, "one time namespace for all who share a segment")


def of_logouts(objects: Iterable[Facts], facts: Facts) -> Iterator[Finding]:
    """Whose segments go with the last session."""
    if not (facts["remove_ipc"]["logind"] and facts["remove_ipc"]["removes"]):
        return
    owners = {seen["uid"] for seen in objects if seen["kind"] == "segment"} | {os.geteuid()}
    for uid in sorted(uid for uid in owners if mine(uid)):
        user = user_of(uid)
        if machine.loses_at_logout(uid, user, machine.ROOT):
            text = f"systemd-logind removes the segments of {user} when the last session of that user ends (RemoveIPC)"
            remedy = f"loginctl enable-linger {user}; or RemoveIPC=no in /etc/systemd/logind.conf; or a system user"
            yield finding("warning", f"user {user}", text, remedy)


def user_of(uid: int) -> str:
    """The name, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def run(repair: bool, as_json: bool) -> int:
    """Examines and prints; the exit status."""
    found = examine(repair)
    if as_json:
        print(json.dumps(found))
    else:
        from shmvar import _doctor_text

        _doctor_text.show(found)
    return 0 if found["healthy"] else 1
