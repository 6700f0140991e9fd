"""What operators ask a running server, as an ASGI application: is it alive, is it ready, and how much does it do?

    /health/live     200 as long as the master looks after its workers
    /health/ready    200 if enough workers serve and none is to leave, else 503
    /metrics         for Prometheus, in its text format or in OpenMetrics', as `Accept` says
    /stats           everything, as JSON

It only reads the scoreboard.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

from monoceros.ops import metrics, stats
from monoceros.scoreboard import LEAVING, LOOK_DEADLINE, READY, STATE, Scoreboard, clock
from monoceros.settings.table import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TEXT: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """A response. What it says holds for this moment only, so nobody may keep it."""

    status: int
    body: bytes
    content_type: str = TEXT


class Site:
    """The application. `pid` is the master's."""

    def __init__(self, board: Scoreboard, settings: Settings, pid: int) -> None:
        self._board = board
        self._settings = settings
        self._pid = pid
        self._told: set[str] = set()  # which files it is known of that they cannot be read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"nothing is served by {scope['type']} here")
        answer = await self.answer(scope)
        headers = [
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if answer.status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def answer(self, scope: Scope) -> Answer:
        """What there is to say to a request."""
        page = self.PAGES.get(scope["path"])
        if page is None:
            return Answer(404, ("There are: " + " ".join(self.PAGES) + "\n").encode())
        if scope["method"] not in ("GET", "HEAD"):
            return Answer(405, b"Only GET and HEAD\n")
        return await page(self, scope)

    async def live(self, scope: Scope) -> Answer:
        """A master that does not look around any more is stuck, and only a restart will help."""
        if clock() > self._board.server[LOOK_DEADLINE]:
            return Answer(503, b"the master does not look after its workers\n")
        return Answer(200, b"ok\n")

    async def ready(self, scope: Scope) -> Answer:
        """Whether clients should be sent here."""
        if self._board.server[LEAVING]:
            return Answer(503, b"leaving\n")
        ready, wanted = sum(slot[STATE] == READY for slot in self._board.slots), self._settings.min_ready_workers
        if ready < wanted:
            return Answer(503, b"%d workers are ready, %d are wanted\n" % (ready, wanted))
        return Answer(200, b"ok\n")

    async def metrics(self, scope: Scope) -> Answer:
        """In a thread, since the metrics of an application may be many, and health must be answered meanwhile."""
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"").decode("latin-1")
        try:
            body, content_type = await asyncio.to_thread(metrics.render, self._board.read(), accept, self._told)
        except metrics.Missing as missing:
            return Answer(501, f"{missing}\n".encode())
        except asyncio.CancelledError:  # the server stops, and nobody waits for so many metrics any more
            return Answer(503, b"leaving\n")
        return Answer(200, body, content_type)

    async def stats(self, scope: Scope) -> Answer:
        """For people and their scripts."""
        told = stats.of(self._board.read(), self._pid, clock())
        return Answer(200, json.dumps(told, indent=2).encode() + b"\n", "application/json")

    PAGES: Final[dict[str, Callable[["Site", Scope], Awaitable[Answer]]]] = {
        "/health/live": live,
        "/health/ready": ready,
        "/metrics": metrics,
        "/stats": stats,
    }
