"""Raw requests and the events they mean: the files in tests/corpus/requests, and the driver that turns bytes to events.

`<group>-<name>.http` is what a client sends before it closes its side of the connection, byte for byte.
`<group>-<name>.expect` next to it says what the wire must make of that, in lines of text:

    limits: line=64 fields=3            only where they are not the defaults
    Request GET /a?b HTTP/1.1           one line an event; the version is the one that we answer in
      host: a                           its fields in order, names in lower case
      = keep-alive: no                  what else it means, where that differs from most requests
    Data b'some bytes'                  content, adjacent pieces joined
    End                                 the request is complete; trailers follow like fields
    Hang up                             we close: no further request is read
    Closed                              the client has closed, and has left nothing unfinished
    Refused 400 invalid chunk size      the status, and words of the message in our log

The driver answers every complete request with an empty 200, so that pipelined requests get their turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monoceros.wire.events import END, Closed, Data, EndOfMessage, Limits, Pause, RemoteError, Request
from monoceros.wire.fields import Field, FieldBlock
from monoceros.wire.h1 import H1Connection
from monoceros.wire.response import Defaults, Response

REQUESTS = Path(__file__).parent.parent / "corpus" / "requests"

# Longer values are shown as their length.
SHOWN = 200

DEFAULTS = Defaults(lambda: 0)
# What a gateway sets on a header block, so that the next one may share what it has in common with it.
PINNED = frozenset((b"x-pinned",))

EMPTY = Response(200, [(b"Content-Length", b"0")])


@dataclass(frozen=True)
class Case:
    """One file of the corpus and what is expected of it."""

    name: str
    data: bytes
    limits: Limits
    expected: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def cases() -> list[Case]:
    return [load(path) for path in sorted(REQUESTS.glob("*.http"))]


def load(path: Path) -> Case:
    first, *rest = lines = path.with_suffix(".expect").read_text("ascii").splitlines()
    limits = Limits()
    if first.startswith("limits: "):
        limits = Limits(**{name: int(value) for name, value in (word.split("=") for word in first.split()[1:])})
        lines = rest
    return Case(path.stem, path.read_bytes(), limits, tuple(lines))


def wire(limits: Limits | None = None) -> H1Connection:
    return H1Connection(limits or Limits(), DEFAULTS)


def drive(connection: H1Connection, chunks: Iterable[bytes]) -> Iterator[Request | Data | EndOfMessage | Closed | str]:
    """What `connection` makes of these chunks and the end of the connection: events, then perhaps "Hang up".

    Raises `RemoteError`.
    """
    for chunk in (*chunks, b""):
        connection.receive_data(chunk)
        while not isinstance(event := connection.next_event(), Pause):
            if isinstance(event, Request):
                event.fields.pinned = PINNED
            yield event
            if isinstance(event, Closed):
                return
            if isinstance(event, EndOfMessage):
                connection.send(EMPTY)
                connection.send(END)
                if not connection.next_cycle():
                    yield "Hang up"
                    return
    raise AssertionError(f"nothing said at the end of the connection, but {event}")


def transcript(chunks: Iterable[bytes], limits: Limits | None = None) -> list[str]:
    """The events of one connection as lines of text, as they stand in an `.expect` file."""
    lines: list[str] = []
    content: list[bytes] = []
    try:
        for event in drive(wire(limits), chunks):
            if isinstance(event, Data):
                content.append(event.data)
                continue
            lines += [*_data(content), *_event(event)]
            content.clear()
    except RemoteError as error:
        lines += [*_data(content), f"Refused {error.status} {error}"]
    return lines


def shortened(seen: list[str], expected: Sequence[str]) -> list[str]:
    """The transcript, but the message of a refusal replaced by the expected words of it, if it has those."""
    if not seen or len(seen) != len(expected) or not seen[-1].startswith("Refused "):
        return seen
    _, status, words = f"{expected[-1]}  ".split(" ", 2)
    said = seen[-1].split(" ", 2)
    return [*seen[:-1], expected[-1]] if said[1] == status and words.strip() in said[2] else seen


def _event(event: Request | EndOfMessage | Closed | str) -> Iterator[str]:
    match event:
        case Request(line, fields):
            yield f"Request {line.method} {_shown(line.target)} {line.version}"
            yield from map(_field, fields.fields)
            if line.authority is not None or line.target != "?".join(filter(None, (line.path, line.query))):
                yield f"  = authority: {line.authority}"
                yield f"  = path: {line.path}"
                yield f"  = query: {line.query}".rstrip(" ")
            if fields.expect:
                yield "  = expects: 100-continue"
            if fields.upgrade:
                yield f"  = upgrade: {_text(fields.upgrade)}"
            if not fields.keep_alive:
                yield "  = keep-alive: no"
        case EndOfMessage(trailers):
            yield "End"
            yield from map(_field, trailers)
        case Closed():
            yield "Closed"
        case str():
            yield event


def _field(field: Field) -> str:
    return f"  {field.name.decode('ascii')}: {_shown(_text(field.value))}".rstrip(" ")


def _data(pieces: list[bytes]) -> list[str]:
    data = b"".join(pieces)
    return [f"Data {data!r}" if len(data) <= SHOWN else f"Data of {len(data)} bytes"] if data else []


def _text(value: bytes) -> str:
    return value.decode("ascii", "backslashreplace")


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else f"({len(text)} characters)"


def meaning(fields: FieldBlock) -> tuple[object, ...]:
    """All that a header block says, to compare it with another."""
    return (
        list(fields),
        fields.version,
        fields.content_length,
        fields.chunked,
        fields.has_body,
        fields.host,
        fields.expect,
        fields.keep_alive,
        fields.upgrade,
        fields.underscores,
        set(fields.connection),
    )


def alone(fields: FieldBlock, limits: Limits) -> FieldBlock:
    """The same fields as a block that nothing came before."""
    raw = b"\r\n".join(b"%b:%b" % field for field in fields)
    return FieldBlock(raw, fields.version, replace(limits, fields=0, field_size=0))


def feeds(data: bytes, *, every_split_up_to: int = 400) -> Iterator[tuple[str, list[bytes]]]:
    """The same bytes as the network might cut them."""
    yield "whole", [data]
    yield "byte by byte", [data[i : i + 1] for i in range(len(data))]
    if len(data) <= every_split_up_to:
        for at in range(1, len(data)):
            yield f"split at {at}", [data[:at], data[at:]]
    else:
        half = len(data) // 2
        yield "in halves", [data[:half], data[half:]]
    for size in (2, 3, 7, 64):
        yield f"{size} bytes at a time", [data[i : i + size] for i in range(0, len(data), size)]
    # Between the CR and the LF of every line.
    yield "LF first", [piece for piece in re.split(rb"(?<=\r)(?=\n)", data) if piece]
