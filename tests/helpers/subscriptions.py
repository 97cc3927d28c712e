"""Channels of a segment on a server, and subscriptions to them."""

from shmvar._remote.connections import now
from shmvar._remote.listener import listener_of


def channel_of(segment, name=b"c:sx"):
    return segment._requests.data + name


def subscribed(segment, *names, **options):
    return listener_of(segment._open).subscribe([channel_of(segment, name) for name in names], **options)


def soon():
    return now() + 30


def numsub(server, channel):
    return server.call("PUBSUB", "SHARDNUMSUB", channel)[1]


def killed(server):
    return server.call("CLIENT", "KILL", "TYPE", "pubsub")
