"""WebSocket on the wire: the handshake, then frames as raw bytes, by the themes of the Autobahn test suite."""

from __future__ import annotations

import base64
import contextlib
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response as Answer
from websockets.uri import parse_uri

from monoceros.wire import messages, ws
from monoceros.wire.events import (
    END,
    NEED_DATA,
    PAUSED,
    AppError,
    Data,
    Limits,
    Pause,
    PeerGone,
    RemoteError,
    Request,
    UpgradeRequired,
)
from monoceros.wire.h1 import H1Connection
from monoceros.wire.messages import Message
from monoceros.wire.response import Defaults, refusal
from monoceros.wire.ws import ClosedByPeer, Handshake, WSConnection
from wire.corpus import feeds

DEFAULTS = Defaults(lambda: 0)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3, with its answer
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HANDSHAKE = {
    b"Host": b"a",
    b"Connection": b"Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}
DEFLATE: dict[bytes, bytes | None] = {b"Sec-WebSocket-Extensions": b"permessage-deflate; client_max_window_bits"}

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def asking(
    changes: dict[bytes, bytes | None] | None = None, *lines: bytes, first: bytes = b"GET /chat?x=1 HTTP/1.1"
) -> Request:
    """A request for WebSocket, with some fields changed, left out (None) or added as lines."""
    fields = HANDSHAKE | (changes or {})
    head = [first, *(b"%b: %b" % (name, value) for name, value in fields.items() if value is not None), *lines]
    connection = H1Connection(Limits(), DEFAULTS)
    connection.receive_data(b"\r\n".join(head) + b"\r\n\r\n")
    request = connection.next_event()
    assert isinstance(request, Request)
    return request


def shake(
    changes: dict[bytes, bytes | None] | None = None, *lines: bytes, deflate: bool = False, max_size: int = 1 << 24
) -> Handshake:
    return Handshake(asking(changes, *lines), deflate=deflate, max_size=max_size)


def opened(*, deflate: bool = False, max_size: int = 1 << 24) -> WSConnection:
    handshake = shake(DEFLATE if deflate else None, deflate=deflate, max_size=max_size)
    return handshake.accept(None, (), DEFAULTS)[1]


def frame(
    opcode: int, content: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\x37\xfa\x21\x3d"
) -> bytes:
    """A frame as a client sends it (RFC 6455 §5.2), or one that it should not."""
    first, size = fin << 7 | rsv << 4 | opcode, len(content)
    masked = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return head + content
    whole = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(content, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """What a server has sent, as opcodes and contents. Fails for frames that a server must not send."""
    found = []
    while data:
        first, size = data[0], data[1]
        assert first & 0xB0 == 0x80, "not whole, or with reserved bits"
        at = 2
        if size == 126:
            (size,), at = struct.unpack_from("!H", data, 2), 4
        elif size == 127:
            (size,), at = struct.unpack_from("!Q", data, 2), 10
        assert size < 1 << 32, "masked"
        found.append((first & 0x4F, data[at : at + size]))
        data = data[at + size :]
    return found


def drain(connection: WSConnection) -> Iterator[Message | ClosedByPeer]:
    while (event := connection.next_event()) is not NEED_DATA:
        if not isinstance(event, Pause):  # in a flood others have a turn in between
            yield event


def heard(connection: WSConnection, chunks: Iterable[bytes]) -> list[object]:
    """What comes of these chunks: the messages as they are, and the end as (code, reason)."""
    seen: list[object] = []
    for chunk in chunks:
        connection.receive_data(chunk)
        seen += [event.data if isinstance(event, Message) else tuple(event) for event in drain(connection)]
    return seen


def every_feed(data: bytes, *, deflate: bool = False, max_size: int = 1 << 24) -> tuple[list[object], bytes]:
    """What comes of the bytes, and what is answered: the same, however they are cut."""
    results = []
    for how, chunks in feeds(data, every_split_up_to=60):
        connection = opened(deflate=deflate, max_size=max_size)
        results.append((heard(connection, chunks), connection.outgoing(), connection.must_close_tcp))
        assert results[-1] == results[0], how
    return results[0][:2]


# The handshake


def test_the_library_is_imported_by_the_first_handshake_only() -> None:
    code = (
        "import sys, monoceros.wire.ws as ws; assert ws.available(); print([m for m in sys.modules if 'websock' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ws.available()
    monkeypatch.setitem(sys.modules, "websockets", None)
    assert not ws.available()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {b"Connection": b"keep-alive, Upgrade"},
        {b"Connection": b"upgrade"},
        {b"Upgrade": b"WebSocket"},
        {b"Content-Length": b"0"},
        {b"Sec-WebSocket-Key": None},  # it wants to, and will be told what is missing
    ],
)
def test_wanted(changes: dict[bytes, bytes | None]) -> None:
    assert ws.wants(asking(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {b"Connection": None},
        {b"Connection": b"close"},
        {b"Connection": b"keep-alive"},
        {b"Upgrade": None},
        {b"Upgrade": b"h2c"},
        {b"Upgrade": b"h2c, websocket"},
        {b"Content-Length": b"5"},
        {b"Transfer-Encoding": b"chunked"},
    ],
)
def test_not_wanted(changes: dict[bytes, bytes | None]) -> None:
    assert not ws.wants(asking(changes))


@pytest.mark.parametrize("first", [b"POST / HTTP/1.1", b"HEAD / HTTP/1.1", b"GET / HTTP/1.0"])
def test_not_wanted_by_the_request_line(first: bytes) -> None:
    assert not ws.wants(asking(first=first))


def test_head_of_the_101() -> None:
    head, connection = shake().accept(None, [(b"X-A", b"1"), (b"X-A", b" 2 ")], DEFAULTS)
    assert head == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nX-A: 1\r\nX-A: 2\r\n"
        b"Server: monoceros\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
    )
    assert connection.outgoing() == b""
    assert connection.next_event() is NEED_DATA
    assert not connection.closing
    assert not connection.closed
    assert not connection.must_close_tcp


