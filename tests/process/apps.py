"""The application that most servers here run, and what a test needs to steer it."""

from __future__ import annotations

import os
from contextlib import suppress

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


def make_gate(server: Server) -> None:
    os.mkfifo(server.directory / "gate")


def open_gate(server: Server) -> None:
    """Let through whoever waits; it must have said so on stderr. The gate is closed again afterwards."""
    wait_for(lambda: _opened(server), what="somebody at the gate")


def _opened(server: Server) -> bool:
    with suppress(OSError):  # ENXIO: nobody has opened the other end, see fifo(7)
        os.close(os.open(server.directory / "gate", os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False
