"""Users, passwords and servers that are not fit: a typed error at once, with the remedy."""

import multiprocessing
import pickle
import shutil
import socket
import threading

import helpers
import pytest
from helpers import servers

import shmvar


@pytest.fixture(scope="module")
def guarded(server):
    """A server whose users have the rights of the page and no more."""
    if not servers.PAGE.exists():
        pytest.skip("the page is not beside the tests")
    started = servers.Server(server.options[0], port=servers.free_port())
    for name in ("app", "reader"):
        assert started.call("ACL", "SETUSER", name, "on", f">{name}-secret", *servers.rights(name)) == b"OK"
    yield started
    started.end()


def test_the_rights_of_the_page_are_enough(guarded):
    url = guarded.tcp("app", "app:app-secret@")
    segment = shmvar.attach(url, create=True)
    segment.put("a", 1, ttl=1000)
    segment.put_many({"large": b"x" * 9_000_000, "b": 2})
    assert segment.add("a") == 2 and segment.pop("b") == 2 and len(segment["large"]) == 9_000_000
    assert segment.swap("a", [1]) == 2 and segment.setdefault("n", 0.5) == 0.5 and segment.add("n", 1) == 1.5
    assert segment.modify("a", lambda old: [*old, 2]) == [1, 2] and sorted(segment) == ["a", "large", "n"]
    assert segment.expire("a", 50) and segment.touch("a") and segment.stat("a").expires_in < 51
    assert segment.popitem() and len(segment) == 2 and segment.info().count == 2 and segment.check().variables == 2
    segment.resize(1 << 25), segment.trim(), segment.clear()
    segment.put_many({number: number for number in range(12_000)})
    assert len(list(segment)) == 12_000
    assert [info.key for info in shmvar.segments(url)] == ["app"] and shmvar.exists(url)
    assert segment.destroy() is None and shmvar.destroy(url) is False


def test_a_reader_needs_few_rights_and_sends_nothing_else(guarded):
    writer = shmvar.attach(guarded.tcp("read", "app:app-secret@"))
    writer.put_many({"a": 1, "large": b"x" * 9_000_000})
    writer.put("ttl", 5, ttl=1000)
    reader = shmvar.attach(guarded.tcp("read", "reader:reader-secret@"), readonly=True)
    assert reader["a"] == 1 and len(reader["large"]) == 9_000_000 and reader.get("no") is None and "a" in reader
    assert sorted(reader) == ["a", "large", "ttl"] and len(reader) == 3 and reader["ttl"] == 5
    assert reader.get_many(["a", "ttl"]) == {"a": 1, "ttl": 5} and reader.version("a") == writer.version("a")
    assert reader.stat("ttl").expires_in < 1000 and reader.view("a") == 1 and reader.size == writer.size
    assert reader.info().used == writer.info().used and reader == {**reader} and reader.check().variables == 3
    with pytest.raises(shmvar.ReadOnlyError):
        reader["a"] = 2
    with pytest.raises(shmvar.SegmentAccessError):
        shmvar.attach(guarded.tcp("read", "reader:reader-secret@"))["a"] = 2
    writer.destroy()


CHANGES = {
    "put": lambda seg: seg.put("a", 2),
    "setitem": lambda seg: seg.__setitem__("a", 2),
    "delitem": lambda seg: seg.__delitem__("a"),
    "put of a large value": lambda seg: seg.put("a", b"x" * 50_000),
    "touch": lambda seg: seg.touch("a"),
    "expire": lambda seg: seg.expire("a", 5),
    "remove": lambda seg: seg.remove("a"),
    "add": lambda seg: seg.add("a"),
    "swap": lambda seg: seg.swap("a", 2),
    "compare_and_put": lambda seg: seg.compare_and_put("a", seg.version("a"), 2),
    "modify": lambda seg: seg.modify("a", str),
    "pop": lambda seg: seg.pop("a"),
    "popitem": lambda seg: seg.popitem(),
    "setdefault": lambda seg: seg.setdefault("b", 2),
    "update": lambda seg: seg.update({"a": 2}),
    "put_many": lambda seg: seg.put_many({"a": 2}),
    "ior": lambda seg: seg.__ior__({"a": 2}),
    "clear": lambda seg: seg.clear(),
    "resize": lambda seg: seg.resize(1 << 25),
    "trim": lambda seg: seg.trim(),
    "destroy": lambda seg: seg.destroy(),
}


