"""Findings about objects that are no usable segment: damaged and foreign ones, and what dead processes left."""

import os
import stat
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
            yield finding(level, path, f"{seen['why']}; no segment can be attached by its key", _foreign_remedy(path))
        case "locks" | "temporary":
            if seen["kind"] == "locks" and seen["named_by"] is not None:
                return
            stays = (
                _remove_stale(seen["name"], STALE_AFTER, not repair)
                if ours
                else ("foreign", "it belongs to another user")
            )
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
                yield finding("problem", path, what, "run shmvar doctor without --no-fix")
            elif code in UNSURE:
                yield finding("warning", path, f"perhaps {what}: {why}", f"if no process uses it, rm {quote(path)}")


def _foreign_remedy(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        mode = stat.S_IFREG
    removal = f"if nobody needs it, {'rmdir' if stat.S_ISDIR(mode) else 'rm'} {quote(path)}"
    return f"use the version of shmvar that made it; {removal}" if stat.S_ISREG(mode) else removal
