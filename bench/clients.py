"""A client that misses nothing: paced requests on kept-alive connections, each timed from when it was due.

wrk begins to count when a request is written, so it never sees how long a connection took to be made; and where the
server stands still, wrk asks nothing, so that a stall is a single slow request. Here a request is due whether or not
the one before it has been answered.
"""

from __future__ import annotations

import math
import selectors
import socket
import threading
import time
from array import array
from collections import deque
from types import TracebackType

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
RECV = 65536

# Longer than that nobody waits, in seconds.
PATIENCE = 10.0


class Seat:
    """One client, who takes a new connection when the old one ends. `due` is when its next request is.

    `since` is from when on it waits: from `due` if the answer before was late, else from when it really asked, since
    it was the client who was late then.
    """

    def __init__(self, due: float) -> None:
        self.due = due
        self.since = 0.0
        self.sock: socket.socket | None = None
        self.asked = False
        self.received = b""


class Clients:
    """Clients that ask `rate` times a second in all (0: as soon as they are answered), within a `with` block."""

    def __init__(self, port: int, *, clients: int, rate: float) -> None:
        self.latencies = array("d")
        """Milliseconds that each request took, from when it was due to the end of its answer."""
        self.delays = array("d")
        """Milliseconds that the client itself was late, where it had nothing to wait for: how busy the machine was."""
        self.errors: list[str] = []
        self._address = "127.0.0.1", port
        self._interval = clients / rate if rate else 0.0
        self._selector = selectors.DefaultSelector()
        self._enough = threading.Event()
        now = time.monotonic()
        self._resting = deque(Seat(now + number * self._interval / clients) for number in range(clients))
        self._busy: set[Seat] = set()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._enough.is_set():
            self._turn()
        end = time.monotonic() + PATIENCE
        while self._busy and time.monotonic() < end:
            for key, _ in self._selector.select(end - time.monotonic()):
                self._on_event(key.data)
        self.errors += ["no answer"] * len(self._busy)
        for seat in (*self._busy, *self._resting):
            if seat.sock is not None:
                seat.sock.close()
        self._selector.close()

    def _turn(self) -> None:
        """Ask what is due, then wait for answers until the next request is."""
        now = time.monotonic()
        while self._resting and self._resting[0].due <= now:
            self._ask(self._resting.popleft())
        pause = self._resting[0].due - time.monotonic() if self._resting else 0.1
        for key, _ in self._selector.select(max(0.0, min(pause, 0.1))):
            self._on_event(key.data)

    def _ask(self, seat: Seat) -> None:
        self._busy.add(seat)
        if not seat.since:
            seat.since = time.monotonic()
            self.delays.append((seat.since - seat.due) * 1000)
        seat.asked = False
        if seat.sock is not None:
            self._send(seat)
            return
        seat.sock = socket.socket()
        seat.sock.setblocking(False)
        seat.sock.connect_ex(self._address)
        self._selector.register(seat.sock, selectors.EVENT_WRITE, seat)

    def _send(self, seat: Seat) -> None:
        assert seat.sock is not None
        try:
            seat.sock.sendall(REQUEST)
        except OSError as error:
            self._failed(seat, f"sending: {error.strerror}")
        else:
            seat.asked = True

    def _on_event(self, seat: Seat) -> None:
        if seat not in self._busy:
            self._leave(seat)  # between two requests: that is the server's right
            return
        assert seat.sock is not None
        if not seat.asked:
            self._selector.modify(seat.sock, selectors.EVENT_READ, seat)
            self._send(seat)
            return
        try:
            data = seat.sock.recv(RECV)
        except OSError as error:
            self._failed(seat, f"receiving: {error.strerror}")
            return
        if not data:
            self._failed(seat, f"closed after {len(seat.received)} bytes")
            return
        seat.received += data
        head, end, content = seat.received.partition(b"\r\n\r\n")
        if end and len(content) >= length_of(head):
            self._answered(seat, head.lower())

    def _answered(self, seat: Seat, head: bytes) -> None:
        self.latencies.append((time.monotonic() - seat.since) * 1000)
        if not head.startswith(b"http/1.1 200 "):
            self.errors.append(head.partition(b"\r\n")[0].decode())
        if b"\r\nconnection: close" in head:
            self._leave(seat)
        self._rest(seat)

    def _failed(self, seat: Seat, why: str) -> None:
        self.errors.append(why)
        self._leave(seat)
        self._rest(seat)

    def _leave(self, seat: Seat) -> None:
        assert seat.sock is not None
        self._selector.unregister(seat.sock)
        seat.sock.close()
        seat.sock = None

    def _rest(self, seat: Seat) -> None:
        self._busy.discard(seat)
        seat.received = b""
        now = time.monotonic()
        seat.due = seat.due + self._interval if self._interval else now
        seat.since = seat.due if seat.due < now else 0.0
        # Late answers leave requests behind that are due already: then the order of coming is not that of time.
        if self._resting and seat.due < self._resting[-1].due:
            self._resting.append(seat)
            self._resting = deque(sorted(self._resting, key=lambda other: other.due))
        else:
            self._resting.append(seat)


def length_of(head: bytes) -> int:
    """The Content-Length that a head of a response says."""
    return int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])


def percentile(sorted_values: list[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them, which is between 0 and 1."""
    return sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)]
