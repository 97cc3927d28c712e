"""Servers that stand in for each other: one with replicas, some that sentinels watch, and a cluster."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time

from helpers.servers import TETHER, Server, free_port
from helpers.waiting import until

# A replica is synchronised at once: of a primary that dies during its replicas' first synchronisation much is lost.
SOON = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
HASTY, PATIENT = 1500, 60_000
"""Milliseconds after which a primary that says nothing is replaced. A busy machine halts a server for seconds: where no
failover is tested, there shall be none."""


def info(server, section):
    """The facts of INFO as texts."""
    lines = server.call("INFO", section)
    return lines if isinstance(lines, dict) else dict(line.split(":", 1) for line in lines.decode().splitlines()[1:])


def follows(replica):
    """Whether a replica has all that its primary had, and gets what comes."""
    with contextlib.suppress(Exception):
        return info(replica, "replication").get("master_link_status") == "up"
    return False


class Several:
    """Servers that are ended together."""

    servers: list

    @contextlib.contextmanager
    def hasty(self):
        """A primary that dies is replaced after a second, not after a minute."""
        self.patience(HASTY)
        try:
            yield
        finally:
            self.patience(PATIENT)

    def end(self):
        for server in self.servers:
            # One that a test has stopped dies of SIGKILL all the same.
            server.end()


class Replicated(Several):
    """A primary with replicas, without anybody who replaces it when it dies."""

    def __init__(self, program, replicas=1, *options):
        self.primary = Server(program, *SOON, *options, port=free_port())
        self.servers = [self.primary]
        for _ in range(replicas):
            address = f"127.0.0.1 {self.primary.port}"
            self.servers.append(Server(program, *SOON, *options, "--replicaof", address, port=free_port()))
        self.replicas = self.servers[1:]
        until(lambda: all(follows(replica) for replica in self.replicas), what="the replicas' synchronisation")
        until(lambda: self.primary.call("WAIT", replicas, 100) == replicas, what="the replicas' first word")


class Sentinels(Several):
    """A primary, two replicas, and three sentinels that replace it after a second."""

    NAME = "mine"

    def __init__(self, program, *options):
        self.group = Replicated(program, 2, *options)
        self.sentinels = [Sentinel(program, self.group.primary.port) for _ in range(3)]
        self.servers = [*self.group.servers, *self.sentinels]
        self.settle()
        self.patience(PATIENT)

    def settle(self, replicas=2):
        """Waits until all are there that there are, and every sentinel knows them and the same primary."""
        until(lambda: self._agree(), 30, "the sentinels' agreement")
        for server in self.group.servers:
            # The sentinels would tell them, too, after eight seconds.
            if server is not self.primary and info(server, "replication")["role"] == "master":
                server.call("REPLICAOF", "127.0.0.1", self.primary.port)
        until(lambda: self._settled(replicas), 30, "the replicas' synchronisation")

    def patience(self, milliseconds):
        for sentinel in self.sentinels:
            sentinel.call("SENTINEL", "SET", self.NAME, "down-after-milliseconds", milliseconds)

    def _agree(self):
        found = {sentinel.primary() for sentinel in self.sentinels}
        return len(found) == 1 and None not in found and all(server.answers() for server in self.group.servers)

    def _settled(self, replicas):
        if not self._agree():
            return False
        states = [sentinel.state() for sentinel in self.sentinels]
        if not all(
            state["flags"] == "master"
            and int(state["num-other-sentinels"]) == 2
            and int(state["num-slaves"]) >= replicas
            for state in states
        ):
            return False
        alive = [server for server in self.group.servers if server.process.poll() is None]
        primary = self.primary
        return sum(follows(server) for server in alive if server is not primary) >= replicas

    @property
    def primary(self):
        """The server that the sentinels call the primary."""
        port = self.sentinels[0].primary()
        return next(server for server in self.group.servers if server.port == port)

    def url(self, key="", **options):
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        query = "&".join(f"{name}={value}" for name, value in {"sentinel": self.NAME, **options}.items())
        return f"valkey://{hosts}/?{query}#{key}"

    def planned(self):
        """Asks a sentinel for a failover, again where it has given one up, until there is another primary."""
        old, ask_at = self.primary, 0.0

        def done():
            nonlocal ask_at
            if time.monotonic() > ask_at:
                ask_at = time.monotonic() + 5
                # It refuses while one is under way.
                with contextlib.suppress(Exception):
                    self.sentinels[0].call("SENTINEL", "FAILOVER", self.NAME)
            return self.sentinels[0].primary() not in (None, old.port)

        until(done, 30, "the planned failover")


class Sentinel:
    """One sentinel. It keeps a file of its own."""

    def __init__(self, program, port, *lines):
        self.directory = tempfile.mkdtemp(prefix="shmvar-sentinel-", dir="/tmp")
        self.port = free_port()
        name = Sentinels.NAME
        settings = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.directory}",
            "logfile log",
            f"sentinel monitor {name} 127.0.0.1 {port} 2",
            f"sentinel down-after-milliseconds {name} {HASTY}",
            f"sentinel failover-timeout {name} 2000",
            f"sentinel parallel-syncs {name} 2",
            *lines,
        ]
        file = os.path.join(self.directory, "sentinel.conf")
        with open(file, "w") as written:
            written.write("\n".join(settings) + "\n")
        self.process = subprocess.Popen([*TETHER, program, file, "--sentinel"], stdout=-3, stderr=-3, stdin=-3)
        until(lambda: self.state() is not None, 30, "the sentinel's first answer")

    def call(self, *words, **options):
        from redis import Redis

        with Redis(port=self.port, **options) as client:
            return client.execute_command(*words)

    def state(self):
        """What it knows of the primary."""
        with contextlib.suppress(Exception):
            found = self.call("SENTINEL", "MASTER", Sentinels.NAME)
            if isinstance(found, dict):
                return {_text(name): _text(value) for name, value in found.items()}
            return {_text(name): _text(value) for name, value in zip(found[::2], found[1::2], strict=True)}
        return None

    def primary(self):
        """The port of the primary."""
        with contextlib.suppress(Exception):
            return int(self.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", Sentinels.NAME)[1])
        return None

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def end(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Cluster(Several):
    """Three primaries with a replica each. The slots are theirs in thirds."""

    def __init__(self, program, *options, replicas=1, primaries=3):
        self.program, self.options = program, options
        self.servers = [self._node() for _ in range(primaries * (1 + replicas))]
        first = self.servers[:primaries]
        bounds = [16384 * number // primaries for number in range(primaries + 1)]
        for number, server in enumerate(first):
            server.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            server.call("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for server in self.servers[1:]:
            self.meet(server)
        until(lambda: all(self.known(server) == len(self.servers) for server in self.servers), 30, "the nodes' meeting")
        for number, server in enumerate(self.servers[primaries:]):
            server.call("CLUSTER", "REPLICATE", self.name(first[number % primaries]))
        self.settle()
        self.patience(PATIENT)

    def patience(self, milliseconds):
        for server in self.servers:
            with contextlib.suppress(Exception):
                server.call("CONFIG", "SET", "cluster-node-timeout", milliseconds)

    def _node(self):
        port = free_port()
        options = [
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            "nodes.conf",
            "--cluster-port",
            str(free_port()),
        ]
        options += ["--cluster-node-timeout", str(HASTY), "--cluster-announce-ip", "127.0.0.1", *SOON]
        return Server(self.program, *options, *self.options, port=port)

    def meet(self, server):
        first = self.servers[0]
        bus = first.options[first.options.index("--cluster-port") + 1]
        server.call("CLUSTER", "MEET", "127.0.0.1", first.port, bus)

    def known(self, server):
        return int(self.state(server).get("cluster_known_nodes", 0))

    def state(self, server):
        found = server.call("CLUSTER", "INFO")
        if isinstance(found, dict):
            return found
        return dict(line.split(":", 1) for line in found.decode().splitlines())

    def name(self, server):
        return server.call("CLUSTER", "MYID").decode()

    def settle(self):
        """Waits until every node that lives says that all is well, and each replica follows its primary."""
        until(self._settled, 30, "the cluster's good state")

    def _settled(self):
        alive = [server for server in self.servers if server.process.poll() is None]
        with contextlib.suppress(Exception):
            for server in alive:
                if self.state(server)["cluster_state"] != "ok":
                    return False
                if info(server, "replication")["role"] == "slave" and not follows(server):
                    return False
            # And all agree about who has which slots.
            return len({str(sorted(_slots(server))) for server in alive}) == 1
        return False

    def primary_of(self, slot, but=None):
        """The node that the others call the primary of a slot; `but` is not asked."""
        alive = [server for server in self.servers if server.process.poll() is None and server is not but]
        for first, last, port in _slots(alive[0]):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"slot {slot} has no primary")

    def replica_of(self, primary):
        name = self.name(primary)
        for server in self.servers:
            if server is not primary and server.process.poll() is None:
                words = server.call("CLUSTER", "NODES").decode().splitlines()
                mine = next(line.split() for line in words if "myself" in line)
                if mine[3] == name:
                    return server
        raise AssertionError("it has no replica")

    def planned(self, slot):
        """Has the replica of a slot take over, and asks again where it has given that up."""
        # A node that was elected just now is not elected again for four times this.
        self.patience(4 * HASTY)
        old, ask_at = self.primary_of(slot), 0.0

        def done():
            nonlocal ask_at
            with contextlib.suppress(Exception):
                if time.monotonic() > ask_at:
                    ask_at = time.monotonic() + 6
                    self.replica_of(old).call("CLUSTER", "FAILOVER")
                return self.primary_of(slot, old) is not old
            return False

        until(done, 30, "the planned failover")
        self.patience(PATIENT)

    def url(self, key="", credentials="", seeds=2, **options):
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:seeds])
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"valkey://{credentials}{hosts}/{'?' if query else ''}{query}#{key}"

    def revive(self):
        """Starts the nodes that were killed, and waits until all is well."""
        for server in self.servers:
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGCONT)
            else:
                server.start()
        self.settle()


def _slots(server):
    return [(first, last, nodes[0][1]) for first, last, *nodes in raw(server, "CLUSTER SLOTS")]


def raw(server, *words):
    """An answer as it is: the library would make something else of some."""
    from redis import Redis

    with Redis(unix_socket_path=server.socket) as client:
        client.response_callbacks.clear()
        return client.execute_command(*words)


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def lagging(primary, replicas, prefix):
    """Replicas that stand still: what their primary acknowledges now, they never get if it dies meanwhile.

    `prefix`: what the name of a key begins with that the primary has.
    """
    for replica in replicas:
        replica.process.send_signal(signal.SIGSTOP)
    try:
        # The buffers of the sockets are full then: what is in them arrives, though the primary dies.
        for number in range(8):
            primary.call("SET", prefix + b":filler", bytes(4 << 20), "PX", 1000 + number)
        yield
    finally:
        for replica in replicas:
            replica.process.send_signal(signal.SIGCONT)
