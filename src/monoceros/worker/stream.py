"""A connection on an asyncio loop: it never waits; the tasks that run the application for it do.

While a request runs, the connection is still read: content goes to the exchange, a next request waits in the wire
within a bound, and an end tells the application that the client is gone.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from monoceros.app import users_traceback
from monoceros.gateway import asgi
from monoceros.gateway.requestid import put_in_scope
from monoceros.listener import Listener, Peer
from monoceros.ops.jsonlines import current
from monoceros.scoreboard import NEVER, clock
from monoceros.wire.events import CONTINUE, NEED_DATA, Data, EndOfMessage, PeerGone, RemoteError, Request
from monoceros.wire.h1 import BODY
from monoceros.wire.h1 import DONE as SENT
from monoceros.wire.h1 import HEAD as NOTHING_SENT
from monoceros.worker.call import UNBROKEN, Call, HTTPCall, due_to
from monoceros.worker.connection import HEAD, IDLE, LINGERING, SENDING, UNSET
from monoceros.worker.loop import HEAD_RECV
from monoceros.worker.transport import RECV, UNSENT
from monoceros.worker.watched import READING, WRITING, Watched

if TYPE_CHECKING:
    from monoceros.worker.aio import AsyncWorker
    from monoceros.worker.websocket import WebSocketCall

log = logging.getLogger("gunicorn.error")

# What may wait in the wire behind a request that runs, in bytes.
PIPELINED: Final = 65536

# Tasks of one connection that may go on behind their responses (background tasks), before it has to wait.
MOST_TASKS: Final = 16


class Stream(Watched):
    """One client of an ASGI application. `call` is the request whose answer is not complete yet.

    `unfinished` counts tasks that still run.
    """

    __slots__ = ("_flushed", "_pumping", "_scope", "call", "unfinished")

    worker: "AsyncWorker"

    def __init__(self, worker: "AsyncWorker", listener: Listener, sock: socket.socket, peer: Peer) -> None:
        super().__init__(worker, listener, sock, peer)
        self._scope = asgi.connection_part(worker.scope, listener.server, peer)
        self._flushed: asyncio.Event | None = None
        self._pumping = False
        self.call: HTTPCall | WebSocketCall | None = None
        self.unfinished = 0

    def close(self) -> None:
        """Close the socket; the application, if it is still busy, is told so."""
        call, self.call = self.call, None
        if call is not None:
            self.forsake(call)
        if self._flushed is not None:
            self._flushed.set()
        self.alive = False
        super().close()
        self._scope = {}

    # What comes.

    def on_readable(self) -> None:
        """Called by the loop."""
        call = self.call
        try:
            if call is None:
                if self.phase is LINGERING:
                    self.worker.listen_on(self)
                    return
                data = self.sock.recv(HEAD_RECV)
                self.wire.receive_data(data)
                if not data:
                    self.hear_the_end()
                self.pump()
            else:
                call.arrived(self.sock.recv(RECV))
        except RemoteError as error:
            self.break_off(error)
        except BlockingIOError:
            return
        except OSError:  # PeerGone is one, too
            self.lost()
        except Exception:
            log.exception("This is an error of the server; it costs one connection: %s", self)
            self.worker.drop(self)

    def hear_the_end(self) -> None:
        """The client sends no more; to be told so again and again is of no use."""
        self.ended = True
        self.stop_reading()

    def pump(self) -> None:
        """Begin the requests that have come, one after the other. Raises `RemoteError`, `PeerGone`."""
        if self._pumping or self.call is not None:
            return  # or an application that did not wait has answered from within: the loop below goes on
        self._pumping, begun = True, 0
        try:
            while self.alive and not self.unsent and self.unfinished < MOST_TASKS:
                if begun == UNBROKEN and self.wire.has_begun:
                    self.stop_reading()
                    self.worker.loop.call_soon(self._go_on)
                    return
                event = self.wire.next_event()
                if type(event) is Request:
                    self._begin(event)
                    begun += 1
                elif not self._pass_over(event):
                    return
                if self.call is not None:
                    return
            self.hold_back()
        finally:
            self._pumping = False

    def _pass_over(self, event: object) -> bool:
        """It is no request. True if there may be one behind it."""
        if event is NEED_DATA:
            if self.phase is IDLE and self.wire.has_begun:
                self.phase = HEAD
                self.deadline = clock() + self.worker.header_patience
            self.start_reading()
            return False
        if self.wire.sending is SENT:  # the rest of content that the application did not want
            self.wire.next_cycle()
            return True
        self.worker.drop(self)
        return False

    def _begin(self, request: Request) -> None:
        """Run the application for a request. Raises `RemoteError`, `PeerGone`."""
        self.request = request
        self.began = began = time.monotonic()
        worker, (line, fields) = self.worker, request
        if began >= worker.ask_at:
            worker.look_back(self, began)
        self.waited = worker.wait
        if worker.ids is not None:
            self.request_id = worker.ids.decide(fields, self.peer[0])
        decision = fields.trust or worker.policy.apply(fields, self.peer[0])
        call: HTTPCall | WebSocketCall
        if fields.upgrade is not None and worker.sockets.wanted(request):
            call = self.call = worker.sockets.call(self, request)
            scope = asgi.websocket_scope(self._scope, request, decision, call.subprotocols)
        elif len(worker.tasks) >= worker.most_tasks:
            self._turn_away(request)
            return
        else:
            call = self.call = HTTPCall(self, request)
            scope = asgi.scope(self._scope, request, decision)
        if self.request_id is not None:
            call.request_id = self.request_id
            put_in_scope(scope, self.request_id, fields)
        self.running = True
        if worker.slow is not None:
            worker.slow.wake()
        self.deadline = NEVER
        if fields.has_body:
            self._begin_content(call)
        self.unfinished += 1
        task = worker.spawn(self._run(call, scope), line.path)  # logs may show the name, so without the query
        if not task.done():
            call.task = task
            worker.tasks.add(task)
            if call.is_gone:
                self.forsake(call)

    def _turn_away(self, request: Request) -> None:
        """More requests run than may: 503, and the connection ends."""
        log.warning("Exceeded concurrency limit.")
        self.dismiss(503)
        self.worker.count(self, request, None)
        self.settle()

    # Content.

    def _begin_content(self, call: "HTTPCall | WebSocketCall") -> None:
        assert isinstance(call, HTTPCall)  # who wants a WebSocket sends no content
        self.begin_content()
        self._read_content(call)
        if not call.complete and not self.wire.awaits_continue:
            self.deadline = self.content_deadline(0)

    def take_content(self, call: HTTPCall, received: int) -> None:
        """Some content has come, or the client has left in the middle of it. Raises `RemoteError`."""
        self._read_content(call)
        deadline = NEVER
        if call.queued > self.worker.settings.request_buffer:
            self.stop_reading()
        elif not call.complete:
            deadline = self.content_deadline(received)
        if not self.armed & WRITING:  # else the client is awaited for taking the answer, whatever it sends
            self.deadline = deadline
        call.changed()

    def await_content(self) -> None:
        """The client has taken what it was sent: now it is awaited for content again."""
        if self.listening and not self.wire.awaits_continue:
            self.pause_content()
            self.deadline = self.content_deadline(0)

    def _read_content(self, call: HTTPCall) -> None:
        while not call.complete:
            event = self.wire.next_event()
            if isinstance(event, Data):
                call.received(event.data)
            elif isinstance(event, EndOfMessage):
                call.complete = True
            else:
                return

    def want_content(self) -> None:
        """The application waits for content: ask for it, and read on. Raises `PeerGone`."""
        wire = self.wire
        if wire.awaits_continue and wire.sending is NOTHING_SENT:
            self.emit(CONTINUE)
        if self.deadline == NEVER:
            self.pause_content()
            self.deadline = self.content_deadline(0)
        self.start_reading()

    # The application.

    async def _run(self, call: "HTTPCall | WebSocketCall", scope: asgi.Scope) -> None:
        """The task of a call. What goes wrong in the application ends here."""
        if call.request_id is not None:
            current.set(call.request_id)  # in this task only
        try:
            if self.worker.pre_request is not None:
                self.worker.look_ahead(self)
            await self.worker.app(scope, call.receive, call.send)
        except BaseException as error:  # an application may exit, and a cancelled one is no Exception
            self._raised(call, error)
        else:
            if not call.over:
                self._end(call.returned)
        self.unfinished -= 1
        if call.task is not None:
            self.worker.tasks.discard(call.task)
        if self.call is call:
            call.left()
        elif self.unfinished == MOST_TASKS - 1 and self.call is None:
            self._go_on()

    def _raised(self, call: Call, error: BaseException) -> None:
        cancelled = isinstance(error, asyncio.CancelledError)
        if call.is_gone and (cancelled or due_to(error, PeerGone)):
            log.debug("The client has gone before its answer was complete: %s", self)
            return
        if not (cancelled and call.over):
            where = users_traceback(error.__traceback__)
            log.error("Exception in ASGI application (%s)", self, exc_info=(type(error), error, where))
        if self.call is call:
            self._end(call.raised)

    def _go_on(self) -> None:
        """Begin what has been waiting; the task from whose end this is called is not to be bothered."""
        try:
            self.pump()
        except RemoteError as error:
            self.break_off(error)
        except PeerGone:
            self.lost()

    def _end(self, last_words: Callable[[], None]) -> None:
        try:
            last_words()
        except PeerGone:
            self.lost()

    def complete(self, call: HTTPCall) -> None:
        """The answer is complete: on to the next request, though the task may go on."""
        if call.waiting is not None:
            call.changed()
        self.worker.count(self, call.request, call)
        self.call = None
        self.running = False
        try:
            # If the connection stays, and some small rest of the content is yet to come, that is waited for.
            if self.alive and (self.wire.next_cycle() or self.wire.keep_alive):
                self.request = None
                if not self.unsent and not self.ended:
                    self.phase = IDLE
                    self.deadline = UNSET
                    if self.wire.has_begun or not self.armed & READING:
                        self._go_on()
                    return
            else:
                self.alive = False
                self.wary |= self.wire.receiving is BODY or bool(self.wire.pending)
        except RemoteError as error:
            self.refuse(error)
        self.settle()

    def finish(self, call: "HTTPCall | WebSocketCall") -> None:
        """The application has left, and nothing may follow: the connection ends."""
        self.call = None
        self.running = False
        self.alive = False
        self.wary = True
        self.worker.count(self, call.request, call)
        self.settle()

    # The client's faults, and its end.

    def break_off(self, error: RemoteError) -> None:
        """The client broke the protocol, perhaps in the middle of its content."""
        call, self.call = self.call, None
        if call is not None:
            self.forsake(call)
        self.refuse(error)
        if self.request is not None:
            self.worker.count(self, self.request, call)
        self.running = False
        self.settle()

    def lost(self) -> None:
        """The connection is broken."""
        call = self.call
        if call is not None:
            self.worker.count(self, call.request, call)
        self.worker.drop(self)

    def disconnected(self, call: HTTPCall) -> None:
        """The client sends no more. It is told to the application, whose answer may still find its way."""
        self.hear_the_end()
        call.over = True
        call.changed()
        self.worker.loop.call_later(self.worker.grace, self._give_up, call)

    def hold_back(self) -> None:
        """Read no more than so much of what stands behind a request that runs."""
        if self.wire.pending > PIPELINED:
            self.stop_reading()

    def forsake(self, call: Call) -> None:
        """Nobody waits for the answer any more: the application is told so, and gets a while to leave."""
        call.gone()
        call.changed()
        if call.task is not None:
            self.worker.loop.call_later(self.worker.grace, self._give_up, call)

    def _give_up(self, call: Call) -> None:
        if call.task is not None and not call.task.done() and not call.settled:
            call.gone()
            call.task.cancel()

    # What goes.

    async def drained(self, call: Call) -> None:
        """Wait until the client has taken enough of what it was sent. Raises `PeerGone`."""
        if not call.is_gone:
            self.start_writing()
        while self.unsent_size > UNSENT:
            if self._flushed is None:
                self._flushed = asyncio.Event()
            await self._flushed.wait()
        if call.is_gone:
            raise PeerGone("the client has disconnected")

    def on_writable(self) -> None:
        """Called by the loop: the client takes more."""
        try:
            flushed = self.flush()
        except PeerGone as error:
            log.debug("Closing connection. %s: %s", self, error)
            self.lost()
            return
        if self._flushed is not None and self.unsent_size <= UNSENT:
            self._flushed.set()
            self._flushed = None
        if not flushed:
            self.await_taking()
            return
        self.stop_writing()
        self.deadline = NEVER
        if self.phase is SENDING:
            self.settle()
        elif self.call is not None:
            self.call.flushed()

    def settle(self) -> None:
        """Nothing runs any more: wait for what comes next, or go."""
        if self.unsent:
            self.phase = SENDING
            self.start_writing()
        elif not self.alive:
            self.wary &= not self.ended
            self.worker.close(self)
        else:
            self.phase = IDLE
            self.deadline = UNSET
            self._go_on()
