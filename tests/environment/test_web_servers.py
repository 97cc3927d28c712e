"""uWSGI with two applications, each in an interpreter of its own (F58), and gunicorn with greenlets."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import helpers
import pytest
from helpers import installed_programs

import shmvar

APPLICATION = """
import os
import shmvar

segment = shmvar.attach({key!r})


def application(environ, start_response):
    segment[{name!r}] = {{"path": environ["PATH_INFO"], "large": bytearray(300_000)}}
    with segment.lock(timeout=20):
        count = segment.add("requests")
    assert len(segment.view({name!r})["large"]) == 300_000
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{name} {{os.getpid()}} {{count}}".encode()]
"""

WITHOUT = """
try:
    import shmvar
except ImportError as error:
    text = f"ImportError: {error}"
else:
    text = "imported"


def application(environ, start_response):
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


@pytest.fixture
def directory(tmp_path, key):
    """A directory with the applications `one` and `two`."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(APPLICATION.format(key=key, name=name))
    return tmp_path


def uwsgi(directory, *options):
    command = [installed_programs.beside("uwsgi"), "--http-socket", "127.0.0.1:0", "--master", "--processes", "2"]
    command += ["--enable-threads", "--die-on-term", "--manage-script-name"]
    command += ["--mount", "/one=one.py", "--mount", "/two=two.py", *options]
    for path in reversed(installed_programs.packages()):  # each goes before the last
        command += ["--pythonpath", path]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UWSGI")}
    return installed_programs.Server(command, directory, r"TCP address 127\.0\.0\.1:(\d+)", env=environment)


REFUSED = "ImportError: shmvar works in one interpreter"


@installed_programs.needs("uwsgi")
def test_f58_the_second_application_of_uwsgi_is_refused_and_the_first_works(directory, key):
    (directory / "two.py").write_text(WITHOUT)
    with uwsgi(directory) as server:
        for turn in range(1, 31):
            status, text = server.get("/one/path")
            assert (status, text.split()[0], text.split()[2]) == (200, "one", str(turn))
            status, text = server.get("/two/path")
            assert status == 500 and text.startswith(REFUSED) and "`single-interpreter = true`" in text
        with shmvar.attach(key) as segment:
            assert segment["one"]["path"] == "/path" and segment["requests"] == 30
            segment.check()
        log = server.log()
    assert not any(word in log for word in ("Segmentation", "signal 11", "signal 6", "died", "respawn")), log


@installed_programs.needs("uwsgi")
def test_f58_uwsgi_says_in_its_log_why_the_second_application_cannot_be_loaded(directory):
    with uwsgi(directory) as server:
        # The same as for any application that cannot be loaded; no signal.
        assert server.process.wait(60) == 22, server.log()
        assert REFUSED in server.log() and "`single-interpreter = true`" in server.log()


@installed_programs.needs("uwsgi")
def test_with_a_single_interpreter_both_applications_of_uwsgi_work(directory, key):
    with uwsgi(directory, "--single-interpreter") as server:
        server.wait_for("spawned uWSGI worker 2")
        for turn in range(1, 41):
            name = ("one", "two")[turn % 2]
            status, text = server.get(f"/{name}/path")
            assert (status, text.split()[0], text.split()[2]) == (200, name, str(turn)), server.log()
        with shmvar.attach(key) as segment:
            assert segment["one"]["path"] == segment["two"]["path"] == "/path"
            segment.check()
        log = server.log()
    assert "ImportError" not in log and "died" not in log, log


@installed_programs.needs("uwsgi")
def test_uwsgi_with_an_application_in_each_process_works(directory, key):
    """The remedy for applications that need interpreters of their own."""
    with (
        uwsgi(directory, "--lazy-apps", "--single-interpreter", "--threads", "4") as server,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda turn: server.get(f"/{('one', 'two')[turn % 2]}/"), range(60)))
        assert {status for status, _ in answers} == {200}, server.log()
        assert sorted(int(text.split()[2]) for _, text in answers) == list(range(1, 61))


COUNTER = """
import os
import gevent
import shmvar

segment = shmvar.attach({key!r})


def application(environ, start_response):
    count = segment.add("requests")
    gevent.sleep(0.01)
    segment["last"] = [os.getpid(), count]
    assert segment["last"][1] >= 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{os.getpid()}} {{count}}".encode()]
"""


@installed_programs.needs("gunicorn", "gevent")
def test_f53_workers_of_gunicorn_with_greenlets_share_a_counter(tmp_path, key):
    (tmp_path / "counter.py").write_text(COUNTER.format(key=key))
    with shmvar.attach(key) as segment:
        segment["requests"] = 0
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-k",
            "gevent",
            "-w",
            "2",
            "-b",
            "127.0.0.1:0",
            "counter:application",
        ]
        ready = r"Listening at: http://127\.0\.0\.1:(\d+)"
        with installed_programs.Server(command, tmp_path, ready) as server, ThreadPoolExecutor(16) as pool:
            counts, pids = [], set()
            # Either worker may take a connection: the test goes on until both have had some.
            for _ in helpers.looks(lambda: len(pids) == 2, seconds=0, turns=2):
                for status, text in pool.map(lambda _: server.get(), range(100)):
                    assert status == 200, server.log()
                    pid, count = text.split()
                    pids.add(pid)
                    counts.append(int(count))
            assert sorted(counts) == list(range(1, len(counts) + 1)) and segment["requests"] == len(counts)
            log = server.log()
        assert "Worker" not in log.replace("Using worker", "") or "was sent" not in log, log
        segment.check()
