"""The life of a child, whatever its kind: boot, serve, drain, exit.

A worker says on the scoreboard what it does and until when it will be fine. The arbiter compares that one
number with the clock.
"""

import atexit
import faulthandler
import gc
import itertools
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, TypeAlias

from monoceros import app, scoreboard
from monoceros.gateway import environ as environs
from monoceros.gateway.trust import Policy
from monoceros.listener import Listeners
from monoceros.ops import access, hooks, log
from monoceros.scoreboard import BUSY, CONNECTIONS, DRAINING, ERRORS, READY, REQUESTS, TIRED, Scoreboard, Slot
from monoceros.settings.table import Settings
from monoceros.signals import Signals
from monoceros.wire.body import NO_CONTENT
from monoceros.wire.events import Request
from monoceros.worker import privileges, spew
from monoceros.worker.member import Answered, Asked, Member
from monoceros.worker.terms import defaults_of, limits_of

if TYPE_CHECKING:
    from monoceros.gateway.asgi import HTTPExchange
    from monoceros.gateway.websocket import WebSocketExchange
    from monoceros.gateway.wsgi import Exchange
    from monoceros.worker.connection import Connection

    AnyExchange: TypeAlias = Exchange | HTTPExchange | WebSocketExchange

error_log = logging.getLogger("gunicorn.error")

# How often a worker that has nothing to do looks at the clock, in seconds: how late it may notice that the
# master is gone, and how far its deadline lags behind.
TICK: Final = 1.0

# How long a kept-alive connection without a request is left open when the worker drains, in seconds: what
# its client has sent before it could know arrives within this.
LAST_CALL: Final = 1.0

# What the access log has for a status where the client has gone before there was one, as nginx says it.
GONE: Final = 499

# How long a worker that is to leave quickly lets its requests run, in seconds.
QUICK: Final = 1.0


# What is meant for the master reaches a worker too when somebody types `pkill`, or closes a terminal.
IGNORED: Final = (
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGPIPE,
)


@dataclass(frozen=True)
class Berth:
    """What a worker is given at birth. `application` is there if the arbiter has loaded it already.

    `bell` is an eventfd that wakes the arbiter, for it to look at the scoreboard. `member` and `server` are what
    hooks are called with.
    """

    number: int
    generation: int
    slot: Slot
    scoreboard: Scoreboard
    settings: Settings
    listeners: Listeners
    arbiter: int
    bell: int
    member: Member
    server: object
    application: app.Application | None = None


