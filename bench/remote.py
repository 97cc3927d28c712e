"""Segments on a server beside the client library's own calls, as ratios of one run: `python bench/remote.py`.

Starts a Valkey or Redis of its own. The ratios depend on the client library and on the machine; docs/remote.md has
the aims.
"""

import asyncio
import pickle
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy

import shmvar

SMOKE = "--smoke" in sys.argv
TURNS, CALLS = (1, 10) if SMOKE else (15, 300)


def each(call, count=CALLS):
    """Microseconds of one call."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count * 1e6


def ratio(name, aim, ours, reference, count=CALLS):
    """Prints one row: both sides in turn, medians."""
    show(name, aim, [(each(ours, count), each(reference, count)) for _ in range(TURNS)])


def show(name, aim, pairs):
    found = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{name:24} {found:5.2f}  aim {aim:4}  {a:9.1f} us against {b:9.1f}")


ECHO = """
import socket, sys, shmvar
place, url = sys.argv[1:]
segment = shmvar.attach(url)
seen = segment.version("there")
print("go", flush=True)
while True:
    seen = segment.wait("there", newer_than=seen)
    segment["back"] = 1
"""
BARE_ECHO = """
import sys
sys.path.insert(0, sys.argv[2])
from remote import heard, subscribed
says, hears = subscribed(sys.argv[1], b"there")
print("go", flush=True)
while True:
    heard(hears)
    says.sendall(b"PUBLISH back 1\\r\\n")
    says.recv(100)
"""


def subscribed(place, channel):
    """Two bare sockets: one to publish, one that is subscribed."""
    pair = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    for one in pair:
        one.connect(place)
    pair[1].sendall(b"SUBSCRIBE %b\r\n" % channel)
    pair[1].recv(1000)
    return pair


def heard(hears):
    """The next message."""
    return hears.recv(1000)


def there_and_back(place, url, segment):
    """A value that another process waits for and answers, beside two bare sockets that publish and are subscribed."""
    children = []
    for code, argument in ((ECHO, url), (BARE_ECHO, str(Path(__file__).parent))):
        command = [sys.executable, "-c", code, place, argument]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        children[-1].stdout.readline()
    says, hears = subscribed(place, b"back")
    seen = segment.version("back")

    def ours():
        nonlocal seen
        segment["there"] = 1
        seen = segment.wait("back", 60, newer_than=seen)

    def bare():
        says.sendall(b"PUBLISH there 1\r\n")
        says.recv(100)
        heard(hears)

    ratio("wait, there and back", 3, ours, bare)
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()
    for one in (says, hears):
        one.close()


def near_hits(place):
    local, near = shmvar.attach("bench of shmvar"), shmvar.attach(f"valkey+unix://{place}?near=4MiB#bench")
    local["i"] = near["i"]
    while near._near.hit(near, "i") is None:
        near["i"]
    ratio("near hit", 12, lambda: near["i"], lambda: local["i"], 20 * CALLS)
    local.destroy()


async def tasks(place, segment):
    """One call after the other, and a hundred at once."""
    import redis.asyncio

    client = redis.asyncio.Redis(unix_socket_path=place)

    async def ours():
        return await segment.aio.get("i")

    async def reference():
        return pickle.loads(await client.get("i"))

    for name, at_once in (("aio.get", 1), ("aio.get, 100 at once", 100)):
        pairs = []
        for _ in range(TURNS):
            times = []
            for call in (ours, reference):
                began = time.perf_counter()
                for _ in range(max(CALLS // at_once, 1)):
                    await asyncio.gather(*[call() for _ in range(at_once)])
                times.append((time.perf_counter() - began) / max(CALLS // at_once, 1) / at_once * 1e6)
            pairs.append(times)
        show(name, "", pairs)
    await client.aclose()


def main():
    program = which("valkey-server") or which("redis-server")
    if program is None or find_spec("redis") is None:
        print("needs valkey-server or redis-server, and shmvar[valkey]: nothing was measured")
        return
    with tempfile.TemporaryDirectory(prefix="shmvar-bench-") as folder:
        place = f"{folder}/socket"
        options = ["--port", "0", "--unixsocket", place, "--save", "", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            while not Path(place).exists():
                time.sleep(0.02)
            measure(place)
        finally:
            server.kill()
            server.wait()


def with_it(lock):
    with lock:
        pass


def bare_set(place, data):
    """`sendall` of as many bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$%d\r\n" % len(data))
        connection.sendall(data)
        connection.sendall(b"\r\n")
        connection.recv(5)


