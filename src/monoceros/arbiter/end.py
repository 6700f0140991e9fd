"""The end of a server: the workers finish what they have, within a time, and nobody new is let in."""

import logging
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from monoceros.arbiter.children import LAST_WORDS
from monoceros.arbiter.crew import Crew
from monoceros.listener import Listener
from monoceros.scoreboard import clock

if TYPE_CHECKING:
    from monoceros.arbiter.arbiter import Arbiter

error_log = logging.getLogger("gunicorn.error")

# How long workers may take to leave once somebody is in a hurry, in seconds.
HURRY: Final = 2.0

# How long new connections are put off, in milliseconds, before they are refused: who has begun to connect gets in.
PUT_OFF: Final = 1_000


def stop(server: "Arbiter", failure: str, *, quick: bool) -> None:
    """Let the workers finish, and wait until they are gone; whoever asks how it is hears of that until the end.

    `failure` says what has gone wrong, if that is why.
    """
    server.report.stopping(server.reexec_pid, failure)
    if server.watcher is not None:
        server.watcher.close()
    server.children.target = 0
    kept = server.rollout.kept.values() if server.rollout else ()
    listeners = list(dict.fromkeys([*server.listeners.values(), *kept]))
    admin = [listener for listener in listeners if listener.address in server.settings.admin_bind]
    public = [listener for listener in listeners if listener not in admin]
    refuse(server, public)
    wind_down(server, server.crew, public, quick=quick)
    refuse(server, admin)
    wind_down(server, server.annex, admin, quick=True)
    close(listeners)


def close(listeners: Iterable[Listener]) -> None:
    """Close our copies."""
    for listener in listeners:
        listener.close()


def refuse(server: "Arbiter", listeners: Iterable[Listener]) -> None:
    """Let nobody new in. What another master listens on, too, is not ours alone to close."""
    if server.succession is None or not server.succession.shares:
        for listener in listeners:
            listener.refuse_new()


def wind_down(server: "Arbiter", crew: Crew, listeners: list[Listener], *, quick: bool) -> None:
    """Tell all of a crew to leave, and wait until they are gone; kill those that take too long."""
    children, begun = crew.children, clock()
    deadline = begun + int((HURRY if quick else server.settings.graceful_timeout) * 1000) + LAST_WORDS
    crew.tell_all(signal.SIGQUIT if quick else signal.SIGTERM)
    ours = [] if server.succession is not None and server.succession.shares else listeners
    waiting = ours
    while children.living and (left := deadline - clock()) > 0:
        for number in _wait(server, min(left / 1000, 0.25 if waiting else 1.0)):
            if number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
                error_log.info("Quick shutdown requested")
                crew.tell_all(signal.SIGQUIT)
                deadline = min(deadline, clock() + int(HURRY * 1000))
        server.reap()
        if clock() >= begun + PUT_OFF:
            # A client that would only wait, to be reset at last, finds another server at once if it is refused.
            waiting = [listener for listener in waiting if not listener.shut()]
    for child in children.living:
        crew.kill(child)
    while children.living:
        _wait(server, 1.0)
        server.reap()
    # What the application has forked may live on with a copy, which nobody accepts from: it would hold the address.
    for listener in ours:
        listener.shut()


def _wait(server: "Arbiter", seconds: float) -> bytes:
    """The signals that come within so many seconds."""
    server.report.note(server)
    server.selector.select(seconds)
    with suppress(BlockingIOError):  # it has not rung
        os.eventfd_read(server.bell)
    return server.signals.drain()
