"""A server under test: the real command, in a real process, seen from outside.

Tests look at what an operator can see (log lines, answers, processes, exit statuses) and wait for it under a deadline:

    with Server("app:app", "--workers", "2", directory=tmp_path, files={"app.py": APP}) as server:
        server.ready(workers=2)
        assert server.get("/").status == 200
        server.signal(signal.SIGHUP)
        server.expect(r"Booting worker with pid: (\\d+)", times=3)
        assert server.stop() == 0

Everything that the command starts is killed at the end, whatever happened, even a process that has left its session.
"""

from __future__ import annotations

import http.client
import itertools
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from signal import SIGKILL, SIGTERM
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

MONOCEROS = (sys.executable, "-m", "monoceros")

# Each server gets a word of its own in its environment. Its descendants inherit it, so that they are found in /proc
# even after they were orphaned, daemonised or have replaced themselves.
TOKEN = "SERVER_UNDER_TEST"


class Deadline(AssertionError):
    """What was waited for did not happen in time, or cannot happen any more."""


def wait_for(predicate: Callable[[], T], seconds: float = 10.0, what: str = "") -> T:
    """Ask `predicate` until it says something true, and return that. Raises Deadline when the time is up."""
    end = time.monotonic() + seconds
    tick = threading.Event()
    pause = 0.002
    while not (result := predicate()):
        if time.monotonic() > end:
            raise Deadline(f"waited {seconds:g} s for {what or getattr(predicate, '__name__', 'a condition')}")
        tick.wait(pause)
        pause = min(pause * 1.5, 0.05)
    return result


