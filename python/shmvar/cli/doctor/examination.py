"""Looks at every segment and at the machine, and collects facts and findings."""

import os
import time

import shmvar
from shmvar._core import _survey
from shmvar.cli import printing
from shmvar.cli.doctor import machine, machine_facts, objects, segments
from shmvar.cli.doctor.findings import Facts


def examine(repair: bool) -> Facts:
    """Everything there is to say, as plain data. `repair`: also repairs what is safe to repair."""
    looked_at = time.time()
    facts = machine_facts.survey()
    findings = list(machine.findings(facts))
    found = [] if "error" in facts["memory_file_system"] else _survey()
    with printing.progress("objects") as told:
        for number, seen in enumerate(found):
            told(number, len(found))
            if seen["kind"] == "segment":
                findings += segments.findings(seen, facts, repair, told)
            else:
                findings += objects.findings(seen, repair)
    findings += machine.findings_of_logouts(found, facts)
    return {
        "shmvar": shmvar.__version__,
        "looked_at": looked_at,
        "uid": os.geteuid(),
        "healthy": not any(finding["level"] == "problem" for finding in findings),
        "machine": facts,
        "segments": [seen for seen in found if seen["kind"] == "segment"],
        "objects": [seen for seen in found if seen["kind"] not in ("segment", "gone")],
        "findings": findings,
    }
