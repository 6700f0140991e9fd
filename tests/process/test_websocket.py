"""WebSocket on the real server: messages, handshakes and limits, by a real client and by a rude one."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from process.apps import asgi, make_gate, open_gate, rss
from process.load import Broken
from server import Server, wait_for

Serve = Callable[..., Server]

MIB = 1 << 20
LOOPS = pytest.mark.parametrize("loop", ["auto", "asyncio"])

MORE = """
async def accept(receive, send, **more):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", **more})

async def at_echo(scope, receive, send):
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    say("closed", message["code"], message["reason"])

async def at_late(scope, receive, send):
    await receive()
    waiting = asyncio.ensure_future(gate())
    await asyncio.sleep(0)
    say("at the gate")
    await waiting
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})

async def at_deaf(scope, receive, send):
    await accept(receive, send)
    waiting = asyncio.ensure_future(gate())
    await asyncio.sleep(0)
    say("deaf")
    await waiting
    size = 0
    while (message := await receive())["type"] == "websocket.receive":
        size += len(message["bytes"])
    say("got", size)

sent = 0

async def at_flood(scope, receive, send):
    global sent
    await accept(receive, send)
    try:
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 65536})
            sent += 65536
    except OSError:
        say("send raised")

async def at_sent(scope, receive, send):
    await answer(send, sent)

async def at_scope(scope, receive, send):
    await accept(receive, send, subprotocol=(scope["subprotocols"] or [None])[-1], headers=[(b"x-mine", b"yes")])
    keys = "type", "scheme", "http_version", "path", "raw_path", "query_string", "root_path", "subprotocols"
    await send({"type": "websocket.send", "text": repr([scope[key] for key in keys])})

async def at_unoffered(scope, receive, send):
    await accept(receive, send, subprotocol="surprise")

async def at_kind(scope, receive, send):
    await answer(send, scope["type"])
"""
FILES = asgi(MORE)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
OPENING = (
    "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {version}\r\n{fields}\r\n"
)


class Rude:
    """A client that does only what it is told: `ask` for a WebSocket, `send` and `receive` single frames."""

    def __init__(self, server: Server) -> None:
        self.sock = server.connect()
        self.head = ""
        self._buffer = b""

    def __enter__(self) -> Rude:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, path: str, *fields: str, version: int = 13, behind: bytes = b"") -> Rude:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = "".join(f"{field}\r\n" for field in fields)
        self.sock.sendall(OPENING.format(path=path, key=key, version=version, fields=lines).encode() + behind)
        return self

    def answer(self) -> int:
        """The status, once the head is there."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.head = head.decode()
        return int(self.head.split()[1])

    def open(self, path: str, *fields: str) -> Rude:
        assert self.ask(path, *fields).answer() == 101, self.head
        return self

    def send(self, opcode: int, data: bytes = b"", **bits: bool) -> None:
        self.sock.sendall(frame(opcode, data, **bits))

    def receive(self) -> tuple[int, bytes]:
        """Opcode and content of the next frame."""
        first, size = self.take(2)
        if size > 125:
            size = int.from_bytes(self.take(2 if size == 126 else 8), "big")
        return first & 15, self.take(size)

    def close_code(self) -> int:
        """The code of the next frame, which closes."""
        opcode, data = self.receive()
        assert opcode == CLOSE, (opcode, data[:100])
        return int.from_bytes(data[:2], "big")

    def ended(self) -> bool:
        """Wait for the end: True if nothing came before, and no reset."""
        try:
            return not self._buffer and not self.sock.recv(65536)
        except ConnectionError:
            return False

    def take(self, size: int) -> bytes:
        """So many of the bytes that come next."""
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise Broken(f"the end, after {self._buffer[:100]!r}")
        self._buffer += data


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A frame of a client: RFC 6455 §5.2. The mask is of zeros, which is legal, and leaves the content as it is."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    if len(data) < 126:
        head = struct.pack("!BB", first, 0x80 | len(data))
    elif len(data) < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, len(data))
    return head + b"\0\0\0\0" + data


@contextmanager
def talk(server: Server, path: str, **options: Any) -> Iterator[ClientConnection]:
    """A real client, with a WebSocket that is open."""
    uri = f"ws://127.0.0.1:{server.port}{path}"
    with connect(uri, proxy=None, max_size=None, ping_interval=None, close_timeout=5, **options) as client:
        yield client


# Messages


