"""Findings about objects that are no usable segment: damaged and foreign ones, and what dead processes left."""

from collections.abc import Iterator
from shlex import quote

from shmvar._core import _remove_stale
from shmvar.cli.doctor.findings import Facts, Finding, finding, may_repair
from shmvar.cli.doctor.machine_facts import SHM

STALE_AFTER = 60.0  # seconds; docs/protocol.md, "Stale objects"
UNSURE = ("closed", "named", "unknown")  # reasons why an object stays although it may be stale


def findings(seen: Facts, repair: bool) -> Iterator[Finding]:
    """Findings about the object `seen`. Removes it if it is stale and `repair`; a stale one has `stays` afterwards."""
    path = f"{SHM}/{seen['name']}"
    ours = may_repair(seen["uid"])
    level = "problem" if ours else "warning"
    match seen["kind"]:
        case "damaged":
            yield finding(level, path, seen["why"], f"nothing can be read from it: rm {quote(path)}")
        case "foreign":
            remedy = f"use the version of shmvar that made it; if it is nobody's, rm {quote(path)}"
            if "if it is nobody's" in seen["why"]:  # not a regular file: the text itself says how to remove it
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
