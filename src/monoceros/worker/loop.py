"""What every loop does with connections, whoever runs it: take them in, tell who is late, let them go."""

import logging
import socket
from typing import Final, Generic, TypeVar

from monoceros.app import Application
from monoceros.listener import Listener, Peer
from monoceros.scoreboard import ACCEPTED, CONNECTIONS, DEADLINE, LAG, NEVER, clock
from monoceros.wire.events import RequestTimeout
from monoceros.worker.acceptor import Acceptor
from monoceros.worker.base import LAST_CALL, TICK, Berth, Worker
from monoceros.worker.connection import CONTENT, HEAD, IDLE, LINGERING, SENDING, UNSET, Connection
from monoceros.worker.slow import Watch
from monoceros.worker.transport import RECV

log = logging.getLogger("gunicorn.error")

# How long, and for how many bytes, we listen to a client after our last word to it (RFC 9112 §9.6).
LINGER: Final = 2.0
LINGER_BYTES: Final = 1 << 24

# How long lines of the access log are collected to be written together, in milliseconds.
FLUSH: Final = 20

# How often a draining worker looks whether it is done, in seconds.
DRAIN_TICK: Final = 0.05

# What the loop takes from a connection at once. Heads are small, and the kernel says so when there is more;
# a larger buffer would be allocated and given back for each request.
HEAD_RECV: Final = 16384


# The kernel knows since when a request waits, but to ask costs a twentieth of a small request. So it is asked once in
# so many seconds, and what it says holds for the requests that begin until then. It counts in ticks of 4 ms
# (CONFIG_HZ): less than two of them is no wait.
ASK: Final = 0.005
WAITED: Final = 0.008

C = TypeVar("C", bound=Connection)


