"""Clients that ask a server again and again over kept-alive connections, and count what comes back."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from server import Server, wait_for

LONG = 20.0


class Broken(Exception):
    """A connection ended without an answer to a request, or in the middle of one."""


class Client:
    """One connection that is kept alive. `ask` sends a request, `answer` reads what comes; both may be doubled."""

    def __init__(self, server: Server, seconds: float = LONG) -> None:
        self.sock = server.connect(seconds)
        self.closing = False
        self._buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, path: str = "/", *fields: str) -> Client:
        head = [f"GET {path} HTTP/1.1", "Host: a", *fields]
        self.sock.sendall("".join(line + "\r\n" for line in [*head, ""]).encode())
        return self

    def answer(self) -> tuple[int, str]:
        """Status and body. Raises Broken, or what the socket raises."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.closing = fields.get("connection", "") == "close"
        size = int(fields["content-length"])
        while len(self._buffer) < size:
            self._receive()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return int(status.split()[1]), body.decode()

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise Broken(f"the end, after {self._buffer!r}")
        self._buffer += data

    def ended(self) -> bool:
        """Wait for the end of the connection: True if it ended in order, False if it was reset."""
        try:
            while data := self.sock.recv(65536):
                self._buffer += data
        except ConnectionError:
            return False
        return not self._buffer


class Load:
    """`clients` threads, each with a connection, asking for `path` until the end of the `with` statement.

    A client that may not connect any more goes home; that is counted in `refused`. `errors` says what else went
    wrong. The body of an answer begins with the pid of the worker: `answers` and `connections` count by it.
    `at_home` is how many clients have had an answer on the connection they have now.
    """

    def __init__(self, server: Server, clients: int, path: str = "/") -> None:
        self.server = server
        self.path = path
        self.errors: list[str] = []
        self.refused = 0
        self.answers: Counter[int] = Counter()
        self.connections: Counter[int] = Counter()
        self.at_home = 0
        self._count = threading.Lock()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._live, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self.join()

    def join(self) -> None:
        """Wait until all clients have gone home."""
        for thread in self._threads:
            thread.join(LONG)
            assert not thread.is_alive(), "a client still waits for an answer"

    @property
    def total(self) -> int:
        with self._count:
            return sum(self.answers.values())

    def more(self, answers: int, seconds: float = LONG) -> None:
        """Wait for so many further answers."""
        enough = self.total + answers
        wait_for(lambda: self.total >= enough, seconds, f"{answers} more answers")

    def settle(self, seconds: float = LONG) -> None:
        """Wait until no client has a connection that is new to it."""
        wait_for(lambda: self.at_home == len(self._threads), seconds, "all clients to have had an answer")

    def _live(self) -> None:
        while not self._enough.is_set():
            try:
                client = Client(self.server)
            except (ConnectionRefusedError, FileNotFoundError):
                with self._count:
                    self.refused += 1
                return
            except OSError as error:
                self._failed("connecting", error)
                continue
            with client:
                answered = self._talk(client)
            with self._count:
                self.at_home -= answered

    def _talk(self, client: Client) -> bool:
        """Ask until the connection ends. Was anything answered?"""
        first = True
        while not self._enough.is_set() and not client.closing:
            try:
                status, body = client.ask(self.path).answer()
            except (OSError, Broken) as error:
                self._failed("first request" if first else "later request", error)
                break
            with self._count:
                if status != 200:
                    self.errors.append(f"status {status}: {body}")
                    continue
                pid = int(body.split()[0])
                self.answers[pid] += 1
                self.connections[pid] += first
                self.at_home += first
            first = False
        return not first

    def _failed(self, when: str, error: Exception) -> None:
        with self._count:
            self.errors.append(f"{when}: {type(error).__name__} {error}")


@dataclass
class Wrk:
    """What wrk has counted, in the end."""

    requests: int = 0


@contextmanager
def wrk(server: Server, clients: int) -> Iterator[Wrk]:
    """Under load by wrk until the end of the block: so many kept-alive connections. None of its requests may fail.

    A connection of wrk's has always asked for something: one that ends without `Connection: close` counts as failed.
    """
    counted = Wrk()
    command = ["wrk", "-t1", f"-c{clients}", "-d120s", f"http://127.0.0.1:{server.port}/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield counted
            assert process.poll() is None, "all of this was to be under load"
            process.send_signal(signal.SIGINT)  # then it reports
            report, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    counted.requests = int(re.findall(r"(\d+) requests in", report)[0])
    assert counted.requests > 500
    assert re.findall(r".*(?:Socket errors|Non-2xx).*", report) == []


def dead(sock: socket.socket) -> bool:
    """Has the other end closed or reset the connection, by now?"""
    sock.setblocking(False)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
