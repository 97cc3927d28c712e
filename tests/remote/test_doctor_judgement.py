"""What `shmvar doctor URL` judges from answers and facts that no server of the tests can be made to have."""

import random

import pytest

from shmvar.cli import main
from shmvar.cli.doctor.server import asking, judgement

JUNK = [
    asking.UNSEEN,
    None,
    b"",
    b"\xff\x00" * 50,
    0,
    -1,
    10**30,
    [],
    [None],
    [b"0", b"x"],
    [b"0", [None, 5, b"shmvar:{", b"shmvar:{sx}", b"shmvar:{sx}:000000000000:b:", b"shmvar:{%%}:0123456789ab:v"]],
    [[[]]],
    [b"9" * 30, b"1"],
    b"redis_version:\r\nconnected_slaves:9999999999999999999\r\nslave0:ip=,port=x,state\r\ncluster_enabled:1\r\n",
    b"redis_version:9.9\r\nmaxmemory:-1\r\nmaxmemory_policy:allkeys\r\nrole:\x1b[2J\r\nconnected_slaves:1\r\nslave0:\r\n",
    [b"client-output-buffer-limit", b"normal x 1 1 slave 1", b"busy-reply-threshold", b"many", b"save"],
]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_server_answers_the_doctor_comes_to_an_end(server, key, seg, monkeypatch, capsys, seed):
    """Whoever answers is believed nothing: no answer is an exception of the program, or a command to the terminal."""
    chance = random.Random(seed)
    ask = asking.Server.ask
    monkeypatch.setattr(asking.Server, "ask", lambda *words, **named: chance.choice([*JUNK, ask(*words, **named)]))
    for _ in range(60):
        assert main.main(["doctor", server.url() if chance.random() < 0.5 else key, "--no-fix"]) in (0, 1)
        said = capsys.readouterr()
        assert not said.err and "\x1b" not in said.out


def made_up(**changes):
    """Facts of a sound primary with a replica, changed."""
    facts = {
        "place": "h:1",
        "software": "Valkey",
        "version": "8.1.0",
        "mode": "standalone",
        "role": "master",
        "primary_link": None,
        "memory": {"used": 1, "limit": 100, "policy": "noeviction", "evicted": 0},
        "persistence": {
            "append_only": True,
            "fsync": "everysec",
            "snapshots": "",
            "append_only_works": True,
            "snapshots_work": True,
        },
        "replicas": [{"host": "r", "port": 2, "state": "online", "lag": 0, "clock": {"ahead": 0.0, "within": 0.01}}],
        "min_replicas_to_write": 1,
        "cluster": None,
        "limits": dict.fromkeys(
            ["proto_max_bulk_len", "client_output_buffer_limit", "busy_reply_threshold", "clients", "max_clients"]
        ),
        "clock": {"ahead": 0.0, "within": 0.01},
    }
    for name, value in changes.items():
        facts[name] = {**facts[name], **value} if isinstance(facts[name], dict) else value
    return facts


MADE_UP = {
    "too old": ({"software": "Redis", "version": "6.2.14"}, "problem", "too old"),
    "full": ({"memory": {"used": 99}}, "warning", "are used"),
    "evicted": ({"memory": {"evicted": 7, "policy": "volatile-lru"}}, "warning", "has deleted 7 keys"),
    "disk": ({"persistence": {"append_only_works": False}}, "problem", "MISCONF"),
    "snapshot": ({"persistence": {"snapshots_work": False}}, "problem", "MISCONF"),
    "replica is late": (
        {"replicas": [{"host": "r", "port": 2, "state": "wait_bgsave", "lag": 0, "clock": None}]},
        "warning",
        "not there yet",
    ),
    "replica is behind": (
        {"replicas": [{"host": "r", "port": 2, "state": "online", "clock": {"ahead": -3.0, "within": 0.01}}]},
        "problem",
        "given a second time",
    ),
    "replica is ahead": (
        {"replicas": [{"host": "r", "port": 2, "state": "online", "clock": {"ahead": 3.0, "within": 0.01}}]},
        "warning",
        "expire so much earlier",
    ),
    "clock": ({"clock": {"ahead": -500.0}, "replicas": []}, "warning", "500 s behind this machine's"),
    "lost primary": ({"role": "replica", "primary_link": "down"}, "problem", "lost its primary"),
    "cluster is down": (
        {
            "cluster": {
                "state": "fail",
                "slots_fail": 5,
                "slots_assigned": 16000,
                "known_nodes": 3,
                "node_timeout": None,
            }
        },
        "problem",
        "cluster_state fail",
    ),
    "failover is slow": (
        {"cluster": {"state": "ok", "slots_fail": 0, "slots_assigned": 16384, "known_nodes": 6, "node_timeout": 15000}},
        "warning",
        "takes up to 30 s",
    ),
    "connections": ({"limits": {"clients": 99, "max_clients": 100}}, "warning", "99 of 100 connections"),
}


class Place:
    """What a URL says of a server."""

    path, hosts, password, cert, tls, evicting, acks = "/socket", (), None, None, False, False, 0
    timeout, lease, fsync = 10.0, 10.0, False


def test_of_a_sound_primary_nothing_is_said():
    assert list(judgement.findings(made_up(), Place)) == []


@pytest.mark.parametrize("name", MADE_UP)
def test_what_no_test_can_make_is_judged_from_facts(name):
    changes, level, text = MADE_UP[name]
    facts = made_up()
    facts |= {"cluster": changes.pop("cluster")} if "cluster" in changes else {}
    facts |= {n: {**facts[n], **v} if isinstance(facts[n], dict) and n != "cluster" else v for n, v in changes.items()}
    found = list(judgement.findings(facts, Place))
    assert [f for f in found if f["level"] == level and text in f["text"] and f["remedy"]], found


def test_acks_need_replicas():
    class WithAcks(Place):
        acks = 1

    assert [f["level"] for f in judgement.findings(made_up(), WithAcks)] == ["warning"]
    assert [f["level"] for f in judgement.findings(made_up(replicas=[]), WithAcks)] == ["problem"]


def test_a_server_that_lets_everybody_in_from_the_network_is_named():
    class Open(Place):
        path, hosts = "", (("10.0.0.1", 6379),)

    texts = [f["text"] for f in judgement.findings(made_up(), Open)]
    assert [text for text in texts if "no password" in text] and [
        text for text in texts if "go over the network" in text
    ]
