"""A connection whose socket an asyncio loop watches."""

import select
import socket
from typing import TYPE_CHECKING, Final

from monoceros.listener import Listener, Peer
from monoceros.worker.connection import Connection

if TYPE_CHECKING:
    from monoceros.worker.aio import AsyncWorker

READING: Final = select.EPOLLIN
WRITING: Final = select.EPOLLOUT


class Watched(Connection):
    """A connection that is told by the loop when its socket is ready. `ended`: the client has stopped sending."""

    __slots__ = ("ended",)

    worker: "AsyncWorker"

    def __init__(self, worker: "AsyncWorker", listener: Listener, sock: socket.socket, peer: Peer) -> None:
        super().__init__(worker, listener, sock, peer)
        self.ended = False

    def on_readable(self) -> None:
        """Called by the loop."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """Called by the loop."""
        raise NotImplementedError

    @property
    def listening(self) -> bool:
        """Is what the client sends read?"""
        return bool(self.armed & READING)

    def start_reading(self) -> None:
        if not self.armed & READING and not self.ended:
            self.armed |= READING
            self.worker.loop.add_reader(self.fd, self.on_readable)

    def stop_reading(self) -> None:
        if self.armed & READING:
            self.armed &= ~READING
            self.worker.loop.remove_reader(self.fd)

    def start_writing(self) -> None:
        if not self.armed & WRITING:
            self.armed |= WRITING
            self.worker.loop.add_writer(self.fd, self.on_writable)
            self.await_taking()

    def stop_writing(self) -> None:
        if self.armed & WRITING:
            self.armed &= ~WRITING
            self.worker.loop.remove_writer(self.fd)
