"""What all workers do that serve WSGI: collect a request, have it served, let the connection wait for the next.

An event may end with a call of the application. Where another thread has gone on with the loop meanwhile, the methods
here say False: whoever runs them leads no more (`lead.py`).
"""

import select
from typing import Generic, TypeVar

from monoceros.app import Application
from monoceros.gateway import environ as environs
from monoceros.gateway.wsgi import FileWrapper
from monoceros.ops.log import ErrorStream
from monoceros.scoreboard import clock
from monoceros.wire.events import PeerGone, RemoteError
from monoceros.worker.base import Berth
from monoceros.worker.blocking import BlockingConnection
from monoceros.worker.connection import CONTENT, HEAD, IDLE, LINGERING, SENDING, UNSET
from monoceros.worker.loop import HEAD_RECV, LoopWorker

B = TypeVar("B", bound=BlockingConnection)


class WsgiWorker(LoopWorker[B], Generic[B]):
    """A worker whose connections are served by what may wait: threads, greenlets. Kinds differ in what that is."""

    def __init__(self, berth: Berth, application: Application) -> None:
        super().__init__(berth, application)
        self.environ = environs.server_part(self.settings, ErrorStream(), FileWrapper)

    def _on_readable(self, connection: B) -> bool:
        """Something has come from a client. False if this thread leads no more."""
        if connection.running or connection.phase is SENDING or connection.phase is LINGERING:
            return self._on_unusual(connection)
        try:
            data = connection.sock.recv(HEAD_RECV)
        except BlockingIOError:
            return True
        except OSError:
            self.drop(connection)
            return True
        connection.wire.receive_data(data)
        return self._go_on(connection, len(data))

    def _go_on(self, connection: B, received: int) -> bool:
        """Serve the request if it is there, else wait for the rest of it. False if the lead was lost."""
        try:
            ready = connection.advance()
        except RemoteError as error:
            connection.refuse(error)
            self.settle(connection)
            return True
        except PeerGone:
            self.drop(connection)
            return True
        if ready:
            return self._serve(connection)
        if not connection.alive:
            self.drop(connection)
        elif connection.request is not None:
            connection.phase = CONTENT
            connection.deadline = connection.content_deadline(received)
        elif connection.phase is IDLE:
            connection.phase = HEAD
            connection.deadline = clock() + self.header_patience
        return True

    def _serve(self, connection: B) -> bool:
        """Parked to running, and back. False if this thread leads no more."""
        raise NotImplementedError

    def settle(self, connection: B) -> None:
        """Running to parked, or gone. The thread that ran it may not lead any more."""
        if connection.alive and connection.request is None and not connection.unsent:
            connection.phase = IDLE
            connection.deadline = UNSET
            connection.running = False
            if connection.armed != select.EPOLLIN:
                self.arm(connection)
            return
        if connection.unsent:
            connection.begin_sending()
        elif not connection.alive:
            self.close(connection)
            return
        else:
            connection.phase = CONTENT
            connection.deadline = connection.content_deadline(0)
        connection.running = False
        self.arm(connection)

    def _on_unusual(self, connection: B) -> bool:
        """Readable while its request runs, writable again, or still talking after our last word."""
        if connection.running:
            self._disarm(connection)
        elif connection.phase is SENDING:
            return self._flush(connection)
        else:
            self.listen_on(connection)
        return True

    def _disarm(self, connection: B) -> None:
        """Watch a running connection no more, which would be reported again and again until it is settled."""

    def _flush(self, connection: B) -> bool:
        """The client takes more of its response. False if the lead was lost, to a request that came behind it."""
        try:
            flushed = connection.flush()
        except PeerGone:
            self.drop(connection)
            return True
        if not flushed:
            connection.begin_sending()
            return True
        self.settle(connection)
        return self._go_on(connection, 0) if connection.alive and connection.wire.has_begun else True

    def _drained(self, now: int) -> bool:
        """Is nothing left to do? When the time for it is over, the process ends here."""
        if self.out_of_time(now):
            # The main thread may be in a call that does not come back, so it is not asked.
            self.leave(0)
        return self.finished
