"""The life of a child, whatever its kind: boot, serve, drain, exit.

A worker says on the scoreboard what it does and until when it will be fine. The arbiter compares that one
number with the clock.
"""

import faulthandler
import itertools
import logging
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, TypeAlias

from monoceros import app, scoreboard
from monoceros.gateway import requestid
from monoceros.gateway.requestid import RequestIds
from monoceros.gateway.trust import Policy
from monoceros.listener import Listeners
from monoceros.ops import access, hooks
from monoceros.ops.logger import Logs
from monoceros.ops.redact import Redaction
from monoceros.scoreboard import (
    BUSY,
    CONNECTIONS,
    CPU,
    DRAINING,
    ERRORS,
    MEMORY,
    REFUSED,
    TIRED,
    Scoreboard,
    Slot,
)
from monoceros.settings.table import Settings
from monoceros.signals import Signals
from monoceros.wire.body import NO_CONTENT
from monoceros.wire.events import Request
from monoceros.wire.response import Response
from monoceros.worker import diary, process
from monoceros.worker.member import GONE, Answered, Asked, Member, Outcome
from monoceros.worker.tally import Tally
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

# How long a worker that is to leave quickly lets its requests run, in seconds.
QUICK: Final = 1.0


@dataclass(frozen=True)
class Berth:
    """What a worker is given at birth. `application` is there if the arbiter has loaded it already.

    `bell` is an eventfd that wakes the arbiter, for it to look at the scoreboard. `member` and `server` are what
    hooks are called with, `logs` what keeps the logs. `role` is what log lines call it. `bequest` is the pid of a dead
    worker whose metrics it is to go on with (`ops.multiproc`).
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
    logs: Logs = Logs(error_log)  # noqa: RUF009 (a tuple)
    role: str = "worker"
    bequest: int | None = None


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
        self.ids = RequestIds(settings) if requestid.wanted(settings) else None
        self.limits = limits_of(settings)
        self.defaults = defaults_of(settings)
        self.redaction = Redaction(settings.log_redact)
        self._diary = diary.of(berth.logs)
        self.access = access.AccessLog(
            settings,
            berth.logs.statsd,
            elsewhere=self._diary is not None,
            worker=berth.number,
            generation=berth.generation,
        )
        self.access_wanted = False
        # The deadline lags behind by up to a tick, of which no request should be robbed.
        self.patience = settings.timeout and settings.timeout + TICK
        self._serial = itertools.count(1) if settings.max_requests else None
        self.tally = Tally(berth.slot)
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
        process.arm_dump()
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
        """Once a second: write what is not counted with each request, notice what nobody tells."""
        self.beat()
        slot = self.slot
        slot[CONNECTIONS] = connections
        slot[BUSY] = len(self.running())
        slot[CPU] = time.process_time_ns() // 1000
        slot[MEMORY] = process.resident_size()
        self.access_wanted = self.access.enabled
        self.access.flush()
        self._age()
        if not self.draining and os.getppid() != self.berth.arbiter:
            error_log.info("Parent changed, shutting down: %s", self)
            self.drain()

    def count(self, connection: "Connection", request: Request, exchange: "AnyExchange | None") -> None:
        """Count an exchange, and write its line to the access log."""
        seconds = time.monotonic() - connection.began
        status, sent, response = GONE, 0, connection.answer
        if response is not None:
            status, sent = response.status, response.length or 0
        elif exchange is not None and exchange.started:
            sent, response = exchange.sent, exchange.response
            status = response.status if response is not None else exchange.status or GONE
        if connection.wire.writer is NO_CONTENT:
            sent = 0
        self.tally.add(status, sent, seconds, connection.waited)
        if self._serial is not None and next(self._serial) >= self._last_request:
            self.tire("Autorestarting worker after current request.")
        if self.access_wanted:
            self.tell(connection, request, exchange, status, sent, seconds, response)
        if self._post_request is not None:
            self._look_back(connection, exchange, Outcome(status, sent, response, seconds))

    def look_ahead(self, connection: "Connection") -> None:
        """Call `pre_request`, whose exceptions fail the request."""
        hooks.call(self.settings, "pre_request", self.berth.member, Asked(connection))

    def _look_back(self, connection: "Connection", exchange: "AnyExchange | None", outcome: Outcome) -> None:
        answered = Answered(outcome)
        environ = exchange.environ if exchange is not None else None
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
            size = process.resident_size()
            if size > settings.max_worker_memory:
                self.tire(f"Autorestarting worker: it has grown to {size >> 20} MiB.")

    def failed(self) -> None:
        """Count an exchange that the application has failed."""
        self.slot[ERRORS] += 1

    def refused(self) -> None:
        """Count a request that broke the rules."""
        self.slot[REFUSED] += 1

    def tell(
        self,
        connection: "Connection",
        request: Request,
        exchange: "AnyExchange | None",
        status: int,
        sent: int,
        seconds: float,
        response: Response | None,
    ) -> None:
        """Write the line of an exchange to the access log."""
        if self._diary is not None:
            self._diary.enter(connection, exchange, Outcome(status, sent, response, seconds))
        environ = None if exchange is None else exchange.environ
        self.access.tell(connection, request, status, sent, seconds, response, environ)

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
        self.tally.flush()
        self.access.flush()
        farewell(self.berth)
        process.leave(status)

    def running(self) -> list["Connection"]:
        """The connections whose request is with the application now."""
        return []

    def reopen(self) -> None:
        """Open the log files anew."""
        self.access.flush()
        process.reopen(self.berth.logs)

    def tell_what_runs(self) -> None:
        """Say, while being aborted, which requests the worker was busy with."""
        self.berth.member.aborted = True
        hooks.notify(self.settings, "worker_abort", self.berth.member)
        now = time.monotonic()
        for connection in self.running():
            if connection.request is not None:
                which = {"request_id": connection.request_id}
                error_log.critical("Was serving for %.1f s: %s", now - connection.began, connection.shown, extra=which)


def farewell(berth: Berth) -> None:
    """The last thing before a worker ends."""
    hooks.notify(berth.settings, "worker_exit", berth.server, berth.member)