class LoopWorker(Worker, Generic[C]):
    """A worker that waits for all its connections in one place. Kinds differ in that place."""

    acceptor: Acceptor
    slow: Watch | None = None  # where `slow_request` asks for one
    alone = False  # whether there are no siblings that take connections as well

    def __init__(self, berth: Berth, application: Application) -> None:
        super().__init__(berth, application)
        self.connections: dict[int, C] = {}
        self._accepted = 0
        self._hurried = False
        # What the loop was late, at the worst, since it was last written down, in milliseconds.
        self.lag = 0
        # How long requests wait for us, in seconds, and when to ask again, in seconds of the monotonic clock.
        self.wait = 0.0
        self.ask_at = 0.0
        self.header_patience = milliseconds(self.settings.header_timeout)
        self._idle_patience = milliseconds(self.settings.keepalive)

    def running(self) -> list[Connection]:
        """The connections whose request is with the application now."""
        return [connection for connection in list(self.connections.values()) if connection.running]

    def look_back(self, connection: C, now: float) -> None:
        """Find out how long requests wait, by one that begins `now`; to be called from `ask_at` on."""
        wait = self.wait_of(connection, now)
        self.wait = wait if wait >= WAITED else 0.0
        self.ask_at = now + ASK

    def wait_of(self, connection: C, now: float) -> float:
        """For how many seconds what has come last on a connection has been there, as far as that can be known."""
        return connection.silence

    # What a kind of loop is.

    def connect(self, listener: Listener, sock: socket.socket, peer: Peer) -> C:
        """The connection of an accepted socket, watched for its first bytes."""
        raise NotImplementedError

    def watch(self, listener: Listener, watch: bool) -> None:
        """Wait for new connections, or do not."""
        raise NotImplementedError

    def arm(self, connection: C) -> None:
        """Watch for what the connection's phase waits for."""
        raise NotImplementedError

    def unwatch(self, connection: C) -> None:
        """Watch this connection no more: it is about to be closed."""
        raise NotImplementedError

    def settle(self, connection: C) -> None:
        """Nothing runs on the connection any more: let it wait for what comes next, or go."""
        raise NotImplementedError

    # Time.

    def look_around(self, now: int) -> None:
        """Once a second, more often while draining: late clients, and what every worker does."""
        self.slot[LAG], self.lag = self.lag, 0
        if self.draining:
            self._hurry()
        patience = milliseconds(LAST_CALL) if self.draining else self._idle_patience
        for connection in list(self.connections.values()):
            if connection.deadline == UNSET:
                self._begin_to_wait(connection, now, patience)
            elif connection.deadline <= now:
                if connection.running:
                    self.expire_running(connection)
                else:
                    self._expire(connection)
        self.tick(len(self.connections))

    @property
    def pace(self) -> float:
        """Seconds from one look around to the next."""
        return DRAIN_TICK if self.draining else TICK

    def _begin_to_wait(self, connection: C, now: int, patience: int) -> None:
        """A connection has been parked since the last tick: the next request, or its rest, is now awaited."""
        connection.wire.closing |= self.draining
        if connection.wire.has_begun:
            connection.phase = HEAD
            patience = self.header_patience
        connection.deadline = now + patience

    def expire_running(self, connection: C) -> None:
        """The client's time is up while its request runs. A thread that waits for it knows by itself."""

    def _expire(self, connection: C) -> None:
        """The client's time is up. It is told so if it has begun to say something."""
        if connection.phase is CONTENT or (connection.phase is HEAD and connection.wire.has_begun):
            connection.refuse(RequestTimeout(f"the {connection.phase} of the request took too long"))
            self.settle(connection)
            return
        if connection.phase is SENDING:
            if connection.moving:
                connection.deadline = clock() + milliseconds(connection.timeout)
                return
            log.debug("%s: has taken no byte of its response for %g s", connection, connection.timeout)
        elif connection.phase is not LINGERING and not self.quick and not connection.silent:
            return  # it is not late, we are: its request waits to be read
        self.drop(connection)

    @property
    def finished(self) -> bool:
        """While draining: is nothing left to do?"""
        return self._hurried and not self.connections

    def out_of_time(self, now: int) -> bool:
        """While draining: something is left to do, but the time for it is over."""
        if self.finished or now < self.slot[DEADLINE]:
            return False
        if not self.quick:
            log.warning("Worker graceful timeout (pid:%d)", self.pid)
        return True

    # The end of a connection.

    def close(self, connection: C) -> None:
        """Close; if the client may still be sending, say that we are done and let it finish first.

        Closing with bytes unread resets the connection, and the client may never see our answer.
        """
        # Where it was we who would have no more requests, the client may have sent one before it could know.
        wary = connection.wary or (connection.wire.closing and not connection.silent)
        if not wary or self.quick:
            self.drop(connection)
            return
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop(connection)
            return
        connection.phase = LINGERING
        connection.heard = 0
        connection.deadline = clock() + milliseconds(LINGER)
        connection.running = False
        self.arm(connection)

    def listen_on(self, connection: C) -> None:
        try:
            data = connection.sock.recv(RECV)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.heard += len(data)
        if not data or connection.heard > LINGER_BYTES:
            self.drop(connection)

    def drop(self, connection: C) -> None:
        # Out of the table first: once closed, the descriptor may be that of the next connection.
        # An application may have closed the socket itself, and the descriptor be that of the next already.
        if self.connections.get(connection.fd) is connection:
            del self.connections[connection.fd]
        if connection.armed:
            self.unwatch(connection)
        connection.close()
        self.slot[CONNECTIONS] = len(self.connections)

    # Coming and going.

    def welcome(self) -> None:
        """Begin to accept."""
        self.acceptor = Acceptor(
            self.listeners,
            self.berth.scoreboard,
            self.slot,
            self.settings.worker_connections,
            self.connections.__len__,
            self._take,
            self.watch,
            self.alone,
        )

    def _take(self, listener: Listener, sock: socket.socket, peer: Peer) -> None:
        """Park a new connection, which has not said anything yet."""
        connection = self.connect(listener, sock, peer)
        connection.deadline = clock() + (milliseconds(LAST_CALL) if self.draining else self.header_patience)
        connection.wire.closing = self.draining or not self.settings.keepalive
        self.connections[connection.fd] = connection
        self._accepted += 1
        self.slot[ACCEPTED] = self._accepted
        self.slot[CONNECTIONS] = len(self.connections)

    def _hurry(self) -> None:
        """Once, when draining begins: let in who has connected already, and give idle clients a last call."""
        if self._hurried:
            return
        self._hurried = True
        self.acceptor.close(0 if self.quick else self.settings.backlog)
        last_call = 0 if self.quick else clock() + milliseconds(LAST_CALL)
        for connection in list(self.connections.values()):
            # What was sent behind a request that runs is answered, too.
            connection.wire.closing |= not (connection.running and connection.owed)
            if connection.phase is IDLE or (connection.phase is HEAD and not connection.wire.has_begun):
                connection.deadline = last_call if connection.deadline == UNSET else min(connection.deadline, last_call)


def milliseconds(seconds: float) -> int:
    """0 seconds of patience are no limit."""
    return int(seconds * 1000) if seconds else NEVER // 2
