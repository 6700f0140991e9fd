"""A parked connection as the loop knows it: what it waits for, until when, and what the kernel watches."""

import select
import socket
from typing import Final

from monoceros.worker.connection import Connection

# What a parked connection waits for: the first byte of a request, the rest of a head, the rest of a small
# body, that the client takes what it was sent, or that it has stopped sending before we close.
IDLE: Final = "idle"
HEAD: Final = "head"
CONTENT: Final = "content"
SENDING: Final = "sending"
LINGERING: Final = "lingering"

# The deadline of a connection that has just been parked: the next tick sets it, so that no request has to
# read the clock.
UNSET: Final = -1


class Parked(Connection):
    """A connection of the threaded worker.

    `phase` is what it waits for, `deadline` until when, in milliseconds of the monotonic clock. `armed` is what
    the kernel watches, 0 if nothing; `heard` counts the bytes that came after our last word.
    """

    __slots__ = ("armed", "deadline", "heard", "phase")

    armed: int
    deadline: int
    heard: int
    phase: str

    @property
    def wanted(self) -> int:
        """What the kernel should watch, in this phase."""
        return select.EPOLLOUT if self.phase is SENDING else select.EPOLLIN

    @property
    def silent(self) -> bool:
        """Has the client sent nothing that waits to be read?"""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    @property
    def owed(self) -> bool:
        """Has the client sent more than the request that runs?"""
        return bool(self.wire.leftover()) or not self.silent
