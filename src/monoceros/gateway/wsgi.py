"""One WSGI exchange (PEP 3333): the call, `start_response`, iteration, `close`. Events go to a sink."""

import io
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Protocol

from monoceros.gateway.environ import Environ
from monoceros.gateway.input import Input
from monoceros.wire.events import END, AppError, Data, FileSpan, Informational, Sendable
from monoceros.wire.response import WITHOUT_CONTENT, Response, check_field

log = logging.getLogger("gunicorn.error")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Headers = Sequence[tuple[str, str]]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# Applications send few distinct heads. A head of a session or of unusual size is not kept; a full cache
# is emptied, so that lengths which never come again do not stay.
CACHED_HEADS: Final = 512
CACHED_SIZE: Final = 1024


class Sink(Protocol):
    """Where an exchange's events go: the connection."""

    def emit(self, *events: Sendable) -> None:
        """Send the events, as one write where that is possible. Raises `PeerGone`."""

    def respond(self, response: Response, content: bytes) -> None:
        """Send a whole response. Raises `PeerGone`."""

    def emit_file(self, response: Response, span: FileSpan) -> None:
        """Send a whole response whose content is in a file. Raises `PeerGone`."""


class FileWrapper:
    """`wsgi.file_wrapper`: an open file as an iterable of blocks, or for the server to send by itself."""

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block: bytes = self.filelike.read(self.blksize)
        if block:
            return block
        raise StopIteration


class Exchange:
    """One request and its answer. `run` once; after it, `response` and `sent` say what became of it.

    `sent` counts the content given by the application, in bytes, up to the Content-Length; `sufficed` says
    that more of it would not be sent.
    """

    __slots__ = (
        "_app",
        "_input",
        "_method",
        "_sendfile",
        "_sink",
        "environ",
        "finished",
        "response",
        "sent",
        "started",
        "sufficed",
    )

    def __init__(
        self, app: Application, environ: Environ, sink: Sink, input: Input | None = None, sendfile: bool = True
    ) -> None:
        self._app = app
        self.environ = environ
        self._sink = sink
        self._input = input
        self._sendfile = sendfile
        self._method: str = environ["REQUEST_METHOD"]  # as sent: middleware may set another in the environ
        self.response: Response | None = None
        self.sent = 0
        self.started = False
        self.finished = False
        self.sufficed = False

    @property
    def status(self) -> int | None:
        """The status that was sent, None as long as none was."""
        return self.response.status if self.started and self.response is not None else None

    def run(self) -> None:
        """Call the application and send what it gives. Raises what it raises, `AppError` and `PeerGone`."""
        result = self._app(self.environ, self.start_response)
        if type(result) is list and len(result) == 1:
            self._send_whole(result[0])
            return
        try:
            if not (isinstance(result, FileWrapper) and self._sendfile and self._send_file(result)):
                for chunk in result:
                    self.write(chunk)
                    if self.sufficed:
                        break  # PEP 3333: stop iterating when enough data has been sent; it may be endless
                self._finish()
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Keep status and headers, checked; they are sent with the first content, or at the end.

        Raises `AppError` for what cannot be sent, and for a second call without `exc_info`.
        """
        if exc_info is not None:
            try:
                if self.started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # PEP 3333: no reference cycle through the traceback
        elif self.response is not None:
            raise AppError("start_response was called a second time without exc_info")
        key = status, tuple(headers)
        try:
            self.response = _heads[key]
        except (KeyError, TypeError):
            self.response = head(*key)
        return self.write

    def write(self, chunk: bytes) -> None:
        """Send some content at once: what `start_response` returns, and what each item of the iterable meets."""
        if not isinstance(chunk, bytes):
            raise AppError(f"content must be bytes, not {type(chunk).__name__}")
        if not chunk:
            return
        response = self._ready()
        length = response.length
        self.sent += len(chunk)
        if not self._has_content(response):
            self._send_head(response)
        elif length is not None and self.sent >= length:
            self._fill(response, chunk, length)
        elif self.started:
            self._sink.emit(Data(chunk))
        else:
            self.started = True
            self._sink.emit(response, Data(chunk))

    def _ready(self) -> Response:
        if self._input is not None and self._input.error is not None:
            # The client broke off or broke the rules: the application's view of it is not the answer.
            raise self._input.error
        if self.response is None:
            raise AppError("the application has sent content without calling start_response")
        return self.response

    def _fill(self, response: Response, chunk: bytes, length: int) -> None:
        """The chunk that makes the content complete, whatever may still come."""
        excess = self.sent - length
        if excess:
            self.sent = length
            self.sufficed = True
            log.warning("%s %s: content is longer than its Content-Length of %d: cut", *self._name(), length)
            if excess >= len(chunk) and self.finished:
                return
            chunk = chunk[: len(chunk) - excess]
        self.finished = True
        if self.started:
            self._sink.emit(Data(chunk), END)
        else:
            self.started = True
            self._sink.respond(response, chunk)

    def _send_head(self, response: Response) -> None:
        """The answer to HEAD, or one without content by its status: whatever content may come, it is whole."""
        self.sufficed = True
        if not self.started:
            self.started = self.finished = True
            self._sink.emit(response, END)

    def _send_whole(self, chunk: bytes) -> None:
        """The only chunk there is: its length need not be told by the application (PEP 3333)."""
        response = self.response
        size = len(chunk)
        if type(chunk) is not bytes or response is None or self.started:
            self.write(chunk)
            self._finish()
            return
        if self._input is not None:
            self._ready()  # a fault of the client's goes before the answer
        if response.length is None:
            self.response = response = self._with_length(response, size)
        elif response.length != size:
            self.write(chunk)
            self._finish()
            return
        self.sent = size
        self.started = self.finished = True
        self._sink.respond(response, chunk)

    def _finish(self) -> None:
        """The iterable is exhausted."""
        if self.finished:
            return
        response = self._ready()
        if not self.started and response.length and self._has_content(response):
            raise AppError(f"content is {response.length} bytes shorter than its Content-Length")
        self.finished = True
        if self.started:
            self._sink.emit(END)
            return
        if response.length is None:
            self.response = response = self._with_length(response, 0)
        self.started = True
        self._sink.emit(response, END)

    def _with_length(self, response: Response, length: int) -> Response:
        """The same head with a Content-Length, where that says something about this answer."""
        if response.status in WITHOUT_CONTENT or (self._method == "HEAD" and not length):
            return response
        return response.with_length(length)

    def _has_content(self, response: Response) -> bool:
        return self._method != "HEAD" and response.status not in WITHOUT_CONTENT

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Let the kernel send the file. False if it is no regular file, or there is nothing to send of it."""
        file = wrapper.filelike
        if isinstance(file, io.BufferedIOBase) and not isinstance(file, (io.BufferedReader, io.BufferedRandom)):
            return False  # as gzip's: its descriptor leads to other bytes than it gives
        try:
            fd = file.fileno()
            offset = file.tell()
            status = os.fstat(fd)
        except (AttributeError, OSError, ValueError):
            return False
        response = self._ready()
        size = status.st_size - offset
        if response.length is not None:
            if size < response.length:
                return False  # it is to be cut off visibly, as any content that is too short
            size = response.length
        if self.started or size <= 0 or not stat.S_ISREG(status.st_mode) or not self._has_content(response):
            return False
        if response.length is None:
            self.response = response = self._with_length(response, size)
        self.sent = size
        self.started = self.finished = True
        self._sink.emit_file(response, FileSpan(fd, offset, size))
        return True

    def _name(self) -> tuple[str, str]:
        return self._method, self.environ["RAW_URI"].partition("?")[0]  # a query may hold secrets


