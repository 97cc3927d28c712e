"""What `shmvar doctor` reads about the machine, from files of an invented machine (F19)."""

import pytest

from shmvar.cli.doctor import machine as doctor
from shmvar.cli.doctor import machine_facts as machine


@pytest.fixture
def files(tmp_path):
    """Writes the files of an invented machine: path -> contents."""

    def write(contents):
        for name, text in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_text(text)
        return tmp_path

    return write


LOGIND = {"run/systemd/users": None}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, (False, True, None)),
        (LOGIND, (True, True, None)),
        ({**LOGIND, "etc/systemd/logind.conf": "[Login]\n#RemoveIPC=no\n"}, (True, True, None)),
        ({**LOGIND, "etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\n"}, (True, False, "/etc/systemd/logind.conf")),
        ({**LOGIND, "etc/systemd/logind.conf": "[Other]\nRemoveIPC=no\n"}, (True, True, None)),
        ({**LOGIND, "etc/systemd/logind.conf": "no section\n"}, (True, True, None)),
        (
            {
                **LOGIND,
                "usr/lib/systemd/logind.conf": "[Login]\nRemoveIPC=no\n",
                "etc/systemd/logind.conf": "[Login]\n",
            },
            (True, True, None),
        ),
        (
            {
                **LOGIND,
                "etc/systemd/logind.conf": "[Login]\nRemoveIPC=yes\n",
                "usr/lib/systemd/logind.conf.d/50-x.conf": "[Login]\nRemoveIPC = off\n",
            },
            (True, False, "/usr/lib/systemd/logind.conf.d/50-x.conf"),
        ),
        (
            {
                **LOGIND,
                "usr/lib/systemd/logind.conf.d/50-x.conf": "[Login]\nRemoveIPC=no\n",
                "etc/systemd/logind.conf.d/50-x.conf": "[Login]\nRemoveIPC=yes\n",
                "run/systemd/logind.conf.d/10-y.conf": "[Login]\nRemoveIPC=no\n",
            },
            (True, True, "/etc/systemd/logind.conf.d/50-x.conf"),
        ),
    ],
)
def test_f19_remove_ipc_is_read_as_logind_reads_it(files, contents, expected):
    found = machine.remove_ipc(files(contents))
    assert (found["logind"], found["removes"], found["said_by"]) == expected


def test_f19_regular_users_lose_their_segments_and_system_users_do_not(files, tmp_path):
    assert machine.loses_at_logout(1000, "ada", tmp_path) and not machine.loses_at_logout(0, "root", tmp_path)
    assert not machine.loses_at_logout(999, "postgres", tmp_path)
    root = files({"etc/login.defs": "# SYS_UID_MAX 5\nSYS_UID_MAX\t\t 499\n"})
    assert machine.loses_at_logout(500, "ada", root) and not machine.loses_at_logout(499, "web", root)
    files({"var/lib/systemd/linger/ada": ""})
    assert not machine.loses_at_logout(500, "ada", root)


def test_f19_doctor_warns_of_a_regular_users_segments(files, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", files(LOGIND))
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)
    facts = {"remove_ipc": machine.remove_ipc(machine.ROOT)}
    seen = [{"uid": uid, "kind": "segment"} for uid in (0, 54321, 54321)]
    (warning,) = doctor.findings_of_logouts(seen, facts)
    assert warning["level"] == "warning" and "54321" in warning["text"] and "RemoveIPC" in warning["text"]
    assert "enable-linger 54321" in warning["remedy"]
    assert not list(doctor.findings_of_logouts(seen, {"remove_ipc": {"logind": True, "removes": False}}))
    assert not list(doctor.findings_of_logouts(seen, {"remove_ipc": {"logind": False, "removes": True}}))


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        (
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cgroup.controllers": "", "sys/fs/cgroup/memory.max": "max\n"},
            {"version": 2, "limit": None, "used": None},
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/cgroup.controllers": "",
                "sys/fs/cgroup/a/memory.max": "1000\n",
                "sys/fs/cgroup/a/b/memory.max": "2000\n",
                "sys/fs/cgroup/a/b/memory.current": "77\n",
            },
            {"version": 2, "limit": 1000, "used": 77},
        ),
        (
            {
                "proc/self/cgroup": "0::/of/the/host\n",
                "sys/fs/cgroup/cgroup.controllers": "",
                "sys/fs/cgroup/memory.max": "3000\n",
            },
            {"version": 2, "limit": 3000, "used": None},
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/x\n4:memory,hugetlb:/x\n0::/y\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "4000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "5\n",
            },
            {"version": 1, "limit": 4000, "used": 5},
        ),
    ],
)
def test_the_tightest_limit_of_the_control_groups_counts(files, contents, expected):
    assert machine.memory_limit(files(contents)) == expected


