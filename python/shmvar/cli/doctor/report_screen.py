"""Shows facts and findings on a terminal. Imported only there: it needs `rich`."""

from rich.text import Text

from shmvar.cli.doctor.findings import ORDER, WIDEST, Finding, Row
from shmvar.cli.screen import Screen

LEVELS = {"problem": "bad", "warning": "attention", "repaired": "good"}
STATES = {"sound": "good", "damaged": "bad", "killed": "bad"}  # what a check finds; the rest wants attention


def show(screen: Screen, sections: list[tuple[str, list[Row]]], findings: list[Finding]) -> None:
    """Shows what there is, then the findings, the worst ones first, and at the end how it is as a whole."""
    findings = sorted(findings, key=lambda finding: ORDER.index(finding["level"]))
    worst: dict[str, str] = {}
    for finding in findings:
        worst.setdefault(finding["about"], LEVELS[finding["level"]])
    for title, rows in sections:
        checks = [_of_check(row) for row in rows if row.name == "check"]
        style = worst.get(title) or (checks[0] if checks else "")
        start = screen.mark(style).append(" ") if style else screen.own("")
        screen.line(start.append_text(screen.text(title, "title")), hanging=2)
        _rows(screen, rows)
        screen.print(Text())
    for finding in findings:
        _finding(screen, finding)
    screen.line(_conclusion(screen, findings), hanging=2)


def _rows(screen: Screen, rows: list[Row]) -> None:
    width = min(max(len(row.name) for row in rows), WIDEST)
    for row in rows:
        line = screen.own("  ").append_text(screen.text(f"{row.name:<{width}}", "secondary")).append("  ")
        if row.share is not None:
            line.append_text(screen.bar(row.share, 1.0)).append("  ")
        if row.name == "check":
            style = _of_check(row)
            line.append_text(screen.mark(style)).append(" ").append_text(screen.text(row.text, style))
        else:
            line.append_text(screen.text(row.text, row.style))
        screen.line(line, hanging=width + 4)


def _of_check(row: Row) -> str:
    return STATES.get(row.text.partition(":")[0], "attention")


def _finding(screen: Screen, finding: Finding) -> None:
    style = LEVELS[finding["level"]]
    line = screen.mark(style).append(" ").append_text(screen.own(f"{finding['level']}:", style)).append(" ")
    line.append_text(screen.text(finding["about"], "title")).append_text(screen.text(f": {finding['text']}"))
    screen.line(line, hanging=2)
    if finding["remedy"]:
        line = screen.own("  remedy:", "title").append_text(screen.text(f" {finding['remedy']}"))
        screen.line(line, hanging=4)


def _conclusion(screen: Screen, findings: list[Finding]) -> Text:
    problems, warnings = (sum(finding["level"] == level for finding in findings) for level in ("problem", "warning"))
    style = "bad" if problems else "good"
    text = "healthy" if not problems else f"{problems} {'problem' if problems == 1 else 'problems'}"
    line = screen.mark(style).append(" ").append_text(screen.own(text, style))
    if warnings:
        line.append_text(screen.own(f", {warnings} {'warning' if warnings == 1 else 'warnings'}", "attention"))
    return line
