"""`shmvar doctor URL`: what it sees of a server and its segments, what it says and repairs; and its exit status."""

import shutil
import socket
import threading
import time

import helpers
import pytest
from helpers import servers
from helpers.server_doctor import of, problem

import shmvar
from shmvar._remote import blobs
from shmvar._remote.records import Stored
from shmvar.cli import main
from shmvar.cli.doctor.server import asking, examination, rights, segments

# --- a server that is well


def test_of_a_sound_server_it_says_what_it_is_and_what_is_there(own_server, doctor):
    own = own_server("--appendonly", "yes", "--maxmemory", "200mb", port=servers.free_port())
    with shmvar.attach(own.tcp("well")) as segment, shmvar.attach(own.tcp("5"), 1 << 20):
        segment.put_many({"a": 1, "large": b"x" * 5_000_000})
        segment.put("b", 2, ttl=100)
        found = doctor(own.tcp())
        info = segment.info()
    server = found["server"]
    assert found["findings"] == [] and found["healthy"] and found["unseen"] == [] and found["leftovers"] == []
    assert server["software"] in ("Valkey", "Redis") and int(server["version"].split(".")[0]) >= 7
    assert (server["role"], server["mode"], server["replicas"], server["cluster"]) == (
        "primary",
        "standalone",
        [],
        None,
    )
    assert server["persistence"]["append_only"] and server["persistence"]["fsync"] == "everysec"
    assert server["memory"]["limit"] == 200 << 20 and server["memory"]["policy"] == "noeviction"
    assert server["limits"]["proto_max_bulk_len"] == 512 << 20 and server["limits"]["busy_reply_threshold"] == 5000
    assert server["limits"]["client_output_buffer_limit"]["pubsub"] == [32 << 20, 8 << 20, 60]
    assert abs(server["clock"]["ahead"]) <= server["clock"]["within"] + 0.05
    assert {seen["key"] for seen in found["segments"]} == {"well", 5}
    (seen,) = [seen for seen in found["segments"] if seen["key"] == "well"]
    assert seen["check"] == {"result": "sound"} and seen["url"] == own.tcp("well")
    assert (seen["info"]["count"], seen["info"]["used"], seen["info"]["size"]) == (3, info.used, info.size)
    assert not [what for what in found["rights"]["lacking"] if what not in rights.ON_DEMAND]
    found = doctor(own.tcp("5"))
    assert [seen["key"] for seen in found["segments"]] == [5] and found["healthy"]
    before = {info.key for info in shmvar.segments()}
    assert doctor(own.tcp("5", near="1M", acks=0))["healthy"]
    assert not [info.key for info in shmvar.segments() if "near" in str(info.key) and info.key not in before]
    found = doctor(own.tcp("none"))
    assert of(found, "problem") == [f"there is no segment {own.tcp('none')}"]


def test_a_server_as_it_comes_is_healthy_with_warnings(own_server, doctor, capsys):
    own = own_server("--save", "3600 1", "--maxmemory", "0")
    found = doctor(own.url())
    assert found["healthy"] and not of(found, "problem")
    assert [text for text in of(found, "warning") if "keeps snapshots (3600 1)" in text]
    assert [text for text in of(found, "warning") if "no maxmemory" in text]
    assert found["server"]["place"] == own.socket
    main.main(["doctor", own.url()])
    said = capsys.readouterr().out
    assert f"server {own.socket}" in said and "noeviction" in said and said.endswith("healthy\n")


# --- settings


