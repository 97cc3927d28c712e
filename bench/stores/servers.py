"""Stores behind a server, or in a file."""

import contextlib
import multiprocessing
import re
import shutil
import signal
import subprocess
import time
from multiprocessing.managers import AcquirerProxy, BaseManager, DictProxy

import numpy as np

from stores.store import Missing, Store
from stores.values import codec


class Table(BaseManager):
    """A dict and a lock in a process of their own."""


class ManagerStore(Store):
    name = "Manager dict"
    can_add = True
    way_to_add = "with the manager's lock"

    def create(self) -> None:
        table: dict = {"counter": 0}
        lock = multiprocessing.Lock()
        Table.register("table", callable=lambda: table, proxytype=DictProxy)
        Table.register("lock", callable=lambda: lock, proxytype=AcquirerProxy)
        self.server = Table(str(self.where / self.word), b"bench", ctx=multiprocessing.get_context("fork"))
        self.server.start()
        self.attach()

    def attach(self) -> None:
        multiprocessing.current_process().authkey = b"bench"
        Table.register("table", proxytype=DictProxy)
        Table.register("lock", proxytype=AcquirerProxy)
        self.manager = Table(str(self.where / self.word), b"bench")
        self.manager.connect()
        self.table, self.lock = self.manager.table(), self.manager.lock()
        self.get, self.put = self.table.__getitem__, self.table.__setitem__

    def add(self) -> None:
        with self.lock:
            self.table["counter"] += 1

    def total(self) -> int:
        return self.table["counter"]

    def remove(self) -> None:
        self.server.shutdown()


class Lmdb(Store):
    name = "LMDB"
    packages = ("lmdb",)
    can_add = True
    way_to_add = "a write transaction"
    note = "the file on tmpfs"

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.keys = [f"k{number}".encode() for number in self.keys]

    def create(self) -> None:
        self.attach()
        with self.environment.begin(write=True) as transaction:
            transaction.put(b"counter", b"0")

    def attach(self) -> None:
        import lmdb

        self.environment = lmdb.open(str(self.where / self.word), map_size=1 << 30)
        begin, (encode, decode) = self.environment.begin, codec(self.kind)

        def get(key):
            with begin() as transaction:
                return decode(transaction.get(key))

        def put(key, value):
            with begin(write=True) as transaction:
                transaction.put(key, encode(value))

        self.get, self.put = get, put

    def first(self, key) -> float:
        """In a transaction, without a copy: what is read must not be kept beyond it."""
        with self.environment.begin(buffers=True) as transaction:
            return np.frombuffer(transaction.get(key))[0]

    def add(self) -> None:
        with self.environment.begin(write=True) as transaction:
            transaction.put(b"counter", b"%d" % (int(transaction.get(b"counter")) + 1))

    def total(self) -> int:
        with self.environment.begin() as transaction:
            return int(transaction.get(b"counter"))

    def close(self) -> None:
        self.environment.close()


class Redis(Store):
    name, server_program = "Redis", "redis-server"
    packages = ("redis",)
    can_add = can_wait = True
    way_to_add = "INCR"
    way_to_wait = "BLPOP"
    note = "on a Unix socket"

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.keys = [f"k{number}" for number in self.keys]

    @classmethod
    def version(cls) -> str:
        path = shutil.which(cls.server_program)
        if path is None:
            raise Missing(f"apt install {cls.server_program}, pip install redis")
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"v=(\S+)", said)
        return f"{super().version()}, {cls.server_program} {found[1] if found else '?'}"

    def create(self) -> None:
        socket = str(self.where / self.word)
        command = [self.server_program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", str(self.where)]
        self.server = subprocess.Popen([*command, "--logfile", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 10
        self.attach()
        while True:
            try:
                self.client.ping()
                break
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        self.client.set("counter", 0)

    def attach(self) -> None:
        import redis

        self.client = redis.Redis(unix_socket_path=str(self.where / self.word))
        (encode, decode), client = codec(self.kind), self.client
        self.get = lambda key: decode(client.get(key))
        self.put = lambda key, value: client.set(key, encode(value))

    def add(self) -> None:
        self.client.incr("counter")

    def total(self) -> int:
        return int(self.client.get("counter"))

    def send(self, key, value) -> None:
        self.client.rpush(f"queue {key}", value)

    def receiver(self, key):
        name, take = f"queue {key}", self.client.blpop
        return lambda: int(take(name, 10)[1])

    def close(self) -> None:
        self.client.close()

    def remove(self) -> None:
        self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait(10)


class Valkey(Redis):
    name, server_program = "Valkey", "valkey-server"


class DiskCache(Store):
    name = "diskcache"
    packages = ("diskcache",)
    can_add = True
    way_to_add = "cache.incr(k)"
    note = "the files on tmpfs"

    def create(self) -> None:
        self.attach()
        self.cache["counter"] = 0

    def attach(self) -> None:
        from diskcache import Cache

        self.cache = Cache(str(self.where / self.word))
        self.get, self.put = self.cache.__getitem__, self.cache.__setitem__

    def add(self) -> None:
        self.cache.incr("counter")

    def total(self) -> int:
        return self.cache["counter"]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.cache.close()


STORES = ManagerStore, Lmdb, Redis, Valkey, DiskCache
