"""Into the background: a process without a terminal, whose launcher waits to hear how it went.

So `monoceros --daemon && next` goes on when the server serves, and not at all if it cannot. What goes wrong meanwhile
is shown where the launcher was started: nobody is there yet who would look into a log, and there may be none.
"""

import logging
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import Final, NoReturn

from monoceros.ops.log import FORMATS

# What the launcher is told, in one write: its exit status as a byte, then the text to print. A write of no more than
# PIPE_BUF bytes arrives in one piece (POSIX, write).
MESSAGE: Final = select.PIPE_BUF

# What a pipe holds at most, by default (pipe(7)).
CAPACITY: Final = 65_536

SILENCE: Final = b"Error: the server ended before it was ready; its error log may say why"


class DaemonError(Exception):
    """This process cannot become a daemon. The text is one line for the user."""


class Witness(logging.Handler):
    """Sends lines of the error log to the launcher, by a pipe that does not block, until nobody reads it."""

    def __init__(self, pipe: int) -> None:
        super().__init__(logging.ERROR)
        self.setFormatter(logging.Formatter(FORMATS.error, FORMATS.date))
        self._pipe: int | None = pipe

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._pipe is not None:
                os.write(self._pipe, f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except BlockingIOError:  # the launcher is stopped, and has missed enough
            return
        except BrokenPipeError:  # it has gone, and a worker that it has seen born lives on
            self.leave()
        except Exception:  # the contract of logging: an error of a handler is shown, not raised
            self.handleError(record)

    def leave(self) -> None:
        """Say no more. (`close` is what a logging configuration calls, of handlers that go on all the same.)"""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


class Launcher:
    """The process that waits to hear how the start went. Without a pipe to it, nobody waits.

    Only the first thing that it is told counts; until then it shows what `witness` has seen.
    """

    def __init__(self, pipe: int | None = None, witness: Witness | None = None) -> None:
        self._pipe = pipe
        self._witness = witness
        self._logger: logging.Logger | None = None

    def follow(self, logger: logging.Logger) -> None:
        """Show the errors that this logger is told of: here, and in the workers that are forked meanwhile."""
        if self._witness is not None:
            self._logger = logger
            logger.addHandler(self._witness)

    def unfollow(self) -> None:
        """Show no more of them."""
        if self._witness is not None and self._logger is not None:
            self._logger.removeHandler(self._witness)
            self._witness.leave()
            self._witness = None

    def ready(self) -> None:
        """We serve: the launcher exits with status 0."""
        self._tell(b"\0")

    def failed(self, status: int, text: str) -> None:
        """We do not serve: the launcher prints `text` on stderr and exits with `status`, or 1 where that is 0."""
        self._tell(bytes([status & 0xFF or 1]) + text.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Leave it to others to tell, as a worker does: if the master dies without a word, the launcher notices."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _tell(self, message: bytes) -> None:
        if self._pipe is not None:
            with suppress(BrokenPipeError):  # somebody has ended the launcher, who is not missed
                os.write(self._pipe, message[:MESSAGE])
        self.unfollow()
        self.close()


def daemonize(inherit_stdio: bool) -> Launcher:
    """Go on as a daemon: in a session of its own without a terminal, with umask 022, stdio at /dev/null.

    With `inherit_stdio`, stdout and stderr stay where they lead to unless that is a terminal. The working directory
    stays. Returns in the daemon; the process that called does not return, but waits to be told how to exit. The pid
    is another one afterwards. Raises `DaemonError` and `OSError`, both before anything has changed.
    """
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others:  # a fork would leave them behind, and the locks that they hold
        raise DaemonError(f"Cannot become a daemon while threads run: {', '.join(others)}")
    null = _null()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # it was closed before we started, or the reader has gone
            stream.flush()
    (reader, writer), (errors, witness) = os.pipe(), os.pipe()
    if os.fork():
        os.close(writer)
        os.close(witness)
        _wait(reader, errors)
    os.close(reader)
    os.close(errors)
    os.set_blocking(witness, False)
    launcher = Launcher(writer, Witness(witness))
    try:
        os.setsid()
        # The leader of a session gets a terminal when it opens one, its child does not.
        if os.fork():
            os._exit(0)
    except OSError as error:
        launcher.failed(1, f"Error: cannot become a daemon: {error.strerror}")
        os._exit(1)
    os.umask(0o022)
    for fd in (0, 1, 2):
        if fd == 0 or not inherit_stdio or os.isatty(fd):
            os.dup2(null, fd)
    os.close(null)
    return launcher


def _null() -> int:
    """A descriptor of /dev/null. It is not 0, 1 or 2: what of these was closed leads there, too."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    return fd


def _wait(reader: int, errors: int) -> NoReturn:
    """The rest of the launcher's life."""
    # Who is tired of waiting ends the wait. The daemon, in another session, goes on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.set_blocking(errors, False)
    poll = select.poll()
    for fd in (reader, errors):
        poll.register(fd, select.POLLIN)
    while reader not in (fd for fd, _ in poll.poll()):
        if not _show(errors):  # the master has closed its end, and no worker has one
            poll.unregister(errors)
    _show(errors)  # what was written before the end is shown before it
    # Not until the end of the pipe: workers may hold it open.
    message = os.read(reader, MESSAGE)
    status, text = (message[0], message[1:]) if message else (1, SILENCE)
    if text:
        with suppress(OSError):
            os.write(2, text + b"\n")
    os._exit(status)


def _show(errors: int) -> bool:
    """Print what is in the pipe now. False if nothing can come any more."""
    with suppress(BlockingIOError):
        lines = os.read(errors, CAPACITY)
        if not lines:
            return False
        with suppress(OSError):
            os.write(2, lines)
    return True
