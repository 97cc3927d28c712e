"""Segments in a cluster: each in one slot, wherever that slot is."""

import pickle
import threading

import helpers
import pytest
from helpers import clusters

import shmvar
from shmvar._remote import link as links
from shmvar._remote import locate

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def names(cluster):
    """Keys of this test, of which each primary has some."""
    cluster.settle()
    made = [f"{kind}{number}" for number in range(9) for kind in ("segment-",)]
    yield made
    for name in made:
        shmvar.destroy(cluster.url(name))


def test_the_slot_of_a_segment_is_that_of_all_of_its_names(cluster, names):
    from shmvar._remote.names import prefix_of

    node = cluster.servers[0]
    for key in (*names, 5, -7, "a{b}c", "{", "ü"):
        prefix = prefix_of(key)
        for name in (prefix, prefix + b":0123456789ab:v", prefix + b":0123456789ab:b:\0\1}{:3", prefix + b":gone"):
            assert node.call("CLUSTER", "KEYSLOT", name) == locate.slot_of(prefix)


def test_many_segments_are_spread_and_each_call_finds_its_own(cluster, names):
    handles = [shmvar.attach(cluster.url(name), create=True) for name in names]
    for number, segment in enumerate(handles):
        segment.put_many({"a": number, "large": bytes(100_000 + number)})
        assert segment.add("n") == 1
    for number, name in enumerate(names):
        # By another node than before, and for reading only.
        reader = shmvar.attach(cluster.url(name, seeds=1 + number % 6), readonly=True)
        assert reader["a"] == number and len(reader["large"]) == 100_000 + number and len(reader) == 3
        assert shmvar.exists(cluster.url(name, seeds=3)) and not shmvar.exists(cluster.url(f"no-{name}"))
    assert len({segment._link.place for segment in handles}) == 3
    assert {info.key for info in shmvar.segments(cluster.url())} >= set(names)
    assert shmvar.copy(handles[0], shmvar.attach(cluster.url("copied"))) == 3
    assert shmvar.attach(cluster.url("copied"))["a"] == 0
    assert shmvar.destroy(cluster.url("copied")) and shmvar.destroy(cluster.url(names[0]))
    with pytest.raises(shmvar.SegmentNotFoundError):
        handles[0]["a"]
    again = pickle.loads(pickle.dumps(handles[1]))
    assert again["a"] == 1 and not again.created


def test_a_unix_socket_or_a_replica_is_a_seed_as_any_other(cluster, names):
    shmvar.attach(cluster.url(names[0]))["a"] = 1
    for node in cluster.servers:
        assert shmvar.attach(node.url(names[0]))["a"] == 1
        assert shmvar.attach(node.tcp(names[0]), readonly=True)["a"] == 1


def test_segments_of_one_slot_share_a_link_and_others_do_not(cluster, names):
    one, same = shmvar.attach(cluster.url(names[0])), shmvar.attach(cluster.url(names[0]))
    other = shmvar.attach(cluster.url(names[1]))
    assert one._link is same._link and one._link is not other._link


def test_a_seed_that_is_down_is_passed_over(cluster, names):
    port = clusters.free_port()
    url = f"valkey://127.0.0.1:{port},127.0.0.1:{cluster.servers[1].port}/#{names[0]}"
    shmvar.attach(url)["a"] = 5
    assert shmvar.attach(cluster.url(names[0]))["a"] == 5
    with helpers.promptly(), pytest.raises(shmvar.SegmentUnavailableError, match="cannot be reached"):
        shmvar.attach(f"valkey://127.0.0.1:{port},127.0.0.1:1/#{names[0]}")


def test_what_does_not_go_with_a_cluster_or_without_one_is_an_error_that_says_so(cluster, server, own_server):
    for attach in (shmvar.attach, lambda url: shmvar.attach(url, readonly=True), shmvar.exists):
        with pytest.raises(shmvar.IncompatibleSegmentError, match="cluster"):
            attach(cluster.url("x").replace("/#", "/1#"))
    two = [own_server(port=clusters.free_port()) for _ in range(2)]
    with pytest.raises(shmvar.IncompatibleSegmentError, match=r"part of no cluster.*sentinel=NAME"):
        shmvar.attach(f"valkey://127.0.0.1:{two[0].port},127.0.0.1:{two[1].port}/#x")


def test_an_outdated_view_is_mended_by_the_node_that_is_asked(cluster, names):
    segment = shmvar.attach(cluster.url(names[0]))
    segment["a"] = 1
    link = segment._link
    right, wrong = (
        link.place,
        next(server for server in cluster.servers if f":{server.port}" not in segment._link.place),
    )
    for _ in range(3):
        # As if the slot had been there until now.
        link._locator.moved(("127.0.0.1", wrong.port))
        link.close()
        before = link.moves
        assert segment.add("n") and segment["a"] == 1
        assert link.place == right and link.moves == before + 2
    assert segment["n"] == 3