def test_an_application_that_says_server_and_date_itself() -> None:
    head, _ = shake().accept(None, [(b"server", b"mine"), (b"date", b"today")], DEFAULTS)
    assert head.endswith(b"\r\nserver: mine\r\ndate: today\r\n\r\n")
    assert head.lower().count(b"server:") == head.lower().count(b"date:") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({b"Sec-WebSocket-Key": None}, "missing Sec-WebSocket-Key"),
        ({b"Sec-WebSocket-Key": b"short"}, "invalid Sec-WebSocket-Key"),
        ({b"Sec-WebSocket-Key": base64.b64encode(b"x" * 15)}, "invalid Sec-WebSocket-Key"),
        ({b"Sec-WebSocket-Key": base64.b64encode(b"x" * 17)}, "invalid Sec-WebSocket-Key"),
        ({b"Sec-WebSocket-Key": b"\xe9" * 24}, "invalid Sec-WebSocket-Key"),
        ({b"Sec-WebSocket-Key": KEY.replace(b"d", b" ")}, "invalid Sec-WebSocket-Key"),
        ({b"Sec-WebSocket-Version": None}, "missing Sec-WebSocket-Version"),
        ({b"Sec-WebSocket-Protocol": b"a b"}, "invalid Sec-WebSocket-Protocol"),
        ({b"Sec-WebSocket-Protocol": b"a,(b)"}, "invalid Sec-WebSocket-Protocol"),
        ({b"Sec-WebSocket-Protocol": b""}, "invalid Sec-WebSocket-Protocol"),
        ({b"Sec-WebSocket-Extensions": b"permessage-deflate;;"}, "invalid Sec-WebSocket-Extensions"),
        ({b"Sec-WebSocket-Extensions": b'permessage-deflate; x="a b"'}, "invalid Sec-WebSocket-Extensions"),
    ],
)
def test_bad_handshake(changes: dict[bytes, bytes | None], words: str) -> None:
    with pytest.raises(RemoteError, match=words) as refused:
        shake(changes, deflate=True)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "line",
    [
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13",
        b"Upgrade: websocket",
        b"Origin: https://b",
    ],
)
def test_what_may_come_once_comes_twice(line: bytes) -> None:
    with pytest.raises(RemoteError) as refused:
        shake({b"Origin": b"https://a"}, line)
    assert refused.value.status == 400


@pytest.mark.parametrize("version", [b"8", b"0", b"14", b"13, 8", b"013", b""])
def test_another_version(version: bytes) -> None:
    with pytest.raises(UpgradeRequired, match="Sec-WebSocket-Version"):
        shake({b"Sec-WebSocket-Version": version})


