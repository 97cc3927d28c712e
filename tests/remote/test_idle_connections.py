"""Connections that many threads left are closed in time, and interrupts while one is made leave no noise."""

import gc
import sys

import helpers
import pytest
from helpers.threads import in_threads

import shmvar
from shmvar._remote import link, numbered, pool, queue
from shmvar._remote.changes import RemoteChanges

THREADS = 20


@pytest.fixture
def crowded(own_server):
    """A server and a segment on it, to which many threads had to have a connection each."""
    server = own_server()
    segment = shmvar.attach(server.url("crowded", timeout=60))
    # Nobody is answered meanwhile, so that no thread finds another one's connection. An answer is waited for longer.
    server.call("CLIENT", "PAUSE", 3000, "ALL")
    in_threads(lambda number: segment.put(number, number), THREADS)
    assert len(segment) == THREADS and len(segment._link._idle) > THREADS // 2
    yield server, segment
    segment.detach()


def clients(server):
    return int(server.raw(b"INFO", b"clients").split(b"connected_clients:")[1].split(b"\r\n")[0])


def test_connections_that_no_call_needed_for_long_are_closed_while_others_go_on(crowded, monkeypatch):
    server, segment = crowded
    # The time-out of the URL is 60 seconds: all of this lies in the past of every connection.
    monkeypatch.setattr(pool, "_LONGEST_IDLE", -1000.0)
    for number in range(THREADS):
        segment[number] = -number
    assert len(segment._link._idle) == 1
    helpers.until(lambda: clients(server) <= 2)
    assert dict(segment) == {number: -number for number in range(THREADS)}


def test_connections_that_were_needed_just_now_are_kept(crowded):
    _, segment = crowded
    before = list(segment._link._idle)
    for number in range(2 * THREADS):
        segment[number] = -number
    assert segment._link._idle == before


UNFINISHED = [numbered.Requests, RemoteChanges, link.Link, queue.RemoteTakenItem]


@pytest.mark.parametrize("cls", UNFINISHED, ids=lambda cls: cls.__name__)
def test_what_an_interrupt_left_before_anything_was_made_goes_without_noise(cls, monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    cls.__new__(cls)
    gc.collect()
    assert [one.exc_value for one in heard] == []
