"""What systemd is told, and what it hands over: sd_notify(3), sd_listen_fds(3)."""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from process.apps import APP, FILES, make_gate, open_gate
from server import Server

Serve = Callable[..., Server]


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(where.replace("@", "\0", 1))
        self.sock.settimeout(10)
        self.env = {"NOTIFY_SOCKET": where}

    def hears(self) -> dict[str, str]:
        """The next message. Raises TimeoutError."""
        lines = self.sock.recv(4096).decode().split("\n")
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def hears_nothing(self) -> bool:
        """By now."""
        self.sock.setblocking(False)
        try:
            self.sock.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(10)
        return False


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    found = Systemd(str(tmp_path / "notify"))
    with found.sock:
        yield found


READY = {"READY": "1", "STATUS": "app:app is served by 2 workers"}


@pytest.mark.smoke
def test_ready_when_somebody_serves(serve: Serve, systemd: Systemd) -> None:
    """Not when the sockets are open, and not when workers boot."""
    module = "print('importing', flush=True)\nopen('gate').close()\n" + APP
    server = serve("-w", "2", "app:app", env=systemd.env, files={"app.py": module})
    make_gate(server)
    server.expect("importing", times=2, stream="stdout")
    assert systemd.hears_nothing()
    open_gate(server)
    assert systemd.hears() == READY
    assert server.get("/").status == 200
    assert server.stop() == 0
    assert systemd.hears() == {"STOPPING": "1"}
    assert systemd.hears_nothing()


def test_never_ready(serve: Serve, systemd: Systemd) -> None:
    server = serve("-w", "2", "app:missing", env=systemd.env, files=FILES)
    assert server.wait() == 4
    assert systemd.hears() == {"STOPPING": "1", "STATUS": "App failed to load."}
    assert systemd.hears_nothing()


def test_a_reload(serve: Serve, systemd: Systemd) -> None:
    server = serve("-w", "2", "app:app", env=systemd.env, files=FILES)
    assert systemd.hears() == READY
    server.signal(signal.SIGHUP)
    begun = systemd.hears()
    assert begun["RELOADING"] == "1"
    assert re.fullmatch(r"\d{6,}", begun["MONOTONIC_USEC"])
    assert systemd.hears() == {"READY": "1", "STATUS": "Generation 2 serves"}
    server.expect("Generation 2 serves after")
    assert systemd.hears_nothing()


def test_a_reload_that_fails(serve: Serve, systemd: Systemd) -> None:
    """Else systemd would wait for its end."""
    server = serve("-c", "conf.py", "app:app", env=systemd.env, files={**FILES, "conf.py": "workers = 2\n"})
    assert systemd.hears() == READY
    (server.directory / "app.py").write_text("1 / 0")
    server.signal(signal.SIGHUP)
    assert systemd.hears()["RELOADING"] == "1"
    after = systemd.hears()
    assert after["READY"] == "1"
    assert re.match(r"Reload failed: worker=3 gen=2 pid=\d+ could not boot: ", after["STATUS"])
    (server.directory / "conf.py").write_text("workers = 'many'\n")
    server.signal(signal.SIGHUP)
    assert systemd.hears()["RELOADING"] == "1"
    after = systemd.hears()
    assert after["READY"] == "1"
    assert after["STATUS"].startswith("Reload refused: workers = 'many'")


def test_the_watchdog(serve: Serve, systemd: Systemd) -> None:
    env = {**systemd.env, "WATCHDOG_USEC": "100000"}
    server = serve("app:app", env=env, files=FILES)
    heard = [systemd.hears() for _ in range(12)]
    assert heard.count({"WATCHDOG": "1"}) == 11
    assert sum("READY" in message for message in heard) == 1
    server.signal(signal.SIGSTOP)
    while not systemd.hears_nothing():
        pass
    assert systemd.hears_nothing()
    server.signal(signal.SIGCONT)
    assert systemd.hears() == {"WATCHDOG": "1"}
    assert server.stop() == 0


