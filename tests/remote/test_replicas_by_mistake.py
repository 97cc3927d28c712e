"""A URL that leads to a replica that nobody promotes: what it says, what helps, and what works all the same."""

import helpers
import pytest
from helpers import clusters

import shmvar

pytestmark = pytest.mark.xdist_group("acks")
REMEDY = "Remedies, if it stays a replica: the address of its primary in the URL; readonly=True, to read only"


@pytest.fixture
def urls(pair):
    """Of one segment, on the primary and on its replica."""
    (replica,) = pair.replicas
    primary = pair.primary.url("by-mistake")
    with shmvar.attach(primary) as segment:
        segment["n"] = 5
        assert pair.primary.call("WAIT", 1, 5000) == 1 and clusters.follows(replica)
        yield primary, replica.url("by-mistake", timeout=2)
        segment.destroy()


@pytest.mark.parametrize(
    "call",
    [
        shmvar.attach,
        lambda url: shmvar.attach(url, create=False),
        lambda url: shmvar.attach(url, 1 << 31),
        shmvar.destroy,
    ],
    ids=["attach", "attach what is there", "attach with a size", "destroy"],
)
def test_what_writes_to_a_replica_says_what_helps_and_it_does(urls, call):
    primary, replica = urls
    with helpers.promptly(), pytest.raises(shmvar.SegmentUnavailableError) as caught:
        call(replica)
    assert "read only replica" in str(caught.value) and REMEDY in str(caught.value)
    assert caught.value.maybe_applied is False
    with shmvar.attach(replica, readonly=True) as reader:
        assert reader["n"] == 5 and list(reader) == ["n"]
    with shmvar.attach(primary) as segment:
        assert segment["n"] == 5
