"""What the master tells statsD: how many workers there are, and how many connections wait to be accepted."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from monoceros.listener import Listener
from monoceros.scoreboard import NEVER

if TYPE_CHECKING:
    from monoceros.arbiter.arbiter import Arbiter

error_log = logging.getLogger("gunicorn.error")

# How often to tell of the backlog, in milliseconds.
PERIOD: Final = 1_000


class Gauges:
    """Remembers what was told."""

    def __init__(self) -> None:
        self._workers = -1
        self._told: object = None
        self._next = 0

    def tell(self, server: "Arbiter", now: int) -> int:
        """Tell what has changed and what is due. Returns when to come again, in milliseconds; NEVER if nothing is due.

        A logger class that tells statsD by itself gets Gunicorn's records for it.
        """
        logs, settings = server.logs, server.settings
        if settings.statsd_host is None:
            return NEVER
        workers = sum(not child.leaving for child in server.children.living)
        # A reload may have brought another statsD.
        if workers != self._workers or self._told is not logs:
            self._workers, self._told = workers, logs
            self._say(server, f"{workers} workers", "gunicorn.workers", workers, "gauge")
        if not settings.enable_backlog_metric:
            return NEVER
        if now >= self._next:
            self._next = now + PERIOD
            waiting = backlog(server.listeners.at(settings.bind).values())
            if waiting is not None:
                self._say(server, f"socket backlog: {waiting}", "gunicorn.backlog", waiting, "histogram")
        return self._next

    def _say(self, server: "Arbiter", text: str, name: str, value: int, kind: str) -> None:
        if server.logs.statsd is not None:
            server.logs.statsd.metric(name, value, kind)
            error_log.debug("%s", text)
        else:
            server.log.debug(text, extra={"metric": name, "value": value, "mtype": kind})


def backlog(listeners: Iterable[Listener]) -> int | None:
    """How many connections wait to be accepted at TCP sockets, None if there are none of these."""
    known = [queued for listener in listeners if (queued := listener.queued) is not None]
    return sum(known) if known else None
