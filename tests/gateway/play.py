"""An exchange without a socket: a request goes in as bytes, and a list collects what is sent for it."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monoceros.gateway import environ as environs
from monoceros.gateway.input import Input
from monoceros.gateway.trust import Policy
from monoceros.gateway.wsgi import Exchange, FileWrapper
from monoceros.settings.table import Settings
from monoceros.wire.events import END, FileSpan, Limits, PeerGone, Request, Sendable
from monoceros.wire.h1 import H1Connection
from monoceros.wire.response import Defaults, Response

GET = b"GET /page?q=1 HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET /page HTTP/1.0\r\n\r\n"

ADDRESS = ("127.0.0.1", 8000)
PEER = ("192.0.2.7", 50000)

DEFAULTS = Defaults(lambda: 0)


@dataclass
class Answer:
    """A response as a client reads it."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class Sink:
    """Collects events, and the bytes that they become. After `patience` sends the client is gone."""

    def __init__(self, raw: bytes = GET, patience: int | None = None) -> None:
        self.wire = H1Connection(Limits(), DEFAULTS)
        self.wire.receive_data(raw)
        request = self.wire.next_event()
        assert isinstance(request, Request), request
        self.request = request
        if not request.fields.has_body:
            self.wire.next_event()
        self.events: list[Sendable] = []
        self.pieces: list[bytes] = []
        self._patience = patience

    def emit(self, *events: Sendable) -> None:
        self._send(b"".join([self.wire.send(event) for event in events]))
        self.events += events

    def respond(self, response: Response, content: bytes) -> None:
        self._send(self.wire.respond(response, content))
        self.events.append(response)

    def emit_file(self, response: Response, span: FileSpan) -> None:
        self._send(self.wire.send(response) + self.wire.send(span) + self.wire.send(END))
        self.events += (response, span, END)
        with open(f"/proc/self/fd/{span.fd}", "rb") as file:
            file.seek(span.offset)
            self.pieces.append(file.read(span.size))

    def _send(self, data: bytes) -> None:
        if self._patience is not None:
            if not self._patience:
                raise PeerGone("cannot send: Broken pipe")
            self._patience -= 1
        self.pieces.append(data)

    @property
    def sent(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Seen:
    """What became of an exchange."""

    sink: Sink
    exchange: Exchange
    environ: dict[str, Any]
    error: BaseException | None = None

    @property
    def sent(self) -> bytes:
        return self.sink.sent

    @property
    def answer(self) -> Answer:
        """The one response that was sent. Fails if it is not a whole one, or if there is more than it."""
        return parse(self.sent, self.sink.request.line.method)

    @property
    def complete(self) -> bool:
        """Whether the client knows that it has got everything."""
        return self.sink.wire.sending.name == "DONE"


class _Replay:
    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def makefile(self, _mode: str) -> io.BytesIO:
        return self.file


def parse(raw: bytes, method: str = "GET") -> Answer:
    replay = _Replay(raw)
    # BytesIO ends where http.client closes it, so what is left is asked for first.
    replay.file.close = lambda: None  # type: ignore[method-assign]
    response = http.client.HTTPResponse(replay, method=method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    assert replay.file.read() == b"", "something follows the response"
    return Answer(response.status, response.reason, dict(response.getheaders()), body)


def environ_of(
    request: Request,
    *,
    peer: tuple[str, int] = PEER,
    address: tuple[str, int | None] = ADDRESS,
    using: Settings | None = None,
    errors: object = None,
) -> dict[str, Any]:
    """The environ of a request, by the same steps as a connection takes."""
    using = using or Settings()
    server = environs.server_part(using, errors or io.StringIO(), FileWrapper)
    connection = environs.connection_part(server, address, peer, None)
    decision = Policy(using).apply(request.fields, peer[0])
    return environs.build(connection, request, decision)


def play(
    app: Callable[..., Any],
    raw: bytes = GET,
    *,
    patience: int | None = None,
    input: Input | None = None,
    sendfile: bool = True,
    raises: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Seen:
    """Run one exchange of `app`. What it raises is in `error`, if it was expected by `raises`."""
    sink = Sink(raw, patience)
    environ = environ_of(sink.request)
    environ["wsgi.input"] = input or io.BytesIO()
    exchange = Exchange(app, environ, sink, input, sendfile)
    seen = Seen(sink, exchange, environ)
    try:
        exchange.run()
    except raises as error:
        seen.error = error
    return seen
