"""Lines for a syslog, byte for byte those of Gunicorn, by a handler that never keeps a server from serving.

What Gunicorn sends is `<PRIORITY>gunicorn.PREFIX.LOG: [PID] MESSAGE` and a NUL, over all kinds of sockets.

A datagram that finds no room waits, once and shortly, and is dropped then. A stream has a buffer in front of it: what
it does not take is sent with a later line, and so is what is said before it is there. One that hangs is waited for once
and shortly, too; when the buffer is full, lines are dropped.
"""

import errno
import logging
import logging.handlers
import os
import socket
import time
from typing import Any, Final

from monoceros.ops.sink import PATIENCE, writable
from monoceros.settings.log_values import FACILITIES, SyslogAddress, parse_syslog_addr
from monoceros.settings.table import Settings

log = logging.getLogger("gunicorn.error")

# Bytes that wait for a stream before lines are dropped.
BUFFER: Final = 64 * 1024

# Seconds between two tries to connect.
PAUSE: Final = 1.0

# Seconds between two looks whether there is room for a datagram. Nothing tells of it: a socket that is not connected
# can always be written to.
LOOK: Final = 0.01


class Syslog(logging.Handler):
    """A handler that writes to a syslog. If that fails, the error log says so, once until a write succeeds again.

    After a fork each process has a socket of its own.
    """

    def __init__(self, address: SyslogAddress, facility: int, patience: float = PATIENCE) -> None:
        """Looks up the host's name, once. Raises OSError."""
        super().__init__()
        self._facility = facility << 3
        self._patience = patience
        self._path = address.path
        self._wanted = self._kind = address.kind
        self._where = [(socket.AF_UNIX, address.path)] if address.path else located(address)
        self._pid = 0
        self._socket: socket.socket | None = None
        self._connected = False
        self._next_try = 0.0
        self._unsent = bytearray()
        self._cut = False  # what waits begins in the middle of a line
        self._stuck = False
        self._failing = False
        self._telling = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._telling:
            return  # it is our own line about this very syslog
        try:
            # A name that is not one of Python's levels is a warning, as there.
            level = logging.handlers.SysLogHandler.priority_map.get(record.levelname, "warning")
            priority = self._facility | logging.handlers.SysLogHandler.priority_names[level]
            message = f"<{priority}>{self.format(record)}\0".encode("utf-8", "backslashreplace")
        except RecursionError:
            raise
        except Exception:  # the contract of logging: what a record cannot say is shown, not raised
            self.handleError(record)
            return
        try:
            self._write(message)
        except OSError as problem:
            self._fail(problem)

    def close(self) -> None:
        """Send what waits, if that is possible soon."""
        self.acquire()
        try:
            if self._unsent and self._pid == os.getpid() and not self._stuck:
                self._next_try = 0.0
                self._push()
        except OSError as problem:
            self._fail(problem)
        finally:
            self._hang_up()
            self._unsent.clear()
            self.release()
        super().close()

    def _fail(self, problem: OSError) -> None:
        if self._failing:
            return
        self._failing = self._telling = True
        try:
            where = self._path or "{0[0]}:{0[1]}".format(self._where[0][1])
            log.warning("Cannot write to syslog at %s: %s", where, problem.strerror or problem)
        finally:
            self._telling = False

    def _write(self, message: bytes) -> None:
        if self._pid != os.getpid():  # the parent's stream, and what waits for it, is the parent's
            self._hang_up()
            self._unsent.clear()
            self._pid, self._next_try, self._failing = os.getpid(), 0.0, False
        if self._kind == "stream":
            self._write_stream(message)
            return
        try:
            self._write_datagram(message)
        except OSError as problem:
            if problem.errno != errno.EPROTOTYPE or self._wanted:
                raise
            self._hang_up()
            self._kind = "stream"
            self._write_stream(message)

    # Datagrams.

    def _write_datagram(self, message: bytes) -> None:
        family, where = self._where[0]
        if self._socket is None:
            self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        give_up = 0.0 if self._stuck else time.monotonic() + self._patience
        while True:
            try:
                # Not connected, so that a syslog which was started anew is found again.
                self._socket.sendto(message, where)
            except BlockingIOError:
                self._stuck = time.monotonic() >= give_up
                if self._stuck:
                    raise
                time.sleep(LOOK)
            else:
                self._stuck = self._failing = False
                return

    # Streams.

    def _write_stream(self, message: bytes) -> None:
        full = len(self._unsent) + len(message) > BUFFER
        if not full:
            self._unsent += message
        self._push()
        if full:
            raise BlockingIOError(errno.EAGAIN, "it does not take what it is sent")

    def _push(self) -> None:
        """Send what the other end takes. Raises OSError if it is not there."""
        if self._connected and self._left():
            self._hang_up()
        if self._socket is None and not self._connect():
            return
        assert self._socket is not None
        give_up = 0.0 if self._stuck else time.monotonic() + self._patience
        while self._unsent:
            if not writable(self._socket.fileno(), give_up - time.monotonic()):
                self._stuck = True
                return
            try:
                if not self._connected:
                    self._finish_connecting()
                taken = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                continue
            except OSError:
                self._hang_up()
                raise
            self._cut = self._unsent[taken - 1] != 0
            del self._unsent[:taken]
        self._stuck = self._failing = False

    def _left(self) -> bool:
        """Has the other end closed? It never says anything else."""
        assert self._socket is not None
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _connect(self) -> bool:
        """Begin to connect. False if it is too early for another try. Raises OSError."""
        now = time.monotonic()
        if now < self._next_try:
            return False
        self._next_try = now + PAUSE
        problem = OSError(errno.EADDRNOTAVAIL, "it has no address")
        for family, where in self._where:
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                made.connect(where)
            except OSError as error:
                # Where a path's queue is full, nothing is begun.
                if not isinstance(error, BlockingIOError) or self._path:
                    made.close()
                    problem = error
                    continue
            self._socket = made
            return True
        if problem.errno == errno.EPROTOTYPE:  # it was made anew as another kind
            self._kind = self._wanted
        raise problem

    def _finish_connecting(self) -> None:
        assert self._socket is not None
        problem = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
        self._connected = True

    def _hang_up(self) -> None:
        """Let go of the socket, and of the line of which a part has arrived."""
        if self._socket is not None:
            self._socket.close()
        if self._cut:
            del self._unsent[: self._unsent.find(b"\0") + 1]
        self._socket = None
        self._connected = self._stuck = self._cut = False


