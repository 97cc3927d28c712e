"""A primary that sentinels watch."""

import helpers
import pytest
from helpers import clusters, servers

import shmvar

pytestmark = pytest.mark.xdist_group("sentinel")


@pytest.fixture
def name(watched):
    watched.settle()
    key = "by-sentinels"
    yield key
    shmvar.destroy(watched.url(key))


def test_a_segment_is_found_by_the_name_of_its_primary(watched, name):
    segment = shmvar.attach(watched.url(name), create=True)
    segment.put_many({"a": 1, "large": bytes(100_000)})
    assert segment._link.place == f"127.0.0.1:{watched.primary.port}" and segment.add("a") == 2
    reader = shmvar.attach(watched.url(name), readonly=True)
    assert reader["a"] == 2 and len(reader["large"]) == 100_000
    assert name in [info.key for info in shmvar.segments(watched.url())] and shmvar.exists(watched.url(name))


def test_a_sentinel_that_is_down_is_passed_over(watched, name):
    hosts = f"127.0.0.1:{clusters.free_port()},127.0.0.1:{watched.sentinels[2].port}"
    shmvar.attach(f"valkey://{hosts}/?sentinel=mine#{name}")["a"] = 5
    assert shmvar.attach(watched.url(name))["a"] == 5
    for host in (f"127.0.0.1:{clusters.free_port()}", "no-such-host.invalid"):
        with helpers.promptly(), pytest.raises(shmvar.SegmentUnavailableError, match="cannot be reached"):
            shmvar.attach(f"valkey://{host}/?sentinel=mine#{name}")


def test_a_name_that_no_sentinel_knows_is_an_error_at_once(watched):
    with helpers.promptly(), pytest.raises(shmvar.IncompatibleSegmentError, match="no primary of the name other"):
        shmvar.attach(watched.url("x").replace("sentinel=mine", "sentinel=other"))
    # A server that is no sentinel.
    with helpers.promptly(), pytest.raises(shmvar.IncompatibleSegmentError, match="is no sentinel"):
        shmvar.attach(watched.primary.tcp("x", sentinel="mine"))


@pytest.mark.skipif(not servers.PAGE.exists(), reason="the page is not beside the tests")
def test_sentinels_have_a_user_and_a_password_of_their_own(watched, name, tmp_path, monkeypatch):
    for sentinel in watched.sentinels:
        sentinel.call("ACL", "SETUSER", "watch", "on", ">sentinel-secret", *servers.rights("watch"))
        sentinel.call("ACL", "SETUSER", "default", "resetpass", ">other-secret")
    try:
        with helpers.promptly(), pytest.raises(shmvar.SegmentAccessError, match="SHMVAR_SENTINEL_PASSWORD") as caught:
            shmvar.attach(watched.url(name))
        file = tmp_path / "password"
        file.write_text("sentinel-secret\n")
        options = {"sentinel_user": "watch", "sentinel_password_file": file}
        segment = shmvar.attach(watched.url(name, **options))
        segment["a"] = 1
        monkeypatch.setenv("SHMVAR_SENTINEL_PASSWORD", "sentinel-secret")
        again = shmvar.attach(watched.url(name, sentinel_user="watch"))
        monkeypatch.setenv("SHMVAR_SENTINEL_PASSWORD", "wrong-secret")
        with pytest.raises(shmvar.SegmentAccessError) as other:
            shmvar.attach(watched.url(name, sentinel_user="watch"))
        texts = [str(caught.value), str(other.value), repr(segment), repr(segment._url), segment.url]
        assert again["a"] == 1 and not [text for text in texts if "-secret" in text]
    finally:
        for sentinel in watched.sentinels:
            sentinel.call("ACL", "SETUSER", "default", "nopass", password="other-secret")


def test_a_primary_that_hands_over_and_says_nothing_is_noticed(watched, name):
    """After a planned failover the old primary takes changes for ten seconds more: no error tells of the new one."""
    segment = shmvar.attach(watched.url(name))
    segment["a"] = 1
    helpers.until(lambda: watched.primary.call("WAIT", 2, 100) == 2)
    old, before = watched.primary, segment._link.moves
    watched.planned()
    with helpers.promptly():
        helpers.until(lambda: segment["a"] and segment._link.moves > before, 5)
    assert segment._link.place != f"127.0.0.1:{old.port}"
    assert segment.add("a") == 2 and watched.primary.call("EXISTS", segment._variables) == 1
    watched.settle()


def test_a_connection_that_was_in_use_when_the_primary_moved_is_not_used_again(watched, name):
    """The old primary would take its changes for ten seconds more, without a word."""
    segment = shmvar.attach(watched.url(name))
    segment["a"] = 1
    link, answers = segment._link, segment._link._answers

    def meanwhile(connection, count):
        found = answers(connection, count)
        del link._answers
        # Another thread.
        link._found(("127.0.0.1", 1))
        return found

    link._answers = meanwhile
    before = link.moves
    assert segment["a"] == 1 and link.moves == before + 1 and not link._idle
    assert segment["a"] == 1 and link.moves == before + 2 and link._idle


def test_the_sentinels_are_asked_on_a_connection_that_is_kept(watched, name):
    segment = shmvar.attach(watched.url(name))
    link = segment._link
    link._locator.look_at = 0.0
    segment.get("a")
    asked, opened = [], []
    ask, open_one = link._ask, links_opened(opened)

    def counted(*arguments, **named):
        asked.append(arguments)
        return ask(*arguments, **named)

    link._ask = counted
    with open_one:
        for _ in range(3):
            link._locator.look_at = 0.0
            segment.get("a")
    assert len(asked) == 3 and not opened


def links_opened(found):
    """Notes each connection that is opened."""
    import contextlib

    from shmvar._remote import connections

    @contextlib.contextmanager
    def noting():
        usual = connections.opened

        def noted(*arguments):
            found.append(arguments)
            return usual(*arguments)

        connections.opened = noted
        try:
            yield
        finally:
            connections.opened = usual

    return noting()
