"""The gevent worker: one hub, and a greenlet for each connection.

The main greenlet accepts, looks after those who are late, and puts off the deadline. It runs nothing of the
application, so that it comes to its turn as long as the others yield. A connection's greenlet waits for its client and
calls the application, by the same connection, wire and gateway as a thread does.
"""

import logging
import select
import socket
from typing import Any, Final

import gevent
from gevent import monkey
from gevent.event import Event
from gevent.hub import Waiter

from monoceros.app import Application
from monoceros.listener import Listener, Peer
from monoceros.scoreboard import clock
from monoceros.wire.events import Request
from monoceros.worker.base import QUICK, Berth
from monoceros.worker.blocking import BlockingConnection
from monoceros.worker.connection import SENDING
from monoceros.worker.loop import FLUSH, milliseconds
from monoceros.worker.slow import GreenWatch
from monoceros.worker.tally import Tally
from monoceros.worker.wsgi import WsgiWorker

log = logging.getLogger("gunicorn.error")

# What libev calls the two things that can be waited for.
READ: Final = 1
WRITE: Final = 2


class GreenConnection(BlockingConnection):
    """One client, and the greenlet that serves it. `waiter` is there while that sleeps."""

    __slots__ = ("greenlet", "reader", "waiter", "writer")

    greenlet: Any
    reader: Any
    waiter: Any
    writer: Any


class GreenWorker(WsgiWorker[GreenConnection]):
    """Connections, each in a greenlet of its own."""

    def __init__(self, berth: Berth, application: Application) -> None:
        super().__init__(berth, application)
        self.environ["wsgi.multithread"] = True
        self.hub = gevent.get_hub()
        # One of the application's greenlets may exit, as one of its threads may. That does not end the worker.
        self.hub.SYSTEM_ERROR = ()
        self.tally = Tally(berth.slot, self.hub.loop.run_callback)
        self._bell = Event()  # there is something to do for the main greenlet
        self._watchers: dict[int, Any] = {}
        self._watched: set[int] = set()
        self._reported: list[int] = []
        self._next_tick = 0
        self._flush_due = 0
        self._wake_due = 0

    def run(self) -> None:
        """Serve until drained."""
        self._watch(self.signals.fileno(), True)
        self.welcome()
        if self.settings.slow_request:
            self.slow = GreenWatch(self, self.settings.slow_request, BlockingConnection._exchange.__code__)
            self.slow.start()
        while not self._turn():
            pass
        self.tally.flush()
        self.access.flush()

    def wake(self) -> None:
        """The worker drains: look around at once."""
        self._next_tick = 0
        self._bell.set()

    # The main greenlet.

    def _turn(self) -> bool:
        """Wait for what concerns more than one connection, and do it. True when the worker is drained."""
        pause = self._pause()
        due = clock() + milliseconds(pause)
        if not self._bell.wait(pause):
            self.lag = max(self.lag, clock() - due)
        self._bell.clear()
        reported, self._reported = self._reported, []
        for fd in reported:
            if fd == self.signals.fileno():
                self.on_signals()
            else:
                self.acceptor.on_readable(fd)
            if fd in self._watched:
                self._watchers[fd].start(self._report, fd)
        now = clock()
        if self.access_wanted and self.access.waiting and now >= self._flush_due:
            self.access.flush()
            self._flush_due = now + FLUSH
        if now >= self._next_tick:
            self._next_tick = now + milliseconds(self.pace)
            self.look_around(now)
        return self.draining and self._drained(now)

    def _pause(self) -> float:
        """How long the main greenlet may sleep, in seconds."""
        longest = min(self.pace, max(0, self._next_tick - clock()) / 1000)
        if self.access_wanted and self.access.waiting:
            longest = min(longest, FLUSH / 1000)
        away = self.acceptor.look()
        return longest if away is None else min(longest, away)

    def tell(self, connection: Any, request: Request, exchange: Any, *ending: Any) -> None:
        """Write the line of an exchange to the access log, soon."""
        if not self.access.waiting:
            self._bell.set()
        super().tell(connection, request, exchange, *ending)

    def beat(self) -> None:
        """That one request moves says nothing about the others: the deadline is put off by the main greenlet only."""

    def tick(self, connections: int) -> None:
        super().beat()
        super().tick(connections)

    def _leave_soon(self) -> None:
        """Whatever runs then, leave when the time for a quick end is over.

        This is in a handler of a signal, perhaps in the hub, where nothing may wait, and the hub may be blocked. So it
        takes a thread of the system's.
        """
        monkey.get_original("_thread", "start_new_thread")(self._leave_later, ())

    def _leave_later(self) -> None:
        monkey.get_original("time", "sleep")(QUICK)
        self.leave(0)

    # What the hub watches for the main greenlet.

    def watch(self, listener: Listener, watch: bool) -> None:
        self._watch(listener.fileno(), watch)

    def _watch(self, fd: int, watch: bool) -> None:
        watcher = self._watchers.get(fd)
        if watcher is None:
            watcher = self._watchers[fd] = self.hub.loop.io(fd, READ)
        if watch:
            self._watched.add(fd)
            watcher.start(self._report, fd)
        else:
            self._watched.discard(fd)
            watcher.stop()

    def _report(self, fd: int) -> None:
        """In the hub: it is readable. That is said once, until the main greenlet has seen to it."""
        self._watchers[fd].stop()
        self._reported.append(fd)
        self._bell.set()

    # The greenlets of connections.

    def connect(self, listener: Listener, sock: socket.socket, peer: Peer) -> GreenConnection:
        connection = GreenConnection(self, listener, sock, peer)
        connection.armed = select.EPOLLIN
        connection.waiter = None
        connection.reader = self.hub.loop.io(connection.fd, READ)
        connection.writer = self.hub.loop.io(connection.fd, WRITE)
        connection.greenlet = gevent.spawn(self._live, connection)
        return connection

    def _live(self, connection: GreenConnection) -> None:
        """The life of a connection, from when it was accepted until it is closed."""
        try:
            while connection.armed:
                self._on_readable(connection)
                if connection.armed:
                    self._sleep(connection)
        except BaseException:  # whoever kills all greenlets there are, or has forgotten a gevent.Timeout
            log.exception("Closing connection: its greenlet has failed. %s", connection)
            if connection.armed:
                self.drop(connection)
        finally:
            connection.reader.close()
            connection.writer.close()

    def _sleep(self, connection: GreenConnection) -> None:
        """Wait until the client has sent or taken something, or something else has become of the connection."""
        watcher = connection.writer if connection.phase is SENDING else connection.reader
        connection.waiter = waiter = Waiter(self.hub)
        watcher.start(waiter.switch, None)
        try:
            waiter.get()
        finally:
            watcher.stop()
            connection.waiter = None

    def _serve(self, connection: GreenConnection) -> bool:
        connection.running = True
        try:
            connection.serve()
        except Exception:
            log.exception("This is an error of the server; it costs one connection: %s", connection)
            connection.alive = False
        self.settle(connection)
        return True

    def arm(self, connection: GreenConnection) -> None:
        """Let the greenlet see, if it sleeps, that there is something else to wait for."""
        if connection.waiter is not None:
            self.hub.loop.run_callback(connection.waiter.switch, None)

    def unwatch(self, connection: GreenConnection) -> None:
        """The connection is about to be closed: its greenlet is to end."""
        connection.armed = 0
        connection.reader.stop()
        connection.writer.stop()
        self.arm(connection)