def early_hints(headers: Headers) -> Informational:
    """103 with these headers (RFC 8297), to be sent before the response. Raises `AppError`."""
    fields = tuple((encode(name), encode(value)) for name, value in headers)
    for name, value in fields:
        check_field(name, value)
    return Informational(103, fields)


_heads: dict[tuple[str, tuple[tuple[str, str], ...]], Response] = {}


def head(status: str, headers: Headers) -> Response:
    """The response that an application means by these, kept for the next time. Raises `AppError`."""
    key = status, tuple(headers)
    response = _build(*key)
    if len(response.raw) <= CACHED_SIZE and not any(name.lower() == "set-cookie" for name, _ in key[1]):
        if len(_heads) >= CACHED_HEADS:
            _heads.clear()
        _heads[key] = response
    return response


def _build(status: str, headers: tuple[tuple[str, str], ...]) -> Response:
    if not isinstance(status, str):
        raise AppError(f"status must be a str, not {type(status).__name__}")
    code, _, reason = status.partition(" ")
    if not (len(code) == 3 and code.isascii() and code.isdigit()):
        raise AppError(f"status must begin with three digits: {status[:100]!r}")
    fields = []
    for item in headers:
        if not (isinstance(item, tuple) and len(item) == 2):
            raise AppError(f"a header must be a tuple of name and value, not {item!r}"[:200])
        fields.append((encode(item[0]), encode(item[1])))
    return Response(int(code), fields, encode(reason))


def encode(text: str) -> bytes:
    """A native string of PEP 3333 as bytes. Raises `AppError` if it is none."""
    if not isinstance(text, str):
        raise AppError(f"status and headers must be str, not {type(text).__name__}: {text!r}"[:200])
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise AppError(f"only Latin-1 can be sent in a head (PEP 3333): {text[:100]!r}") from None