def located(address: SyslogAddress) -> list[tuple[socket.AddressFamily, Any]]:
    """Families and addresses of a host, in the order in which to try them. Raises OSError."""
    kind = socket.SOCK_STREAM if address.kind == "stream" else socket.SOCK_DGRAM
    found = socket.getaddrinfo(address.host, address.port, 0, kind)
    return [(family, where) for family, _, _, _, where in found]


def handlers(settings: Settings, format: str) -> tuple[dict[str, Syslog], list[str]]:
    """The handlers that the settings ask for, by "error" and "access", and what there is to complain of.

    `format` is what their lines have behind the name that they begin with.
    """
    made: dict[str, Syslog] = {}
    if not settings.syslog:
        return made, []
    prefix = settings.syslog_prefix or (settings.proc_name or settings.wsgi_app or "").replace(":", ".")
    for name in ("error",) if settings.disable_redirect_access_to_syslog else ("error", "access"):
        try:
            handler = Syslog(parse_syslog_addr(settings.syslog_addr), FACILITIES[settings.syslog_facility])
        except OSError as problem:
            return made, [f"Nothing goes to syslog at {settings.syslog_addr!r}: {problem.strerror}"]
        begin = f"gunicorn.{prefix}.{name}: ".replace("%", "%%")
        handler.setFormatter(logging.Formatter(begin + format))
        made[name] = handler
    return made, []