def bare_get(place, length):
    """`recv_into` new memory of as many bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        connection.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
        connection.recv(len(b"$%d\r\n" % length), socket.MSG_WAITALL)
        view = memoryview(numpy.empty(length, "u1"))
        while len(view):
            view = view[connection.recv_into(view) :]


def measure(place):
    import redis

    client = redis.Redis(unix_socket_path=place)
    url = f"valkey+unix://{place}#bench"
    segment = shmvar.attach(url)
    segment["i"] = segment["n"] = 5
    client.set("i", pickle.dumps(5))
    client.set("n", 5)
    names = [f"m{number}" for number in range(10)]
    segment.put_many({number: number for number in range(10)})
    client.mset({name: pickle.dumps(1) for name in names})
    empty = client.register_script("return 1")
    ratio("seg[i]", 0.5, lambda: segment["i"], lambda: pickle.loads(client.get("i")))
    ratio("seg[i] = int", 0.8, lambda: segment.put("i", 5), lambda: client.set("i", pickle.dumps(5)))
    ratio("seg.add(i)", 1.0, lambda: segment.add("n"), lambda: client.incr("n"))
    ratio(
        "get_many of 10",
        0.6,
        lambda: segment.get_many(range(10)),
        lambda: [pickle.loads(found) for found in client.mget(names)],
    )
    ratio(
        "put_many of 10",
        1.3,
        lambda: segment.put_many({number: 1 for number in range(10)}),
        lambda: client.mset({name: pickle.dumps(1) for name in names}),
    )
    ratio("lock and unlock", 0.5, lambda: with_it(segment.lock("l")), lambda: with_it(client.lock("l", timeout=10)))
    near_hits(place)
    asyncio.run(tasks(place, segment))
    jobs = segment.queue("jobs")

    def plain():
        client.rpush("jobs", pickle.dumps(5))
        pickle.loads(client.blpop("jobs")[1])

    def take():
        jobs.put(5)
        with jobs.take():
            pass

    ratio("queue: put and get", "", lambda: (jobs.put(5), jobs.get()), plain)
    ratio("queue: put and take", "", take, plain)
    ratio("attach, second one", 6, lambda: shmvar.attach(url), client.ping)
    times = []
    for call in (lambda: segment.put("i", 5), empty):
        client.config_resetstat()
        each(call, 10 * CALLS)
        times.append(client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])
    print(
        f"{'a put in the server':24} {times[0] / times[1]:5.2f}  aim   11  {times[0]:9.1f} us against {times[1]:9.1f}"
    )
    there_and_back(place, url, segment)
    array = numpy.arange((1 if SMOKE else 100) * 2**20 // 8)
    data = array.tobytes()
    ratio("put of 100 MiB", 1.2, lambda: segment.put("a", array), lambda: bare_set(place, data), 1)
    ratio("get of 100 MiB", 1.2, lambda: segment["a"], lambda: bare_get(place, len(data)), 1)
    ratio("put, by the client", "", lambda: segment.put("a", array), lambda: client.set("a", data), 1)
    ratio("get, by the client", "", lambda: segment["a"], lambda: client.get("a"), 1)
    before = client.info("memory")["used_memory"]
    many = 20_000 if SMOKE else 200_000
    for first in range(0, many, 10_000):
        segment.put_many({number + 1_000: 1 for number in range(first, first + 10_000)})
    ours = client.info("memory")["used_memory"] - before
    before = client.info("memory")["used_memory"]
    for first in range(0, many, 10_000):
        client.hset("plain", mapping={number: 1 for number in range(first, first + 10_000)})
    plain = client.info("memory")["used_memory"] - before
    print(
        f"{'bytes of a small int':24} {ours / plain:5.2f}  aim 1.25  {ours / many:9.1f} B  against {plain / many:9.1f}"
    )


if __name__ == "__main__":
    main()