def test_the_mount_that_holds_a_path_is_found():
    info = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "25 22 0:6 / /dev rw,nosuid - devtmpfs udev rw\n"
        "26 25 0:23 / /dev/shm rw,nosuid - tmpfs tmpfs rw,size=64k\n"
        "27 25 0:99 / /dev/shmoo rw - ramfs none rw\n"
        "28 22 0:98 / /with\\040space rw - tmpfs none rw\nbroken line\n"
    )
    found = machine.mount_of("/dev/shm", info)
    assert found == {"type": "tmpfs", "options": "rw,nosuid,rw,size=64k", "mounted_at": "/dev/shm"}
    assert machine.mount_of("/dev/shm", info + "29 25 0:7 / /dev/shm ro - overlay none rw\n")["type"] == "overlay"
    assert machine.mount_of("/run/shm", info)["type"] == "ext4"
    assert machine.mount_of("/with space/shm", info)["type"] == "tmpfs"
    assert machine.mount_of("/dev/shm", "")["type"] is None


FACTS = {
    "memory_file_system": {
        "type": "tmpfs", "readonly": False, "size": 1 << 30, "free": 1 << 30, "objects": 100, "objects_free": 100,
    },
    "control_group": None,
    "limits": {"address_space": None, "file_size": None, "descriptors": 1024, "core": 0},
    "kernel": {"max_map_count": 65530, "overcommit_memory": 0},
    "namespaces": {"time": {"initial": True}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "changes", "level", "words"),
    [
        ("memory_file_system", {"type": "ext4"}, "warning", "not a memory file system but ext4"),
        ("memory_file_system", {"readonly": True}, "problem", "read-only"),
        ("memory_file_system", {"free": 1 << 20}, "warning", "1048576 of 1073741824 bytes are free"),
        ("memory_file_system", {"free": 0}, "problem", "0 of 1073741824 bytes are free"),
        ("memory_file_system", {"objects_free": 2}, "warning", "2 of 100 objects"),
        ("memory_file_system", {"objects_free": 0}, "problem", "too many segments"),
        ("memory_file_system", {"error": "No such file or directory"}, "problem", "no shared memory here"),
        ("control_group", {"limit": 1 << 20}, "warning", "the kernel kills"),
        ("limits", {"address_space": 1 << 30}, "warning", "1073741824 addresses"),
        ("limits", {"file_size": 1 << 30}, "warning", "bytes of a file"),
        ("limits", {"descriptors": 20}, "warning", "20 descriptors"),
        ("kernel", {"max_map_count": 100}, "warning", "100 maps"),
        ("kernel", {"overcommit_memory": 2}, "warning", "commit limit"),
        ("namespaces", {"time": {"initial": False}}, "warning", "expire"),
    ],
)
def test_each_lack_of_the_machine_is_told_with_its_remedy(part, changes, level, words):
    assert not list(doctor.findings(FACTS))
    (found,) = doctor.findings(FACTS | {part: (FACTS[part] or {}) | changes})
    assert found["level"] == level and words in found["text"] and found["remedy"]


def test_a_machine_without_limits_lacks_nothing():
    none = {"size": None, "free": None, "objects": None, "objects_free": None}
    facts = FACTS | {"memory_file_system": FACTS["memory_file_system"] | none}
    facts["kernel"] = {"max_map_count": None, "overcommit_memory": None}
    facts["control_group"] = {"limit": None}
    assert not list(doctor.findings(facts))