def test_answer_to_another_version() -> None:
    """RFC 6455 §4.4, RFC 9110 §15.5.22: what we do speak."""
    response, body = refusal(UpgradeRequired.status)
    connection = H1Connection(Limits(), DEFAULTS)
    lines = (connection.send(response) + connection.send(Data(body)) + connection.send(END)).split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 426 Upgrade Required"
    assert {b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Connection: upgrade"} <= set(lines)
    assert b"Sec-WebSocket-Version: 13" not in connection_lines(400)


def connection_lines(status: int) -> list[bytes]:
    return refusal(status)[0].raw.split(b"\r\n")


def test_what_a_client_sends_is_cut_short_in_the_log() -> None:
    with pytest.raises(RemoteError) as refused:
        shake({b"Sec-WebSocket-Key": b"x" * 4000})
    assert len(str(refused.value)) <= 200


# Subprotocols and fields of the application


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        ([], []),
        ([b"chat"], ["chat"]),
        ([b"chat, superchat ,v1.a+b"], ["chat", "superchat", "v1.a+b"]),
        ([b"chat", b"superchat,Chat"], ["chat", "superchat", "Chat"]),
        ([b",chat,,superchat,"], ["chat", "superchat"]),
    ],
)
def test_subprotocols(lines: list[bytes], offered: list[str]) -> None:
    handshake = shake(None, *(b"Sec-WebSocket-Protocol: " + line for line in lines))
    assert handshake.subprotocols == offered
    for each in offered:
        head, _ = shake(None, *(b"Sec-WebSocket-Protocol: " + line for line in lines)).accept(each, (), DEFAULTS)
        assert b"\r\nSec-WebSocket-Protocol: %b\r\n" % each.encode() in head
    assert b"sec-websocket-protocol" not in handshake.accept(None, (), DEFAULTS)[0].lower()


@pytest.mark.parametrize("chosen", ["Chat", "other", "", "chat, superchat", "\u20ac", "chat\r\nX: y"])
def test_a_subprotocol_that_was_not_offered(chosen: str) -> None:
    with pytest.raises(AppError, match="has not offered"):
        shake({b"Sec-WebSocket-Protocol": b"chat, superchat"}).accept(chosen, (), DEFAULTS)


@pytest.mark.parametrize(
    "name",
    [
        b"Sec-WebSocket-Protocol",
        b"sec-websocket-accept",
        b"SEC-WEBSOCKET-EXTENSIONS",
        b"Connection",
        b"upgrade",
        b"Content-Length",
        b"Transfer-Encoding",
    ],
)
def test_fields_that_are_not_the_applications(name: bytes) -> None:
    with pytest.raises(AppError, match="not a header that an application may send"):
        shake().accept(None, [(name, b"1")], DEFAULTS)


@pytest.mark.parametrize("field", [(b"X", b"a\r\nY: b"), (b"X", b"\0"), (b"X Y", b"a"), (b"", b"a"), (b"X\r\nY", b"a")])
def test_fields_that_would_break_the_head(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(AppError, match="header"):
        shake().accept(None, [field], DEFAULTS)


# Framing (Autobahn 1)


SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 65537]


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_every_length_form(size: int) -> None:
    assert every_feed(frame(TEXT, b"*" * size)) == (["*" * size], b"")
    assert every_feed(frame(BINARY, b"\xfe" * size)) == ([b"\xfe" * size], b"")


@pytest.mark.parametrize("size", SIZES)
def test_messages_that_we_send(size: int) -> None:
    connection = opened()
    connection.send("*" * size)
    connection.send(b"\xfe" * size)
    assert answers(connection.outgoing()) == [(TEXT, b"*" * size), (BINARY, b"\xfe" * size)]
    assert connection.outgoing() == b""


def test_types_of_messages() -> None:
    (text, data), _ = every_feed(frame(TEXT, b"a") + frame(BINARY, b"a"))
    assert type(text) is str
    assert type(data) is bytes


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\2\3\4"])
def test_every_mask(mask: bytes) -> None:
    assert every_feed(frame(TEXT, b"hello", mask=mask))[0] == ["hello"]


def test_many_messages_in_one_packet() -> None:
    data = b"".join(frame(TEXT, b"%d" % i) for i in range(2000))
    assert every_feed(data) == ([str(i) for i in range(2000)], b"")


def failed(code: int, words: str, seen: list[object], answered: bytes) -> None:
    """The connection was failed by us (RFC 6455 §7.1.7): the application is told, and so is the peer."""
    assert len(seen) == 1, seen
    (told,) = seen
    assert isinstance(told, tuple)
    assert told[0] == code
    assert re.search(words, told[1]), told
    assert answers(answered) == [(CLOSE, struct.pack("!H", code) + told[1].encode())]


