"""A server under test: a session of processes on the cores it is given, and what /proc says of them.

Each server is started as the leader of a session of its own. So its workers are known by their session number,
whatever forked whom, and whatever is left at the end can be killed as one group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from .servers import APPS, Place, Server

BOOT_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0
TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Unfit(Exception):
    """This server has no figure for this row; says why."""


class Process:
    def __init__(self, server: Server, place: Place, cores: str) -> None:
        self.place = place
        self.output = place.home / "output"
        # Nothing from our own environment may configure a server (GUNICORN_CMD_ARGS, WEB_CONCURRENCY, ...).
        environ = {"PATH": os.environ["PATH"], "HOME": str(place.home), "PYTHONPATH": str(APPS), "LANG": "C.UTF-8"}
        with self.output.open("wb") as output:
            try:
                self.root = subprocess.Popen(
                    ["taskset", "-c", cores, *server.command(place)],
                    cwd=place.home,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise Unfit(f"did not start: {error}") from None

    def __enter__(self) -> Process:
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def wait(self) -> None:
        """Until somebody listens. The check that follows waits for the application."""
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline:
            if self.root.poll() is not None:
                raise Unfit(f"exited with {self.root.returncode}: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", self.place.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Unfit(f"did not listen within {BOOT_TIMEOUT:.0f} s: {self.last_words()}")

    def stop(self) -> None:
        """Politely, then not; returns when nothing of it is left, or cannot be killed."""
        if self.root.poll() is None:
            self.root.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.root.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.root.pid, signal.SIGKILL)
        self.root.wait(STOP_TIMEOUT)

    def last_words(self) -> str:
        lines = [line.strip() for line in self.output.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "it said nothing")

    def logged(self) -> int:
        """How many requests are in the access log, wherever this server keeps it."""
        log = self.place.access_log
        path = log if log and log.exists() else self.output
        with path.open("rb") as lines:
            return sum(b"GET /" in line or b'"GET","path":"/"' in line for line in lines)

    def usage(self) -> Usage:
        return Usage.of(pids(self.root.pid))


@dataclass(frozen=True)
class Usage:
    """CPU time of a session so far, counted twice, and its memory now."""

    threads: dict[tuple[int, int], int]
    """(pid, tid) to nanoseconds on a CPU. Exact, but a thread that ends takes its count along."""
    processes: dict[int, int]
    """pid to user + system, its dead threads and reaped children included. In ticks, some 10 ms."""
    rss: int
    """Bytes, the sum over all processes: pages shared by master and worker count twice."""

    @classmethod
    def of(cls, pids: list[int]) -> Usage:
        threads: dict[tuple[int, int], int] = {}
        processes: dict[int, int] = {}
        rss = 0
        for pid in pids:
            home = Path("/proc", str(pid))
            try:
                fields = stat(home)
                processes[pid] = sum(int(field) for field in fields[11:15]) * TICK
                rss += int(fields[21]) * PAGE
                for task in (home / "task").iterdir():
                    threads[pid, int(task.name)] = int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue
        return cls(threads, processes, rss)

    def since(self, before: Usage) -> int:
        """Nanoseconds on a CPU. The exact count only if nobody came or went meanwhile."""
        if self.threads and self.threads.keys() == before.threads.keys():
            return sum(self.threads.values()) - sum(before.threads.values())
        return sum(spent - before.processes.get(pid, 0) for pid, spent in self.processes.items())


def stat(home: Path) -> list[str]:
    """The fields of /proc/PID/stat from `state` on: the name before it may hold anything, even a bracket."""
    return (home / "stat").read_text().rpartition(")")[2].split()


def pids(session: int) -> list[int]:
    found = []
    for home in Path("/proc").iterdir():
        if home.name.isdigit():
            try:
                if int(stat(home)[3]) == session:
                    found.append(int(home.name))
            except OSError:  # gone between the two looks
                continue
    return found
