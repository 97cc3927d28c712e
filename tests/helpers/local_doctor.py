"""`shmvar doctor` in a process of its own, what it found, and a process that it finds dead."""

import json

import helpers

SHM = helpers.SHM
DIES = """
segment = shmvar.attach(key)
segment[1] = "one"
print("on", flush=True)
time.sleep(60)
"""


def doctor(*options, before="", **how):
    """Runs the command in its own process; returns what it printed and its exit status."""
    code = f"""
from shmvar.cli.doctor import objects, segments
from shmvar.cli.main import main
{before}
sys.exit(main(['doctor', *{options!r}]))
"""
    done = helpers.run(code, check=False, **how)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return done.stdout, done.returncode


def examine(*options, age=None, before=""):
    """The same, parsed. `age`: when an object is stale, in seconds."""
    said, status = doctor("--json", *options, before=f"objects.STALE_AFTER = {age}" if age is not None else before)
    found = json.loads(said)
    assert found["healthy"] == (status == 0)
    return found, status


def of(found, level):
    return [
        finding for finding in found["findings"] if finding["level"] == level and finding["about"] != "control group"
    ]


def segment_of(found, key):
    (seen,) = [seen for seen in found["segments"] if seen["key"] == key]
    return seen


def dead(key, children):
    """A process that attached and was killed."""
    child = helpers.start(DIES, key)
    children.append(child)
    child.kill()
    child.wait()
    return child.pid