class Worker:
    """A worker process. Kinds differ in `run`, which serves until the worker is drained."""

    signals_handled: ClassVar = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)

    def __init__(self, berth: Berth, application: app.Application) -> None:
        self.berth = berth
        self.app = application
        self.slot = berth.slot
        self.settings = settings = berth.settings
        self.pid = os.getpid()
        self.draining = False
        self.quick = False
        self.policy = Policy(settings)
        self.limits = limits_of(settings)
        self.defaults = defaults_of(settings)
        self.access = access.AccessLog(settings)
        self.access_wanted = False
        # The deadline lags behind by up to a tick, of which no request should be robbed.
        self.patience = settings.timeout and settings.timeout + TICK
        self._serial = itertools.count(1)
        self._served = 0
        jitter = random.Random(self.pid).randint(0, settings.max_requests_jitter)
        self._last_request = settings.max_requests + jitter if settings.max_requests else sys.maxsize
        # As with requests, not all at once: up to a tenth is taken off by chance.
        lifetime = settings.max_worker_lifetime * random.Random(self.pid).uniform(0.9, 1.0)
        self._last_moment = time.monotonic() + lifetime if lifetime else inf
        self.pre_request = settings.pre_request
        self._post_request = settings.post_request

    def __str__(self) -> str:
        return f"worker={self.berth.number} gen={self.berth.generation} pid={self.pid}"

    def boot(self) -> None:
        """Get ready to serve. Raises `BootError`, and what the application raises."""
        faulthandler.disable()
        # Not by way of the loop, which stands still in a worker that is aborted, and in one whose only thread
        # is in a long call.
        signal.signal(signal.SIGABRT, lambda *_: self.tell_what_runs())
        self.handle_signals()
        arm_dump()
        # Last of all: who connects to a listener of our own is lost if a signal still ends the process.
        self.listeners = [listener.for_worker(self.settings.backlog) for listener in self.berth.listeners.values()]
        self.access_wanted = self.access.enabled

    def handle_signals(self) -> None:
        """From now on a signal to leave does not end the process, but begins an end."""
        self.signals = Signals(self.signals_handled)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self._leave_soon())

    def run(self) -> None:
        """Serve until drained."""
        raise NotImplementedError

    def wake(self) -> None:
        """Called when the worker begins to drain: idle connections may want another deadline."""

    # The scoreboard.

    def phase(self, state: int, seconds: float) -> None:
        """Say what the worker does now, and for how long that is fine; 0 is for ever."""
        self.slot[scoreboard.DEADLINE] = scoreboard.after(seconds)
        self.slot[scoreboard.STATE] = state

    def beat(self) -> None:
        """Put off the deadline: something has moved. While draining there is one deadline for all."""
        if not self.draining:
            self.slot[scoreboard.DEADLINE] = scoreboard.after(self.patience)

    def tick(self, connections: int) -> None:
        """Once a second: write what was counted, notice what nobody tells."""
        self.beat()
        self.slot[CONNECTIONS] = connections
        self.slot[REQUESTS] = self._served
        self.slot[BUSY] = len(self.running())
        self.access_wanted = self.access.enabled
        self.access.flush()
        self._age()
        if not self.draining and os.getppid() != self.berth.arbiter:
            error_log.info("Parent changed, shutting down: %s", self)
            self.drain()

    def count(self, connection: "Connection", request: Request, exchange: "AnyExchange | None") -> None:
        """Count an exchange, and write its line to the access log."""
        self._served = served = next(self._serial)
        if served >= self._last_request:
            self.tire("Autorestarting worker after current request.")
        if self.access_wanted:
            self.tell(connection, request, exchange)
        if self._post_request is not None:
            self._look_back(connection, exchange)

    def look_ahead(self, connection: "Connection") -> None:
        """Call `pre_request`, whose exceptions fail the request."""
        hooks.call(self.settings, "pre_request", self.berth.member, Asked(connection))

    def _look_back(self, connection: "Connection", exchange: "AnyExchange | None") -> None:
        answer, status, environ, sent = connection.answer, None, None, 0
        if exchange is not None:
            answer, status = answer or exchange.response, exchange.status
            environ, sent = exchange.environ, exchange.sent
        answered = Answered(answer, connection.answer.status if connection.answer else status or GONE, sent)
        hooks.notify(self.settings, "post_request", self.berth.member, Asked(connection), environ or {}, answered)

    def tire(self, why: str) -> None:
        """Ask to be replaced, once: the worker serves until its successor does."""
        self._last_request = sys.maxsize
        if not self.draining and not self.slot[TIRED]:
            error_log.info("%s", why)
            self.slot[TIRED] = 1
            os.eventfd_write(self.berth.bell, 1)

    def _age(self) -> None:
        """Once a second: has the worker lived for too long, or grown too big?"""
        settings = self.settings
        if time.monotonic() > self._last_moment:
            self._last_moment = inf
            self.tire(f"Autorestarting worker: it has lived for {settings.max_worker_lifetime:g} s.")
        if settings.max_worker_memory and not self.slot[TIRED]:
            size = resident_size()
            if size > settings.max_worker_memory:
                self.tire(f"Autorestarting worker: it has grown to {size >> 20} MiB.")

    def failed(self) -> None:
        """Count an exchange that the application has failed."""
        self.slot[ERRORS] += 1

    def tell(self, connection: "Connection", request: Request, exchange: "AnyExchange | None") -> None:
        """Write the line of an exchange to the access log."""
        line, fields = request
        host, port = connection.client
        status, answer, sent = GONE, connection.answer, 0
        if answer is not None:
            status, sent = answer.status, answer.length or 0
        elif exchange is not None and exchange.status is not None:
            status, answer, sent = exchange.status, exchange.response, exchange.sent
        if connection.wire.writer is NO_CONTENT:
            sent = 0
        environ = None if exchange is None else exchange.environ
        self.access.add(
            access.Facts(
                host,
                line.method,
                line.target,
                environs.path_of(line),
                line.query,
                line.version,
                fields,
                status,
                answer.given if answer else (),
                sent,
                time.monotonic() - connection.began,
                environ,
                port,
            )
        )

    # Signals and the end.

    def on_signals(self) -> None:
        """Do what the signals that came ask for."""
        for number in self.signals.drain():
            match number:
                case signal.SIGTERM:
                    self.drain()
                case signal.SIGINT | signal.SIGQUIT:
                    self.drain(quick=True)
                case signal.SIGUSR1:
                    self.reopen()

    def drain(self, *, quick: bool = False) -> None:
        """Accept nothing new but what has connected already, finish what was accepted, then leave."""
        if self.draining and not (quick and not self.quick):
            return
        self.quick = quick
        patience = min(QUICK, self.settings.graceful_timeout) if quick else self.settings.graceful_timeout
        self.phase(DRAINING, max(patience, TICK / 1000))  # a graceful_timeout of 0 is not for ever
        self.draining = True
        self.berth.member.alive = False
        if quick:
            hooks.notify(self.settings, "worker_int", self.berth.member)
        self.wake()

    def _leave_soon(self) -> None:
        """Whatever runs then, leave when the time for a quick end is over."""
        timer = threading.Timer(QUICK, self._leave)
        timer.daemon = True
        timer.start()

    def _leave(self) -> NoReturn:
        self.leave(0)

    def leave(self, status: int) -> NoReturn:
        """End the process, whatever still runs."""
        self.access.flush()
        farewell(self.berth)
        leave(status)

    def running(self) -> list["Connection"]:
        """The connections whose request is with the application now."""
        return []

    def reopen(self) -> None:
        """Open the log files anew."""
        self.access.flush()
        reopen()

    def tell_what_runs(self) -> None:
        """Say, while being aborted, which requests the worker was busy with."""
        self.berth.member.aborted = True
        hooks.notify(self.settings, "worker_abort", self.berth.member)
        now = time.monotonic()
        for connection in self.running():
            if connection.request is not None:
                error_log.critical("Was serving for %.1f s: %s", now - connection.began, connection.request.line)


