"""A client's socket, which never blocks; a thread that must wait does so here, under a deadline."""

import fcntl
import os
import select
import socket
import struct
import termios
from collections import deque
from typing import Final

from monoceros.scoreboard import NEVER, clock
from monoceros.wire.events import FileSpan, PeerGone, RequestTimeout

# What one recv takes at most: a head with its small body, or a good piece of an upload.
RECV: Final = 65536

# What a stream may have written that the client has not taken, before the application has to wait.
UNSENT: Final = 262144

# Pieces that wait are joined up to this size: each is an object of 200 bytes, and a `send` of its own.
JOINED: Final = 4096

# Bytes a second that a client has to move, on average, once the timeout is used up. Without this it could hold
# a thread for hours with one byte every now and then. IIS asks for as much.
LEAST_RATE: Final = 240

# How often to look whether it does, in milliseconds.
LOOK: Final = 500

# What sendfile is asked to send at once: a worker that answers others in between stays responsive.
FILE_PIECE: Final = 1 << 20


class Transport:
    """Bytes to and from one client. `unsent` is what it has not taken yet, in order.

    `timeout` is how long, in seconds, the client may take no byte of what is sent to it; 0 is for ever.
    """

    __slots__ = ("_marked", "fd", "sock", "timeout", "unsent")

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.timeout = timeout
        self.unsent: deque[memoryview | FileSpan] = deque()
        self._marked = 0

    def write(self, data: bytes) -> None:
        """Send `data`, or what the kernel takes of it at once; the rest is `unsent`. Raises `PeerGone`."""
        if self.unsent:
            self._put_behind(data)
            self.flush()
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise PeerGone(f"cannot send: {error.strerror}") from error
        if sent < len(data):
            self.unsent.append(memoryview(data)[sent:])

    def _put_behind(self, data: bytes) -> None:
        last = self.unsent[-1]
        if isinstance(last, memoryview) and len(last) + len(data) <= JOINED:
            self.unsent[-1] = memoryview(b"".join((last, data)))
        else:
            self.unsent.append(memoryview(data))

    def write_file(self, span: FileSpan) -> None:
        """Send a part of an open file, whose descriptor is ours from now on: it is closed when that is done."""
        self.unsent.append(span)
        self.flush()

    def flush(self) -> bool:
        """Send what the client takes now. True if nothing is left. Raises `PeerGone`."""
        while self.unsent:
            piece = self.unsent[0]
            try:
                if isinstance(piece, FileSpan):
                    self._send_file(piece)
                else:
                    sent = self.sock.send(piece)
                    self._advance(piece[sent:] if sent < len(piece) else None)
            except BlockingIOError:
                return False
            except PeerGone:  # an OSError, too, that says what is wrong already
                raise
            except OSError as error:
                raise PeerGone(f"cannot send: {error.strerror}") from error
        return True

    def _send_file(self, span: FileSpan) -> None:
        sent = os.sendfile(self.fd, span.fd, span.offset, min(span.size, FILE_PIECE))
        if not sent:
            raise PeerGone("the file has become shorter while it was sent")
        rest = FileSpan(span.fd, span.offset + sent, span.size - sent)
        if not rest.size:
            os.close(span.fd)
        self._advance(rest if rest.size else None)

    def _advance(self, rest: memoryview | FileSpan | None) -> None:
        if rest is None:
            self.unsent.popleft()
        else:
            self.unsent[0] = rest

    @property
    def unsent_size(self) -> int:
        """How many bytes the client has not taken yet, without those that wait in a file."""
        return sum(len(piece) for piece in self.unsent if not isinstance(piece, FileSpan))

    def throttle(self) -> None:
        """Wait until no more is unsent than a stream may have. Raises `PeerGone`.

        A client that takes less than `LEAST_RATE` for longer than the timeout is given up.
        """
        patience = slack = int(self.timeout * 1000)
        self.mark()
        while self.unsent_size > UNSENT:
            begun = clock()
            self.wait(select.POLLOUT, begun + (min(slack, LOOK) if patience else LOOK))
            self.flush()
            before = self._marked
            self.mark()
            taken = before - self._marked
            if taken > 0:
                self.moved()
            slack = min(patience, slack - (clock() - begun) + taken * 1000 // LEAST_RATE)
            if patience and slack <= 0:
                raise PeerGone(f"the client has taken next to nothing of the response for {self.timeout:g} s")

    def mark(self) -> None:
        """Remember how much the client has not taken, for `moving`."""
        self._marked = self._outstanding

    @property
    def moving(self) -> bool:
        """Has the client taken something since the last look? Its kernel may have, long before ours wants more."""
        before, self._marked = self._marked, self._outstanding
        return self._marked < before

    @property
    def _outstanding(self) -> int:
        """What the client has not taken: of ours, and of what the kernel holds for it (tcp(7), SIOCOUTQ).

        The kernel reports that there is room only when there is a lot, so this tells of progress sooner.
        """
        held = struct.unpack("i", fcntl.ioctl(self.fd, termios.TIOCOUTQ, b"\0" * 4))[0]
        return self.unsent_size + int(held)

    def moved(self) -> None:
        """Called when a client for which a thread waits has taken something."""

    def receive(self, deadline: int) -> bytes:
        """Some bytes, b"" if no more come. Raises `RequestTimeout` at the deadline, and `PeerGone`."""
        while True:
            try:
                return self.sock.recv(RECV)
            except BlockingIOError:
                if not self.wait(select.POLLIN, deadline):
                    raise RequestTimeout("the content came too slowly") from None
            except OSError as error:
                raise PeerGone(f"cannot receive: {error.strerror}") from error

    def wait(self, events: int, deadline: int) -> bool:
        """Wait on this thread until the socket is ready. False if it is not by the deadline, in milliseconds."""
        poll = select.poll()
        poll.register(self.fd, events)
        return bool(poll.poll(None if deadline == NEVER else max(0, deadline - clock())))

    def close(self) -> None:
        """Close the socket, and the files that were to be sent."""
        for piece in self.unsent:
            if isinstance(piece, FileSpan):
                os.close(piece.fd)
        self.unsent.clear()
        self.sock.close()
