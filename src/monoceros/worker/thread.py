"""The threaded worker: one selector loop, led by one thread at a time. `sync` has one thread, `gthread` more.

Heads and small bodies are collected here, so a slow client costs no thread. The application runs on the
thread that leads; `lead.py` says how another one takes over if that takes long.
"""

import logging
import select
import socket
from collections import deque
from contextlib import suppress
from typing import Final

from monoceros import scoreboard
from monoceros.listener import Listener, Peer
from monoceros.scoreboard import ACCEPTED, CONNECTIONS, NEVER, clock
from monoceros.wire.events import PeerGone, RemoteError, RequestTimeout
from monoceros.worker import lead
from monoceros.worker.acceptor import Acceptor
from monoceros.worker.base import LAST_CALL, TICK, Berth, Worker, leave
from monoceros.worker.connection import Connection
from monoceros.worker.parked import CONTENT, HEAD, IDLE, LINGERING, SENDING, UNSET, Parked
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

# Events taken from the kernel at once.
BATCH: Final = 64


class ThreadWorker(Worker):
    """`threads` threads that take turns in leading one loop."""

    def __init__(self, berth: Berth) -> None:
        super().__init__(berth)
        self.connections: dict[int, Parked] = {}
        self.lead = lead.Lead(self.settings.threads, self.beat)
        self._next_tick = 0
        self._tick_due = 0.0  # the same moment in seconds, as `Connection.began` has it
        # What the kernel has reported and nobody has handled yet. Who leads next goes on with it, so that
        # who came first is served first.
        self._events: deque[tuple[int, int]] = deque()
        self._flush_due = 0
        self._accepted = 0
        self._hurried = False
        self._alone = self.settings.threads == 1
        self._header_patience = _milliseconds(self.settings.header_timeout)
        self._idle_patience = _milliseconds(self.settings.keepalive)

    def run(self) -> None:
        """Serve until drained."""
        self.epoll = select.epoll()
        self.epoll.register(self.signals.fileno(), select.EPOLLIN)
        self.acceptor = Acceptor(
            self.listeners,
            self.berth.scoreboard,
            self.settings.worker_connections,
            self.connections.__len__,
            self._take,
            self._watch,
        )
        lead.start(self.settings.threads, self.lead, self._turns)
        self._lead_once()
        self._turns()
        self.access.flush()

    def wake(self) -> None:
        """Let the loop see at once that the worker drains; this may be another thread than the leading one."""
        self._next_tick = 0
        self._tick_due = 0.0
        self.signals.nudge()

    def running(self) -> list[Connection]:
        """The connections whose request is with the application now."""
        return [connection for connection in list(self.connections.values()) if connection.running]

    # The loop. Whoever is in here leads.

    def _turns(self) -> None:
        """A thread's life: wait for the lead, lead until it is lost or the worker is drained."""
        while self.lead.spare():
            self._lead_once()

    def _lead_once(self) -> None:
        if self._loop():
            self.lead.stop()

    def _loop(self) -> bool:
        """Lead. True when the worker is drained, False when the lead has gone to another thread."""
        events, connections = self._events, self.connections
        while True:
            if not events:
                events.extend(self.epoll.poll(self._pause(), BATCH))
            while events:
                connection = connections.get(fd := events.popleft()[0])
                if connection is not None:
                    if not self._on_readable(connection):
                        return False
                    if connection.began > self._tick_due:
                        break
                elif fd == self.signals.fileno():
                    self.on_signals()
                elif not self.acceptor.on_readable(fd):
                    self._forget(fd)
            now = clock()
            if self.access_wanted and now >= self._flush_due:
                self.access.flush()
                self._flush_due = now + FLUSH
            if now >= self._next_tick:
                self._tick(now)
            if self.draining and self._drained(now):
                return True

    def _pause(self) -> float:
        """How long the selector may sleep, in seconds."""
        longest = DRAIN_TICK if self.draining else TICK
        if self.access_wanted and self.access.waiting:
            longest = FLUSH / 1000
        away = self.acceptor.look()
        return longest if away is None else min(longest, away)

    def _tick(self, now: int) -> None:
        """Once a second, more often while draining: late clients, and what every worker does."""
        self.on_signals()  # while one slow request follows another, the selector is not asked
        if self.draining:
            self._hurry()
        self._next_tick = now + _milliseconds(DRAIN_TICK if self.draining else TICK)
        self._tick_due = self._next_tick / 1000
        patience = _milliseconds(LAST_CALL) if self.draining else self._idle_patience
        for connection in list(self.connections.values()):
            if connection.deadline == UNSET:
                self._begin_to_wait(connection, now, patience)
            elif connection.deadline <= now and not connection.running:
                self._expire(connection)
        self.tick(len(self.connections))

    def _begin_to_wait(self, connection: Parked, now: int, patience: int) -> None:
        """A connection has been parked since the last tick: the next request, or its rest, is now awaited."""
        connection.wire.closing |= self.draining
        if connection.wire.has_begun:
            connection.phase = HEAD
            patience = self._header_patience
        connection.deadline = now + patience

    def _expire(self, connection: Parked) -> None:
        """The client's time is up. It is told so if it has begun to say something."""
        if connection.phase is CONTENT or (connection.phase is HEAD and connection.wire.has_begun):
            connection.refuse(RequestTimeout(f"the {connection.phase} of the request took too long"))
            self._settle(connection)
            return
        if connection.phase is SENDING:
            log.debug("%s: has taken no byte of its response for %g s", connection, connection.timeout)
        elif connection.phase is not LINGERING and not self.quick and not connection.silent:
            return  # it is not late, we are: its request waits to be read
        self._drop(connection)

    def _drained(self, now: int) -> bool:
        """Is nothing left to do? When the time for it is over, the process ends here."""
        if not self.connections:
            return self._hurried
        if now < self.slot[scoreboard.DEADLINE]:
            return False
        if not self.quick:
            log.warning("Worker graceful timeout (pid:%d)", self.pid)
        # The main thread may be in a call that does not come back, so it is not asked.
        self.access.flush()
        leave(0)

    def _on_readable(self, connection: Parked) -> bool:
        """Something has come from a client. False if this thread leads no more."""
        if connection.running or connection.phase is SENDING or connection.phase is LINGERING:
            return self._on_unusual(connection)
        try:
            data = connection.sock.recv(HEAD_RECV)
        except BlockingIOError:
            return True
        except OSError:
            self._drop(connection)
            return True
        connection.wire.receive_data(data)
        return self._go_on(connection, len(data))

    def _go_on(self, connection: Parked, received: int) -> bool:
        """Serve the request if it is there, else wait for the rest of it. False if the lead was lost."""
        try:
            ready = connection.advance()
        except RemoteError as error:
            connection.refuse(error)
            self._settle(connection)
            return True
        except PeerGone:
            self._drop(connection)
            return True
        if ready:
            return self._serve(connection)
        if not connection.alive:
            self._drop(connection)
        elif connection.request is not None:
            connection.phase = CONTENT
            connection.deadline = connection.content_deadline(received)
        elif connection.phase is IDLE:
            connection.phase = HEAD
            connection.deadline = clock() + self._header_patience
        return True

    def _serve(self, connection: Parked) -> bool:
        """Parked to running, and back. False if this thread leads no more."""
        connection.running = True
        try:
            if self._alone:
                connection.serve()
                leading = True
            else:
                leading = self.lead.call(connection.serve)
        except Exception:
            log.exception("This is an error of the server; it costs one connection: %s", connection)
            connection.alive = leading = False
        self._settle(connection)
        return leading

    def _settle(self, connection: Parked) -> None:
        """Running to parked, or gone. The thread that ran it may not lead any more."""
        if connection.alive and connection.request is None and not connection.unsent:
            connection.phase = IDLE
            connection.deadline = UNSET
            connection.running = False
            if connection.armed != select.EPOLLIN:
                self._arm(connection)
            return
        if connection.unsent:
            connection.phase = SENDING
            connection.deadline = clock() + _milliseconds(connection.timeout)
        elif not connection.alive:
            self._close(connection)
            return
        else:
            connection.phase = CONTENT
            connection.deadline = connection.content_deadline(0)
        connection.running = False
        self._arm(connection)

    def _on_unusual(self, connection: Parked) -> bool:
        """Readable while its request runs, writable again, or still talking after our last word."""
        if connection.running:
            self._disarm(connection)
        elif connection.phase is SENDING:
            return self._flush(connection)
        else:
            self._listen_on(connection)
        return True

    # What the kernel watches.

    def _disarm(self, connection: Parked) -> None:
        """Stop watching a running connection, which would be readable at each poll until it is settled.

        It may be settled by its thread at any moment of this, so the end looks again.
        """
        connection.armed = 0
        try:
            self.epoll.unregister(connection.sock)
        except (OSError, ValueError):
            return  # closed meanwhile
        if not connection.running:
            self._arm(connection)

    def _arm(self, connection: Parked) -> None:
        """Watch for what the connection's phase waits for.

        Two threads may do this at once, and the phase change in between: who is late looks again.
        """
        wanted = None
        while wanted != connection.wanted:
            connection.armed = wanted = connection.wanted
            try:
                try:
                    self.epoll.modify(connection.sock, wanted)
                except FileNotFoundError:
                    self.epoll.register(connection.sock, wanted)
            except FileExistsError:
                wanted = None  # the other thread was quicker, perhaps with something else
            except (OSError, ValueError):
                return  # closed meanwhile

    def _forget(self, fd: int) -> None:
        """Nobody knows this descriptor any more: it must not wake us for ever."""
        with suppress(OSError, ValueError):  # it was closed, and so forgotten already
            self.epoll.unregister(fd)

    def _flush(self, connection: Parked) -> bool:
        """The client takes more of its response. False if the lead was lost, to a request that came behind it."""
        try:
            flushed = connection.flush()
        except PeerGone:
            self._drop(connection)
            return True
        if not flushed:
            connection.deadline = clock() + _milliseconds(connection.timeout)
            return True
        self._settle(connection)
        return self._go_on(connection, 0) if connection.alive and connection.wire.has_begun else True

    # The end of a connection.

    def _close(self, connection: Parked) -> None:
        """Close; if the client may still be sending, say that we are done and let it finish first.

        Closing with bytes unread resets the connection, and the client may never see our answer.
        """
        # Where it was we who would have no more requests, the client may have sent one before it could know.
        wary = connection.wary or (connection.wire.closing and not connection.silent)
        if not wary or self.quick:
            self._drop(connection)
            return
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)
            return
        connection.phase = LINGERING
        connection.heard = 0
        connection.deadline = clock() + _milliseconds(LINGER)
        connection.running = False
        self._arm(connection)

    def _listen_on(self, connection: Parked) -> None:
        try:
            data = connection.sock.recv(RECV)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.heard += len(data)
        if not data or connection.heard > LINGER_BYTES:
            self._drop(connection)

    def _drop(self, connection: Parked) -> None:
        # Out of the table first: once closed, the descriptor may be that of the next connection.
        # An application may have closed the socket itself, and the descriptor be that of the next already.
        if self.connections.get(connection.fd) is connection:
            del self.connections[connection.fd]
        if connection.armed:
            with suppress(OSError, ValueError):  # disarmed by the leading thread meanwhile
                self.epoll.unregister(connection.sock)
        connection.close()
        self.slot[CONNECTIONS] = len(self.connections)

    # Coming and going.

    def _take(self, listener: Listener, sock: socket.socket, peer: Peer) -> None:
        """Park a new connection, which has not said anything yet."""
        connection = Parked(self, listener, sock, peer)
        connection.armed = select.EPOLLIN
        connection.phase = HEAD
        connection.heard = 0
        connection.deadline = clock() + (_milliseconds(LAST_CALL) if self.draining else self._header_patience)
        connection.wire.closing = self.draining or not self.settings.keepalive
        self.connections[connection.fd] = connection
        self.epoll.register(connection.fd, select.EPOLLIN)
        self._accepted += 1
        self.slot[ACCEPTED] = self._accepted
        self.slot[CONNECTIONS] = len(self.connections)

    def _watch(self, listener: Listener, watch: bool) -> None:
        if watch:
            self.epoll.register(listener.fileno(), select.EPOLLIN)
        else:
            with suppress(FileNotFoundError):  # it was not watched
                self.epoll.unregister(listener.fileno())

    def _hurry(self) -> None:
        """Once, when draining begins: let in who has connected already, and give idle clients a last call."""
        if self._hurried:
            return
        self._hurried = True
        self.acceptor.close(0 if self.quick else self.settings.backlog)
        last_call = 0 if self.quick else clock() + _milliseconds(LAST_CALL)
        for connection in list(self.connections.values()):
            # What was sent behind a request that runs is answered, too.
            connection.wire.closing |= not (connection.running and connection.owed)
            if connection.phase is IDLE or (connection.phase is HEAD and not connection.wire.has_begun):
                connection.deadline = last_call if connection.deadline == UNSET else min(connection.deadline, last_call)


def _milliseconds(seconds: float) -> int:
    """0 seconds of patience are no limit."""
    return int(seconds * 1000) if seconds else NEVER // 2
