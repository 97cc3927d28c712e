"""Fills docs/performance.md: the tables between its markers, and the plots in docs/plots, from what two runs found. The
table of docs/compared.md is filled, too.

    make performance       both runs, and this program: a quarter of an hour
    python bench/page.py   only this program, from docs/plots/rows.json and docs/plots/peers.json

A marker is a pair of lines, `<!-- begin: NAME -->` and `<!-- end: NAME -->`; NAME is `machine`, `missed`, the name of a
program of `bench/`, or `peers: PART`. What stands between the two is replaced, the rest of the page is for people.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from stores import report
from stores.report import factor, short, table

FOLDER = Path(__file__).parents[1] / "docs"
PAGE, PLOTS = FOLDER / "performance.md", FOLDER / "plots"
COMPARED = FOLDER / "compared.md"
MARKER = re.compile(r"(<!-- begin: (.+?) -->\n).*?(<!-- end: \2 -->)", re.S)
GREEN, RED, GREY = "#2a7f62", "#c0504d", "#7f7f7f"


def verdict(row: dict) -> str:
    return {True: "met", False: "**missed**", None: ""}[row["met"]]


def figures_of(row: dict) -> tuple[str, str, str]:
    """Ours, the reference, and the ratio."""
    if row["unit"] != "ns":
        return f"{row['ours']:,.0f}", f"{row['reference']:,.0f}", f"{row['ratio']:.3f}"
    return short(row["ours"]), short(row["reference"]), factor(row["ratio"])


def rows_table(rows: list[dict]) -> str:
    head = ["", "shmvar", "reference", "ratio", "aim: at most", "", "the reference", "beside it"]
    lines = []
    for row in rows:
        ours, reference, ratio = figures_of(row)
        beside = "; ".join(f"{name} {short(each)}" for name, each in row["beside"].items())
        lines.append([row["name"], ours, reference, ratio, row["aim"], verdict(row), row["what"], beside])
    return table(head, lines)


def missed_table(programs: dict[str, list[dict]]) -> str:
    rows = [row for rows in programs.values() for row in rows]
    judged = [row for row in rows if row["met"] is not None]
    missed = [row for row in judged if not row["met"]]
    text = f"{len(judged) - len(missed)} of {len(judged)} aims are met."
    bounds = [figures_of({**row, "ours": row["bound"]})[0] for row in missed]
    lines = [[row["name"], figures_of(row)[0], bound, row["aim"]] for row, bound in zip(missed, bounds, strict=True)]
    return text if not missed else f"{text} Missed:\n\n" + table(["", "shmvar", "aim in this run", "aim"], lines)


def machine_list(found: dict, peers: dict) -> str:
    lines = [f"* {name}: {text}" for name, text in found["machine"].items()]
    return "\n".join(lines) + "\n\n" + report.versions(peers)


def parts(found: dict, peers: dict) -> dict[str, str]:
    """What stands between the markers, by their names."""
    texts = {name: rows_table(rows) for name, rows in found["programs"].items()}
    texts |= {"machine": machine_list(found, peers), "missed": missed_table(found["programs"])}
    texts["peers: small"] = report.cells(peers, ("int", "str", "dict"))
    texts["peers: large"] = report.cells(peers, ("bytes", "array"))
    texts["peers: pairs"], texts["peers: faults"] = report.pairs(peers), report.faults(peers)
    texts["peers: ahead"] = report.ahead(peers)
    return texts


def pages(found: dict, peers: dict) -> dict[Path, str]:
    """Each page as it should be."""
    texts = {PAGE: parts(found, peers), COMPARED: {"compared": report.compared(peers)}}
    return {page: filled(page.read_text(), text) for page, text in texts.items()}


def filled(page: str, texts: dict[str, str]) -> str:
    """The page with new texts between its markers. A marker without a text, or a text without a marker, is an error."""
    names = [match[2] for match in MARKER.finditer(page)]
    if sorted(names) != sorted(texts):
        raise ValueError(f"markers and parts differ: {sorted(set(names) ^ set(texts))}")
    return MARKER.sub(lambda match: f"{match[1]}{texts[match[2]]}\n{match[3]}", page)


# --- plots


def aims_plot(pyplot, programs: dict[str, list[dict]], file: Path) -> None:
    """Every row that has an aim, as a part of what its aim allows."""
    rows = [row for rows in programs.values() for row in rows if row["bound"]]
    figure, axis = pyplot.subplots(figsize=(8, 0.19 * len(rows) + 1))
    parts_of_bound = [row["ours"] / row["bound"] for row in rows]
    colours = [GREY if row["met"] is None else GREEN if row["met"] else RED for row in rows]
    axis.barh([row["name"] for row in rows], [part - 1 for part in parts_of_bound], left=1, color=colours)
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    ticks = [each * 10.0**power for power in range(-2, 3) for each in (1, 2, 5)]
    axis.set_xticks([tick for tick in ticks if low <= tick <= high])
    axis.set_xticks([], minor=True)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.margins(y=0.01)
    axis.invert_yaxis()
    axis.set_xlabel("time, of what the aim allows (left of the line: met)")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


SIZED = re.compile(r"(bytes|float64 array) of ([\d,]+) (KiB|MiB): (get|put)$")


def sizes_plot(pyplot, rows: list[dict], file: Path) -> None:
    """The time of get and put by size, beside the reference."""
    figure, axes = pyplot.subplots(1, 4, figsize=(12, 3.2))
    titles = [(kind, call) for kind in ("bytes", "float64 array") for call in ("get", "put")]
    for axis, title in zip(axes, titles, strict=True):
        points = []
        for row in rows:
            match = SIZED.match(row["name"])
            if match and (match[1], match[4]) == title:
                kib = int(match[2].replace(",", "")) * (1024 if match[3] == "MiB" else 1)
                points.append((kib, row["ours"] / 1e3, row["reference"] / 1e3))
        if points:
            kib, ours, theirs = zip(*points, strict=True)
            axis.plot(kib, ours, "o-", color=GREEN, label="shmvar")
            axis.plot(kib, theirs, "s--", color=GREY, label="reference")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(f"{title[0]}: {title[1]}", fontsize=9)
        axis.set_xlabel("KiB")
    axes[0].set_ylabel("microseconds")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def draw(found: dict, peers: dict) -> None:
    pyplot = report.pyplot()
    aims_plot(pyplot, found["programs"], PLOTS / "aims.svg")
    sizes_plot(pyplot, found["programs"].get("sizes", []), PLOTS / "sizes.svg")
    report.plots(peers, PLOTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether the pages have what the two files say")
    check = parser.parse_args().check
    found, peers = (json.loads((PLOTS / f"{name}.json").read_text()) for name in ("rows", "peers"))
    new = {page: text for page, text in pages(found, peers).items() if page.read_text() != text}
    if check:
        for page in new:
            print(f"docs/{page.name} is not what docs/plots/*.json say: python bench/page.py")
        return bool(new)
    for page, text in new.items():
        page.write_text(text)
    draw(found, peers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
