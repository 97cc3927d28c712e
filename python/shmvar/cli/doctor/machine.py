"""Findings about the machine: what it lacks, and what it does to segments."""

import os
from collections.abc import Iterable, Iterator

from shmvar.cli import printing
from shmvar.cli.doctor import machine_facts
from shmvar.cli.doctor.findings import NEARLY_FULL, Facts, Finding, finding, may_repair

ADDRESSES = 4 << 30  # bytes of addresses, and of the file, that a segment of the usual size begins with
DESCRIPTORS = 64  # for some thirty segments
MAPS = 8192  # for some thousand segments, and large values in views
LITTLE_MEMORY = 1 << 16  # bytes; less than that is a problem, not only a warning


def findings(facts: Facts) -> Iterator[Finding]:
    """What the machine lacks, from `machine_facts.survey`."""
    yield from _of_memory_file_system(facts["memory_file_system"])
    if "error" in facts["memory_file_system"]:
        return
    yield from _of_control_group(facts)
    yield from _of_limits(facts["limits"])
    yield from _of_kernel(facts)


def _of_memory_file_system(files: Facts) -> Iterator[Finding]:
    about = machine_facts.SHM
    mount = "mount -t tmpfs tmpfs /dev/shm -o mode=1777"
    if "error" in files:
        yield finding("problem", about, f"there is no shared memory here: {files['error']}", mount)
        return
    if files["type"] == "ramfs":
        text = "it is not a memory file system but ramfs, which cannot reserve pages: no segment can be made"
        yield finding("problem", about, text, mount)
    elif files["type"] not in ("tmpfs", None):
        text = f"it is not a memory file system but {files['type']}: values go to a disk, and stay there"
        yield finding("warning", about, text, mount)
    if files["readonly"]:
        yield finding("problem", about, "it is mounted read-only", "mount -o remount,rw /dev/shm")
    if files["size"] is not None and files["free"] < (1 - NEARLY_FULL) * files["size"]:
        level = "problem" if files["free"] < LITTLE_MEMORY else "warning"
        remedy = (
            "remove variables and trim(), destroy segments, or enlarge it (mount -o remount,size=…; docker --shm-size; "
            "Kubernetes: a memory emptyDir)"
        )
        yield finding(level, about, f"{files['free']} of {files['size']} bytes are free", remedy)
    if files["objects"] is not None and files["objects_free"] < (1 - NEARLY_FULL) * files["objects"]:
        level = "warning" if files["objects_free"] else "problem"
        text = (
            f"{files['objects_free']} of {files['objects']} objects are left: too many segments, not too little memory"
        )
        yield finding(level, about, text, "destroy segments, or mount -o remount,nr_inodes=… /dev/shm")


def _of_control_group(facts: Facts) -> Iterator[Finding]:
    files, group = facts["memory_file_system"], facts["control_group"]
    if group and group["limit"] is not None and (files["size"] is None or group["limit"] < files["size"]):
        text = (
            f"this control group may use {group['limit']} bytes of memory, less than {machine_facts.SHM} holds: where "
            "the limit is reached, the kernel kills processes, and no call raises an error"
        )
        remedy = "use a larger limit, or keep the sizes of segments well below it"
        yield finding("warning", "control group", text, remedy)


def _of_limits(limits: Facts) -> Iterator[Finding]:
    """Limits of this process."""
    for name, option, what in [("address_space", "-v", "addresses"), ("file_size", "-f", "bytes of a file")]:
        if limits[name] is not None and limits[name] < ADDRESSES:
            text = (
                f"this process may use {limits[name]} {what}: the size of a segment that it creates can be raised less"
            )
            yield finding("warning", f"ulimit {option}", f"{text}, or none is created", f"ulimit {option} unlimited")
    if limits["descriptors"] is not None and limits["descriptors"] < DESCRIPTORS:
        text = f"this process may have {limits['descriptors']} descriptors, and keeps two for each segment"
        yield finding("warning", "ulimit -n", text, "ulimit -n 1024")


def _of_kernel(facts: Facts) -> Iterator[Finding]:
    """Settings of the kernel, and namespaces."""
    kernel = facts["kernel"]
    if kernel["max_map_count"] is not None and kernel["max_map_count"] < MAPS:
        text = (
            f"a process may have {kernel['max_map_count']} maps: each segment takes two, and beyond that large values "
            "are copied instead of mapped"
        )
        yield finding("warning", "vm.max_map_count", text, "sysctl vm.max_map_count=65530")
    if kernel["overcommit_memory"] == 2:
        text = "it is 2: stored values count against the machine's commit limit, and are refused beyond it"
        remedy = "sysctl vm.overcommit_memory=0, or a larger commit limit"
        yield finding("warning", "vm.overcommit_memory", text, remedy)
    if facts["namespaces"]["time"]["initial"] is False:
        text = "its clocks may differ from those of processes outside: for these, variables expire at other times"
        yield finding(
            "warning", "time namespace", text, "use one time namespace for all processes that share a segment"
        )


def findings_of_logouts(objects: Iterable[Facts], facts: Facts) -> Iterator[Finding]:
    """Users whose segments systemd-logind removes when they log out."""
    if not (facts["remove_ipc"]["logind"] and facts["remove_ipc"]["removes"]):
        return
    owners = {seen["uid"] for seen in objects if seen["kind"] == "segment"} | {os.geteuid()}
    for uid in sorted(uid for uid in owners if may_repair(uid)):
        user = printing.user(uid)
        if machine_facts.loses_at_logout(uid, user, machine_facts.ROOT):
            text = f"systemd-logind removes the segments of {user} when the last session of that user ends (RemoveIPC)"
            remedy = f"loginctl enable-linger {user}; or RemoveIPC=no in /etc/systemd/logind.conf; or a system user"
            yield finding("warning", f"user {user}", text, remedy)