WHOLE = frame(TEXT, b"never seen")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        # RFC 6455 §5.1: a client masks what it sends
        (frame(TEXT, b"hello", mask=None), "masking"),
        (frame(TEXT, mask=None), "masking"),
        (frame(PING, b"hello", mask=None), "masking"),
        (frame(CLOSE, mask=None), "masking"),
        # Reserved bits (Autobahn 3)
        *[(frame(TEXT, b"hello", rsv=rsv), "reserved bits") for rsv in range(1, 8)],
        *[(frame(opcode, rsv=rsv), "reserved bits") for opcode in (PING, CLOSE) for rsv in (1, 2, 4)],
        # Reserved opcodes (Autobahn 4)
        *[(frame(opcode, b"hello"), "invalid opcode") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        # Control frames are short and whole (RFC 6455 §5.5; Autobahn 2.5, 5.1, 5.2)
        (frame(PING, b"*" * 126), "control frame too long"),
        (frame(PONG, b"*" * 65536), "control frame too long"),
        (frame(CLOSE, b"\x03\xe8" + b"*" * 124), "control frame too long"),
        (frame(PING, b"a", fin=False), "fragmented control frame"),
        (frame(PONG, b"a", fin=False), "fragmented control frame"),
        (frame(CLOSE, fin=False), "fragmented control frame"),
        # Continuations of nothing, and beginnings in the middle (Autobahn 5.9 to 5.18)
        (frame(CONT, b"a"), "unexpected continuation"),
        (frame(CONT, b"a", fin=False), "unexpected continuation"),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), "expected a continuation"),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b", fin=False), "expected a continuation"),
        (frame(BINARY, b"a", fin=False) + frame(TEXT, b"b"), "expected a continuation"),
        (frame(BINARY, fin=False) + frame(BINARY), "expected a continuation"),
        # Close frames (Autobahn 7.3, 7.9)
        (frame(CLOSE, b"\3"), "too short"),
        *[
            (closing(code), "invalid status code")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ],
    ],
)
def test_broken_protocol(data: bytes, words: str) -> None:
    failed(1002, words, *every_feed(data + WHOLE))


def test_what_came_before_is_not_lost() -> None:
    seen, answered = every_feed(frame(TEXT, b"one") + frame(PING, b"two") + frame(TEXT, b"three", rsv=4) + WHOLE)
    assert seen == ["one", (1002, "reserved bits must be 0")]
    assert [opcode for opcode, _ in answers(answered)] == [PONG, CLOSE]


# Pings and pongs (Autobahn 2)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0\xff\xfe", b"\xfe" * 125])
def test_ping(content: bytes) -> None:
    seen, answered = every_feed(frame(PING, content))
    assert seen == []
    assert answers(answered) == [(PONG, content)]


def test_pings_are_answered_in_order() -> None:
    _, answered = every_feed(b"".join(frame(PING, b"%d" % i) for i in range(10)))
    assert answers(answered) == [(PONG, b"%d" % i) for i in range(10)]


def test_pongs_that_nobody_asked_for() -> None:
    assert every_feed(frame(PONG) + frame(PONG, b"hello") + frame(TEXT, b"a")) == (["a"], b"")


def test_our_ping_and_its_pong() -> None:
    connection = opened()
    connection.ping(b"1")
    assert answers(connection.outgoing()) == [(PING, b"1")]
    assert connection.latest_pong is None
    heard(connection, [frame(PONG, b"0")])
    assert connection.latest_pong == b"0"
    heard(connection, [frame(PONG, b"1")])
    assert connection.latest_pong == b"1"


def test_a_flood_of_pings_costs_what_it_answers() -> None:
    connection = opened()
    flood = frame(PING) * 5_000
    tracemalloc.start()
    connection.receive_data(flood)
    assert list(drain(connection)) == []
    held, _ = tracemalloc.get_traced_memory()
    assert held < 500_000
    assert len(connection.outgoing()) == 2 * 5_000
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 50_000, "nothing is left when it was drained"


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_in_a_flood_of_control_frames_others_have_a_turn(opcode: int) -> None:
    connection = opened()
    connection.receive_data(frame(opcode) * 5_000 + frame(TEXT, b"behind") * 2)
    turns = 0
    while (event := connection.next_event()) is PAUSED:
        turns += 1
    assert turns > 50
    assert event == Message("behind")
    assert connection.next_event() == Message("behind")
    assert connection.next_event() is NEED_DATA
    connection.receive_data(frame(BINARY, b"x" * 100_000))
    assert next(drain(connection)) == Message(b"x" * 100_000)


