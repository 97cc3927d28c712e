"""Real servers for the tests of `shmvar._remote`: Valkey or Redis, in a directory of their own, ended by pid."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from helpers.machine import SLOWER

TETHER = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
"""Before a program: it ends with the process that started it, however that one ends."""
PROGRAMS = [name for name in ("valkey-server", "redis-server") if shutil.which(name)]


PAGE = Path(__file__).parents[2] / "docs" / "remote.md"


def rights(user):
    """The rights of a user as docs/remote.md gives them."""
    text = re.search(rf"^    user {user} (.*?)\n\n", PAGE.read_text(), re.M | re.S)[1]
    return [word for word in text.split() if word != ">..."]


class Server:
    """A server on a Unix socket, and on a loopback port if it has one."""

    def __init__(self, program, *options, port=0):
        # A path of a socket may have 107 bytes.
        self.directory = tempfile.mkdtemp(prefix="shmvar-server-", dir="/tmp")
        self.socket = os.path.join(self.directory, "socket")
        self.port = port
        self.options = [program, "--port", str(port), "--unixsocket", self.socket, "--dir", self.directory]
        self.options += ["--save", "", "--daemonize", "no", "--loglevel", "warning", "--logfile", "log", *options]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([*TETHER, *self.options], stdout=-3, stderr=-3, stdin=-3)
        until = time.monotonic() + 30 * SLOWER
        while not self.answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.02)

    def answers(self):
        try:
            return self.raw(b"PING").startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
        except OSError:
            return False

    def raw(self, *words):
        """What the server answers to one short command, as it is."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self.socket)
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words))
            return connection.recv(1 << 20)

    def call(self, *words):
        """The answer to a command, taken apart by the client library."""
        from redis import Redis

        with Redis(unix_socket_path=self.socket) as client:
            return client.execute_command(*words)

    def url(self, key="", **options):
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"valkey+unix://{self.socket}{'?' if query else ''}{query}#{key}"

    def tcp(self, key="", credentials="", port=None, **options):
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"valkey://{credentials}127.0.0.1:{port or self.port}/{'?' if query else ''}{query}#{key}"

    def log(self):
        with contextlib.suppress(OSError), open(os.path.join(self.directory, "log")) as file:
            return file.read()
        return "no log"

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    @contextlib.contextmanager
    def stopped(self):
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def certificate(folder, name):
    """A key and a certificate for a name that signs itself."""
    files = [str(folder / f"{name}.{end}") for end in ("pem", "key")]
    names = "IP:127.0.0.1" if name == "right" else "DNS:elsewhere.invalid"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName={names}", "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return files


_KEPT = []
"""Sockets that keep ports until this process ends."""


def free_port():
    """A port that the system gives to nobody else while this process lives.

    A socket stays bound to it and does not listen: a server, which allows that addresses are used again, can listen on
    it all the same, and again after it was killed. Who connects without a server is refused.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("", 0))
    _KEPT.append(kept)
    return kept.getsockname()[1]


class Proxy:
    """Hands on the bytes between clients and a server's socket, and can cut, or lose answers."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = []
        self.lock = threading.Lock()
        self.lose_after = None
        """A function of the bytes of a request: whether its answer is lost, and the connection cut."""
        self.lost = 0
        self.held = None
        """A function of the bytes of a request: whether they are kept back, in `kept`, and the connection cut."""
        self.kept = []
        self.pause = 0.0
        """Seconds before each 64 KiB of a request: a slow network."""
        self.still = threading.Event()
        """While it is set no byte goes through: the network stands still, and nothing is closed."""
        self.drip = 0.0
        """Seconds before each byte of an answer."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.path)
            except OSError:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.append((client, server))
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(client, server), daemon=True).start()

    def _requests(self, client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if self.held and self.held(data):
                    self.kept.append(data)
                    break
                if self.lose_after and self.lose_after(data):
                    # The server carries the request out; its answer goes nowhere.
                    self.lost += 1
                    with self.lock:
                        self.pairs = [pair for pair in self.pairs if pair[0] is not client]
                    _shut(client)
                    server.sendall(data)
                    with contextlib.suppress(OSError):
                        server.settimeout(0.2)
                        server.recv(1 << 16)
                    break
                time.sleep(self.pause * len(data) / 65536)
                self._stand()
                server.sendall(data)
        _shut(client), _shut(server)

    def _answers(self, client, server):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                self._stand()
                while self.drip and data:
                    time.sleep(self.drip)
                    client.sendall(data[:1])
                    data = data[1:]
                client.sendall(data)
        _shut(client), _shut(server)

    def _stand(self):
        while self.still.is_set():
            time.sleep(0.005)

    def cut(self):
        """Cuts every connection, wherever its bytes are."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for client, server in pairs:
            _shut(client), _shut(server)
        return len(pairs)

    def end(self):
        self.listener.close()
        self.cut()


def _shut(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