@pytest.mark.parametrize("call", CHANGES)
def test_a_read_only_handle_changes_nothing_though_its_user_may(seg, key, call):
    seg["a"] = 1
    before = seg.version("a"), seg.size
    with shmvar.attach(key, readonly=True) as reader, pytest.raises(shmvar.ReadOnlyError):
        CHANGES[call](reader)
    assert seg.copy() == {"a": 1} and (seg.version("a"), seg.size) == before


@pytest.mark.parametrize("credentials", ["", "app:wrong-word@", "nobody:wrong-word@", ":wrong-word@"])
def test_a_wrong_password_is_an_error_at_once_and_no_text_has_it(own_server, credentials):
    guarded = own_server(port=servers.free_port())
    guarded.call("ACL", "SETUSER", "app", "on", ">app-secret", "~*", "&*", "+@all")
    guarded.call("ACL", "SETUSER", "default", "resetpass", ">other", "-@all")
    with helpers.promptly(), pytest.raises(shmvar.SegmentAccessError, match="Remedies") as caught:
        shmvar.attach(guarded.tcp("x", credentials))
    assert "wrong-word" not in str(caught.value) and isinstance(caught.value, PermissionError)


def test_the_password_is_in_no_repr_error_or_pickle(guarded):
    url = guarded.tcp("secret", "app:app-secret@")
    segment = shmvar.attach(url)
    segment[1] = "kept"
    texts = [repr(segment), segment.url, repr(segment.info()), repr(segment._url), repr(segment.keys())]
    with pytest.raises(ValueError, match="SHMVAR_PASSWORD") as caught:
        pickle.dumps(segment)
    texts.append(str(caught.value))
    for call in (lambda: shmvar.attach(url, create=True), lambda: segment.resize(1), lambda: segment["no"]):
        with pytest.raises((shmvar.Error, KeyError)) as caught:
            call()
        texts.append(str(caught.value))
    assert not [text for text in texts if "app-secret" in text]
    segment.destroy()


def test_a_handle_pickles_without_the_password_that_the_environment_has(guarded, monkeypatch):
    monkeypatch.setenv("SHMVAR_PASSWORD", "app-secret")
    segment = shmvar.attach(guarded.tcp("handed", "app@"))
    segment[1] = "kept"
    data = pickle.dumps(segment)
    again = pickle.loads(data)
    assert b"app-secret" not in data and again[1] == "kept" and not again.created and again.url == segment.url
    segment.destroy()
    with pytest.raises(shmvar.SegmentNotFoundError):
        pickle.loads(data)
    successor = shmvar.attach(segment.url)
    with pytest.raises(shmvar.SegmentNotFoundError, match="there is another one"):
        pickle.loads(data)
    successor.destroy()


def add_one(segment):
    segment.add("n")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_child_of_multiprocessing_gets_the_password(guarded, method):
    segment = shmvar.attach(guarded.tcp("child", "app:app-secret@"))
    child = multiprocessing.get_context(method).Process(target=segment.add, args=("n",))
    child.start()
    child.join(60)
    assert child.exitcode == 0 and segment["n"] == 1
    segment.destroy()


def test_a_server_that_may_delete_data_is_refused(own_server):
    evicting = own_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with pytest.raises(shmvar.IncompatibleSegmentError, match=r"allkeys-lru.*evicting=allow"):
        shmvar.attach(evicting.url("x"))
    assert shmvar.attach(evicting.url("x", evicting="allow")).created


def test_a_server_whose_memory_is_full_can_be_emptied(own_server):
    full = own_server("--maxmemory", "20mb", "--maxmemory-policy", "noeviction")
    segment = shmvar.attach(full.url("full"))
    with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
        for number in range(10_000):
            segment[number] = b"x" * 10_000
    there = len(segment)
    assert 100 < there < 10_000 and segment.remove(0) and segment.pop(1) and len(segment) == there - 2
    segment.check()
    again = shmvar.attach(full.url("full"))
    with pytest.raises(shmvar.SegmentExistsError):
        shmvar.attach(full.url("full"), create=True)
    with pytest.raises(shmvar.SegmentFullError, match="memory is full"):
        shmvar.attach(full.url("new"))
    again.clear()
    assert len(segment) == 0 and segment.check().used == 0

    def there_is_room():
        # The server gives the memory of what was removed back in a thread of its own.
        try:
            segment[1] = "room again"
        except shmvar.SegmentFullError:
            return False
        return True

    helpers.until(there_is_room)
    segment.destroy()