# Fragments (Autobahn 5)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"hello", b""],
        [b"", b"hello"],
        [b"", b"", b""],
        [b"hel", b"lo"],
        [b"h", b"e", b"l", b"l", b"o"],
        ["hell\u00f6 \u20ac \U0001f984".encode()[i : i + 1] for i in range(15)],
    ],
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("between", [b"", frame(PING, b"p"), frame(PONG)])
def test_fragments(pieces: list[bytes], opcode: int, between: bytes) -> None:
    frames = [frame(CONT if i else opcode, piece, fin=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    whole = b"".join(pieces)
    seen, answered = every_feed(between.join(frames) + frame(TEXT, b"next"))
    assert seen == [whole.decode() if opcode == TEXT else whole, "next"]
    assert {opcode for opcode, _ in answers(answered)} == ({PONG} if between[:1] == b"\x89" else set())


def test_fragments_without_content_cost_nothing() -> None:
    connection = opened()
    heard(connection, [frame(TEXT, fin=False)])
    tracemalloc.start()
    for _ in range(10):
        assert heard(connection, [frame(CONT, fin=False) * 1000]) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000
    assert heard(connection, [frame(CONT, b"end")]) == ["end"]


def test_small_fragments_of_a_text_cost_little_more_than_the_text() -> None:
    connection = opened()
    connection.receive_data(frame(TEXT, fin=False))
    some = frame(CONT, "\u20ac".encode(), fin=False) * 1000
    tracemalloc.start()
    for _ in range(10):
        assert heard(connection, [some]) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * 10_000 * 2
    assert heard(connection, [frame(CONT)]) == ["\u20ac" * 10_000]


# UTF-8 (Autobahn 6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\u03ba\u1f79\u03c3\u03bc\u03b5",
        "\0",
        "\x7f\x80",
        "\u07ff\u0800",
        "\ufffd\ufffe\uffff",
        "\U00010000\U0010ffff",
    ],
)
def test_texts(text: str) -> None:
    assert every_feed(frame(TEXT, text.encode())) == ([text], b"")
    connection = opened()
    connection.send(text)
    assert answers(connection.outgoing()) == [(TEXT, text.encode())]


