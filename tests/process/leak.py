"""Clients that go away at every stage of a request, thousands of them: does the worker forget them?

As a script it makes 100,000, or as many as it is told to, and prints the memory of the worker every so often:

    PYTHONPATH=tests .venv/bin/python -m process.leak 100000 [--asgi-loop asyncio ...]
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from process.apps import asgi, reset, rss
from server import Server, wait_for

MORE = """
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
    """Are there no tasks left but the lifespan and the one that asks, and no connection but its own?"""
    return server.get("/tasks").text == "2" and len(connections(server.workers()[0])) == 1


def connections(worker: int) -> list[str]:
    """The sockets of a worker that are connected over TCP, see proc_pid_net(5): and, to be counted, their listener."""
    from pathlib import Path

    inodes = set()
    for fd in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(OSError):
            inodes.add(str(fd.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if f"socket:[{row[9]}]" in inodes]


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
        print(server.stderr[-2000:])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, *sys.argv[2:])
