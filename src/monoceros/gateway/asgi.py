"""What an ASGI application sees: the scope of a request, and the legal order of the messages about it.

Nothing here waits. `message` says what `receive` returns next, or that there is nothing yet; `sent` applies one
message of `send`. Whoever drives the exchange does the waiting.

The specification: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import os
import stat
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

from monoceros.gateway.trust import Decision
from monoceros.gateway.wsgi import CACHED_HEADS, CACHED_SIZE, Sink
from monoceros.settings.table import Settings
from monoceros.wire.events import END, AppError, Data, EndOfMessage, FileSpan, Informational, PeerGone, Request
from monoceros.wire.fields import Field, FieldBlock
from monoceros.wire.line import RequestLine
from monoceros.wire.response import WITHOUT_CONTENT, Response, check_field

Message = MutableMapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# As Uvicorn has them. Our `send` raises an OSError when the client is gone, as 2.4 asks for, but frameworks that are
# told so rely on it alone: a stream that has nothing to send would not notice that nobody listens.
VERSIONS: Final = {"version": "3.0", "spec_version": "2.3"}
WEBSOCKET_VERSIONS: Final = {"version": "3.0", "spec_version": "2.4"}

HTTP_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.pathsend": {},
    "http.response.trailers": {},
    "http.response.early_hint": {},
}
WEBSOCKET_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {"websocket.http.response": {}}


# What each request sets anew. It stands in the template so that setting it does not make the dict grow.
OF_THE_REQUEST: Final = dict.fromkeys(("method", "http_version", "path", "raw_path", "query_string", "headers"))


def single(application: Callable[..., Any]) -> Application:
    """An application of ASGI 2, which is called twice, as one of ASGI 3."""

    async def called_once(scope: Scope, receive: Receive, send: Send) -> None:
        await application(scope)(receive, send)

    return called_once


# The scope.


def server_part(settings: Settings, state: dict[str, Any] | None) -> Scope:
    """What is the same in all scopes of a worker. `state` is what lifespan has left, None if there is none."""
    extensions = HTTP_EXTENSIONS.copy()
    if not settings.sendfile:
        del extensions["http.response.pathsend"]
    part: Scope = {
        "type": "http",
        "asgi": VERSIONS,
        "root_path": settings.root_path.rstrip("/"),
        "extensions": extensions,
        **OF_THE_REQUEST,
    }
    if state is not None:
        part["state"] = state
    return part


def connection_part(server: Scope, address: tuple[str, int | None], peer: tuple[str, int]) -> Scope:
    """The same, and who serves whom. Over a Unix socket the client is None."""
    return server | {"server": address, "client": peer if peer[0] else None}


def scope(connection: Scope, request: Request, decision: Decision) -> Scope:
    """The scope of one HTTP request. What an application may change in it is its own."""
    line, fields = request
    root = fields.root
    template = root.scope
    if template is None:
        template = root.scope = _template(connection, root, decision)
    result: Scope = template.copy()
    result.update(line.scope or _from_line(line))
    headers = result["headers"] = result["headers"].copy()
    if fields.overrides:
        first = fields.first_override
        headers[first : first + len(fields.overrides)] = [(each.name, each.value) for each in fields.overrides]
    if line.authority is not None and decision.host is None:
        _replace_host(headers, line.authority.encode("ascii"))
    result["asgi"] = result["asgi"].copy()
    result["extensions"] = result["extensions"].copy()
    if "state" in result:
        result["state"] = result["state"].copy()
    if result["root_path"]:
        _put_before(result)
    return result


def websocket_scope(connection: Scope, request: Request, decision: Decision, subprotocols: list[str]) -> Scope:
    """The scope of a WebSocket that a request asks for."""
    result = scope(connection, request, decision)
    del result["method"]
    result["type"] = "websocket"
    result["asgi"] = WEBSOCKET_VERSIONS.copy()
    result["scheme"] = "wss" if decision.scheme == "https" else "ws"
    result["subprotocols"] = subprotocols
    result["extensions"] = WEBSOCKET_EXTENSIONS.copy()
    return result


def _template(connection: Scope, fields: FieldBlock, decision: Decision) -> Scope:
    """All that follows from the connection and the header block."""
    headers = [(field.name, field.value) for field in fields.fields if field.name not in decision.dropped]
    if decision.host is not None:
        _replace_host(headers, decision.host.encode("latin-1"))
    template = connection | {"scheme": decision.scheme, "headers": headers}
    if decision.client is not None:
        template["client"] = decision.client
    if decision.port is not None:
        template["server"] = connection["server"][0], decision.port
    if decision.script_name:
        # A header's bytes, as one character each; here text is what UTF-8 makes of them, as in the path.
        template["root_path"] = decision.script_name.encode("latin-1").decode("utf-8", "replace").rstrip("/")
    return template


def _replace_host(headers: list[tuple[bytes, bytes]], host: bytes) -> None:
    """Every place keeps its index, for the sake of blocks that differ from this one in a few places."""
    for i, (name, _) in enumerate(headers):
        if name == b"host":
            headers[i] = (name, host)
            return
    headers.append((b"host", host))


def _from_line(line: RequestLine) -> Scope:
    """All that follows from the request line."""
    line.scope = {
        "method": line.method,
        "http_version": line.version.removeprefix("HTTP/"),
        "path": unquote(line.path),
        "raw_path": line.path.encode("ascii"),
        "query_string": line.query.encode("ascii"),
    }
    return line.scope


def _put_before(result: Scope) -> None:
    """ASGI's path includes the root path. A proxy has mostly taken that off; one that has not is understood, too."""
    root, path = result["root_path"], result["path"]
    if path != root and not path.startswith(root + "/"):
        result["path"] = root + path
        result["raw_path"] = root.encode("utf-8") + result["raw_path"]