def live(berth: Berth, choose: Callable[[app.Application], type[Worker]]) -> NoReturn:
    """A worker's life: boot, serve, exit with the status that tells the arbiter why. `choose` says of which kind."""
    status = app.BootError.status
    member, settings = berth.member, berth.settings
    try:
        member.born()
        error_log.info("Booting worker with pid: %d", os.getpid())
        _prepare(settings)
        hooks.call(settings, "post_fork", berth.server, member)
        application = member.app = berth.application or app.find(settings)
        worker = choose(application)(berth, application)
        hooks.call(settings, "post_worker_init", member)
        worker.boot()
        member.booted = True
        # What boot has made stays for good: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        worker.phase(READY, worker.patience)
        worker.run()
        status = 0
        error_log.info("Worker exiting (pid: %d)", worker.pid)
    except app.BootError as error:
        cause = error.__cause__  # what the application has raised, if that is the reason
        raised = cause and (type(cause), cause, app.users_traceback(cause.__traceback__))
        error_log.error("%s", error, exc_info=raised)
        status = error.status
    except BaseException as error:
        where = app.users_traceback(error.__traceback__)
        error_log.error("Exception in worker process", exc_info=(type(error), error, where))
    if status and settings.user is not None and (hidden := privileges.hidden()):
        error_log.error("%s", hidden)  # and the error above is only what comes of it
    farewell(berth)
    leave(status)


def farewell(berth: Berth) -> None:
    """The last thing before a worker ends."""
    hooks.notify(berth.settings, "worker_exit", berth.server, berth.member)


def _prepare(settings: Settings) -> None:
    """Make the process, just forked, one that can load the application."""
    random.seed()
    privileges.drop(settings.user, settings.group, settings.initgroups)
    if settings.spew:
        spew.begin()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # Until there is something to finish, a signal to leave simply ends the process.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, lambda *_: reopen())
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    arm_dump()


def reopen() -> None:
    """Open the log files anew; stacks are dumped to the new error log, too."""
    log.reopen()
    arm_dump()


def arm_dump() -> None:
    """On SIGABRT, or a crash, write the stacks of all threads, even if the interpreter is stuck in C.

    The handler that was there before is called next: once the worker serves, ours.
    """
    stream = next((handler.stream for handler in log.error.handlers if isinstance(handler, log.Sink)), sys.stderr)
    faulthandler.enable(file=stream, all_threads=True)


def resident_size() -> int:
    """How much memory this process holds, in bytes (proc(5), statm)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def leave(status: int) -> NoReturn:
    """End the process as an interpreter would, but not through the frames of the arbiter that forked it."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
