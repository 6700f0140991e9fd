"""The threaded worker: one selector loop, led by one thread at a time. `sync` has one thread, `gthread` more.

Heads and small bodies are collected here, so a slow client costs no thread. The application runs on the
thread that leads; `lead.py` says how another one takes over if that takes long.
"""

import logging
import select
import socket
import time
from collections import deque
from contextlib import suppress
from typing import Final

from monoceros.app import Application
from monoceros.listener import Listener, Peer
from monoceros.scoreboard import BUSY, clock
from monoceros.worker import lead
from monoceros.worker.base import Berth
from monoceros.worker.blocking import BlockingConnection
from monoceros.worker.loop import FLUSH, milliseconds
from monoceros.worker.slow import ThreadWatch
from monoceros.worker.wsgi import WsgiWorker

log = logging.getLogger("gunicorn.error")

# Events taken from the kernel at once.
BATCH: Final = 64


class ThreadWorker(WsgiWorker[BlockingConnection]):
    """`threads` threads that take turns in leading one loop."""

    def __init__(self, berth: Berth, application: Application) -> None:
        super().__init__(berth, application)
        self.lead = lead.Lead(self.settings.threads, self.beat)
        self._next_tick = 0
        self._tick_due = 0.0  # the same moment in seconds, as `Connection.began` has it
        # What the kernel has reported and nobody has handled yet. Who leads next goes on with it, so that
        # who came first is served first.
        self._events: deque[tuple[int, int]] = deque()
        self._flush_due = 0
        self._polled = 0.0  # when the kernel was last asked, in seconds
        self._alone = self.settings.threads == 1

    def run(self) -> None:
        """Serve until drained."""
        self.epoll = select.epoll()
        self.epoll.register(self.signals.fileno(), select.EPOLLIN)
        self.welcome()
        if self.settings.slow_request:
            self.slow = ThreadWatch(self, self.settings.slow_request, BlockingConnection._exchange.__code__)
            self.slow.start()
        lead.start(self.settings.threads, self.lead, self._turns)
        self._lead_once()
        self._turns()
        self.tally.flush()
        self.access.flush()

    def wake(self) -> None:
        """Let the loop see at once that the worker drains; this may be another thread than the leading one."""
        self._next_tick = 0
        self._tick_due = 0.0
        self.signals.nudge()

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
                self._polled = time.monotonic()
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
            self.tally.flush()
            now = clock()
            self.lag = max(self.lag, now - int(self._polled * 1000))
            if self.access_wanted and now >= self._flush_due:
                self.access.flush()
                self._flush_due = now + FLUSH
            if now >= self._next_tick:
                self._tick(now)
            if self.draining and self._drained(now):
                return True

    def _pause(self) -> float:
        """How long the selector may sleep, in seconds."""
        longest = self.pace
        if self.access_wanted and self.access.waiting:
            longest = FLUSH / 1000
        away = self.acceptor.look()
        return longest if away is None else min(longest, away)

    def _tick(self, now: int) -> None:
        self.on_signals()  # while one slow request follows another, the selector is not asked
        self._next_tick = now + milliseconds(self.pace)
        self._tick_due = self._next_tick / 1000
        self.look_around(now)

    def wait_of(self, connection: BlockingConnection, now: float) -> float:
        """What the kernel says; where it says nothing, how long ago it has told us that there is something."""
        return connection.silence or now - self._polled

    def _serve(self, connection: BlockingConnection) -> bool:
        """Parked to running, and back. False if this thread leads no more."""
        connection.running = True
        try:
            if self._alone:
                self.slot[BUSY] = 1  # nobody looks around meanwhile
                connection.serve()
                self.slot[BUSY] = 0
                leading = True
            else:
                leading = self.lead.call(connection.serve)
        except Exception:
            log.exception("This is an error of the server; it costs one connection: %s", connection)
            connection.alive = leading = False
        self.settle(connection)
        return leading

    # What the kernel watches.

    def _disarm(self, connection: BlockingConnection) -> None:
        """Stop watching a running connection, which would be readable at each poll until it is settled.

        It may be settled by its thread at any moment of this, so the end looks again.
        """
        connection.armed = 0
        try:
            self.epoll.unregister(connection.sock)
        except (OSError, ValueError):
            return  # closed meanwhile
        if not connection.running:
            self.arm(connection)

    def arm(self, connection: BlockingConnection) -> None:
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

    def unwatch(self, connection: BlockingConnection) -> None:
        with suppress(OSError, ValueError):  # disarmed by the leading thread meanwhile
            self.epoll.unregister(connection.sock)

    def _forget(self, fd: int) -> None:
        """Nobody knows this descriptor any more: it must not wake us for ever."""
        with suppress(OSError, ValueError):  # it was closed, and so forgotten already
            self.epoll.unregister(fd)

    # Coming and going.

    def connect(self, listener: Listener, sock: socket.socket, peer: Peer) -> BlockingConnection:
        connection = BlockingConnection(self, listener, sock, peer)
        connection.armed = select.EPOLLIN
        self.epoll.register(connection.fd, select.EPOLLIN)
        return connection

    def watch(self, listener: Listener, watch: bool) -> None:
        if watch:
            self.epoll.register(listener.fileno(), select.EPOLLIN)
        else:
            with suppress(FileNotFoundError):  # it was not watched
                self.epoll.unregister(listener.fileno())