# Linux gives clients ports from 32768 on, see ip(7), ip_local_port_range. A server's port is better not one of those:
# some client may get it before the server does; one that asks whether the server listens may even connect to itself.
PORTS = range(10_000, 32_768)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody used a moment ago."""
    while True:
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", random.choice(PORTS)))
            return int(sock.getsockname()[1])


@dataclass(frozen=True)
class Answer:
    """A response as a client got it."""

    status: int
    reason: str
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Process:
    """A row of /proc. `begun` is when it was started, in clock ticks since the machine was."""

    pid: int
    parent: int
    state: str
    threads: int
    begun: int


def processes() -> list[Process]:
    """Every process of this machine that is not a zombie."""
    rows = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):  # it left while we looked
            # proc(5): the name stands in parentheses and may hold anything, so count from the last one.
            fields = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
            parent, threads, begun = (int(fields[n]) for n in (1, 17, 19))
            rows.append(Process(int(entry), parent, fields[0], threads, begun))
    return [row for row in rows if row.state not in "ZX"]


def descriptors(pid: int) -> dict[int, str]:
    """What a process has open, by number, as /proc/PID/fd calls it: `/a/path` or `socket:[inode]`."""
    found = {}
    with suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                found[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
    return found


def watched(pid: int) -> set[str]:
    """What a process waits for with epoll, in the words of `descriptors`, see proc_pid_fdinfo(5)."""
    found = set()
    open_files = descriptors(pid)
    for fd, what in open_files.items():
        if what == "anon_inode:[eventpoll]":
            with suppress(OSError):
                rows = re.findall(r"^tfd: +(\d+) ", Path(f"/proc/{pid}/fdinfo/{fd}").read_text(), re.MULTILINE)
                found |= {open_files.get(int(row), "") for row in rows}
    return found


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Server:
    """One run of the command. Use it as a context manager; `{port}` in an argument stands for the port.

    `bind` is what is passed to `--bind`; None passes nothing (the arguments or a file then say it, with `{port}`).
    `files` are written below `directory` first. `env` is added to an otherwise nearly empty environment.
    """

    def __init__(
        self,
        *args: str,
        directory: Path | None = None,
        files: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        bind: str | None = "127.0.0.1:{port}",
        command: Sequence[str] = MONOCEROS,
    ) -> None:
        self._own_directory = None if directory else tempfile.TemporaryDirectory(prefix="server-")
        self.directory = directory or Path(self._own_directory.name if self._own_directory else "")
        self.port = free_port()
        self.bind = self._filled(bind) if bind else None
        self.args = [self._filled(arg) for arg in (*command, *args)]
        if self.bind:
            self.args += ["--bind", self.bind]
        self._token = f"{TOKEN}={uuid.uuid4().hex}"
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            TOKEN: self._token.partition("=")[2],
            **{name: self._filled(value) for name, value in (env or {}).items()},
        }
        for name, text in (files or {}).items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._filled(text))
        self._stdout = self.directory / f"{self.port}.stdout"
        self._stderr = self.directory / f"{self.port}.stderr"
        self._process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"server pid={self._process.pid if self._process else '-'} bind={self.bind} in {self.directory}"

    def _filled(self, text: str) -> str:
        return text.replace("{port}", str(self.port))

    # From start to end

    def __enter__(self) -> Server:
        with self._stdout.open("ab") as out, self._stderr.open("ab") as err:
            self._process = subprocess.Popen(
                self.args,
                cwd=self.directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.kill()
            if kind is not None:
                print(self.report())
        finally:
            if self._own_directory:
                self._own_directory.cleanup()

    def kill(self) -> None:
        """SIGKILL to everything this server has started, until nothing of it is left."""
        wait_for(self._killed, what=f"the end of every process of {self}")
        self._master.wait()

    def _killed(self) -> bool:
        """One round: a process that forks while it is being killed is found in the next."""
        found = self.tree()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        self._master.poll()
        return not found

    def report(self) -> str:
        """What the server printed: shown when a test fails."""
        return f"--- {self}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}\n---"

    @property
    def _master(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started: use it in a `with` statement"
        return self._process

    # What it printed

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    def expect(
        self, pattern: str, *, times: int = 1, since: int = 0, seconds: float = 10.0, stream: str = "stderr"
    ) -> re.Match[str]:
        """Wait until `pattern` was printed `times` times, and return the last of these matches.

        `since` is a length of the text at which to start looking: `since = len(server.stderr)` before the event.
        """

        def found() -> re.Match[str] | None:
            gone = not self.running and not self.tree()  # asked first: what it printed before it left is there
            matches = list(re.finditer(pattern, getattr(self, stream)[since:], re.MULTILINE))
            if len(matches) >= times:
                return matches[times - 1]
            if gone:
                raise Deadline(f"{self} left with status {self._master.returncode} without printing {pattern!r}")
            return None

        match = wait_for(found, seconds, f"{pattern!r} on {stream}, {times} time(s)")
        assert match
        return match

    # Its processes

    @property
    def pid(self) -> int:
        return self._master.pid

    @property
    def running(self) -> bool:
        """Whether the process that was started (the master) is still there."""
        return self._master.poll() is None

    def workers(self) -> list[int]:
        """The pids of the master's children, oldest first."""
        rows = [row for row in processes() if row.parent == self.pid]
        return [row.pid for row in sorted(rows, key=lambda row: (row.begun, row.pid))]  # pids start anew some day

    def serving(self) -> list[int]:
        """The pids of the processes that wait for new connections: of workers that are ready, not full, not leaving."""
        listening = self.listening()
        return [pid for pid in self.tree() if listening & watched(pid)]

    def listening(self) -> set[str]:
        """The sockets that listen at the server's port, and all Unix sockets that listen, as `descriptors` has them."""
        found = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with suppress(FileNotFoundError), open(table) as file:
                rows = map(str.split, itertools.islice(file, 1, None))
                # Those that listen (0A) come first, and connections may be many; see the kernel's proc_net_tcp.rst.
                for row in itertools.takewhile(lambda row: row[3] == "0A", rows):
                    if row[1].endswith(f":{self.port:04X}"):
                        found.add(f"socket:[{row[9]}]")
        rows = map(str.split, Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:])
        # Flags, where 10000 is a socket that listens, and at place 6 the inode; see proc_net(5).
        return found | {f"socket:[{row[6]}]" for row in rows if int(row[3], 16) & 0x10000}

    def tree(self) -> list[int]:
        """The pids of all that descends from this server, whoever its parent is now."""
        found = []
        token = self._token.encode()
        for row in processes():
            with suppress(OSError):  # gone, or another user's, which is none of ours
                if token in Path("/proc", str(row.pid), "environ").read_bytes().split(b"\0"):
                    found.append(row.pid)
        return found

    def signal(self, number: int, pid: int | None = None) -> None:
        """Send a signal to the master, or to `pid`."""
        os.kill(self.pid if pid is None else pid, number)

    def stop(self, number: int = SIGTERM, seconds: float = 20.0) -> int:
        """Ask the master to stop, and return its exit status (negative: the signal that ended it)."""
        if self.running:
            self.signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 20.0) -> int:
        """The exit status of the master, once it has left."""
        try:
            return self._master.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Deadline(f"{self} was still there after {seconds:g} s") from None

    # As a client

    def connect(self, seconds: float = 5.0) -> socket.socket:
        """A connected socket, with a timeout. The caller closes it."""
        if self.bind and self.bind.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            address: str | tuple[str, int] = str(self.directory / self.bind.removeprefix("unix:"))
        else:
            sock = socket.socket()
            address = ("127.0.0.1", self.port)
        sock.settimeout(seconds)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def ready(self, seconds: float = 10.0, *, workers: int = 1) -> Server:
        """Wait until so many workers serve, and a connection is accepted.

        The kernel accepts for a server that listens, long before anybody has booted: what a test then does to the
        server, it does to workers that boot. `workers` of 0 is for a server that does not wait with epoll.
        """
        wait_for(lambda: self._accepts(workers), seconds, f"{workers} workers of {self} to accept connections")
        return self

    def _accepts(self, workers: int) -> bool:
        if not self.running and not self.tree():
            raise Deadline(f"{self} left with status {self._master.returncode} before it accepted a connection")
        if workers and len(self.serving()) < workers:
            return False
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def ask(self, raw: bytes, *, seconds: float = 5.0, until: bytes | None = None) -> bytes:
        """Send these bytes and return all that comes back: up to the end, to `until`, or to the deadline.

        A connection that is kept alive does not end: ask for `Connection: close`, or say `until` what to read.
        """
        end = time.monotonic() + seconds
        answer = b""
        with self.connect(seconds) as sock, suppress(ConnectionError, TimeoutError):
            sock.sendall(raw)
            while until is None or until not in answer:
                sock.settimeout(max(0.001, end - time.monotonic()))
                if not (chunk := sock.recv(65536)):
                    break
                answer += chunk
        return answer

    def get(
        self, path: str, *, method: str = "GET", body: bytes | None = None, seconds: float = 10.0, **headers: str
    ) -> Answer:
        """One request by a well-behaved client; `X_Request_Id="7"` becomes the field `X-Request-Id`."""
        connection: http.client.HTTPConnection
        if self.bind and self.bind.startswith("unix:"):
            connection = _UnixConnection(str(self.directory / self.bind.removeprefix("unix:")), timeout=seconds)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Connection": "close", **fields})
            response = connection.getresponse()
            return Answer(response.status, response.reason, response.headers, response.read())
        finally:
            connection.close()
