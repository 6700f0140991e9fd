"""The application that most servers here run, and what a test needs to steer it."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from server import Server, wait_for

# It answers with its pid. The gate is a FIFO: a request that comes to it waits until the test opens it.
APP = """
import os, signal, sys, time

def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/gate":
        print("at the gate", query, file=sys.stderr, flush=True)
        open("gate").close()
    elif path == "/exit":
        os._exit(int(query))
    elif path == "/kill":
        os.kill(os.getpid(), int(query))
    elif path == "/work":
        time.sleep(float(query))
    elif path == "/length":
        query = str(len(environ["wsgi.input"].read()))
    body = f"{os.getpid()} {query}".rstrip().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

FILES = {"app.py": APP}

# The same for ASGI, and a little more. A path is answered by the function of its name; tests add some of their own.
ASGI = """
import asyncio, os, sys

def say(*words):
    sys.stderr.write(" ".join(map(str, words)) + "\\n")  # at once, since others write there, too

async def start(send, *headers):
    await send({"type": "http.response.start", "status": 200, "headers": headers})

async def piece(send, body, more=True):
    await send({"type": "http.response.body", "body": body, "more_body": more})

async def answer(send, *words):
    body = " ".join(map(str, words)).rstrip().encode()
    await start(send, (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)))
    await piece(send, body, False)

async def gate():
    opened = asyncio.Event()
    fd = os.open("gate", os.O_RDONLY | os.O_NONBLOCK)
    asyncio.get_running_loop().add_reader(fd, opened.set)
    try:
        await opened.wait()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)

async def at_(scope, receive, send):
    await answer(send, os.getpid(), scope["query_string"].decode())

async def at_gate(scope, receive, send):
    query = scope["query_string"].decode()
    waiting = asyncio.ensure_future(gate())
    await asyncio.sleep(0)
    say("at the gate", query)
    await waiting
    await answer(send, os.getpid(), query)

async def at_length(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return say("left after", size)
        size += len(message["body"])
        more = message["more_body"]
    await answer(send, os.getpid(), size)

async def at_tasks(scope, receive, send):
    await answer(send, len(asyncio.all_tasks()))

async def lifespan(receive, send):
    for phase in ("startup", "shutdown"):
        await receive()
        say("lifespan:", phase)
        await send({"type": f"lifespan.{phase}.complete"})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await globals()["at_" + scope["path"].strip("/")](scope, receive, send)
"""


def asgi(more: str = "") -> dict[str, str]:
    """The files of the ASGI application, with what a test adds to it."""
    return {"app.py": ASGI + more}


def make_gate(server: Server) -> None:
    os.mkfifo(server.directory / "gate")


def open_gate(server: Server) -> None:
    """Let through whoever waits; it must have said so on stderr. The gate is closed again afterwards."""
    wait_for(lambda: _opened(server), what="somebody at the gate")


def open_gate_for(server: Server, clients: Sequence[socket.socket]) -> None:
    """Let through several who wait, until each of them has an answer: one opening may be for one of them or for all."""

    def answered() -> bool:
        _opened(server)
        return len(select.select(clients, [], [], 0)[0]) == len(clients)

    wait_for(answered, what="an answer for everybody at the gate")


def _opened(server: Server) -> bool:
    with suppress(OSError):  # ENXIO: nobody has opened the other end, see fifo(7)
        os.close(os.open(server.directory / "gate", os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False


def rss(pid: int) -> int:
    """The memory of a process, in bytes: see proc_pid_status(5), VmRSS."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


def reset(sock: socket.socket) -> None:
    """Close with RST in place of FIN: see socket(7), SO_LINGER."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
