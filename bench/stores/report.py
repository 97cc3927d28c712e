"""The findings as Markdown tables and as plots."""

import re
from pathlib import Path

from stores.values import KINDS, TEXT

CALLS = {kind: ("get", "put") for kind in KINDS} | {"array": ("get, and read all", "view, first element", "put")}
COLUMNS = [(kind, call) for kind in KINDS for call in CALLS[kind]]


def short(nanoseconds: float) -> str:
    for unit, size in ("s", 1e9), ("ms", 1e6), ("µs", 1e3):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def factor(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def plain(text: str) -> str:
    """An error without the names of this run."""
    text = re.sub(r"'?/?\bbp\d+x\d+\w*'?", "the store", text.removeprefix("RuntimeError: "))
    return re.sub(r"\bpid \d+", "a pid", text)


def table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def rows_of(store: dict) -> dict[tuple[str, str], dict]:
    return {(row["kind"], row["call"]): row for row in store["rows"] if "ns" in row and "call" in row}


def tests_of(store: dict) -> dict[str, dict]:
    return {row["test"]: row for row in store["rows"] if "call" not in row}


def best_of(found: dict) -> dict[tuple[str, str], str]:
    """Whose ratio to the reference is the least, of those that are measured by the same interpreter."""
    table: dict[tuple[str, str], tuple[float, str]] = {}
    for name, store in found["stores"].items():
        for column, row in rows_of(store).items():
            if "shmvar ns" in row and (column not in table or row["against reference"] < table[column][0]):
                table[column] = row["against reference"], name
    return {column: name for column, (_, name) in table.items()}


def cells(found: dict, kinds: tuple[str, ...]) -> str:
    columns, best = [column for column in COLUMNS if column[0] in kinds], best_of(found)
    head = ["", *(f"{TEXT[kind]}: {call}" for kind, call in columns)]
    lines = []
    for name, store in found["stores"].items():
        rows, line = rows_of(store), [name]
        for column in columns:
            if column not in rows:
                line.append("-")
                continue
            text = f"{short(rows[column]['ns'])} ({factor(rows[column]['against reference'])})"
            line.append(f"**{text}**" if best.get(column) == name else text)
        lines.append(line)
    return table(head, lines)


def timed(test: dict | None) -> str:
    if test is None:
        return "-"
    if "error" in test:
        return plain(test["error"])
    failed = f", {test['failed']:,} reads failed" if test.get("failed") else ""
    return f"{short(test['ns'])} ({factor(test['against reference'])}){failed}"


def pairs(found: dict) -> str:
    lines = []
    for name, store in found["stores"].items():
        tests = tests_of(store)
        if not {"hand-over", "counter, get then put"} & set(tests):
            continue
        waiting = store["way_to_wait"] if "hand-over, asleep" in tests else "-"
        asleep = timed(tests.get("hand-over, asleep"))
        lines.append(
            [name, timed(tests.get("hand-over")), asleep, waiting, timed(tests.get("counter")), store["way_to_add"]]
        )
    head = ["", "hand-over, looking", "hand-over, asleep", "sleeps in", "one addition, two at once", "adds by"]
    return table(head, lines)


def lost(test: dict | None) -> str:
    if test is None:
        return "-"
    return plain(test.get("error", "")) or f"{test['lost']:,} of {test['added']:,}"


def faults(found: dict) -> str:
    lines = []
    for name, store in found["stores"].items():
        tests = tests_of(store)
        if "torn" not in tests:
            continue
        torn, kills = tests["torn"], tests.get("kills", {"error": "-"})
        read = plain(torn.get("error", "")) or f"{torn['torn']:,} of {torn['reads']:,}"
        if torn.get("errors"):
            read += "; " + ", ".join(f"{count} {error}" for error, count in torn["errors"].items())
        if "error" in kills:
            clean, seen = plain(kills["error"]), ""
        else:
            clean = f"{kills['clean']} of {kills['rounds']}"
            seen = "; ".join(f"{count} {plain(what)}" for what, count in kills["outcomes"].items() if what != "clean")
        lines.append([name, read, lost(tests.get("counter")), lost(tests.get("counter, get then put")), clean, seen])
    head = ["", "torn reads", "lost additions", "lost, get then put", "clean after a kill", "otherwise"]
    return table(head, lines)


COMPARED = ("shmvar", "Redis", "LMDB", "diskcache", "SharedMemory + pickle", "SharedMemory + numpy", "Manager dict")


def compared(found: dict) -> str:
    """What docs/compared.md shows of some stores, without the ratios."""
    columns = [("int", "get"), ("int", "put"), ("dict", "get"), ("array", "view, first element"), ("array", "put")]
    lines = []
    for name in COMPARED:
        store = found["stores"].get(name, {"rows": []})
        rows, tests = rows_of(store), tests_of(store)
        times = [short(rows[column]["ns"]) if column in rows else "-" for column in columns]
        kills, torn = tests.get("kills", {}), tests.get("torn", {})
        added = short(tests["counter"]["ns"]) if "ns" in tests.get("counter", {}) else "-"
        read = f"{torn['torn']:,} of {torn['reads']:,}" if "torn" in torn else "-"
        clean = f"{kills['clean']} of {kills['rounds']}" if "clean" in kills else "-"
        lines.append([name, *times, added, read, clean])
    head = ["", *(f"{TEXT[kind]}: {call}" for kind, call in columns)]
    return table([*head, "one addition, two at once", "torn reads", "clean after a kill"], lines)


def versions(found: dict) -> str:
    stores = [[name, store["version"], store.get("note", "")] for name, store in found["stores"].items()]
    skipped = [[name, "skipped", how] for name, how in found["skipped"].items()]
    return table(["", "version", ""], stores + skipped)


def problems(found: dict) -> str:
    """What went wrong apart from what the tables say."""
    lines = [
        f"* {name}: {row['test']}: {row.get('error') or str(row['wrong']) + ' values came back wrong'}"
        for name, store in found["stores"].items()
        for row in store["rows"]
        if "wrong" in row or ("error" in row and row["test"] in (*KINDS, "all"))
    ]
    return "\n".join(lines)


def markdown(found: dict) -> str:
    parts = [
        "The time of a call, and in brackets how many times the reference it takes, measured in the same stretches.",
        cells(found, ("int", "str", "dict")),
        cells(found, ("bytes", "array")),
        pairs(found),
        faults(found),
        versions(found),
        problems(found),
    ]
    return "\n\n".join(part for part in parts if part)


def ahead(found: dict) -> str:
    """The rows in which another store took less time than shmvar in the same stretches."""
    lines = []
    for column in COLUMNS:
        rows = {name: rows_of(store).get(column) for name, store in found["stores"].items() if name != "shmvar"}
        quicker = {name: row["against shmvar"] for name, row in rows.items() if row and "against shmvar" in row}
        said = [
            f"{name} {factor(each)}" for name, each in sorted(quicker.items(), key=lambda item: item[1]) if each < 1
        ]
        if said:
            lines.append([f"{TEXT[column[0]]}: {column[1]}", ", ".join(said)])
    return table(["", "quicker than shmvar: its time, as a part of shmvar's"], lines) if lines else "None."


def pyplot():
    """matplotlib, set up so that the same findings give the same files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "shmvar", "font.size": 9})
    return pyplot


def plots(found: dict, folder: Path) -> None:
    """Bars of every store against shmvar in the same stretches: one file for get, one for put."""
    draw = pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in found["stores"] if name != "shmvar" and "PHP" not in name]
    for file, calls in ("peers-get", ("get", "get, and read all", "view, first element")), ("peers-put", ("put",)):
        columns = [(kind, call) for kind, call in COLUMNS if call in calls]
        figure, axes = draw.subplots(1, len(columns), figsize=(2.2 * len(columns), 4), sharey=True)
        for axis, (kind, call) in zip(axes, columns, strict=True):
            rows = [rows_of(found["stores"][name]).get((kind, call)) for name in names]
            factors = [row["against shmvar"] if row else float("nan") for row in rows]
            colours = ["#2a7f62" if each >= 1 else "#c0504d" for each in factors]
            axis.barh(names, [each - 1 for each in factors], left=1, color=colours)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}x")
            axis.axvline(1, color="black", linewidth=0.8)
            axis.set_title(f"{TEXT[kind]}\n{call}", fontsize=9)
        axes[0].invert_yaxis()
        figure.supxlabel("times as long as shmvar takes (right of the line: shmvar is quicker)", fontsize=9)
        figure.tight_layout()
        figure.savefig(folder / f"{file}.svg", metadata={"Date": None})
        draw.close(figure)
