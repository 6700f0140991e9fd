"""The error log and the access log: where they go, and how a line gets there whole.

All processes of a server share one file or one pipe. So a line is one write: files are opened for appending, and what
goes to a pipe goes in pieces that the kernel does not mix with those of a sibling. The loggers bear Gunicorn's names
and have real handlers, because config files and applications name the ones and borrow the others.
"""

import io
import logging
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Final, TextIO

from monoceros.settings.table import Settings

error: Final = logging.getLogger("gunicorn.error")
access: Final = logging.getLogger("gunicorn.access")

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

ERROR_LINE: Final = logging.Formatter(
    "%(asctime)s [%(process)d] [%(levelname)s] %(message)s", datefmt="[%Y-%m-%d %H:%M:%S %z]"
)
ACCESS_LINE: Final = logging.Formatter("%(message)s")

# Seconds to wait for a non-blocking pipe that nobody empties. Serving stands still meanwhile, so it is short, and it
# is granted once: a sink that had to give up does not wait again before a write has succeeded.
PATIENCE: Final = 0.5


# What an application may write to `wsgi.errors` without a newline before it is written all the same.
LONGEST_LINE: Final = 8192


class Sink(logging.StreamHandler[TextIO]):
    """A handler that writes whole lines, past the buffers of its stream; each record is one write.

    A line may still be cut where the disk is full or a pipe is stuck. The next write then starts on a new line.
    """

    patience = PATIENCE
    cut = False
    stuck = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record) + self.terminator)
        except RecursionError:  # telling of it here would recurse again (bpo-36272)
            raise
        except Exception:  # the contract of logging: an error of a handler is shown, not raised
            self.handleError(record)

    def write(self, lines: str) -> None:
        """Append `lines`, which end with a newline. Raises OSError if they could not be written in full.

        ValueError where the stream is closed. Waits at most `patience` seconds for a non-blocking descriptor.
        """
        self.acquire()
        try:
            try:
                fd = self.stream.fileno()
            except (OSError, AttributeError):  # someone put an object without a descriptor in place of sys.stdout
                self.stream.write(lines)
                self.stream.flush()
                return
            encoded = lines.encode(getattr(self.stream, "encoding", None) or "utf-8", "backslashreplace")
            self._write_whole(fd, b"\n" + encoded if self.cut else encoded)
        finally:
            self.release()

    def _write_whole(self, fd: int, data: bytes) -> None:
        # What one write of a regular file appends is never mixed with another's. A pipe promises that up to PIPE_BUF
        # only, and of a non-blocking pipe, that it takes such a piece all or not at all (POSIX, write).
        most = len(data) if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF
        give_up = 0.0 if self.stuck else time.monotonic() + self.patience
        for piece in pieces(data, most):
            rest = memoryview(piece)
            while rest:
                try:
                    rest = rest[os.write(fd, rest) :]
                except OSError as problem:
                    blocked = isinstance(problem, BlockingIOError)
                    if blocked and writable(fd, give_up - time.monotonic()):
                        continue
                    self.stuck, self.cut = blocked, self.cut or len(rest) < len(piece)
                    raise
            self.cut = False
        self.stuck = False


class FileSink(Sink, logging.FileHandler):
    """A `Sink` that appends to the file `path`, which is created. Raises OSError.

    `captured` says that descriptors 1 and 2 lead to the file as well, also after it is reopened.
    """

    captured = False

    def __init__(self, path: str) -> None:
        logging.FileHandler.__init__(self, path, mode="a", encoding="utf-8", errors="backslashreplace")

    def write(self, lines: str) -> None:
        self.acquire()
        try:
            # Replaced by a reload and closed, but borrowed by a logger of the application: its lines should arrive.
            if self.stream is None:
                self.stream = self._open()
            super().write(lines)
        finally:
            self.release()

    def close(self) -> None:
        self.captured = False  # a closed one that is still borrowed must not capture again when files are reopened
        super().close()

    def capture(self) -> None:
        """Lead descriptors 1 and 2 to the file, and let what is printed arrive line by line."""
        assert self.stream is not None
        for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
            if stream is not None:  # None where Python was started with the descriptor closed
                with suppress(OSError, ValueError):  # what could not be printed until now is not for the file
                    stream.flush()
            os.dup2(self.stream.fileno(), fd)
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
        self.captured = True


class Silence(logging.NullHandler):
    """Stands where there is to be no error log; without it, logging would write warnings to standard error."""