LARGE = {
    "put": lambda seg: seg.put("v", b"x" * 3_000_000),
    "put_many": lambda seg: seg.put_many({"v": b"x" * 3_000_000, "w": 1}),
    "swap": lambda seg: seg.swap("v", b"x" * 3_000_000),
    "setdefault": lambda seg: seg.setdefault("v", b"x" * 3_000_000),
}


def test_a_large_value_that_a_full_server_refuses_is_the_error_of_a_full_segment(own_server):
    full = own_server()
    segment = shmvar.attach(full.url("full"))
    used = int(full.call("INFO", "memory")["used_memory"])
    full.call("CONFIG", "SET", "maxmemory", str(used + 1_000_000))
    for call in LARGE.values():
        with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
            call(segment)
    full.call("CONFIG", "SET", "maxmemory", "0")
    assert len(segment) == 0


def test_what_is_no_such_database_or_no_such_server_is_a_typed_error(own_server):
    small = own_server(port=servers.free_port())
    small.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-select")
    with helpers.promptly(), pytest.raises(shmvar.IncompatibleSegmentError, match="DB index"):
        shmvar.attach(small.url("x", db=99))
    with helpers.promptly(), pytest.raises(shmvar.SegmentAccessError, match="Remedies"):
        shmvar.attach(small.tcp("x", "app:secret@").replace("/#", "/1#"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with listener.accept()[0] as client:
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with helpers.promptly(), pytest.raises(shmvar.IncompatibleSegmentError, match="no Valkey or Redis"):
            shmvar.attach(f"valkey://127.0.0.1:{listener.getsockname()[1]}/#x")
        thread.join(30)


def test_something_else_under_the_name_is_not_touched(server, key):
    name = "shmvar:{s" + key.partition("#")[2] + "}"
    server.call("SET", name, "somebody's")
    try:
        for call in (shmvar.attach, lambda key: shmvar.attach(key, readonly=True)):
            with pytest.raises(shmvar.IncompatibleSegmentError):
                call(key)
        assert server.call("GET", name) == b"somebody's"
    finally:
        server.call("DEL", name)
    server.call("HSET", name, "f", "2", "id", "x")
    try:
        with pytest.raises(shmvar.IncompatibleSegmentError, match="another format"):
            shmvar.attach(key)
        assert shmvar.segments(server.url()) is not None
    finally:
        server.call("DEL", name)


def test_a_server_that_is_too_old_is_refused(server, key, monkeypatch):
    from shmvar._remote import link

    call = link.Link.call

    def old(self, *arguments):
        return b"redis_version:6.2.14\r\n" if arguments == (b"INFO",) else call(self, *arguments)

    monkeypatch.setattr(link.Link, "call", old)
    # Another link: this one has looked at its server already.
    with pytest.raises(shmvar.IncompatibleSegmentError, match=r"6\.2\.14.*7\.0 or newer"):
        shmvar.attach(key.replace("#", "?timeout=9#"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_connection_over_tls_verifies_name_and_chain(own_server, tmp_path):
    for name in ("right", "wrong"):
        file, key = servers.certificate(tmp_path, name)
        port = servers.free_port()
        options = ["--tls-port", str(port), "--tls-cert-file", file, "--tls-key-file", key, "--tls-ca-cert-file", file]
        try:
            own_server(*options, "--tls-auth-clients", "no")
        except AssertionError as error:
            pytest.skip(f"needs a server that was built with TLS: {error}")
        url = f"valkeys://127.0.0.1:{port}/?ca={file}#tls"
        with helpers.promptly():
            if name == "right":
                with shmvar.attach(url) as segment:
                    segment["a"] = b"x" * 100_000
                    assert segment["a"] == b"x" * 100_000
            else:
                with pytest.raises(shmvar.SegmentAccessError, match="certificate"):
                    shmvar.attach(url)
            with pytest.raises(shmvar.SegmentAccessError, match=r"certificate.*Remedies"):
                shmvar.attach(f"valkeys://127.0.0.1:{port}/#tls")
