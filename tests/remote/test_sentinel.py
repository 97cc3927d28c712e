"""A primary that sentinels watch."""

import contextlib
import socket
import threading
import types

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

    def look():
        link._locator.look_at = 0.0
        segment.get("a")
        helpers.until(lambda: link._locator._starts, what="the end of the questions")

    def all_answer():
        look()
        return not link._locator._failed

    asked, opened = [], []
    ask = link._ask

    def counted(*arguments, **named):
        asked.append(arguments)
        return ask(*arguments, **named)

    link._ask = counted
    for _ in range(5):
        # One that a busy machine has held up rests for some seconds, and is asked on a new connection.
        helpers.until(all_answer, 30)
        asked.clear(), opened.clear()
        with links_opened(opened):
            for _ in range(3):
                look()
        if not link._locator._failed:
            break
    # Each of three sentinels has two questions.
    assert len(asked) == 3 * 3 * 2 and not opened


def links_opened(found):
    """Notes each connection that is opened."""
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


class Claimant:
    """Says what a test tells it to, as a sentinel would; or nothing."""

    def __init__(self, port):
        self.says, self.epoch, self.silent = port, 1, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self.listener.accept()[0])
                threading.Thread(target=self._answer, args=(self.connections[-1],), daemon=True).start()

    def _answer(self, connection):
        with contextlib.suppress(OSError):
            # A client sends its next request when it has the answer.
            while request := connection.recv(65536):
                if self.silent:
                    continue
                words = [b"config-epoch", b"%d" % self.epoch] if b"MASTER" in request else [b"127.0.0.1", self.says]
                words = [b"%d" % word if isinstance(word, int) else word for word in words]
                connection.sendall(b"*2\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))

    def silence(self):
        self.silent = True

    def speak(self):
        self.silent = False
        self._cut(self.connections)

    def end(self):
        self._cut([self.listener, *self.connections])

    def _cut(self, sockets):
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def claimants(watched):
    watched.settle()
    found = [Claimant(watched.primary.port) for _ in range(3)]
    yield found
    for one in found:
        one.end()


def url_of(claimants, name):
    return f"valkey://{','.join(f'127.0.0.1:{one.port}' for one in claimants)}/?sentinel=mine#{name}"


def test_silent_sentinels_cost_nothing_while_the_primary_answers(claimants, name, monkeypatch):
    from shmvar._remote import pool

    monkeypatch.setattr(pool, "_LONGEST_QUESTION", 5.0)
    segment = shmvar.attach(url_of(claimants, name).replace("#", "&timeout=60#"))
    segment["a"] = 1
    locator = segment._link._locator
    for one in claimants:
        one.silence()
        with helpers.promptly(4):
            # One that waits for what they say takes five seconds.
            for _ in range(20):
                locator.look_at = 0.0
                assert segment["a"] == 1

    def look():
        locator.look_at = 0.0
        locator._failed.update(dict.fromkeys(list(locator._failed), 0.0))
        segment.get("a")
        return [host[1] for host in locator._failed]

    monkeypatch.setattr(pool, "_LONGEST_QUESTION", 0.2)
    for one in claimants:
        one.speak()
    helpers.until(lambda: not look() and locator._starts, what="the questions to all, though all were silent")
    claimants[0].silence()
    helpers.until(lambda: look() == [claimants[0].port], what="a question that gets no answer")
    claimants[0].speak()
    helpers.until(lambda: not look(), what="the question to the one that was silent")


def test_what_is_no_primary_is_refused_though_the_sentinels_name_it(claimants, watched, name):
    replica = next(one for one in watched.group.servers if one is not watched.primary)
    shmvar.attach(watched.url(name))["a"] = 1
    helpers.until(lambda: watched.primary.call("WAIT", 2, 100) == 2)
    for one in claimants:
        one.says = replica.port
    url = url_of(claimants, name)
    with pytest.raises(shmvar.SegmentUnavailableError, match="is no primary"):
        shmvar.attach(url.replace("#", "&timeout=2#"), readonly=True)
    for one in claimants:
        one.says = watched.primary.port
    # It is asked without a right of its own.
    watched.primary.call("ACL", "SETUSER", "few", "on", ">few-secret", "~*", "-@all", "+hget", "+hmget", "+evalsha_ro")
    watched.primary.call("ACL", "SETUSER", "few", "+eval_ro", "+cluster|slots")
    reader = shmvar.attach(url.replace("valkey://", "valkey://few:few-secret@"), readonly=True)
    assert reader["a"] == 1


def test_who_only_listens_notices_another_primary(claimants, name):
    from shmvar._remote.listener import listener_of

    segment = shmvar.attach(url_of(claimants, name))
    segment["a"] = 1
    link, channel = segment._link, segment._requests.data + b"c:sa"
    with contextlib.closing(listener_of(link).subscribe([channel])) as subscription:
        helpers.until(lambda: subscription.listener.number, what="the connection")
        before, port = link.moves, claimants[0].says
        for one in claimants:
            one.says = 1
        helpers.until(lambda: link.moves > before, what="the other primary")
    for one in claimants:
        one.says = port


@pytest.fixture
def views():
    """What is known by sentinels that the test makes up: the epoch and the address that each names, if it answers."""
    pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")
    from shmvar._remote import connections, sentinels, url

    made = types.SimpleNamespace(asked=[], says={})
    hosts = [("a", 1), ("b", 1), ("c", 1)]
    found = sentinels.Sentinels(url.parse("valkey://a:1,b:1,c:1/?sentinel=mine#k").server)

    def ask(host, *words, sentinel):
        made.asked.append(host[0])
        if host[0] not in made.says:
            raise connections.exceptions.TimeoutError("silent")
        epoch, address = made.says[host[0]]
        return [b"config-epoch", b"%d" % epoch] if b"MASTER" in words else [address, b"6379"]

    def where():
        made.asked.clear()
        found.doubt(None)
        return found.where(ask)[0]

    made.where, made.hosts, made.sentinels = where, hosts, found
    return made


def test_the_sentinel_that_knows_the_last_failover_is_believed(views):
    for knows in "abc":
        views.says = {host: (2, b"new") if host == knows else (1, b"old") for host in "abc"}
        assert views.where() == "new"
    views.says = {"a": (2, b"other"), "b": (2, b"new"), "c": (2, b"new")}
    assert views.where() == "new"
    # The one that is cut off from the others, alone.
    views.says = {"a": (1, b"old")}
    assert views.where() == "new"
    # They were set up anew.
    views.says = {"a": (0, b"first"), "b": (0, b"first")}
    views.sentinels._failed.clear()
    assert views.where() == "first"


def test_a_sentinel_that_gave_no_answer_is_asked_last_and_only_if_no_other_one_answers(views):
    views.says = {"b": (1, b"x"), "c": (1, b"x")}
    assert views.where() == "x" and views.asked == ["a", "b", "b", "c", "c"]
    assert views.where() == "x" and views.asked == ["b", "b", "c", "c"]
    views.says = {"a": (1, b"x")}
    assert views.where() == "x" and views.asked == ["b", "c", "a", "a"]


def test_an_answer_from_before_another_finding_is_not_believed(views):
    """It was asked for before a failover, in another thread, and came late."""
    views.says = dict.fromkeys("abc", (1, b"old"))
    assert views.where() == "old"
    findings = views.sentinels._findings
    views.says = dict.fromkeys("abc", (2, b"new"))
    assert views.where() == "new"
    late = lambda host, *words, sentinel: [b"config-epoch", b"1"] if b"MASTER" in words else [b"old", b"6379"]  # noqa: E731
    assert views.sentinels._find(late, findings) is None and views.sentinels.where(late)[0] == "new"
