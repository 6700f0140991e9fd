"""Handlers whose lines arrive whole, though all processes of a server write into one file or one pipe.

So a line is one write: files are opened for appending, and what goes to a pipe goes in pieces that the kernel does not
mix with those of a sibling.
"""

import io
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, TextIO

# Seconds to wait for a non-blocking pipe that nobody empties. Serving stands still meanwhile, so it is short, and it
# is granted once: a sink that had to give up does not wait again before a write has succeeded.
PATIENCE: Final = 0.5


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
        if self.stream is None:  # closed by a logging configuration, as all handlers are
            self.stream = self._open()
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
