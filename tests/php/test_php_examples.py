"""The programs of examples/php do what they say: a page and its worker, and one program in two languages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
from helpers import php as real_php
from helpers import system_v
from helpers.marks import needs_php

from shmvar import php

EXAMPLES = Path(__file__).parents[2] / "examples" / "php"


@pytest.fixture
def program(php_key, tmp_path):
    """Gives the command of an example, which has a key of the test's own, and so has its semaphore."""

    def command(name, *words):
        text = (EXAMPLES / name).read_text()
        path = tmp_path / name
        changed, count = re.subn(r"^((?:const )?KEY = )\w+", rf"\g<1>{php_key}", text, flags=re.MULTILINE)
        assert count == 1
        if not path.exists():  # a process that has begun reads it
            path.write_text(changed)
        interpreter = [sys.executable] if name.endswith(".py") else ["php", "-d", "display_errors=stderr"]
        return [*interpreter, str(path), *map(str, words)]

    return command


def run(command, status=0):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * helpers.machine.SLOWER, check=False)
    assert done.returncode == status and bool(done.stderr) == bool(status), done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def worker(program, children):
    """A worker that runs; with its first line it has done a job."""
    child = subprocess.Popen(program("worker.py"), stdout=subprocess.PIPE, text=True)
    children.append(child)
    return child


@needs_php
def test_a_page_and_its_worker_exchange_jobs_and_results(program, worker, php_key, children):
    said = run(program("page.php", "to be or not to be"))
    assert said == "6 words, the longest is not\n"
    assert re.fullmatch(r"job \d+: \{'words': 6, 'longest': 'not'\}\n", worker.stdout.readline())
    asked = [program("page.php", f"{'é' * n} x") for n in range(1, 9)]
    pages = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for words in asked]
    children += pages
    for n, page in enumerate(pages, 1):
        assert page.communicate(timeout=60 * helpers.machine.SLOWER)[0] == f"2 words, the longest is {'é' * n}\n"
    with php.attach(php_key, create=False) as segment:
        assert len(segment) == 0, "each job is replaced by its result, and each result is taken"


@needs_php
def test_what_is_no_job_is_answered_by_an_error(program, worker, php_key):
    assert run(program("page.php", b"\xff".decode("utf-8", "surrogateescape"))).startswith("a job is an array")
    lock = php.Semaphore(php_key, permissions=0o660)
    with php.attach(php_key, create=False, lock=lock) as segment:
        segment[5] = [1, 2]
        helpers.until(lambda: segment.get(-5) == {"error": "a job is an array with a text in UTF-8"})
        assert 5 not in segment
    worker.kill()
    worker.wait()
    # A job stays until it is done, and a page gives up.
    with php.attach(php_key, create=False, lock=lock) as segment:
        segment[7] = {"text": "left behind"}
    lock.close()


@needs_php
def test_a_page_without_a_worker_gives_up_and_takes_its_job_back(program, php_key, tmp_path):
    command = program("page.php", "text")
    page = tmp_path / "page.php"
    page.write_text(page.read_text().replace("PATIENCE = 10.0", "PATIENCE = 0.1"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * helpers.machine.SLOWER, check=False)
    assert done.returncode == 1 and "does worker.py run?" in done.stdout and not done.stderr
    with php.attach(php_key, create=False) as segment:
        assert len(segment) == 0


@needs_php
def test_a_page_in_a_browser_is_the_same(program, worker, children, tmp_path):
    program("page.php")
    # PHP's own server takes a port; 0 lets the system choose, and it tells which.
    command = ["php", "-S", "127.0.0.1:0", str(tmp_path / "page.php")]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
    children.append(server)
    line = ""
    while not (found := re.search(r"\(http://(127\.0\.0\.1:\d+)\) started", line)):
        line = server.stderr.readline()
        assert line, "PHP's server ended"
    ask = f"echo file_get_contents('http://{found[1]}/?text=a+longer+text');"
    assert real_php.run(ask).stdout == "3 words, the longest is longer\n"


SIDES = ["shared_memory.php", "shared_memory.py"]


@needs_php
@pytest.mark.parametrize("sender", SIDES)
@pytest.mark.parametrize("receiver", SIDES)
def test_either_side_of_shared_memory_sends(program, php_key, sender, receiver):
    for number, text in ((1, "Hello, world"), (-5, "é" * 20), (2**63 - 1, ""), (1, "again")):
        assert run(program(sender, "send", number, text)) == "Message sent to shared memory segment.\n"
        assert run(program(receiver, "get", number)) == f"Received data: {text}\n"
    assert run(program(receiver, "delete", -5)) == "Shared memory segment content deleted.\n"
    for name in SIDES:
        assert run(program(name, "get", -5), 1) == run(program(name, "delete", -5), 1) == "There is nothing under -5.\n"
        assert run(program(name, "get", 1)) == "Received data: again\n"
        for wrong in ((), ("send",), ("send", "x", "y"), ("get",), ("delete", "1", "2"), ("get", 2**63)):
            assert run(program(name, *wrong), 2).startswith(f"Usage: {name}")
    assert "too large" in run(program("shared_memory.py", "send", 1, "x" * 2000), 1)
    assert run(program("shared_memory.php", "get", 1)) == "Received data: again\n"
    assert "Not enough shared memory" in run(program("shared_memory.php", "send", 3, "x" * 2000), 1)
    assert run(program(receiver, "delete")) == "Shared memory segment content deleted.\n"
    assert not [kind for kind, _, _ in system_v.objects({php_key}) if kind == "shm"]
    # What stays is named at the head of both programs.
    assert [kind for kind, _, _ in system_v.objects({php_key})] == ["sem"]
    for name in SIDES:
        assert re.search(r"delete +the whole segment; its semaphore stays", (EXAMPLES / name).read_text())