# The exchange.


class State:
    """A place in the order of messages. Compared by identity."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


START: Final = State("before http.response.start")
BODY: Final = State("before the end of the body")
TRAILERS: Final = State("before http.response.trailers")
DONE: Final = State("after the response was complete")


class HTTPExchange:
    """One request and its answer.

    `received`, `complete` and `gone` tell of the client, `message` and `take` serve the application. `queued` is how
    much content waits for the application, in bytes; `complete` says that all of it has come, `over` that nothing
    more is to be had: the response is complete, or the client is gone. `sent` counts the content that the
    application has given, in bytes.
    """

    # What most requests begin with. Values of the class, so that an exchange costs only what it says.
    environ = None  # which access logs may ask for
    is_gone = False
    over = False
    queued = 0
    response: Response | None = None
    sent = 0
    started = False
    state = START
    _told = False
    _with_trailers = False
    _pieces: list[bytes] | None = None
    _trailers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, sink: Sink, request: Request) -> None:
        self.sink = sink
        self.request = request
        self._is_head = request.line.method == "HEAD"
        self.complete = not request.fields.has_body

    @property
    def finished(self) -> bool:
        """Is the response complete?"""
        return self.state is DONE

    @property
    def status(self) -> int | None:
        """The status that was sent, None as long as none was."""
        return self.response.status if self.started and self.response is not None else None

    # The client's side.

    def received(self, data: bytes) -> None:
        """Some content has come."""
        if self._pieces is None:
            self._pieces = []
        self._pieces.append(data)
        self.queued += len(data)

    def gone(self) -> None:
        """The client is not there any more, or not to be answered: the application is told so."""
        self.is_gone = self.over = True

    # The application's side.

    def message(self) -> Message | None:
        """What `receive` returns next, None as long as there is nothing."""
        # A client that only stops sending has not taken back what it sent before.
        if self.over and (self._told or self.is_gone or self.state is DONE):
            return {"type": "http.disconnect"}
        if self._pieces or (self.complete and not self._told):
            body = b"".join(self._pieces) if self._pieces else b""
            self._pieces = None
            self.queued = 0
            self._told = self.complete
            return {"type": "http.request", "body": body, "more_body": not self.complete}
        return None

    def take(self, message: Message) -> None:
        """Do what a message given to `send` asks for. Raises `AppError` where it may not be sent, and `PeerGone`."""
        kind = message["type"]
        state = self.state
        if self.is_gone and state is not DONE:
            raise PeerGone("the client has disconnected")
        if state is START and kind == "http.response.start":
            self._start(message)
        elif state is BODY and kind == "http.response.body":
            self._body(message)
        elif state is BODY and kind == "http.response.pathsend":
            self._path(message)
        elif state is TRAILERS and kind == "http.response.trailers":
            self._end_with(message)
        elif state is START and kind == "http.response.early_hint":
            self.sink.emit(_early_hint(message))
        else:
            raise AppError(f"the application has sent {kind!r} {state}")

    def _start(self, message: Message) -> None:
        status, fields = message["status"], tuple(message.get("headers", ()))
        try:
            self.response = _heads[status, fields]
        except (KeyError, TypeError):
            self.response = head(status, fields)
        if "trailers" in message:
            self._with_trailers = message["trailers"]
        self.state = BODY

    @property
    def _has_content(self) -> bool:
        return not self._is_head and self.response is not None and self.response.status not in WITHOUT_CONTENT

    def _body(self, message: Message) -> None:
        content = message.get("body", b"")
        if message.get("more_body", False) or self.started or self._with_trailers or type(content) is not bytes:
            self._part(_bytes(content), message.get("more_body", False))
            return
        # All the content there is, so its length need not be told by the application.
        response = self.response
        assert response is not None
        if self._is_head or not response.plain:
            self._send_unusual(response, content)
            return
        size = len(content)
        if response.length is None:
            self.response = response = response.with_length(size)
        elif response.length != size:
            raise _wrong_length(size, response.length)
        self.sent = size
        self.started = self.over = True
        self.state = DONE
        self.sink.respond(response, content)

    def _part(self, content: bytes, more: bool) -> None:
        """One of several pieces of the content."""
        if more or self._with_trailers:
            self._send(content)
            if not more:
                self.state = TRAILERS
        elif self.started:
            self.sent += len(content)
            self._finish(Data(content), END)
        else:
            self._body({"body": content})

    def _send(self, content: bytes) -> None:
        """A piece; the first one takes the head along."""
        response = self.response
        assert response is not None
        if self.started:
            self.sent += len(content)
            self.sink.emit(Data(content))
            return
        if response.length is not None and len(content) > response.length and self._has_content:
            raise _wrong_length(len(content), response.length)  # while a 500 can still be sent
        self.sent = len(content)
        self.started = True
        self.sink.emit(response, Data(content))

    def _send_unusual(self, response: Response, content: bytes) -> None:
        """The same where there may be no content, or something else is to be thought of."""
        may_have = response.status not in WITHOUT_CONTENT
        if response.length is None and may_have and (content or not self._is_head):
            self.response = response = response.with_length(len(content))  # HEAD is told what GET would be
        if self._has_content and response.length != len(content):
            raise _wrong_length(len(content), response.length)
        self.started = True
        if self._has_content:
            self.sent = len(content)
            self._finish(response, Data(content), END)
        else:
            self._finish(response, END)

    def _finish(self, *events: Any) -> None:
        self.sink.emit(*events)
        self.state = DONE
        self.over = True

    def _path(self, message: Message) -> None:
        """`http.response.pathsend`: the content is a file."""
        response, path = self.response, message["path"]
        assert response is not None
        if self.started:
            raise AppError("the application has sent 'http.response.pathsend' after http.response.body")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # nor wait for the writer of a pipe
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise AppError(f"{path} is not a regular file")
            size = status.st_size
            if response.length is None:
                self.response = response = response.with_length(size)
            elif response.length > size:
                raise AppError(f"{path} has {size} bytes, but the Content-Length is {response.length}")
            self.started = True
            if self._has_content and response.length:
                self.sent = response.length
                self.sink.emit_file(response, FileSpan(fd, 0, response.length))
                self.state = DONE
                self.over = True
            else:
                self._finish(response, END)
        finally:
            os.close(fd)

    def _end_with(self, message: Message) -> None:
        """`http.response.trailers`: sent where the content comes in chunks, else there is no place for them."""
        self._trailers += tuple(map(_pair, message.get("headers", ())))
        if not message.get("more_trailers", False):
            self._finish(EndOfMessage([Field(*pair) for pair in self._trailers]))


def _wrong_length(size: int, promised: int | None) -> AppError:
    return AppError(f"the content has {size} bytes, but its Content-Length is {promised}")


def _early_hint(message: Message) -> Informational:
    fields = tuple((b"link", _bytes(link)) for link in message.get("links", ()))
    for field in fields:
        check_field(*field)
    return Informational(103, fields)


_heads: dict[tuple[int, tuple[tuple[bytes, bytes], ...]], Response] = {}


def head(status: object, fields: Iterable[Any]) -> Response:
    """The response that an application means by these, kept for the next time. Raises `AppError`."""
    if not isinstance(status, int):
        raise AppError(f"the status must be an int, not {type(status).__name__}")
    pairs = tuple(map(_pair, fields))
    response = Response(status, pairs)
    if len(response.raw) <= CACHED_SIZE and not any(name.lower() == b"set-cookie" for name, _ in pairs):
        if len(_heads) >= CACHED_HEADS:
            _heads.clear()
        _heads[status, pairs] = response
    return response


def _pair(item: Any) -> tuple[bytes, bytes]:
    try:
        name, value = item
    except (TypeError, ValueError):
        raise AppError(f"a header must be a pair of name and value, not {item!r}"[:200]) from None
    return _bytes(name), _bytes(value)


def _bytes(given: object) -> bytes:
    if not isinstance(given, bytes | bytearray | memoryview):
        raise AppError(f"headers and content must be bytes, not {type(given).__name__}: {given!r}"[:200])
    return bytes(given)
