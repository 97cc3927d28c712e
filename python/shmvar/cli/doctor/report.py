"""Prints facts and findings for people."""

from shmvar import _text
from shmvar.cli import printing
from shmvar.cli.doctor.findings import Facts, Finding

MOST = 20  # names of other objects, and locks of a segment, that are shown
WIDEST = 24  # the column of names; a longer name moves its own text to the right
ORDER = ("problem", "warning", "repaired")  # of findings
STYLES = {"problem": "bold red", "warning": "yellow", "repaired": "green"}
TITLE = "bold"

Row = tuple[str, str]  # a name and a text


def show(sections: list[tuple[str, list[Row]]], findings: list[Finding]) -> None:
    """Prints tables of what there is, then the findings."""
    for title, rows in sections:
        printing.styled(title, TITLE)
        width = min(max(len(name) for name, _ in rows), WIDEST)
        for name, text in rows:
            printing.styled(f"  {name:<{width}}  {text}", hanging=width + 4)
        printing.styled("")
    for finding in sorted(findings, key=lambda finding: ORDER.index(finding["level"])):
        line = f"{finding['level']}: {finding['about']}: {finding['text']}"
        printing.styled(line, STYLES[finding["level"]], hanging=2)
        if finding["remedy"]:
            printing.styled(f"  remedy: {finding['remedy']}", hanging=4)
    problems = sum(finding["level"] == "problem" for finding in findings)
    printing.styled("healthy" if not problems else f"{problems} {'problem' if problems == 1 else 'problems'}", TITLE)


def sections(found: Facts) -> list[tuple[str, list[Row]]]:
    """Titles, each with its rows, of this machine."""
    shown = [("machine", _machine(found["machine"]))]
    shown += [(f"segment {seen['key']!r}", _segment(seen)) for seen in found["segments"]]
    others = [(seen["name"], _object(seen)) for seen in found["objects"]]
    if others:
        shown.append(("other objects", others[:MOST] + [("…", f"{len(others) - MOST} more")] * (len(others) > MOST)))
    return shown


def _machine(facts: Facts) -> list[Row]:
    files, group = facts["memory_file_system"], facts["control_group"]
    rows = []
    if "error" in files:
        rows.append(("memory file system", f"{files['path']}: {files['error']}"))
    else:
        objects = "" if files["objects"] is None else f", {files['objects_free']} more objects"
        size = f"{_size(files['size'])}, {_size(files['free'])} free{objects}"
        rows.append(("memory file system", f"{files['path']}, {files['type']}, {size}"))
    if group:
        used = "" if group["used"] is None else f", {_size(group['used'])} used"
        rows.append(("control group memory", f"{_size(group['limit'])}{used}"))
    rows.append(("limits of a process", _limits(facts["limits"])))
    kernel = facts["kernel"]
    rows.append(("kernel", ", ".join(f"vm.{name} {value}" for name, value in kernel.items() if value is not None)))
    spaces = {name: space for name, space in facts["namespaces"].items() if space["id"] is not None}
    own = [name for name, space in spaces.items() if space["initial"] is False or space["of_process_1"] is False]
    rows.append(("namespaces", f"of its own: {', '.join(own)}" if own else "the machine's"))
    logind = facts["remove_ipc"]
    source = f" ({logind['said_by']})" if logind["said_by"] else ""
    removes = f"{'yes' if logind['removes'] else 'no'}{source}"
    rows.append(("RemoveIPC", removes if logind["logind"] else "no systemd-logind"))
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
    rows = [("object", seen["name"]), ("owner", f"{printing.user(seen['uid'])}, {shared}")]
    rows.append(("created", f"{printing.time(seen['created_at'])}, format {seen['format']}"))
    largest = f", largest put {_size(info['largest_put'])}" if info else ""
    rows.append(("values", f"{seen['count']}, {_size(seen['used'])} of {_size(seen['size'])}{largest}"))
    if info.get("evict"):
        rows.append(("evicts", f"{info['evict']}: {info['evicted']:,} so far"))
    held = f", {_size(info['held'])} of it in views of old values" if info.get("held") else ""
    rows.append(("memory", _size(info["resident"] if info else seen["resident"]) + held))
    rows.append(("attached", _participants(seen["participants"])))
    if locks := info.get("locks"):
        rows.append(("locks held", ", ".join(map(printing.lock, locks[:MOST])) + ", …" * (len(locks) > MOST)))
    check = seen["check"]
    rows.append(("check", check["result"] + (f": {check['why']}" if "why" in check else "")))
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


def _size(number: int | None) -> str:
    return "no limit" if number is None else _text.size(number)