def test_threads_that_find_another_primary_leave_no_connection_to_the_old_one(cluster, names):
    segment = shmvar.attach(cluster.url(names[0]))
    slot = segment._link._locator.slot
    end = threading.Event()
    done = [0] * 4

    def work(number):
        while not end.is_set():
            segment.add("n")
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        old = cluster.primary_of(slot)
        before = segment._link.moves
        cluster.planned(slot)
        helpers.until(lambda: segment._link.moves > before, 30)
        goals = [count + 20 for count in done]
        helpers.until(lambda: all(count >= goal for count, goal in zip(done, goals, strict=True)), 30)
    finally:
        end.set()
        for thread in threads:
            thread.join(60)
    assert segment["n"] == sum(done)
    assert not [connection for connection in segment._link._idle if connection.address[1] == old.port]
    cluster.settle()


def test_a_reader_without_the_right_to_the_slots_is_told_which_one_it_needs(cluster, names):
    for server in cluster.servers:
        server.call("ACL", "SETUSER", "blind", "on", ">word", "~*", "&*", "+@all", "-cluster")
    try:
        told = 0
        seed = cluster.primary_of(0)
        for name in names:
            shmvar.attach(cluster.url(name))["a"] = 1
            try:
                reader = shmvar.attach(seed.tcp(name, "blind:word@"), readonly=True)
            except shmvar.IncompatibleSegmentError as error:
                assert "+cluster|slots" in str(error) and "word" not in str(error)
                told += 1
            else:
                assert reader["a"] == 1
        assert 0 < told < len(names)
    finally:
        for server in cluster.servers:
            server.call("ACL", "DELUSER", "blind")


@pytest.mark.parametrize(
    "answer",
    [
        b"*-1\r\n",
        b"$3\r\nyes\r\n",
        b"*1\r\n*2\r\n:0\r\n:16383\r\n",
        b"*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:99999\r\n",
        b"*1\r\n*3\r\n:0\r\n:16383\r\n*1\r\n$9\r\n127.0.0.1\r\n",
        b"*1\r\n*3\r\n:0\r\n:16383\r\n:5\r\n",
        b"*1\r\n*3\r\n$1\r\na\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:7\r\n",
    ],
)
def test_a_hostile_view_of_the_slots_is_no_view(answer):
    import hiredis

    reader = hiredis.Reader()
    reader.feed(answer)
    with pytest.raises(shmvar.IncompatibleSegmentError, match="CLUSTER SLOTS"):
        locate._read_slots(reader.gets(False), ("127.0.0.1", 1))


@pytest.mark.parametrize("word", ["MOVED", "MOVED x", "MOVED 5 nowhere", "ASK 5 :x", "MOVED 5 [::1:2:x"])
def test_a_redirection_that_names_no_server_is_a_typed_error(word):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    while client.recv(1 << 16):
                        client.sendall(b"-%b\r\n" % word.encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with helpers.promptly(), pytest.raises(shmvar.IncompatibleSegmentError):
            shmvar.attach(f"valkey://127.0.0.1:{listener.getsockname()[1]}/#x", readonly=True)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_redirections_in_a_circle_end_with_the_time(cluster, names):
    """A node that sends everybody to another one for ever."""
    segment = shmvar.attach(cluster.url(names[0], timeout=1))
    link, other = segment._link, cluster.servers[1]
    tries = []

    def answers(connection, count):
        tries.append(count)
        return [links.exceptions.MovedError(f"{link._locator.slot} 127.0.0.1:{other.port}")] * count

    link._answers = answers
    with helpers.promptly(), pytest.raises(shmvar.SegmentUnavailableError, match="on its way"):
        segment["a"]
    assert 5 < len(tries) < 40, "without a pause"


def test_after_a_fork_in_a_cluster_the_child_has_connections_of_its_own(cluster, names):
    segment = shmvar.attach(cluster.url(names[0]))
    segment.add("n")

    def child():
        for _ in range(50):
            segment.add("n")

    pids = [helpers.fork(child) for _ in range(2)]
    for _ in range(50):
        segment.add("n")
    assert [helpers.reap(pid) for pid in pids] == [0, 0] and segment["n"] == 151


def test_what_scripts_meet_while_their_slot_moves_means_later_in_the_words_of_each_server():
    pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")
    from shmvar._remote import refusals, url
    from shmvar._remote.connections import exceptions

    server = url.parse("valkey://h/#k").server
    for text in (
        "Script attempted to access a non local key in a cluster node script: 0123, on @user_script:5.",
        "Unable to execute command 'unlink' in script because undeclared keys were accessed during rehashing of the "
        "slot script: 0123, on @user_script:5.",
    ):
        assert text in refusals.refusal(server, "h:6379", exceptions.ResponseError(text)).why