@pytest.mark.smoke
@LOOPS
def test_echo(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, files=FILES).ready()
    text = "".join(chr(0x20 + n % 3000) for n in range(600_000))[: MIB // 2]
    noise = os.urandom(MIB)
    for compression in ("deflate", None):
        with talk(server, "/echo", compression=compression) as client:
            extensions = client.response.headers.get("Sec-WebSocket-Extensions") if client.response else None
            assert (extensions is not None) == (compression is not None)
            for message in ("", "short", text, b"", b"\xff", noise, b"x" * MIB):
                client.send(message)
                assert client.recv(timeout=10) == message
            client.send([text[:1000], text[1000:2000], ""])  # in fragments
            assert client.recv(timeout=10) == text[:2000]
            for n in range(100):
                client.send(str(n))
            assert [client.recv(timeout=10) for n in range(100)] == list(map(str, range(100)))
    server.expect("closed 1000", times=2)
    assert server.stop() == 0
    assert "ERROR" not in server.stderr


def test_compression_may_be_off(serve: Serve) -> None:
    server = serve("app:app", "--ws-per-message-deflate", "false", files=FILES).ready()
    with talk(server, "/echo", compression="deflate") as client:
        assert client.response
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        client.send("x" * MIB)
        assert client.recv(timeout=5) == "x" * MIB


def test_200_of_them(serve: Serve) -> None:
    """All open at once, in one worker, each with an answer of its own, and nothing stays behind."""
    server = serve("app:app", files=FILES).ready()
    worker = int(server.get("/").text)
    before = rss(worker)

    async def one(n: int, all_open: asyncio.Barrier) -> bool:
        uri = f"ws://127.0.0.1:{server.port}/echo"
        async with connect_async(uri, proxy=None, ping_interval=None, open_timeout=20) as client:
            await all_open.wait()
            await client.send(f"{n} " * 1000)
            return await client.recv() == f"{n} " * 1000

    async def everyone() -> list[bool]:
        all_open = asyncio.Barrier(200)
        return await asyncio.gather(*(one(n, all_open) for n in range(200)))

    assert asyncio.run(everyone()) == [True] * 200
    assert rss(worker) - before < 32 * MIB
    wait_for(lambda: server.get("/tasks").text == "2", what="the tasks to end")
    assert "ERROR" not in server.stderr


def test_http_beside_it(serve: Serve) -> None:
    """One connection after the other, and at the same time."""
    server = serve("app:app", files=FILES).ready()
    with talk(server, "/echo") as client:
        for n in range(5):
            assert server.get("/").status == 200
            client.send(str(n))
            assert client.recv(timeout=5) == str(n)


# Handshakes


def test_what_the_application_is_told(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    with talk(server, "/scope?a=b%20c", subprotocols=[Subprotocol("one"), Subprotocol("two")]) as client:
        assert client.subprotocol == "two"
        assert client.response
        assert client.response.headers["X-Mine"] == "yes"
        assert client.recv(timeout=5) == repr(
            ["websocket", "ws", "1.1", "/scope", b"/scope", b"a=b%20c", "", ["one", "two"]]
        )
    with talk(server, "/scope") as client:
        assert client.subprotocol is None


def test_a_subprotocol_that_was_not_offered(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    with pytest.raises(InvalidStatus) as caught, talk(server, "/unoffered", subprotocols=[Subprotocol("one")]):
        pass
    assert caught.value.response.status_code == 500
    server.expect("the client has not offered the subprotocol 'surprise'")


@LOOPS
def test_frames_before_the_answer(serve: Serve, loop: str) -> None:
    """In the same packet as the request, and while the application thinks about it."""
    server = serve("app:app", "--asgi-loop", loop, files=FILES).ready()
    make_gate(server)
    with Rude(server) as client:
        client.ask("/late", behind=frame(TEXT, b"first") + frame(TEXT, b"sec"[:3])[:4])
        server.expect("at the gate")
        client.sock.sendall(frame(TEXT, b"sec")[4:] + frame(TEXT, b"third"))
        open_gate(server)
        assert client.answer() == 101
        assert [client.receive() for _ in range(3)] == [(TEXT, b"first"), (TEXT, b"sec"), (TEXT, b"third")]


def test_a_version_that_nobody_speaks(serve: Serve) -> None:
    """RFC 6455 §4.2.2: the answer says which one is spoken."""
    server = serve("app:app", files=FILES).ready()
    with Rude(server) as client:
        assert client.ask("/echo", version=8).answer() == 426
        assert "\r\nSec-WebSocket-Version: 13" in client.head
    server.expect(r"\[WARNING\] Invalid request from ip=127\.0\.0\.1: invalid WebSocket handshake")
    assert "Traceback" not in server.stderr


def test_none(serve: Serve) -> None:
    """Without WebSocket a request for it is one like any other: RFC 9110 §7.8 lets a server ignore Upgrade."""
    server = serve("app:app", "--ws", "none", files=FILES).ready()
    with Rude(server) as client:
        assert client.ask("/kind").answer() == 200
        assert client.take(4) == b"http"


def test_without_the_library(serve: Serve, tmp_path: Path) -> None:
    site = "import sys\nsys.modules['websockets'] = None\n"  # as if it were not installed
    files = {**FILES, "site/sitecustomize.py": site}
    server = serve("app:app", files=files, env={"PYTHONPATH": str(tmp_path / "site")}).ready()
    for _ in range(2):
        with Rude(server) as client:
            assert client.ask("/kind").answer() == 200
    server.expect(r"\[WARNING\] A client asks for WebSocket, which needs a library: pip install 'monoceros\[asgi\]'")
    assert server.stderr.count("needs a library") == 1
    assert server.get("/").status == 200


def test_the_library_is_not_imported_before_somebody_wants_it(serve: Serve) -> None:
    more = MORE + "\nasync def at_there(scope, receive, send):\n    await answer(send, 'websockets' in sys.modules)\n"
    server = serve("app:app", files=asgi(more)).ready()
    assert server.get("/there").text == "False"
    with talk(server, "/echo"):
        assert server.get("/there").text == "True"


# Limits


def test_a_message_that_is_too_long(serve: Serve) -> None:
    server = serve("app:app", "--ws-max-size", "1000", files=FILES).ready()
    for compression in ("deflate", None):
        with talk(server, "/echo", compression=compression) as client:
            client.send("x" * 1000)
            assert client.recv(timeout=5) == "x" * 1000
            client.send("x" * 1001)
            assert _closing_code(client) == 1009
    with Rude(server) as rude:
        rude.open("/echo")
        rude.send(TEXT, b"x" * 600, fin=False)
        rude.send(0, b"x" * 401)
        assert rude.close_code() == 1009
    server.expect("closed 1009", times=3)
    assert "ERROR" not in server.stderr


def _closing_code(client: ClientConnection) -> int | None:
    with pytest.raises(Exception, match=r"received \d+|no close frame"):
        client.recv(timeout=5)
    return client.protocol.close_rcvd.code if client.protocol.close_rcvd else None


def test_a_bomb(serve: Serve) -> None:
    """64 MiB of zeros in 64 KiB are refused long before they are unfolded."""
    server = serve("app:app", "--ws-max-size", "1000000", files=FILES).ready()
    worker = int(server.get("/").text)
    with Rude(server) as client:
        client.open("/echo", "Sec-WebSocket-Extensions: permessage-deflate")
        assert "permessage-deflate" in client.head
        before = rss(worker)
        window = int((re.findall(r"client_max_window_bits=(\d+)", client.head) or [15])[0])
        packer = zlib.compressobj(wbits=-window)
        bomb = packer.compress(b"\0" * (64 * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)
        client.send(BINARY, bomb.removesuffix(b"\0\0\xff\xff"), rsv1=True)
        assert client.close_code() == 1009
        assert rss(worker) - before < 12 * MIB
    server.expect("closed 1009")


BROKEN = {
    "invalid UTF-8": (frame(TEXT, b"\xc3\x28"), 1007),
    "in the second fragment": (frame(TEXT, b"\xe2\x82", fin=False) + frame(0, b"("), 1007),
    "opcode": (frame(3, b"x"), 1002),
    "continuation of nothing": (frame(0, b"x"), 1002),
    "ping in fragments": (frame(PING, b"x", fin=False), 1002),
    "compressed, unasked": (frame(TEXT, b"x", rsv1=True), 1002),
    "without a mask": (b"\x81\x01x", 1002),
    "close with 1005": (frame(CLOSE, b"\x03\xed"), 1002),
}


def test_what_is_against_the_rules(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    for what, (sent, code) in BROKEN.items():
        before = len(server.stderr)
        with Rude(server) as client:
            client.open("/echo").sock.sendall(sent)
            assert client.close_code() == code, what
            assert client.ended(), what
        server.expect(f"closed {code}", since=before)
    assert "ERROR" not in server.stderr


# Pressure


@LOOPS
def test_a_slow_reader(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, "--ws-ping-interval", "0", files=FILES).ready()
    worker = int(server.get("/").text)
    before = rss(worker)
    with Rude(server) as client:
        client.open("/flood")
        last = [-1]

        def held() -> bool:
            last.append(int(server.get("/sent").text))
            return last[-1] == last[-2] > 0

        wait_for(held, what="the application to be held up")
        assert last[-1] < 16 * MIB
        assert rss(worker) - before < 8 * MIB
        for _ in range(last[-1] // 65536):
            assert client.receive() == (BINARY, b"x" * 65536)
    server.expect("send raised")


def test_a_fast_sender(serve: Serve) -> None:
    server = serve("app:app", "--ws-ping-interval", "0", files=FILES).ready()
    make_gate(server)
    worker = int(server.get("/").text)
    before = rss(worker)
    with Rude(server) as client:
        client.open("/deaf")
        server.expect("deaf")
        piece = frame(BINARY, b"x" * 10_000) + frame(BINARY, b"") + frame(PING, b"x" * 125)
        client.sock.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent < 64 * MIB:
                sent += client.sock.send(piece[sent % len(piece) :])
        assert sent < 64 * MIB
        assert rss(worker) - before < 8 * MIB
        client.sock.settimeout(5)
        open_gate(server)
        rest = -sent % len(piece)  # of the piece that was begun
        client.sock.sendall(piece[len(piece) - rest :])
        client.sock.shutdown(socket.SHUT_WR)
        server.expect(f"got {(sent + rest) // len(piece) * 10_000}$")