@pytest.mark.parametrize(
    "content",
    [
        b"\x80",
        b"\xbf\xbf",
        b"\xc3",
        b"\xc0\xaf",  # overlong
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",  # a surrogate
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xf8\x88\x80\x80\x80",
        b"\xfe",
        b"\xff",
        b"good until here \xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    ],
)
def test_text_that_is_not_utf8(content: bytes) -> None:
    """Even with a close frame behind it in the same packet: what comes first decides."""
    failed(1007, "", *every_feed(frame(TEXT, content) + WHOLE + closing(1000)))
    pieces = frame(TEXT, content[:1], fin=False) + frame(CONT, content[1:])
    failed(1007, "", *every_feed(pieces + WHOLE + closing(1000)))
    assert every_feed(frame(BINARY, content)) == ([content], b"")


def test_text_that_is_not_utf8_is_not_awaited_to_its_end() -> None:
    failed(1007, "", *every_feed(frame(TEXT, b"ok \xff", fin=False)))


def test_text_that_we_cannot_send() -> None:
    connection = opened()
    with pytest.raises(AppError, match="not Unicode"):
        connection.send("secret \ud800")
    assert connection.outgoing() == b""


# The end (Autobahn 7)


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_peer_closes(code: int) -> None:
    seen, answered = every_feed(closing(code, b"bye \xe2\x82\xac") + WHOLE)
    assert seen == [(code, "bye \u20ac")]
    assert answers(answered) == [(CLOSE, struct.pack("!H", code) + b"bye \xe2\x82\xac")]


def test_peer_closes_without_a_code() -> None:
    seen, answered = every_feed(frame(CLOSE) + frame(PING))
    assert seen == [(1005, "")]
    assert answers(answered) == [(CLOSE, b"")]


def test_longest_reason() -> None:
    assert every_feed(closing(1000, b"*" * 123))[0] == [(1000, "*" * 123)]


def test_reason_that_is_not_utf8() -> None:
    failed(1007, "", *every_feed(closing(1000, b"\xce\xba\xed\xa0\x80") + WHOLE))


def test_peer_closes_in_the_middle_of_a_message() -> None:
    """The library takes that for an error; its code is what the peer has said, nevertheless (RFC 6455 §7.1.5)."""
    seen, answered = every_feed(frame(TEXT, b"a", fin=False) + closing(1001))
    assert seen == [(1001, "")]
    assert answers(answered)[0][1][:2] == struct.pack("!H", 1002)


@pytest.mark.parametrize(
    "begun", [b"", frame(TEXT, b"hello")[:-1], frame(TEXT, b"a", fin=False), b"\x81", b"\x81\xff\0"]
)
def test_end_without_a_close_frame(begun: bytes) -> None:
    connection = opened()
    assert heard(connection, [begun, b""] if begun else [b""]) == [(1006, "")]
    assert connection.closed
    assert connection.must_close_tcp
    assert not connection.closing
    assert connection.outgoing() == b""


def test_the_end_is_told_once() -> None:
    connection = opened()
    assert heard(connection, [closing(1000), WHOLE, b"\xff" * 1000, b"", b""]) == [(1000, "")]
    assert connection.next_event() is NEED_DATA


def test_peer_closes_first() -> None:
    connection = opened()
    connection.receive_data(frame(TEXT, b"last words") + closing(1000))
    assert connection.next_event() == Message("last words")
    assert connection.closing, "the library has answered"
    assert not connection.closed, "there is something to hand out"
    assert not connection.must_close_tcp
    with pytest.raises(PeerGone):
        connection.send("too late")
    connection.close(1000, "too late, too")
    connection.ping()
    assert answers(connection.outgoing()) == [(CLOSE, b"\x03\xe8")]
    assert connection.next_event() == ClosedByPeer(1000, "")
    assert connection.closed
    assert connection.must_close_tcp


def test_we_close_first() -> None:
    connection = opened()
    connection.close(1001, "going \u20ac")
    assert connection.closing
    assert not connection.closed
    assert not connection.must_close_tcp
    assert answers(connection.outgoing()) == [(CLOSE, b"\x03\xe9going \xe2\x82\xac")]
    with pytest.raises(AppError, match="after the close"):
        connection.send("too late")
    connection.close(1000)
    connection.ping()
    # RFC 6455 §5.5.1: until its own close frame, the peer may still send.
    assert heard(connection, [frame(TEXT, b"on its way"), frame(PING, b"p")]) == ["on its way"]
    assert answers(connection.outgoing()) == [(PONG, b"p")]
    assert heard(connection, [closing(1001), b""]) == [(1001, "")]
    assert connection.closed
    assert connection.must_close_tcp
    assert connection.outgoing() == b""


@pytest.mark.parametrize("rest", [b"", frame(TEXT, b"x", rsv=7), frame(TEXT, b"\xff")])
def test_no_close_frame_answers_ours(rest: bytes) -> None:
    """Gone, or broken: no close frame has come, and the code is not that of ours."""
    connection = opened()
    connection.close(1000)
    connection.outgoing()
    assert heard(connection, [rest]) == [(1006, "")]
    assert connection.outgoing() == b""
    assert connection.must_close_tcp


def test_close_without_arguments_is_a_normal_one() -> None:
    connection = opened()
    connection.close()
    assert answers(connection.outgoing()) == [(CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_codes_that_we_send(code: int) -> None:
    connection = opened()
    connection.close(code, "*" * 123)
    assert answers(connection.outgoing()) == [(CLOSE, struct.pack("!H", code) + b"*" * 123)]


@pytest.mark.parametrize("code", [-1, 0, 200, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000])
def test_codes_that_may_not_be_sent(code: int) -> None:
    connection = opened()
    with pytest.raises(AppError, match=f"^{code} is not a close code"):
        connection.close(code)
    assert not connection.closing
    assert connection.outgoing() == b""


@pytest.mark.parametrize("reason", ["*" * 124, "\u20ac" * 42, "\ud800"])
def test_reasons_that_may_not_be_sent(reason: str) -> None:
    connection = opened()
    with pytest.raises(AppError, match="reason"):
        connection.close(1000, reason)
    assert not connection.closing


# Limits (Autobahn 9), and the exact limit


LIMIT = 1000


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    "frames",
    [
        frame(BINARY, b"*" * LIMIT),
        frame(BINARY, b"*" * 500, fin=False) + frame(CONT, b"*" * 500),
        frame(BINARY, b"*" * LIMIT, fin=False) + frame(PING, b"p" * 125) + frame(CONT),
    ],
)
def test_just_within_the_limit(frames: bytes, deflate: bool) -> None:
    """A ping in the middle does not count, even if nothing more would fit."""
    seen, answered = every_feed(frames + frame(TEXT, b"next"), deflate=deflate, max_size=LIMIT)
    assert seen == [b"*" * LIMIT, "next"]
    assert {opcode for opcode, _ in answers(answered)} <= {PONG}


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    "frames",
    [
        frame(BINARY, b"*" * (LIMIT + 1)),
        frame(TEXT, b"*" * (LIMIT + 1)),
        frame(BINARY, b"*" * 500, fin=False) + frame(CONT, b"*" * 501),
        frame(BINARY, b"*" * LIMIT, fin=False) + frame(CONT, b"*", fin=False),
        b"\x82\xff" + struct.pack("!Q", 1 << 20),  # refused for its length, before any of it has come
        b"\x82\xff" + b"\xff" * 8,
        b"\x89\xff" + struct.pack("!Q", 1 << 40),
    ],
)
def test_over_the_limit(frames: bytes, deflate: bool) -> None:
    failed(1009, "exceeds limit", *every_feed(frames + WHOLE, deflate=deflate, max_size=LIMIT))


def test_no_limit() -> None:
    connection = opened(max_size=0)
    assert heard(connection, [frame(BINARY, bytes(1 << 20))]) == [bytes(1 << 20)]


def test_what_is_not_asked_for_is_not_unpacked() -> None:
    """A caller that stops asking for events is not overrun by what it has read."""
    connection = opened(deflate=True)
    connection.receive_data(frame(BINARY, deflate(b"*" * 100_000), rsv=4) * 300)
    tracemalloc.start()
    assert next(drain(connection)) == Message(b"*" * 100_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 5_000_000  # of 30 MB
    assert len(list(drain(connection))) == 299


# Compression (Autobahn 12 and 13), by a real client's core


class Client:
    """The other side of a connection: the client of the same library, and our wire, without a network."""

    def __init__(self, *, deflate: bool = True, max_size: int = 1 << 24, **params: Any) -> None:
        extensions = [ClientPerMessageDeflateFactory(**(params or {"client_max_window_bits": True}))]
        self.core = ClientProtocol(parse_uri("ws://a/"), extensions=extensions if deflate else None, max_size=None)
        wire = H1Connection(Limits(), DEFAULTS)
        self.core.send_request(self.core.connect())
        wire.receive_data(b"".join(self.core.data_to_send()))
        request = wire.next_event()
        assert isinstance(request, Request)
        assert ws.wants(request)
        self.head, self.server = Handshake(request, deflate=deflate, max_size=max_size).accept(None, (), DEFAULTS)
        self.core.receive_data(self.head)
        (answer,) = self.core.events_received()
        assert isinstance(answer, Answer)
        assert self.core.handshake_exc is None

    def to_server(self) -> list[object]:
        return heard(self.server, [b"".join(self.core.data_to_send())])

    def to_client(self) -> list[bytes]:
        self.core.receive_data(self.server.outgoing())
        return [bytes(event.data) for event in self.core.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 2043, 2044, 65536, 1 << 20])
def test_with_a_real_client(deflate: bool, size: int) -> None:
    client = Client(deflate=deflate)
    assert (b"permessage-deflate" in client.head) is deflate
    text = "\u20ac" * (size // 3)
    for _ in range(2):  # the second time with a window full of the first
        client.core.send_text(text.encode())
        client.core.send_binary(bytes(size))
        assert client.to_server() == [text, bytes(size)]
        client.server.send(text)
        client.server.send(bytes(size))
        assert client.to_client() == [text.encode(), bytes(size)]
    client.core.send_close(1000, "bye")
    assert client.to_server() == [(1000, "bye")]
    client.to_client()
    assert client.core.close_rcvd == client.core.close_sent


@pytest.mark.parametrize(
    "params",
    [
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        {"server_max_window_bits": 9},
        {"client_max_window_bits": 9},
        {"client_max_window_bits": None},
        {"server_no_context_takeover": True, "client_no_context_takeover": True, "server_max_window_bits": 15},
    ],
)
def test_every_way_to_compress(params: dict[str, Any]) -> None:
    client = Client(**params)
    assert b"permessage-deflate" in client.head
    for _ in range(3):
        client.core.send_text(b"so " * 5000, fin=False)
        client.core.send_ping(b"p")
        client.core.send_continuation(b"what", fin=True)
        assert client.to_server() == ["so " * 5000 + "what"]
        client.server.send("so " * 5000)
        assert client.to_client() == [b"p", b"so " * 5000]


def test_compression_is_not_forced_on_anyone() -> None:
    assert b"extensions" not in shake(deflate=True).accept(None, (), DEFAULTS)[0].lower()
    offer: dict[bytes, bytes | None] = {b"Sec-WebSocket-Extensions": b"permessage-deflate; unknown_parameter, x-other"}
    assert b"extensions" not in shake(offer, deflate=True).accept(None, (), DEFAULTS)[0].lower()
    assert b"extensions" not in shake(DEFLATE, deflate=False).accept(None, (), DEFAULTS)[0].lower()


def deflate(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """RFC 7692 §7.2.1."""
    packer = zlib.compressobj(wbits=-12)
    return (packer.compress(data) + packer.flush(flush)).removesuffix(b"\0\0\xff\xff")


def test_compressed_and_not_in_turn() -> None:
    packed = deflate(b"hello")
    data = frame(TEXT, packed, rsv=4) + frame(TEXT, b"plain") + frame(BINARY, b"")
    assert every_feed(data, deflate=True) == (["hello", "plain", b""], b"")


def test_compressed_fragments() -> None:
    packed = deflate("hell\u00f6".encode())
    pieces = [frame(CONT if i else TEXT, packed[i : i + 1], rsv=0 if i else 4, fin=False) for i in range(len(packed))]
    data = frame(PING, b"p").join(pieces) + frame(CONT)
    assert every_feed(data + frame(TEXT, b"next"), deflate=True)[0] == ["hell\u00f6", "next"]


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (frame(TEXT, b"\xff\xff\xff", rsv=4), 1002, "decompression failed"),
        (frame(TEXT, b"", rsv=2), 1002, "reserved bits"),
        (frame(PING, b"", rsv=4), 1002, "reserved bits"),
        (frame(TEXT, deflate(b"a"), rsv=4, fin=False) + frame(CONT, b"", rsv=4), 1002, "RSV1"),
        (frame(TEXT, deflate(b"\xff"), rsv=4), 1007, ""),
        (frame(TEXT, deflate(b"a" * 1_000_000), rsv=4), 1009, "exceeds limit"),
        (frame(TEXT, deflate(b"a" * (LIMIT + 1)), rsv=4), 1009, "exceeds limit"),
        (
            frame(TEXT, deflate(b"a" * LIMIT) + b"\0\0\xff\xff", rsv=4, fin=False) + frame(CONT, deflate(b"a")),
            1009,
            "exceeds limit",
        ),
    ],
)
def test_broken_compression_and_bombs(data: bytes, code: int, words: str) -> None:
    failed(code, words, *every_feed(data + WHOLE, deflate=True, max_size=LIMIT))


def test_a_bomb_is_not_unpacked() -> None:
    connection = opened(deflate=True, max_size=100_000)
    bomb = frame(BINARY, deflate(bytes(50_000_000)), rsv=4)
    tracemalloc.start()
    (told,) = heard(connection, [bomb])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(told, tuple)
    assert told[0] == 1009
    assert peak < 1_000_000


def test_the_end_of_the_compressed_stream() -> None:
    """zlib would keep all that follows as unused, for as long as the connection lives."""
    last = frame(TEXT, deflate(b"hello", zlib.Z_FINISH) + b"\0", rsv=4)
    failed(1002, "end of the compressed stream", *every_feed(last + WHOLE, deflate=True))


def test_the_end_of_a_compressed_message_of_its_own() -> None:
    """Without a common context each message is a stream, and may say so."""
    offer: dict[bytes, bytes | None] = {b"Sec-WebSocket-Extensions": b"permessage-deflate; client_no_context_takeover"}
    packed = deflate(b"hello", zlib.Z_FINISH) + b"\0"
    connection = shake(offer, deflate=True).accept(None, (), DEFAULTS)[1]
    assert heard(connection, [frame(TEXT, packed, rsv=4) * 3]) == ["hello"] * 3
    begun = frame(TEXT, packed, rsv=4, fin=False) + frame(CONT, b"*" * 100, fin=False)
    assert heard(connection, [begun]) == [(1002, "end of the compressed stream")]


# What nobody has thought of


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=12), st.booleans())
def test_random_bytes(chunks: list[bytes], deflate: bool) -> None:
    """Whatever comes, it is events, and the last of them an end; and whatever we answer, it is frames."""
    connection = opened(deflate=deflate, max_size=LIMIT)
    seen = heard(connection, [*chunks, b""])
    assert isinstance(seen[-1], tuple)
    assert not any(isinstance(each, tuple) for each in seen[:-1])
    assert connection.must_close_tcp
    answers(connection.outgoing())