def writable(fd: int, seconds: float) -> bool:
    """Whether `fd` takes bytes before `seconds` have passed. Also True if writing would fail at once."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(max(0.0, seconds * 1000)))


def pieces(data: bytes, most: int) -> Iterator[bytes]:
    """`data` cut at ends of lines into pieces of at most `most` bytes; a longer line is a piece of its own."""
    start = 0
    while len(data) - start > most:
        end = data.rfind(b"\n", start, start + most) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


class ErrorStream:
    """`wsgi.errors` (PEP 3333): a text stream into the error log, where a line is written whole."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._begun = ""

    def write(self, text: str) -> int:
        with self._lock:
            lines, newline, self._begun = (self._begun + text).rpartition("\n")
            if newline:
                self._put(lines + newline)
            if len(self._begun) > LONGEST_LINE:
                self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """End the line that has begun."""
        with self._lock:
            begun, self._begun = self._begun, ""
            if begun:
                self._put(begun + "\n")

    def _put(self, lines: str) -> None:
        for handler in error.handlers:
            if isinstance(handler, Sink):
                handler.write(lines)


def setup(settings: Settings) -> None:
    """Let the loggers write to where the settings say, at their level. Raises OSError with a line for the user.

    May be called again, for a reload: our handlers are replaced (or all stay as they were, on OSError), those that
    others have added stay. Captured output moves on to the new error log if that is a file, else it stays.
    """
    with ExitStack() as undo:
        error_sink = open_sink("error log", settings.errorlog, sys.stderr) or Silence()
        undo.callback(error_sink.close)
        access_sink = open_sink("access log", settings.accesslog, sys.stdout)
        undo.pop_all()
    error_sink.setFormatter(ERROR_LINE)
    if any(isinstance(old, FileSink) and old.captured for old in error.handlers) and isinstance(error_sink, FileSink):
        error_sink.capture()
    replace_handler(error, error_sink)
    if access_sink is not None:
        access_sink.setFormatter(ACCESS_LINE)
    replace_handler(access, access_sink)
    access.setLevel(logging.INFO)
    level = LEVELS.get(settings.loglevel.lower(), logging.INFO)
    error.setLevel(level)
    # Applications read the level of this one to set their own.
    logging.getLogger("gunicorn").setLevel(level)
    if settings.loglevel.lower() not in LEVELS:
        error.warning("Unknown loglevel %r, using info. Known are: %s", settings.loglevel, ", ".join(LEVELS))


def open_sink(what: str, where: str | None, stream: TextIO | None) -> Sink | None:
    """A sink for the file `where`, or for `stream` if that is "-". None if there is nothing to write to."""
    if where == "-":
        return None if stream is None else Sink(stream)
    if where is None:
        return None
    try:
        return FileSink(where)
    except OSError as problem:
        raise OSError(f"cannot open the {what} {where!r}: {problem.strerror}") from problem


def replace_handler(logger: logging.Logger, handler: logging.Handler | None) -> None:
    """Put `handler` in the place of ours, in the same list, which the application may have borrowed as a whole."""
    logger.propagate = False
    for old in [old for old in logger.handlers if isinstance(old, Sink | Silence)]:
        logger.removeHandler(old)
        old.close()
    if handler is not None:
        logger.addHandler(handler)


def capture_output(settings: Settings) -> None:
    """Send what is written to descriptors 1 and 2 to the error log, if that is a file and the settings ask for it."""
    for handler in error.handlers if settings.capture_output else ():
        if isinstance(handler, FileSink):
            handler.capture()


def reopen() -> None:
    """Open all log files again by their names, as after logrotate; other threads may be logging.

    This includes files of handlers that are not ours, as with Gunicorn: `--log-config` and applications rely on it.
    A file that cannot be opened is told of in the error log, and its handler goes on with the old one.
    """
    for handler in file_handlers():
        handler.acquire()
        try:
            # Opened first and swapped then, so that the handler never is without a file.
            if handler.stream is not None:  # not opened yet (delay), or closed
                old = handler.setStream(handler._open())
                if old is not None:
                    old.close()
            if isinstance(handler, FileSink) and handler.captured:
                handler.capture()
        except OSError as problem:
            error.error("Cannot reopen %s, writing on as before: %s", handler.baseFilename, problem.strerror)
        finally:
            handler.release()


def file_handlers() -> list[logging.FileHandler]:
    """The handlers of all loggers that append to a file. To open one of mode "w" again would empty its file."""
    known = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    loggers = [logger for logger in known if isinstance(logger, logging.Logger)]
    handlers = dict.fromkeys(handler for logger in loggers for handler in logger.handlers)
    return [each for each in handlers if isinstance(each, logging.FileHandler) and each.mode.startswith("a")]
