"""What `shmvar doctor` found, for people."""

from typing import Any

from shmvar import _cli as cli

Facts = dict[str, Any]
MOST = 20  # names of other objects that are shown


STYLES = {"problem": "bold red", "warning": "yellow", "repaired": "green", "title": "bold"}


def show(found: Facts) -> None:
    """Tables of what there is, then what is wrong with it."""
    for title, rows in sections(found):
        say(title, "title")
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            say(f"  {name:<{width}}  {text}")
        say("")
    order = ("problem", "warning", "repaired")
    for finding in sorted(found["findings"], key=lambda finding: order.index(finding["level"])):
        say(f"{finding['level']}: {finding['about']}: {finding['text']}", finding["level"])
        if finding["remedy"]:
            say(f"  remedy: {finding['remedy']}")
    problems = sum(finding["level"] == "problem" for finding in found["findings"])
    say("healthy" if not problems else f"{problems} {'problem' if problems == 1 else 'problems'}", "title")


def say(line: str, style: str = "") -> None:
    """A line, in colour on a terminal. Names in it may be others'."""
    line = cli._harmless(line).replace("\n", "\\n")
    if not cli._terminal():
        print(line)
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, soft_wrap=True).print(Text(line, STYLES.get(style, "")))


def sections(found: Facts) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titles, and rows of names and texts."""
    shown = [("machine", machine(found["machine"]))]
    shown += [(f"segment {seen['key']!r}", segment(seen)) for seen in found["segments"]]
    others = [(seen["name"], other(seen)) for seen in found["objects"]]
    if others:
        shown.append(("other objects", others[:MOST] + [("…", f"{len(others) - MOST} more")] * (len(others) > MOST)))
    return shown


def machine(facts: Facts) -> list[tuple[str, str]]:
    files, limits, group = facts["memory_file_system"], facts["limits"], facts["control_group"]
    rows = []
    if "error" in files:
        rows.append(("memory file system", f"{files['path']}: {files['error']}"))
    else:
        objects = "" if files["objects"] is None else f", {files['objects_free']} more objects"
        size = f"{size_of(files['size'])}, {size_of(files['free'])} free{objects}"
        rows.append(("memory file system", f"{files['path']}, {files['type']}, {size}"))
    if group:
        used = "" if group["used"] is None else f", {size_of(group['used'])} used"
        rows.append(("control group memory", f"{size_of(group['limit'])}{used}"))
    names = {"address_space": "addresses", "file_size": "file", "descriptors": "descriptors", "core": "core dumps"}
    sizes = {name: str(limits[name]) if name == "descriptors" else size_of(limits[name]) for name in names}
    sizes |= {name: "no limit" for name in names if limits[name] is None}
    rows.append(("limits of a process", ", ".join(f"{names[name]} {sizes[name]}" for name in names)))
    kernel = facts["kernel"]
    rows.append(("kernel", ", ".join(f"vm.{name} {value}" for name, value in kernel.items() if value is not None)))
    spaces = {name: space for name, space in facts["namespaces"].items() if space["id"] is not None}
    own = [name for name, space in spaces.items() if space["initial"] is False or space["of_process_1"] is False]
    rows.append(("namespaces", f"of its own: {', '.join(own)}" if own else "the machine's"))
    logind = facts["remove_ipc"]
    said = f" ({logind['said_by']})" if logind["said_by"] else ""
    rows.append(
        ("RemoveIPC", f"{'yes' if logind['removes'] else 'no'}{said}" if logind["logind"] else "no systemd-logind")
    )
    return rows


def segment(seen: Facts) -> list[tuple[str, str]]:
    info = seen["info"] or {}
    shared = f"mode {seen['mode']:03o}, {'trusted' if seen['trusted'] else 'not trusted: ' + seen['distrust']}"
    rows = [("object", seen["name"]), ("owner", f"{cli._owner(seen['uid'])}, {shared}")]
    rows.append(("created", f"{cli._time(seen['created_at'])}, format {seen['format']}"))
    largest = f", largest put {size_of(info['largest_put'])}" if info else ""
    rows.append(("values", f"{seen['count']}, {size_of(seen['used'])} of {size_of(seen['size'])}{largest}"))
    held = f", {size_of(info['held'])} of it in views of what was replaced" if info.get("held") else ""
    rows.append(("memory", size_of(info["resident"] if info else seen["resident"]) + held))
    living = [str(person["pid"]) for person in seen["participants"] if person["alive"]]
    unknown = [str(person["pid"]) for person in seen["participants"] if person["alive"] is None]
    people = ", ".join(living) or "none"
    rows.append(("attached", people + (f"; may not be asked after: {', '.join(unknown)}" if unknown else "")))
    if locks := info.get("locks"):
        rows.append(("locks held", ", ".join(map(cli.lock_text, locks[:MOST])) + ", …" * (len(locks) > MOST)))
    check = seen["check"]
    rows.append(("check", check["result"] + (f": {check['why']}" if "why" in check else "")))
    return rows


def other(seen: Facts) -> str:
    owner = f"{cli._owner(seen['uid'])}, mode {seen['mode'] & 0o777:03o}"
    match seen["kind"]:
        case "locks":
            return f"{owner}, locks of {seen['named_by'] or 'a segment that is gone'}"
        case "temporary":
            return f"{owner}, a segment in the making"
    return f"{owner}, {seen['why']}"


def size_of(number: int | None) -> str:
    return "no limit" if number is None else cli._size(number)
