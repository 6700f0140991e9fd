"""Metrics for a statsD, by Gunicorn's names and in Gunicorn's words.

    gunicorn.requests, gunicorn.request.status.NNN            counters
    gunicorn.request.duration                                 a timer, in milliseconds
    gunicorn.workers                                          a gauge, told by the master when it changes
    gunicorn.backlog                                          a histogram, told by the master once a second
    gunicorn.log.critical, .error, .warning, .exception       counters

and whatever a record of the error log carries as `extra={"metric": ..., "value": ..., "mtype": ...}`.

All goes by datagrams, so one object serves master and workers, before and after the fork.
"""

import logging
import re
import socket
from collections import deque
from collections.abc import Iterator
from typing import Final

from monoceros.settings.table import Settings
from monoceros.settings.values import Address

# By the `mtype` of a record.
TYPES: Final = {"gauge": "g", "counter": "c|@1.0", "histogram": "h", "timer": "ms"}

# From here on, the lines of a flush share datagrams: a system call for each would cost more than the requests do.
MANY: Final = 30

# What passes through a network without being cut, as statsD's own documentation has it for a LAN (1432), less what
# tunnels take.
DATAGRAM: Final = 1400


SWITCHING_PROTOCOLS: Final = 101


class StatsD:
    """Where metrics go. What requests were like is collected, and sent by `flush`; everything else is sent at once.

    Nothing here waits, or raises for a failing send.
    """

    def __init__(self, address: Address, prefix: str = "", tags: str = "") -> None:
        """Looks up the host's name, once. Raises OSError."""
        self._family, self._where = located(address)
        self._prefix = full_prefix(prefix)
        self._tags = f"|#{tags}" if tags else ""
        self._requests: deque[tuple[int, float]] = deque()
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Let go of the socket. Who tells of something nevertheless gets another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def waiting(self) -> bool:
        """Whether there are requests that are not told of yet."""
        return bool(self._requests)

    def request(self, status: int, seconds: float) -> None:
        """Count a request that was answered. Any thread may. A WebSocket is none: it has no time that it takes."""
        if status != SWITCHING_PROTOCOLS:
            self._requests.append((status, seconds))

    def flush(self) -> None:
        """Tell of the requests that were counted: in datagrams of their own while they are few."""
        if not self._requests:
            return
        lines = [line for status, seconds in self._taken() for line in self._of_request(status, seconds)]
        for datagram in lines if len(lines) <= MANY else packed(lines):
            self._send(datagram)

    def metric(self, name: str, value: object, kind: str) -> None:
        """Tell of one, now. `kind` is one of `TYPES`; of others, nothing is told, as in Gunicorn."""
        if kind in TYPES:
            self._send(self._line(name, value, TYPES[kind]))

    def _taken(self) -> Iterator[tuple[int, float]]:
        # One by one, because others may add meanwhile, and another may flush.
        while self._requests:
            try:
                yield self._requests.popleft()
            except IndexError:
                return

    def _of_request(self, status: int, seconds: float) -> Iterator[bytes]:
        whole, microseconds = divmod(round(seconds * 1e6), 1_000_000)
        yield self._line("gunicorn.request.duration", whole * 1000 + microseconds / 1000, "ms")
        yield self._line("gunicorn.requests", 1, "c|@1.0")
        yield self._line(f"gunicorn.request.status.{status}", 1, "c|@1.0")

    def _line(self, name: str, value: object, kind: str) -> bytes:
        return f"{self._prefix}{name}:{value}|{kind}{self._tags}".encode()

    def _send(self, datagram: bytes) -> None:
        try:
            if self._socket is None:
                self._socket = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            # Not connected: so a socket file that was made anew, or a port that was closed for a while, is found again.
            self._socket.sendto(datagram, self._where)
        except OSError:
            # Nobody is there, or has room. A line for each request would fill the log of a server whose statsD is
            # away, and a metric that is missed is what statsD's users bargain for.
            return


def of(settings: Settings) -> StatsD | None:
    """The statsD of `statsd_host`, None if there is none. Raises OSError if its name cannot be looked up."""
    if settings.statsd_host is None:
        return None
    return StatsD(settings.statsd_host, settings.statsd_prefix, settings.dogstatsd_tags)


def located(address: Address) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """The family of an address, and what its sockets call it. Raises OSError."""
    if address.kind == "unix":
        return socket.AF_UNIX, address.path
    # IPv4 for a name: so it is in Gunicorn, and statsDs listen there.
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    (_, _, _, _, where), *_ = socket.getaddrinfo(address.host, address.port, family, socket.SOCK_DGRAM)
    return family, (str(where[0]), address.port)


def full_prefix(prefix: str) -> str:
    """The prefix with one dot behind; Gunicorn gives none to a single letter, and dashboards know it so."""
    return re.sub(r"^(.+[^.]+)\.*$", r"\g<1>.", prefix)


def packed(lines: list[bytes]) -> Iterator[bytes]:
    """Lines in datagrams, with newlines between."""
    begun: list[bytes] = []
    size = 0
    for line in lines:
        if begun and size + len(line) > DATAGRAM:
            yield b"\n".join(begun)
            begun, size = [], 0
        begun.append(line)
        size += len(line) + 1
    if begun:
        yield b"\n".join(begun)


class Teller(logging.Handler):
    """Tells statsD what records say: that something went wrong, and the metrics that they carry."""

    def __init__(self, statsd: StatsD) -> None:
        super().__init__()
        self.statsd = statsd

    def close(self) -> None:
        self.statsd.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        name = counted_as(record.levelno, record.exc_info is not None)
        if name is not None:
            self.statsd.metric(name, 1, "counter")
        else:
            carried(self.statsd, vars(record))


def counted_as(level: int, is_exception: bool) -> str | None:
    """The counter of a level, None if it has none."""
    if level == logging.ERROR and is_exception:
        return "gunicorn.log.exception"
    return {
        logging.CRITICAL: "gunicorn.log.critical",
        logging.ERROR: "gunicorn.log.error",
        logging.WARNING: "gunicorn.log.warning",
    }.get(level)


def carried(statsd: StatsD, extra: dict[str, object]) -> None:
    """Tell of the metric that is in what a caller of `logging` gave as `extra`, if there is one."""
    metric, value, kind = (extra.get(name) for name in ("metric", "value", "mtype"))
    if metric and value is not None and isinstance(kind, str):
        statsd.metric(str(metric), value, kind)
