"""The worker that serves operators, who are none of those that the access log is about."""

from typing import TYPE_CHECKING, Any

from monoceros.wire.events import Request
from monoceros.worker.aio import AsyncWorker
from monoceros.worker.member import Outcome

if TYPE_CHECKING:
    from monoceros.worker.base import AnyExchange


class SiteWorker(AsyncWorker):
    """An ASGI worker without an access log."""

    def tell(self, connection: Any, request: Request, exchange: "AnyExchange | None", outcome: Outcome) -> None:
        """A health check each second is no news."""
