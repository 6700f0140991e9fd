"""The worker that serves operators: health, metrics, statistics. A crew of one, without the application."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from monoceros import app, scoreboard
from monoceros.arbiter.crew import Crew
from monoceros.listener import Listeners
from monoceros.settings.table import ROWS, Settings

if TYPE_CHECKING:
    from monoceros.arbiter.arbiter import Arbiter

error_log = logging.getLogger("gunicorn.error")

# How many connections it keeps: those of a handful of scrapers and probes, and of who else may reach it. Further ones
# take the place of those that ask nothing.
CONNECTIONS: Final = 500

# Settings that are about the application and who uses it.
OTHERS: Final = (
    *(name for name, row in ROWS.items() if row.section == "Server Hooks"),
    *("asgi_loop", "headers", "keepalive", "limit_concurrency", "max_requests", "max_worker_lifetime"),
    *("max_worker_memory", "preload_app", "raw_env", "reload", "root_path", "spew", "threads", "timeout"),
)


class Annex(Crew):
    """The crew of the site, which is there if `admin_bind` says where.

    With a predecessor it comes when the workers are ready: until then that one's answers are the right ones.
    """

    role = "site"

    def __init__(self, server: "Arbiter", board: scoreboard.Scoreboard, bell: int) -> None:
        super().__init__(server, board, bell)
        self._begun_with: tuple[Settings, Listeners] | None = None

    @property
    def settings(self) -> Settings:
        settings = self.server.settings
        fixed = {name: ROWS[name].default for name in OTHERS}
        return replace(settings, **fixed, asgi_lifespan="off", ws="none", worker_connections=CONNECTIONS)

    @property
    def listeners(self) -> Listeners:
        return self.server.listeners.at(self.server.settings.admin_bind)

    @property
    def application(self) -> app.Application:
        from monoceros.ops.site import Site  # in its own process: the master has no use for asyncio

        return Site(self.scoreboard, self.server.settings, self.server.pid)

    @property
    def kind(self) -> str:
        return "site"

    def prepare(self) -> None:
        """What it runs on is for one process only, and may be what the master does not want to have."""

    def take_slot(self) -> scoreboard.Slot | None:
        return self.scoreboard.take_site()

    def bequest(self) -> int | None:
        """It has no metrics of the application's."""
        return None

    def count(self, word: int) -> None:
        """Only what happens to workers is counted."""

    def cope(self, who: str, generation: int, why: str, status: int) -> None:
        """It could not boot, which is no reason not to serve clients."""
        error_log.error("The site could not boot: %s, next try in %g s", why, self.children.pause)

    def look(self) -> None:
        """Begin, or begin anew, when it is time to: with the settings that the workers serve with by now."""
        server = self.server
        if server.rollout is not None or (server.master_pid and not server.children.established):
            return
        now = server.settings, self.listeners
        if self._begun_with is None or now != self._begun_with:
            self._begun_with = now
            self.children.begin(1 if self.listeners else 0)
