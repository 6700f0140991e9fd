"""The end of a server: the workers finish what they have, within a time, and nobody new is let in."""

import logging
import os
import signal
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
    server.selector.select(seconds)
    with suppress(BlockingIOError):  # it has not rung
        os.eventfd_read(server.bell)
    return server.signals.drain()