FRAMES = st.builds(
    frame,
    st.sampled_from([CONT, TEXT, BINARY, CLOSE, PING, PONG, 3, 15]),
    st.one_of(st.binary(max_size=130), st.text(max_size=20).map(str.encode), st.binary(max_size=300).map(deflate)),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 4, 2]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=8), st.integers(1, 50), st.booleans())
def test_random_frames(frames: list[bytes], size: int, deflate: bool) -> None:
    """The same events and answers, however the packets are cut."""
    data = b"".join(frames)
    whole, cut = (opened(deflate=deflate, max_size=LIMIT) for _ in range(2))
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    assert heard(whole, [data, b""] if data else [b""]) == heard(cut, [*pieces, b""])
    assert whole.outgoing() == cut.outgoing()


HEADER = st.binary(max_size=30).filter(lambda value: not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value))


@settings(max_examples=200, deadline=None)
@given(HEADER, HEADER, HEADER, HEADER)
def test_random_handshakes(key: bytes, version: bytes, subprotocols: bytes, extensions: bytes) -> None:
    changes: dict[bytes, bytes | None] = {
        b"Sec-WebSocket-Key": key or KEY,
        b"Sec-WebSocket-Version": version or b"13",
        b"Sec-WebSocket-Protocol": subprotocols or None,
        b"Sec-WebSocket-Extensions": extensions or None,
    }
    request = asking(changes)
    with contextlib.suppress(RemoteError):
        Handshake(request, deflate=True, max_size=LIMIT).accept(None, (), DEFAULTS)


def test_opcodes_are_the_librarys() -> None:
    ours = [messages.CONTINUATION, messages.TEXT, messages.CLOSE, messages.PONG]
    assert ours == [Opcode.CONT, Opcode.TEXT, Opcode.CLOSE, Opcode.PONG]