def test_the_watchdog_of_another(serve: Serve, systemd: Systemd) -> None:
    env = {**systemd.env, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    server = serve("-w", "2", "app:app", env=env, files=FILES)
    assert systemd.hears() == READY
    assert server.stop() == 0
    assert systemd.hears() == {"STOPPING": "1"}


def test_an_abstract_socket(serve: Serve, tmp_path: Path) -> None:
    systemd = Systemd(f"@{tmp_path}")
    with systemd.sock:
        serve("-w", "2", "app:app", env=systemd.env, files=FILES)
        assert systemd.hears() == READY


def test_nobody_at_the_other_end(serve: Serve, tmp_path: Path) -> None:
    server = serve("app:app", env={"NOTIFY_SOCKET": str(tmp_path / "nobody")}, files=FILES).ready()
    assert server.get("/").status == 200
    assert server.stop() == 0


def test_who_takes_over_is_the_main_process(serve: Serve, systemd: Systemd) -> None:
    server = serve("-w", "2", "app:app", env=systemd.env, files=FILES)
    assert systemd.hears() == READY
    server.signal(signal.SIGUSR2)
    new = server.expect(r"\[(\d+)\] \[INFO\] Starting monoceros", times=2)[1]
    assert systemd.hears() == READY
    assert server.stop() == 0
    assert systemd.hears() == {"MAINPID": new}
    server.expect("Master has been promoted")
    assert systemd.hears_nothing()
    server.signal(signal.SIGTERM, int(new))
    assert systemd.hears() == {"STOPPING": "1"}


# Who starts the server has opened the sockets.
ACTIVATE = """
import os, socket, sys
os.closerange(3, 100)
for fd in range(3, 5):
    sock = socket.create_server(("127.0.0.1", 0))
    assert sock.fileno() == fd
    os.set_inheritable(sock.detach(), True)
    print(socket.socket(fileno=os.dup(fd)).getsockname()[1], flush=True)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "monoceros", *sys.argv[1:]])
"""


def activated(serve: Serve, *args: str, app: str = APP, bind: str | None = "127.0.0.1:{port}", **env: str) -> Server:
    files = {"app.py": app, "activate.py": ACTIVATE, "conf.py": ""}
    return serve(*args, "app:app", command=(sys.executable, "activate.py"), bind=bind, files=files, env=env)


def ports(server: Server) -> list[int]:
    return [int(port) for port in server.expect(r"(\d+)\n(\d+)\n", stream="stdout").groups()]


def test_its_sockets_are_in_place_of_bind(serve: Serve) -> None:
    app = APP.replace("{query}", "{[name for name in os.environ if name.startswith('LISTEN')]}")
    server = activated(serve, app=app, LISTEN_FDS="2", LISTEN_FDNAMES="web:admin")
    first, second = ports(server)
    server.expect(rf"Listening at: http://127.0.0.1:{first},http://127.0.0.1:{second} ")
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    for server.port in (second, first):
        assert server.get("/").text.endswith(" []")  # they mean the server, not what the application starts
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 serves")
    for server.port in (second, first):
        assert server.get("/").status == 200
    assert server.stop() == 0


# Or it has been there all the time, and hands over what it has.
RECEIVE = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as systemd:
    systemd.connect("systemd")
    _, (fd,), _, _ = socket.recv_fds(systemd, 1, 1)
os.dup2(fd, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "monoceros", *sys.argv[1:]])
"""


def test_its_sockets_are_not_ours_to_close(serve: Serve, tmp_path: Path) -> None:
    """The next start finds who has come meanwhile."""
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as systemd:
        sock.bind(str(tmp_path / "sock"))
        sock.listen()
        systemd.bind(str(tmp_path / "systemd"))
        systemd.listen()

        def start() -> Server:
            command = (sys.executable, "receive.py")
            server = serve("app:app", command=command, bind="unix:sock", files={**FILES, "receive.py": RECEIVE})
            with systemd.accept()[0] as asking:
                socket.send_fds(asking, [b"3"], [sock.fileno()])
            return server

        server = start().ready()
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert (tmp_path / "sock").is_socket()
        with server.connect(10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            start()
            assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_sockets_that_are_not_for_us(serve: Serve) -> None:
    server = activated(serve, LISTEN_FDS="2", LISTEN_PID="1").ready()
    server.expect(rf"Listening at: http://127.0.0.1:{server.port} ")


@pytest.mark.parametrize("count", ["many", "-1", "99"])
def test_a_number_of_sockets_that_is_not_true(serve: Serve, count: str) -> None:
    server = activated(serve, LISTEN_FDS=count)
    assert server.wait() == 1
    server.expect(r"\[ERROR\] Reason: LISTEN_FDS = ")
