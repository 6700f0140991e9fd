"""The worker for ASGI: one asyncio loop, on uvloop where that is installed.

The loop takes in connections, each of which runs the application in tasks of its own; `stream.py` has one of them.
"""

import asyncio
import contextvars
import io
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from monoceros.app import Application, BootError, protocol
from monoceros.gateway import asgi
from monoceros.gateway.lifespan import Lifespan, StartupFailed
from monoceros.gateway.websocket import WebSocketExchange
from monoceros.listener import Listener, Peer
from monoceros.ops.log import worker_logger
from monoceros.scoreboard import ASYNC, DEADLINE, NEVER, clock
from monoceros.wire.events import Request, RequestTimeout
from monoceros.worker.base import Berth
from monoceros.worker.connection import HEAD
from monoceros.worker.loop import FLUSH, LoopWorker, milliseconds
from monoceros.worker.slowtasks import LoopWatch
from monoceros.worker.stream import Stream
from monoceros.worker.tally import Tally
from monoceros.worker.websocket import Sockets, WebSocketCall

if TYPE_CHECKING:
    from monoceros.worker.base import AnyExchange

log = logging.getLogger("gunicorn.error")

# What is left of the time for a stop, in seconds, when the requests have used up theirs: for tasks to end after
# they were cancelled, and for the application to shut down.
LAST_TASKS: Final = 0.2
LAST_SHUTDOWN: Final = 0.6

# How many stacks of tasks an aborted worker shows.
STACKS: Final = 50

Task = asyncio.Task[None]
Spawn = Callable[[Coroutine[Any, Any, None], str], Task]


