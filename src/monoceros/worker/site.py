"""The worker that serves operators, who are none of those that the access log is about."""

import socket
from typing import TYPE_CHECKING, Any

from monoceros.listener import Listener, Peer
from monoceros.wire.events import Request
from monoceros.worker.aio import AsyncWorker
from monoceros.worker.stream import Stream

if TYPE_CHECKING:
    from monoceros.worker.base import AnyExchange


class SiteWorker(AsyncWorker):
    """An ASGI worker without an access log, and with room for whoever comes."""

    alone = True

    def connect(self, listener: Listener, sock: socket.socket, peer: Peer) -> Stream:
        """If there is no room, who has been here longest without a request that runs makes some.

        A probe waits a second or so. Who opens connections and says nothing may stay for `header_timeout`.
        """
        if len(self.connections) + 1 >= self.settings.worker_connections:
            idle = next((each for each in self.connections.values() if not each.running), None)
            if idle is not None:
                self.drop(idle)
        return super().connect(listener, sock, peer)

    def tell(self, connection: Any, request: Request, exchange: "AnyExchange | None", *ending: Any) -> None:
        """A health check each second is no news."""
