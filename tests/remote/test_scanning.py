"""Iteration over more variables than one snapshot has, while the server becomes another one."""

import pytest
from helpers.servers import Server

import shmvar

pytest.importorskip("redis")
from shmvar._remote import link as link_module
from shmvar._remote.link import link_to

COUNT = 12_000


@pytest.fixture
def two(own_server):
    """The same segment on two servers, as on a primary and on the replica that is promoted: their tables differ."""
    first, second = own_server(), own_server()
    segment = shmvar.attach(first.url("x"))
    segment.put_many({n: n for n in range(COUNT)})
    for name in segment._requests.keys[:2]:
        second.call("RESTORE", name, 0, dump_of(first, name))
    return segment, shmvar.attach(second.url("x"), create=False)


def dump_of(server: Server, name):
    from redis import Redis

    with Redis(unix_socket_path=server.socket) as client:
        return client.dump(name)


def test_an_iteration_goes_on_at_another_server_and_meets_each_variable_once(two, monkeypatch):
    """A cursor of one server means nothing to another one: a third of the variables were left out without an error."""
    segment, promoted = two
    run, asked = link_module.Link.run, []
    assert link_to(segment._url.server) is segment._open

    def moving(self, requests, *more, **options):
        asked.extend(request for request in requests if b"\r\nscan\r\n" in request)
        return run(self if len(asked) < 5 else promoted._open, requests, *more, **options)

    monkeypatch.setattr(link_module.Link, "run", moving)
    assert sorted(segment) == [*range(COUNT)] and len(asked) > 12


def test_what_expires_is_not_met_and_a_segment_that_goes_is_not_found(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    segment.put_many({n: n for n in range(COUNT)}, ttl=1000)
    assert sorted(segment) == [*range(COUNT)]
    for n in range(100):
        segment.expire(n, 1e-6)
    assert sorted(segment) == [*range(100, COUNT)]
    walk = iter(segment)
    next(walk)
    segment.destroy()
    with pytest.raises(shmvar.SegmentNotFoundError):
        list(walk)
