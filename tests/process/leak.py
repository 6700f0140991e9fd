"""Clients that go away at every stage of a request, thousands of them: does the worker forget them?

As a script it makes 100,000, or as many as it is told to, and prints the memory of the worker every so often:

    PYTHONPATH=tests .venv/bin/python -m process.leak 100000 [--asgi-loop asyncio ...]
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from process.apps import asgi, reset, rss
from server import Server, wait_for

MORE = """
async def at_objects(scope, receive, send):
    import gc
    gc.collect()
    await answer(send, len(gc.get_objects()))

async def at_wait(scope, receive, send):
    await asyncio.Event().wait()

async def at_listen(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass

async def at_stream(scope, receive, send):
    await start(send)
    while True:
        await piece(send, b"x" * 65536)

async def at_socket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass
"""
FILES = asgi(MORE)
GRACE = "0.1"

# Those of a worker that serves nobody: the listener, and the pair by which a signal wakes the loop.
SOCKETS = 3

POST = b"POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nX-Number: %d\r\n\r\n"
GET = b"GET /%s HTTP/1.1\r\nHost: a\r\nX-Number: %d\r\n\r\n"
OPENING = (
    b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Number: %d\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)

# What a client has sent when it goes away, by its number; and whether it has seen some of the answer before.
STAGES: list[tuple[Callable[[int], bytes], bool]] = [
    (lambda n: b"", False),
    (lambda n: b"GET /?%d HTTP/1.1\r\nHost: a\r\nX-Nu" % n, False),
    (lambda n: POST % (b"length", n), False),
    (lambda n: POST % (b"length", n) + b"x" * 50_000, False),
    (lambda n: POST % (b"wait", n) + b"x" * 50_000, False),
    (lambda n: GET % (b"wait", n), False),
    (lambda n: GET % (b"listen", n), False),
    (lambda n: GET % (b"wait", n) + GET % (b"", n), False),
    (lambda n: GET % (b"stream", n), True),
    (lambda n: GET % (b"", n), True),
    (lambda n: OPENING % n, False),
    (lambda n: OPENING % n + b"\x01\x84\0\0\0\0", True),  # in the middle of a frame
]


def abort(server: Server, number: int) -> None:
    """One request that comes to nothing: stage, and FIN or RST, by its number."""
    what, waits = STAGES[number % len(STAGES)]
    leave = reset if number // len(STAGES) % 2 else socket.socket.close
    sock = server.connect()
    with suppress(ConnectionError):
        sock.sendall(what(number))
        if waits:
            sock.recv(1000)
    leave(sock)


def at_rest(server: Server) -> bool:
    """Are there no tasks left but the lifespan and the one that asks, and no connections?"""
    return server.get("/tasks").text == "2" and open_sockets(server.workers()[0]) <= SOCKETS


def open_sockets(worker: int) -> int:
    """How many descriptors of a process are sockets. One that was reset is in no other table any more."""
    return sum(name.startswith("socket:") for name in _descriptors(worker))


def _descriptors(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since
            yield str(path.readlink())


def main(many: int, *args: str) -> None:
    """Make so many of them, and tell how it goes."""
    step = max(1, many // 10)
    with Server("app:app", "--asgi-disconnect-grace-period", GRACE, *args, files=FILES) as server:
        server.ready()
        begun = time.monotonic()
        for number in range(many + 1):
            if number % step == 0:
                wait_for(lambda: at_rest(server), 20, "the worker to forget them")
                memory = rss(server.workers()[0]) / 1e6
                print(f"{number:9,d} requests, {time.monotonic() - begun:6.1f} s: {memory:6.1f} MB", flush=True)
            abort(server, number)
        print("\n".join(line for line in server.stderr.splitlines() if "[ERROR]" in line))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, *sys.argv[2:])
