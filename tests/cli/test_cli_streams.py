"""Standard streams that are closed, or that take no more: what a command needs of them is missing, and nothing else."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("private_shm")

TABLE = ["top", "--once", "--interval", "0.05"]


def run(redirected, *words, **variables):
    """A command as `sh` starts it, with descriptors redirected or closed: its exit status, stdout and stderr."""
    command = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "shmvar", *words]
    done = subprocess.run(command, capture_output=True, timeout=60, env=os.environ | variables)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_look_at_the_segments_needs_stdout_alone(seg, key, closed):
    seg["n"] = 1
    status, out, err = run(closed, *TABLE, key)
    assert (status, err) == (0, "") and f"{key!r}\t1\t" in out
    status, out, err = run(closed, "top", "--json", "--count", "1", "--interval", "0.05", key)
    assert (status, err) == (0, "") and '"state": "usable"' in out


@pytest.mark.parametrize(("stdout", "unbuffered"), [(">&-", ""), (">/dev/full", ""), (">/dev/full", "1")])
@pytest.mark.parametrize("words", [["get", "KEY", "n"], ["dump", "KEY", "-"], ["get", "--help"], [*TABLE, "KEY"]])
def test_what_cannot_be_printed_is_an_error_of_stdout(seg, key, stdout, words, unbuffered):
    seg["n"] = 1
    status, out, err = run(stdout, *(key if word == "KEY" else word for word in words), PYTHONUNBUFFERED=unbuffered)
    assert (status, out) == (1, "")
    why = "Bad file descriptor" if stdout == ">&-" else "No space left on device"
    assert err == f"shmvar: stdout takes no more: {why}\n"


def test_a_command_that_prints_nothing_needs_no_stream(seg, key):
    assert run("<&- >&- 2>&-", "put", key, "n", "5") == (0, "", "")
    assert seg["n"] == 5
    assert run("<&- >&- 2>&-", "remove", key, "n")[0] == 0 and not len(seg)


def test_nothing_is_read_where_there_is_no_stdin(seg, key):
    for words in (["load", key, "-"], ["put", key, "n", "-"]):
        status, out, err = run("<&-", *words)
        assert (status, out) == (1, "") and err.startswith("shmvar: there is no stdin to read ")
        assert err.count("\n") == 1


def test_a_message_never_goes_to_stdout(seg, key):
    assert run("2>&-", "get", key, "missing") == (1, "", "")
    assert run("2>&-", "xyzzy") == (2, "", "")


def test_a_file_that_takes_no_more_is_named(seg, key):
    seg["n"] = 1
    status, _, err = run("", "dump", key, "/dev/full")
    assert (status, err) == (1, "shmvar: [Errno 28] No space left on device: '/dev/full'\n")


def test_dev_stdout_is_stdout(seg, key, tmp_path):
    seg["n"] = 1
    log = tmp_path / "log"
    log.write_text("before\n")
    assert run(f">>{log}", "dump", key, "/dev/stdout") == (0, "", "")
    assert log.read_bytes().startswith(b"before\nshmvar dump ")
    status, out, err = run("| cat", "dump", key, "/dev/stdout")
    assert (status, err) == (0, "") and out.startswith("shmvar dump ")
    status, _, err = run("", "dump", key, "/dev/stdout", "--every", "1")
    assert status == 1 and "--every replaces a file" in err
