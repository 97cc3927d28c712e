"""For the tests of segments on a server: a server of their own, and keys that are URLs of it."""

import gc
import itertools
import json
import os

import pytest
from helpers import clusters, servers

import shmvar
from shmvar.cli import main


def pytest_collection_modifyitems(items):
    """What differs from a segment of this machine must fail: test_contract.py says by which row."""
    for item in items:
        row = item.module.row_of(item) if item.path.name == "test_contract.py" else None
        if row:
            item.add_marker(pytest.mark.xfail(reason=row, strict=True))


NUMBERS = itertools.count(1)
NEAR = {"near": "1MiB"} if "SHMVAR_REMOTE_NEAR" in os.environ else {}
"""With it, each handle of the contract suite has a near cache."""
IN_CLUSTER = "SHMVAR_REMOTE_CLUSTER" in os.environ
"""The segments of the tests are in a cluster: for test_contract.py, which does not care."""


@pytest.fixture(scope="session", params=servers.PROGRAMS or [None])
def server(request):
    """A server that every test of this process shares: each has its own keys."""
    if request.param is None:
        pytest.skip("needs valkey-server or redis-server")
    pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")
    started = servers.Server(request.param)
    yield started
    started.end()


@pytest.fixture
def own_server(server):
    """Starts servers that the test may harm."""
    started = []

    def start(*options, **named):
        started.append(servers.Server(server.options[0], *options, **named))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture
def proxy(server):
    """Between a client and the server."""
    between = servers.Proxy(server.socket)
    yield between
    between.end()


@pytest.fixture
def new_key(server, request):
    """Makes URLs that nobody else has; their segments are destroyed after the test."""
    made = []
    home = request.getfixturevalue("cluster") if IN_CLUSTER else server

    def make(kind=str):
        number = next(NUMBERS)
        made.append(home.url(number if kind is int else f"test-{number}", **NEAR))
        return made[-1]

    yield make
    for key in made:
        shmvar.destroy(key)


@pytest.fixture
def key(new_key):
    """The URL of a segment of the test's own."""
    return new_key()


@pytest.fixture
def seg(key):
    """A new segment; after the test `check` verifies what is kept twice."""
    segment = shmvar.attach(key)
    yield segment
    if not segment.detached and shmvar.exists(key):
        segment.check()
    segment.detach()


@pytest.fixture
def big(key):
    """A new segment with room for large values."""
    segment = shmvar.attach(key, 2 << 30)
    yield segment
    gc.collect()
    segment.detach()


@pytest.fixture(scope="session")
def pair(server):
    """A primary with one replica, which nothing replaces."""
    started = clusters.Replicated(server.options[0])
    yield started
    started.end()


@pytest.fixture(scope="session")
def watched(server):
    """A primary, two replicas and three sentinels."""
    started = clusters.Sentinels(server.options[0])
    yield started
    started.end()


@pytest.fixture(scope="session")
def cluster(server):
    """Three primaries with a replica each."""
    started = clusters.Cluster(server.options[0])
    yield started
    started.end()


@pytest.fixture
def doctor(capsys):
    """Runs `shmvar doctor`; returns what it found, as JSON, and checks that the exit status says the same."""

    def examine(url, *options):
        status = main.main(["doctor", url, "--json", *options])
        said = capsys.readouterr()
        found = json.loads(said.out)
        assert found["healthy"] == (status == 0) and not said.err
        assert all(finding["remedy"] for finding in found["findings"] if finding["level"] != "repaired")
        shown = main.main(["doctor", url, "--no-fix", *options])
        said = capsys.readouterr().out
        assert shown == status or "repaired" in [finding["level"] for finding in found["findings"]]
        assert said.splitlines()[-1] == "healthy" or "problem" in said.splitlines()[-1]
        return found

    return examine
