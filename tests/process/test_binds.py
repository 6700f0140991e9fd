"""Where a server listens."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from process.apps import FILES
from process.load import Load
from server import MONOCEROS, Server, free_port

Serve = Callable[..., Server]

# Starts a server with a listening socket as descriptor 3, as systemd or a supervisor would.
LAUNCH = """
import os, socket, sys
given = socket.create_server(("127.0.0.1", {port}))
os.dup2(given.fileno(), 3)
os.set_inheritable(3, True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def ask(family: int, where: object) -> bytes:
    with socket.socket(family) as sock:
        sock.settimeout(20)
        sock.connect(where)  # type: ignore[arg-type]
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer


def test_a_unix_socket(serve: Serve) -> None:
    server = serve("app:app", bind="unix:sock", files=FILES).ready()
    server.expect(r"Listening at: unix:.*sock \(\d+\)$")
    assert server.get("/").status == 200
    assert server.stop() == 0
    assert not (server.directory / "sock").exists()


def test_a_unix_socket_under_load(serve: Serve) -> None:
    server = serve("app:app", "-w", "2", bind="unix:sock", files=FILES).ready(workers=2)
    with Load(server, 8) as load:
        load.more(200)
        assert server.stop() == 0
        load.join()
    assert load.errors == []


def test_a_unix_socket_left_behind(serve: Serve) -> None:
    first = serve("app:app", bind="unix:sock", files=FILES).ready()
    first.kill()
    assert (first.directory / "sock").is_socket()
    second = serve("app:app", bind="unix:sock").ready()
    assert second.get("/").status == 200


def test_a_unix_socket_in_use(serve: Serve) -> None:
    first = serve("app:app", bind="unix:sock", files=FILES).ready()
    second = serve("app:app", bind="unix:sock")
    second.expect("Connection in use: unix:sock")
    assert second.stop() == 0
    assert first.get("/").status == 200


def test_a_file_in_the_way(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "sock").write_text("precious")
    server = serve("app:app", bind="unix:sock", files=FILES)
    assert server.wait() == 1
    server.expect("Cannot listen at unix:sock: exists and is not a socket")
    assert (tmp_path / "sock").read_text() == "precious"


def test_an_inherited_descriptor(serve: Serve) -> None:
    command = (sys.executable, "launch.py", *MONOCEROS)
    server = serve("app:app", bind="fd://3", command=command, files={**FILES, "launch.py": LAUNCH}).ready()
    server.expect(rf"Listening at: http://127\.0\.0\.1:{server.port} \({server.pid}\)$")
    assert server.get("/").status == 200
    assert server.stop() == 0


def test_several_addresses(serve: Serve) -> None:
    other = free_port()
    server = serve("app:app", "-b", f"127.0.0.1:{other}", "-b", "unix:sock", "-w", "2", files=FILES).ready()
    server.expect(rf"Listening at: http://127\.0\.0\.1:{other},unix:sock,http://127\.0\.0\.1:{server.port} \(")
    assert b" 200 OK" in ask(socket.AF_INET, ("127.0.0.1", server.port))
    assert b" 200 OK" in ask(socket.AF_INET, ("127.0.0.1", other))
    assert b" 200 OK" in ask(socket.AF_UNIX, str(server.directory / "sock"))
    assert server.stop() == 0


def test_one_of_several_is_in_use(serve: Serve) -> None:
    """Then none is served."""
    first = serve("app:app", files=FILES).ready()
    second = serve("app:app", "-b", f"127.0.0.1:{first.port}", bind="unix:sock")
    second.expect("Connection in use")
    second.stop()
    assert "Booting" not in second.stderr


def test_ipv6(serve: Serve) -> None:
    server = serve("app:app", bind="[::1]:{port}", files=FILES)
    server.expect("Booting worker")
    server.expect(rf"Listening at: http://\[::1\]:{server.port} \(")
    assert b" 200 OK" in ask(socket.AF_INET6, ("::1", server.port))
    assert server.stop() == 0


def test_a_socket_for_each_worker(serve: Serve) -> None:
    server = serve("app:app", "-w", "2", "--reuse-port", files=FILES).ready(workers=2)
    with Load(server, 16) as load:
        load.more(200)
        server.signal(signal.SIGTTIN)
        server.ready(workers=3)
        load.more(200)
        assert server.stop() == 0
        load.join()
    assert load.errors == []
