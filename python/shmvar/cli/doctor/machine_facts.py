"""Reads what the machine is and allows, from /proc, /sys and /etc. Changes nothing.

Paths are below `root`, so that a test can make up a machine. A fact that cannot be read is None.
"""

import configparser
import errno
import os
import re
import resource
from pathlib import Path
from typing import Any

SHM = "/dev/shm"
ROOT = Path("/")
# The inode numbers of the namespaces that the kernel starts with; mount namespaces have no fixed number.
INITIAL_NAMESPACES = {"pid": 0xEFFFFFFC, "user": 0xEFFFFFFD, "ipc": 0xEFFFFFFF, "time": 0xEFFFFFFA, "mnt": None}
UNLIMITED_V1 = 1 << 62  # in control groups of version 1 a limit from here on stands for no limit
LOGIND = ("etc", "run", "usr/local/lib", "usr/lib")  # of files with the same name, the first one in this order counts
YES, NO = ("1", "yes", "y", "true", "t", "on"), ("0", "no", "n", "false", "f", "off")  # in systemd's files


def survey(root: Path = ROOT) -> dict[str, Any]:
    """All facts, as plain data that has a form as JSON."""
    return {
        "memory_file_system": file_system(root),
        "control_group": memory_limit(root),
        "limits": limits(),
        "kernel": {
            "max_map_count": number(root / "proc/sys/vm/max_map_count"),
            "overcommit_memory": number(root / "proc/sys/vm/overcommit_memory"),
        },
        "namespaces": namespaces(root),
        "remove_ipc": remove_ipc(root),
    }


def text(path: Path) -> str | None:
    """The contents of a file."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The number that is all that a file holds."""
    found = re.fullmatch(r"\s*(\d+)\s*", text(path) or "")
    return int(found[1]) if found else None


# --- the memory file system


def file_system(root: Path) -> dict[str, Any]:
    """What /dev/shm is, its size and what is free of it, in bytes and in objects. `error`: why there is none."""
    shown: dict[str, Any] = {"path": SHM} | mount_of(os.path.realpath(SHM), text(root / "proc/self/mountinfo") or "")
    try:
        found = os.statvfs(SHM)
    except OSError as error:
        return shown | {"error": error.strerror}
    # A tmpfs without a limit reports no blocks, or no files.
    size, free = (found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize) if found.f_blocks else (None, None)
    objects, left = (found.f_files, found.f_favail) if found.f_files else (None, None)
    return shown | {
        "size": size,
        "free": free,
        "objects": objects,
        "objects_free": left,
        "readonly": bool(found.f_flag & os.ST_RDONLY),
        "nameless_files": nameless_files(),
    }


def mount_of(path: str, mountinfo: str) -> dict[str, Any]:
    """Type, options and place of the mount that holds `path`, from the text of /proc/self/mountinfo."""
    best: dict[str, str | None] = {"type": None, "options": None, "mounted_at": None}
    longest = -1
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(tail) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        within = path == point or path.startswith(point.rstrip("/") + "/")
        if within and len(point) >= longest:  # a later mount at the same place covers an earlier one
            longest = len(point)
            best = {"type": tail[0], "options": f"{fields[5]},{tail[2]}", "mounted_at": point}
    return best


def nameless_files() -> bool | None:
    """Whether a file can be made without a name. If not, a process that dies in `attach` leaves a temporary object."""
    try:
        os.close(os.open(SHM, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return False if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL) else None
    return True


# --- limits


def memory_limit(root: Path) -> dict[str, Any] | None:
    """The tightest memory limit of this process's control group and the groups above it, in bytes.

    None if there is no such group; its `limit` is None if there is no limit.
    """
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and (root / "sys/fs/cgroup/cgroup.controllers").exists():
            base, limit, used, version = root / "sys/fs/cgroup", "memory.max", "memory.current", 2
        elif "memory" in controllers.split(","):
            base, limit, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            version = 1
        else:
            continue
        # In a container the path may be that of the host. Then what is mounted is the container's own group.
        own = base / path.strip("/")
        own = own if own.is_dir() else base
        levels = [level for level in (own, *own.parents) if level == base or base in level.parents]
        found = [bytes_ for level in levels if (bytes_ := number(level / limit)) and bytes_ < UNLIMITED_V1]
        return {"version": version, "limit": min(found, default=None), "used": number(own / used)}
    return None


def limits() -> dict[str, int | None]:
    """The soft limits of this process, in bytes; descriptors are a number. None: no limit."""
    names = {"address_space": "AS", "file_size": "FSIZE", "descriptors": "NOFILE", "core": "CORE"}
    soft = {shown: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for shown, name in names.items()}
    return {name: None if value == resource.RLIM_INFINITY else value for name, value in soft.items()}


def namespaces(root: Path) -> dict[str, dict[str, Any]]:
    """The namespaces of this process: the number of each, whether it is the initial one, and that of process 1."""

    def identify(process: str, name: str) -> int | None:
        try:
            found = re.search(r"\[(\d+)\]", os.readlink(root / "proc" / process / "ns" / name))
        except OSError:
            return None
        return int(found[1]) if found else None

    shown = {}
    for name, initial in INITIAL_NAMESPACES.items():
        own, first = identify("self", name), identify("1", name)
        shown[name] = {
            "id": own,
            "initial": None if own is None or initial is None else own == initial,
            "of_process_1": None if own is None or first is None else own == first,
        }
    return shown


# --- systemd's RemoveIPC


def remove_ipc(root: Path) -> dict[str, Any]:
    """Whether systemd-logind runs, whether it removes what users leave in /dev/shm, and the file that says so."""
    runs = any((root / "run/systemd" / name).is_dir() for name in ("users", "seats"))
    setting, where = True, None  # the default
    for path in logind_files(root):
        parser = configparser.ConfigParser(
            strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"), allow_no_value=True
        )
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(text(path) or "")
        except configparser.Error:
            continue
        word = (parser.get("Login", "RemoveIPC", fallback=None) or "").lower()
        if word in YES or word in NO:
            setting, where = word in YES, f"/{path.relative_to(root)}"
    return {"logind": runs, "removes": setting, "said_by": where}


def logind_files(root: Path) -> list[Path]:
    """The configuration files of logind. A later one overrides an earlier one."""
    mains = [main for place in LOGIND if (main := root / place / "systemd/logind.conf").is_file()]
    extra: dict[str, Path] = {}
    for place in LOGIND:
        for path in sorted((root / place / "systemd/logind.conf.d").glob("*.conf")):
            extra.setdefault(path.name, path)
    return mains[:1] + [extra[name] for name in sorted(extra)]


def loses_at_logout(uid: int, user: str, root: Path = ROOT) -> bool:
    """Whether logind, with RemoveIPC on, would remove this user's objects at the last logout."""
    last = re.search(r"^\s*SYS_UID_MAX\s+(\d+)", text(root / "etc/login.defs") or "", re.MULTILINE)
    return uid > (int(last[1]) if last else 999) and not (root / "var/lib/systemd/linger" / user).exists()