SETTINGS = {
    "allkeys": (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "problem", "may delete any data"),
    "volatile": (["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"], "warning", "on their way"),
    "nothing is kept": (["--save", ""], "warning", "keeps nothing on a disk"),
    "fsync": (["--appendonly", "yes", "--appendfsync", "no"], "warning", "appendfsync no"),
    "strings": (["--proto-max-bulk-len", "1mb"], "problem", "strings of 1048576 bytes"),
    "buffers": (["--client-output-buffer-limit", "normal", "1mb", "1mb", "1"], "warning", "cuts off a client"),
    "messages": (["--client-output-buffer-limit", "pubsub", "1mb", "4kb", "1"], "warning", "whoever waits"),
    "scripts": (["--lua-time-limit", "100"], "warning", "slow after 100 ms"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_harms_is_found(own_server, doctor, name):
    options, level, text = SETTINGS[name]
    own = own_server(*options)
    found = doctor(own.url())
    assert [said for said in of(found, level) if text in said], found["findings"]
    assert found["healthy"] == (level == "warning")
    if name == "allkeys":
        found = doctor(own.url(evicting="allow"))
        assert found["healthy"] and [said for said in of(found, "warning") if text in said]


def test_a_replica_its_clock_and_its_primary(own_server, doctor):
    primary = own_server("--save", "", "--repl-diskless-sync-delay", "0", port=servers.free_port())
    replica = own_server("--replicaof", "127.0.0.1", str(primary.port), port=servers.free_port())
    shmvar.attach(primary.tcp("a"))["a"] = 1
    helpers.until(lambda: b"state=online" in primary.raw(b"INFO", b"replication"))
    found = doctor(primary.tcp())
    (seen,) = found["server"]["replicas"]
    assert seen["port"] == replica.port and seen["state"] == "online" and seen["reached"]
    assert abs(seen["clock"]["ahead"] - found["server"]["clock"]["ahead"]) < 1
    assert [text for text in of(found, "warning") if "cut off from its replicas" in text]
    assert [text for text in of(found, "problem") if "empties its replicas" in text]
    primary.call("CONFIG", "SET", "min-replicas-to-write", "1")
    primary.call("CONFIG", "SET", "appendonly", "yes")
    found = doctor(primary.tcp())
    assert found["healthy"] and not [text for text in of(found, "warning") if "cut off" in text]
    # What is a replica is looked at, too, and nothing there is changed.
    helpers.until(
        lambda: replica.raw(b"HGET", b"shmvar:{sa}", b"used").startswith(b"$2"), what="the change at the replica"
    )
    found = doctor(replica.tcp("a"))
    assert [text for text in of(found, "problem") if "it is a replica" in text]
    assert [seen["check"]["result"] for seen in found["segments"]] == ["sound"], found["findings"]


def test_a_cluster_all_primaries_and_their_segments(cluster, doctor):
    cluster.settle()
    made = [f"doctor-{number}" for number in range(8)]
    try:
        for name in made:
            with shmvar.attach(cluster.url(name)) as segment:
                segment["large"] = b"x" * 50_000
                leave(None, segment)
        found = doctor(cluster.url(""), "--no-fix")
        servers_seen = [found["server"], *found["others"]]
        assert len(servers_seen) == 3 and len({one["place"] for one in servers_seen}) == 3
        assert all(one["cluster"]["state"] == "ok" and len(one["replicas"]) == 1 for one in servers_seen)
        assert not [text for text in of(found, "problem", "server") if "cluster" in text]
        assert {seen["key"] for seen in found["segments"]} >= set(made)
        assert {seen["check"]["result"] for seen in found["segments"]} == {"sound"}
        assert not of(found, "problem", "user") and len(found["leftovers"]) == 16
        found = doctor(cluster.url(""))
        assert len(of(found, "repaired")) == 16 and not doctor(cluster.url(""))["leftovers"]
        found = doctor(cluster.url(made[0]))
        assert [seen["key"] for seen in found["segments"]] == [made[0]] and found["others"] == []
        for name in made:
            with shmvar.attach(cluster.url(name)) as segment:
                assert segment["large"] == b"x" * 50_000
    finally:
        for name in made:
            shmvar.destroy(cluster.url(name))


def test_by_way_of_sentinels_it_looks_at_the_primary(watched, doctor):
    watched.settle()
    found = doctor(watched.url("", acks=1))
    assert found["server"]["role"] == "primary" and found["server"]["mode"] == "standalone"
    assert found["server"]["place"].endswith(f":{watched.primary.port}")
    assert len(found["server"]["replicas"]) == 2 and all(one["reached"] for one in found["server"]["replicas"])
    assert not [text for text in of(found, "problem", "server") if "acks" in text]
    assert [text for text in of(doctor(watched.url("", acks=5)), "problem") if "acks=5" in text]


# --- segments, and what is left


def test_a_damaged_segment_is_a_problem_and_stays_as_it_is(own_server, doctor):
    own = own_server()
    segment = shmvar.attach(own.url("hurt"))
    segment["a"] = 1
    own.call("HSET", "shmvar:{shurt}", "used", "77")
    own.call("HSET", "shmvar:{sother}", "f", "2", "id", "0123456789ab")
    own.call("SET", "shmvar:{stext}", "somebody's")
    found = doctor(own.url())
    assert [text for text in of(found, "problem", "'hurt'") if "used is 77" in text]
    assert [text for text in of(found, "problem", "'other'") if "another format" in text]
    assert not found["leftovers"] and segment["a"] == 1 and own.call("GET", "shmvar:{stext}") == b"somebody's"
    segment.clear()
    assert not of(doctor(own.url("hurt")), "problem")


def leave(_own, segment):
    """Keys of a segment that is gone, chunks that nobody has, and chunks that are on their way."""
    data, call = segment._requests.data, segment._link.call
    call(b"SET", data + b"b:orphan:1:0", b"x" * 1000)
    call(b"SET", data + b"b:\n{}:\x00\xff*[:12", b"x" * 1000)
    call(b"SET", data + b"b:going__.:0", b"x" * 1000, b"PX", 600_000)
    gone = segment._requests.prefix + b":00000000dead:"
    call(b"HSET", gone + b"v", b"i1", b"x")
    call(b"SET", gone + b"b:01234567:0", b"x" * 1000)
    return data, gone


def test_what_nobody_can_reach_is_removed_and_nothing_else(own_server, doctor):
    own = own_server()
    segment = shmvar.attach(own.url("kept"))
    segment.put_many({"large": b"y" * 9_000_000, "a": 1})
    segment.put("ttl", b"z" * 50_000, ttl=1000)
    values = segment.copy()
    data, gone = leave(own, segment)
    own.call("SET", "shmvar:{sgone}:gone", "x")
    own.call("SET", "somebody:b:else", "x")
    before = own.call("DBSIZE")
    found = doctor(own.url(), "--no-fix")
    assert len(of(found, "problem")) == 2 and not found["healthy"] and own.call("DBSIZE") == before
    assert sorted(left["keys"] for left in found["leftovers"]) == [1, 2] if b"\n{}" in data else True
    found = doctor(own.url())
    assert found["healthy"] and len(of(found, "repaired")) == 2
    assert sum(left["keys"] for left in found["leftovers"]) == before - own.call("DBSIZE")
    assert own.call("EXISTS", data + b"b:going__.:0", "somebody:b:else", "shmvar:{sgone}:gone") == 3
    assert own.call("EXISTS", data + b"b:orphan:1:0", gone + b"v", gone + b"b:01234567:0") == 0
    assert segment.copy() == values and not doctor(own.url())["leftovers"]
    segment.check()


def test_who_may_not_remove_it_is_told(own_server, doctor):
    own = own_server(port=servers.free_port())
    segment = shmvar.attach(own.tcp("kept"))
    leave(own, segment)
    own.call("ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all", "-unlink")
    found = doctor(own.tcp("", "app:word@"))
    (finding,) = [f for f in found["findings"] if "key" in f["about"] and "gone" in f["text"]]
    assert finding["level"] == "problem" and "UNLINK" in finding["remedy"]
    own.call("ACL", "SETUSER", "app", "+unlink", "-hget")
    found = doctor(own.tcp("", "app:word@"))
    assert not found["leftovers"], "what cannot be seen is not taken for gone"
    own.call("ACL", "SETUSER", "app", "+hget", "-ttl")
    found = doctor(own.tcp("", "app:word@"), "--no-fix")
    assert [left["id"] for left in found["leftovers"]] == ["00000000dead"] and "TTL" in found["unseen"]


def test_a_large_value_that_is_stored_meanwhile_is_no_orphan(server, key, seg, monkeypatch):
    """Wherever the doctor is when the change makes the chunks stay."""
    ask = asking.Server.ask
    url = seg._url
    for moment in range(1, 12):
        stored = Stored(b"%d" % moment * 30_000)
        blobs.Upload(seg._link, seg._requests.data, [stored]).send()
        asked = 0

        def late(self, *words, _stored=stored, _moment=moment, **named):
            nonlocal asked
            asked += 1
            if asked == _moment:
                assert seg._single("v", b"put", _stored, b"", b"") != b"a"
            return ask(self, *words, **named)

        with monkeypatch.context() as patch:
            patch.setattr(asking.Server, "ask", late)
            doctor = asking.Server(seg._link)
            names = segments.names(doctor, seg._requests.prefix)
            left = list(segments.leftovers(doctor, url, names, {seg._requests.prefix}, True))
        assert not left
        if asked < moment:
            seg._single("v", b"put", stored, b"", b"")
        assert seg["v"] == b"%d" % moment * 30_000 and url.key == seg.key


# --- servers that are none, or not for us


def test_a_server_that_cannot_be_reached(doctor, tmp_path):
    for url in (f"valkey://127.0.0.1:{servers.free_port()}/", f"valkey+unix://{tmp_path}/none#5"):
        with helpers.promptly():
            found = problem(doctor(url))
        assert "cannot be reached" in found["text"] and "start the server" in found["remedy"]


def test_a_server_that_is_too_old(server, doctor, monkeypatch):
    from shmvar._remote import link

    call = link.Link.call

    def old(self, *words):
        return b"redis_version:6.2.14\r\nredis_mode:standalone\r\n" if words == (b"INFO",) else call(self, *words)

    monkeypatch.setattr(link.Link, "call", old)
    found = doctor(server.url("", timeout=8))
    assert [text for text in of(found, "problem") if "6.2.14" in text and "too old" in text]


def test_what_is_no_server_of_this_kind(doctor):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for _ in range(2):
                with listener.accept()[0] as client:
                    client.recv(1 << 16)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with helpers.promptly():
            found = problem(doctor(f"valkey://127.0.0.1:{listener.getsockname()[1]}/"))
        thread.join(30)
    assert "no Valkey or Redis" in found["text"] and "7.0" in found["remedy"]


def test_a_sentinel_is_no_server_of_segments(server, doctor, tmp_path):
    import subprocess

    port = servers.free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\ndir {tmp_path}\n")
    program = [server.options[0], str(config), "--sentinel"]
    process = subprocess.Popen([*servers.TETHER, *program], stdout=-3, stderr=-3, stdin=-3)
    try:

        def up():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        helpers.until(up)
        found = doctor(f"valkey://127.0.0.1:{port}/")
        assert [text for text in of(found, "problem") if "is a Sentinel" in text]
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_certificate_for_another_name(own_server, doctor, tmp_path):
    file, key = servers.certificate(tmp_path, "wrong")
    port = servers.free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", file, "--tls-key-file", key, "--tls-ca-cert-file", file]
    try:
        own_server(*options, "--tls-auth-clients", "no")
    except AssertionError as error:
        pytest.skip(f"needs a server that was built with TLS: {error}")
    with helpers.promptly():
        found = problem(doctor(f"valkeys://127.0.0.1:{port}/?ca={file}"))
    assert "certificate" in found["text"] and "ca=" in found["remedy"]


def test_a_server_that_stops_meanwhile_is_a_problem_within_its_time(own_server, doctor, monkeypatch):
    own = own_server()
    names = segments.names

    def stop(server, prefix):
        own.kill()
        return names(server, prefix)

    monkeypatch.setattr(segments, "names", stop)
    began = time.monotonic()
    found = examination.examine(own.url("", timeout=1), True)
    assert time.monotonic() - began < 30 * helpers.machine.SLOWER
    assert not found["healthy"] and [text for text in of(found, "problem") if "has not answered for 1 s" in text]
    assert found["server"]["version"], "what was seen before is told"


@pytest.mark.parametrize("word", ["http://x", "5", "host:6379", "/run/socket"])
def test_what_is_no_url_is_a_wrong_use(capsys, word):
    assert main.main(["doctor", word]) == 2
    assert "valkey://" in capsys.readouterr().err
