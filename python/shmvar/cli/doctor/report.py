"""Prints facts and findings for people."""

from shmvar import _text
from shmvar.cli import printing
from shmvar.cli.doctor.findings import ORDER, WIDEST, Facts, Finding, Row

MOST = 20  # names of other objects, and locks of a segment, that are shown


def show(sections: list[tuple[str, list[Row]]], findings: list[Finding]) -> None:
    """Prints tables of what there is, then the findings."""
    if (screen := printing.screen()) is not None:
        from shmvar.cli.doctor import report_screen

        report_screen.show(screen, sections, findings)
        return
    for title, rows in sections:
        _print(title)
        width = min(max(len(row.name) for row in rows), WIDEST)
        for row in rows:
            _print(f"  {row.name:<{width}}  {row.text}")
        _print("")
    for finding in sorted(findings, key=lambda finding: ORDER.index(finding["level"])):
        _print(f"{finding['level']}: {finding['about']}: {finding['text']}")
        if finding["remedy"]:
            _print(f"  remedy: {finding['remedy']}")
    problems = sum(finding["level"] == "problem" for finding in findings)
    _print("healthy" if not problems else f"{problems} {'problem' if problems == 1 else 'problems'}")


def _print(line: str) -> None:
    """One line: it may have names that others chose."""
    print(_text.one_line(line))


def sections(found: Facts) -> list[tuple[str, list[Row]]]:
    """Titles, each with its rows, of this machine."""
    shown = [("machine", _machine(found["machine"]))]
    shown += [(f"segment {seen['key']!r}", _segment(seen)) for seen in found["segments"]]
    others = [Row(seen["name"], _object(seen)) for seen in found["objects"]]
    if others:
        shown.append(("other objects", others[:MOST] + [Row("…", f"{len(others) - MOST} more")] * (len(others) > MOST)))
    return shown


def _machine(facts: Facts) -> list[Row]:
    files, group = facts["memory_file_system"], facts["control_group"]
    rows = []
    if "error" in files:
        rows.append(Row("memory file system", f"{files['path']}: {files['error']}"))
    else:
        objects = "" if files["objects"] is None else f", {files['objects_free']} more objects"
        size = f"{_size(files['size'])}, {_size(files['free'])} free{objects}"
        share = _share(files["size"], files["free"])
        rows.append(Row("memory file system", f"{files['path']}, {files['type']}, {size}", share=share))
    if group:
        used = "" if group["used"] is None else f", {_size(group['used'])} used"
        free = None if None in (group["limit"], group["used"]) else group["limit"] - group["used"]
        rows.append(Row("control group memory", f"{_size(group['limit'])}{used}", share=_share(group["limit"], free)))
    rows.append(Row("limits of a process", _limits(facts["limits"])))
    kernel = facts["kernel"]
    rows.append(Row("kernel", ", ".join(f"vm.{name} {value}" for name, value in kernel.items() if value is not None)))
    spaces = {name: space for name, space in facts["namespaces"].items() if space["id"] is not None}
    own = [name for name, space in spaces.items() if space["initial"] is False or space["of_process_1"] is False]
    rows.append(Row("namespaces", f"of its own: {', '.join(own)}" if own else "the machine's"))
    logind = facts["remove_ipc"]
    source = f" ({logind['said_by']})" if logind["said_by"] else ""
    removes = f"{'yes' if logind['removes'] else 'no'}{source}"
    rows.append(Row("RemoveIPC", removes if logind["logind"] else "no systemd-logind"))
    return rows


def _limits(limits: Facts) -> str:
    names = {"address_space": "addresses", "file_size": "file", "descriptors": "descriptors", "core": "core dumps"}
    shown = []
    for field, name in names.items():
        limit = limits[field]
        shown.append(f"{name} {limit if field == 'descriptors' and limit is not None else _size(limit)}")
    return ", ".join(shown)


def _segment(seen: Facts) -> list[Row]:
    info = seen["info"] or {}
    shared = f"mode {seen['mode']:03o}, {'trusted' if seen['trusted'] else 'not trusted: ' + seen['distrust']}"
    rows = [Row("object", seen["name"]), Row("owner", f"{printing.user(seen['uid'])}, {shared}")]
    rows.append(Row("created", f"{printing.time(seen['created_at'])}, format {seen['format']}"))
    largest = f", largest put {_size(info['largest_put'])}" if info else ""
    text = f"{seen['count']}, {_size(seen['used'])} of {_size(seen['size'])}{largest}"
    # What evicts is as full as it is meant to be.
    share = None if info.get("evict") else _share(seen["size"], seen["size"] - seen["used"])
    rows.append(Row("values", text, share=share))
    if info.get("evict"):
        rows.append(Row("evicts", f"{info['evict']}: {info['evicted']:,} so far"))
    held = f", {_size(info['held'])} of it in views of old values" if info.get("held") else ""
    resident = info["resident"] if info else seen["resident"]
    rows.append(Row("memory", _size(resident) + held, "attention" if held else ""))
    unknown = any(participant["alive"] is None for participant in seen["participants"])
    rows.append(Row("attached", _participants(seen["participants"]), "attention" if unknown else ""))
    if locks := info.get("locks"):
        rows.append(Row("locks held", ", ".join(map(printing.lock, locks[:MOST])) + ", …" * (len(locks) > MOST)))
    check = seen["check"]
    rows.append(Row("check", check["result"] + (f": {check['why']}" if "why" in check else "")))
    return rows


def _participants(participants: list[Facts]) -> str:
    """The pids of living processes, and of those that are not known to live."""
    living = [str(participant["pid"]) for participant in participants if participant["alive"]]
    unknown = [str(participant["pid"]) for participant in participants if participant["alive"] is None]
    return (", ".join(living) or "none") + (f"; not known whether alive: {', '.join(unknown)}" if unknown else "")


def _object(seen: Facts) -> str:
    owner = f"{printing.user(seen['uid'])}, mode {seen['mode'] & 0o777:03o}"
    match seen["kind"]:
        case "locks":
            return f"{owner}, locks of {seen['named_by'] or 'a segment that is gone'}"
        case "temporary":
            return f"{owner}, a segment that is being created"
    return f"{owner}, {seen['why']}"


def _share(whole: int | None, free: int | None) -> float | None:
    """How much of a whole is in use; None where there is no limit, or it is not known."""
    return None if not whole or free is None else 1 - free / whole


def _size(number: int | None) -> str:
    return "no limit" if number is None else _text.size(number)