class AsyncWorker(LoopWorker[Stream]):
    """Connections, and the tasks of the application, on one loop."""

    app: asgi.Application

    def __init__(self, berth: Berth, application: Application) -> None:
        super().__init__(berth, application)
        self.slot[ASYNC] = 1  # where nobody has said so before, the next one need not find out
        if protocol(application) == "asgi2":
            self.app = asgi.single(application)
        self.tasks: set[Task] = set()
        self.grace = self.settings.asgi_disconnect_grace_period
        self.most_tasks = self.settings.limit_concurrency or sys.maxsize
        self._like_uvicorn = self.settings.manner == "uvicorn"
        self._timer: asyncio.TimerHandle | None = None
        self._turn_due = NEVER
        self._looking = False
        self._flushing = False
        self._ending = False

    # The life of the worker.

    def boot(self) -> None:
        """As every worker; and run the application's startup."""
        self.loop = new_loop(self.settings.asgi_loop)
        self.loop.set_exception_handler(_tell)
        asyncio.set_event_loop(self.loop)
        self.spawn = spawner(self.loop)
        self.tally = Tally(self.slot, self.loop.call_soon)
        self.lifespan = Lifespan(self.app, self.settings.asgi_lifespan, worker_logger(self.settings))
        try:
            self.loop.run_until_complete(self.lifespan.startup())
        except StartupFailed as error:
            raise BootError(f"Application startup failed: {error}") from error.__cause__
        self.scope = asgi.server_part(self.settings, self.lifespan.state)
        self.sockets = Sockets(self.settings, worker_logger(self.settings) if self._like_uvicorn else None)
        super().boot()

    def handle_signals(self) -> None:
        """Signals are callbacks of the loop.

        Not by `add_signal_handler`: uvloop forgets those that come while it is not running, as between the boot and
        the first turn, until another one comes.
        """
        hurry = partial(self.drain, quick=True)
        for number, callback in (
            (signal.SIGTERM, self.drain),
            (signal.SIGINT, hurry),
            (signal.SIGQUIT, hurry),
            (signal.SIGUSR1, self.reopen),
        ):
            signal.signal(number, partial(self._on_signal, callback))

    def _on_signal(self, callback: Callable[[], None], number: int, frame: FrameType | None) -> None:
        self.loop.call_soon_threadsafe(callback)

    def run(self) -> None:
        """Serve until drained, then shut the application down."""
        self.welcome()
        if self.settings.slow_request:
            self.slow = LoopWatch(self, self.settings.slow_request)
            self.slow.start()
        self.loop.call_soon(self._turn)
        self.loop.run_forever()
        self.loop.run_until_complete(self._end())
        self.tally.flush()
        self.access.flush()

    async def _end(self) -> None:
        if self.tasks:
            log.warning("Cancelling %d tasks: their time is over", len(self.tasks))
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks, timeout=LAST_TASKS)
        left = max(LAST_SHUTDOWN, (self.slot[DEADLINE] - clock()) / 1000)
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), left)
        except TimeoutError:
            log.error("The application did not shut down within %.1f s", left)
        await asyncio.wait([self.loop.create_task(self.loop.shutdown_asyncgens())], timeout=LAST_TASKS)

    def wake(self) -> None:
        """The worker drains: look around at once."""
        if not self._ending:
            self._come_again(0)

    # The loop.

    def _turn(self) -> None:
        """Look around, and come again; stop the loop when the worker is drained."""
        if self._ending:
            return  # asked for by a signal at the last moment; a second stop would be one of what comes next
        now = clock()
        self.lag = max(0, now - self._turn_due)
        self.look_around(now)
        if self.draining:
            for connection in list(self.connections.values()):
                if isinstance(connection.call, WebSocketCall):
                    connection.call.socket.restart()
        if self.draining and (self.finished or self.out_of_time(now)):
            self._ending = True
            self.loop.stop()
            return
        self._come_again(self.pace)

    def look_around(self, now: int) -> None:
        """As every loop; and find out which clients have broken off without being heard."""
        # uvloop calls a reader once more when a socket has an error, and never again: if there was still something to
        # read, the error was not read. A request that runs has no deadline by which it were found; in the middle of a
        # head there is one, but until then a thousand of them could take all the room there is.
        for connection in list(self.connections.values()):
            if (connection.running or connection.phase is HEAD) and connection.broken:
                connection.lost()
        super().look_around(now)

    def _come_again(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._turn_due = clock() + milliseconds(seconds) if seconds else NEVER
        self._timer = self.loop.call_later(seconds, self._turn)

    @property
    def finished(self) -> bool:
        """While draining: is nothing left to do?"""
        return super().finished and not self.tasks

    def expire_running(self, connection: Stream) -> None:
        """The client of a request that runs is late: with its content, or with taking the answer."""
        if connection.unsent:
            if connection.moving:
                connection.deadline = clock() + milliseconds(connection.timeout)
            else:
                log.debug("%s: has taken nothing of its response for %g s", connection, connection.timeout)
                connection.lost()
        else:
            connection.break_off(RequestTimeout("the content came too slowly"))

    def tell(self, connection: Any, request: Request, exchange: "AnyExchange | None", *ending: Any) -> None:
        """Write the line of an exchange to the access log, soon."""
        if self._like_uvicorn and isinstance(exchange, WebSocketExchange):
            return  # it had a line in the error log when it began
        super().tell(connection, request, exchange, *ending)
        if not self._flushing:
            self._flushing = True
            self.loop.call_later(FLUSH / 1000, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self.access.flush()

    def tell_what_runs(self) -> None:
        """Say, while being aborted, which requests there are, and where the tasks stand."""
        super().tell_what_runs()
        for task in list(asyncio.all_tasks(self.loop))[:STACKS]:
            text = io.StringIO()
            task.print_stack(file=text)
            log.critical("%s", text.getvalue().rstrip())

    # What a loop is.

    def connect(self, listener: Listener, sock: socket.socket, peer: Peer) -> Stream:
        connection = Stream(self, listener, sock, peer)
        connection.start_reading()
        return connection

    def watch(self, listener: Listener, watch: bool) -> None:
        if watch:
            self.loop.add_reader(listener.fileno(), self._on_listener, listener.fileno())
        else:
            self.loop.remove_reader(listener.fileno())

    def _on_listener(self, fd: int) -> None:
        self.acceptor.on_readable(fd)
        self._look()

    def _look(self) -> None:
        """Where the acceptor looks away, come back to it in time."""
        pause = self.acceptor.look()
        if pause is not None and not self._looking:
            self._looking = True
            self.loop.call_later(pause, self._look_again)

    def _look_again(self) -> None:
        self._looking = False
        self._look()

    def arm(self, connection: Stream) -> None:
        connection.stop_writing()
        connection.start_reading()

    def unwatch(self, connection: Stream) -> None:
        connection.stop_reading()
        connection.stop_writing()

    def settle(self, connection: Stream) -> None:
        connection.settle()


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """A loop of this name: "uvloop", "asyncio", or "auto" for the quickest there is. Raises `BootError`."""
    if name == "asyncio":
        return asyncio.new_event_loop()
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise BootError("uvloop is not installed: pip install 'monoceros[asgi]'") from None
        log.info("Without uvloop, which is quicker, this runs on asyncio: pip install 'monoceros[asgi]'")
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def spawner(loop: asyncio.AbstractEventLoop) -> Spawn:
    """What makes a task of a coroutine and a name, with a fresh context of its own.

    Where Python can, the task begins at once: a request that never waits never visits the loop's queue.
    """
    # What an earlier request has set must not be seen, but a callback of the loop may run in its context
    # (python/cpython#140947). So each task begins from what there was before the first one.
    context = contextvars.copy_context()
    if sys.version_info >= (3, 12):
        return lambda run, name: asyncio.Task(run, loop=loop, name=name, context=context.copy(), eager_start=True)
    return lambda run, name: asyncio.Task(run, loop=loop, name=name, context=context.copy())


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody else has caught: a task of the application's that failed, for example."""
    error = context.get("exception")
    log.error("%s", context["message"], exc_info=error if isinstance(error, BaseException) else None)
