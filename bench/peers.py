"""shmvar beside other ways to share Python values between processes of one machine, measured in one run.

    python bench/peers.py             ten minutes at most
    python bench/peers.py --quick     two minutes
    python bench/peers.py --only shmvar,LMDB --json peers.json --markdown peers.md --plots docs/plots

Each store is measured in a process of its own. Its calls run in short stretches that alternate with a reference, and
with shmvar, in that same process: a machine that drifts hits all three, and the ratios stay. Two processes hand a value
over and count together; others read while one writes, and are killed while they write: what is torn, lost or stuck is
counted, not assumed. What is not installed is named, with what would install it. Nothing is left in /dev/shm or /tmp.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ratios
from stores import php, report
from stores.registry import ALL
from stores.store import Missing

SECONDS = {"full": 100, "quick": 60, "smoke": 80}
"""What one store may take before it is ended; what it has said by then counts."""


def measured(name: str, word: str, effort: str) -> list[dict]:
    """What the host of a store prints, whatever becomes of it."""
    command = [sys.executable, "-W", "ignore", "-m", "stores.host", name, word, effort]
    where = Path(__file__).parent
    host = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=where, start_new_session=True
    )
    try:
        said, _ = host.communicate(timeout=SECONDS[effort])
        ended = {"test": "all", "error": f"ended with {host.returncode}"} if host.returncode else None
    except subprocess.TimeoutExpired:
        os.killpg(host.pid, signal.SIGKILL)
        said, _ = host.communicate()
        ended = {"test": "all", "error": f"not done after {SECONDS[effort]} s"}
    rows = [json.loads(line) for line in said.splitlines() if line.endswith("}")]
    return [*rows, ended] if ended else rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two minutes")
    parser.add_argument("--smoke", action="store_true", help="each call a few times, to see that it runs")
    parser.add_argument("--only", default="", help=f"of {', '.join([*ALL, *php.NAMES])}")
    parser.add_argument("--json", type=Path, help="the findings; with --only they replace those in this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    parser.add_argument("--plots", type=Path, help="write plots (SVG) to this folder; needs matplotlib")
    chosen = parser.parse_args()
    effort = "smoke" if chosen.smoke else "quick" if chosen.quick else "full"
    names = chosen.only.split(",") if chosen.only else [*ALL, *php.NAMES]
    found: dict = {"machine": ratios.machine(), "effort": effort, "stores": {}, "skipped": {}}
    for number, name in enumerate(each for each in names if each in ALL):
        try:
            version = ALL[name].version()
        except Missing as error:
            found["skipped"][name] = str(error)
            continue
        begin = time.monotonic()
        rows = measured(name, f"bp{os.getpid()}x{number}", effort)
        notes = {key: getattr(ALL[name], key) for key in ("note", "way_to_add", "way_to_wait")}
        found["stores"][name] = {"version": version, **notes, "rows": rows}
        print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    if any(name in php.NAMES for name in names):
        rows_of, missing = php.measure(effort)
        found["skipped"] |= {name: how for name, how in missing.items() if name in names}
        for name, rows in rows_of.items():
            if name in names:
                note = "measured by PHP; the reference is serialize and unserialize"
                found["stores"][name] = {"version": php.version(), "note": note, "rows": rows}
    if chosen.only and chosen.json and chosen.json.exists():
        before = json.loads(chosen.json.read_text())
        found = {key: before[key] | found[key] if isinstance(found[key], dict) else found[key] for key in found}
        found["skipped"] = {name: how for name, how in found["skipped"].items() if name not in found["stores"]}
    text = report.markdown(found)
    print(text)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    if chosen.markdown:
        chosen.markdown.write_text(text + "\n")
    if chosen.plots:
        report.plots(found, chosen.plots)


if __name__ == "__main__":
    main()
