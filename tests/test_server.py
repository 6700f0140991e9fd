"""The harness of the process tests, tried on a small server of the standard library."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server import Deadline, Server, wait_for

pytestmark = pytest.mark.process

# Says what it does on stderr, has one child, and leaves with status 7 on TERM.
PROGRAM = """
import http.server, os, signal, sys

def leave(*_):
    os.kill(child, signal.SIGKILL)
    sys.stderr.write("leaving\\n")
    sys.stderr.flush()
    os._exit(7)

server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
child = os.fork()
if child == 0:
    if "--detach" in sys.argv:
        os.setsid()
    while True:
        signal.pause()
signal.signal(signal.SIGTERM, leave)
sys.stderr.write(f"child {child} of {os.getpid()}\\n")
server.serve_forever()
"""

COMMAND = (sys.executable, "program.py")
FILES = {"program.py": PROGRAM, "page.txt": "a page of port {port}\n"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server("{port}", command=COMMAND, bind=None, directory=tmp_path, files=FILES) as running:
        running.expect("^child")  # it listens before it handles signals
        yield running.ready(workers=0)


def test_its_log_and_its_child_are_seen(server: Server) -> None:
    match = server.expect(r"^child (\d+) of (\d+)$")
    assert server.workers() == [int(match[1])]
    assert server.pid == int(match[2])


# It listens, and connections are made, before anybody waits for them.
LATE = """
import select, signal, socket, sys

server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
open("gate").close()
epoll = select.epoll()
epoll.register(server)
signal.pause()
"""


def test_listening_is_not_serving(serve: Callable[..., Server], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    late = serve("{port}", command=(sys.executable, "late.py"), bind=None, files={"late.py": LATE})
    late.expect("listening", stream="stdout")
    late.ready(workers=0)
    assert late.serving() == []
    (tmp_path / "gate").write_text("")
    assert late.ready().serving() == [late.pid]


def test_a_well_behaved_client(server: Server) -> None:
    answer = server.get("/page.txt", X_Anything="1")
    assert (answer.status, answer.text) == (200, f"a page of port {server.port}\n")
    assert answer.headers["Content-Type"] == "text/plain"
    server.expect("GET /page.txt")


def test_raw_bytes(server: Server) -> None:
    assert server.ask(b"GET /page.txt HTTP/1.0\r\n\r\n").endswith(f"a page of port {server.port}\n".encode())
    assert server.ask(b"GET /page.txt HTTP/1.0\r\n\r\n", until=b"200 OK").startswith(b"HTTP/1.0 200 OK")
    assert server.ask(b"GET /page", seconds=0.05) == b""


def test_the_exit_status(server: Server) -> None:
    assert server.stop() == 7
    server.expect("leaving")
    with pytest.raises(Deadline, match="left with status 7 without printing"):
        server.expect("something else")


def test_a_server_that_never_starts(serve: Callable[..., Server]) -> None:
    with pytest.raises(Deadline, match="left with status 3 before"):
        serve(command=(sys.executable, "-c", "raise SystemExit(3)"), bind=None).ready()


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["child", "daemon"])
def test_nothing_is_left_behind(tmp_path: Path, detach: list[str]) -> None:
    """Not even a child that was orphaned, and has a session of its own."""
    with Server("{port}", *detach, command=COMMAND, bind=None, directory=tmp_path, files=FILES) as server:
        child = int(server.expect(r"child (\d+)")[1])
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        assert server.tree() == [child]
    assert server.tree() == []
    wait_for(lambda: not Path("/proc", str(child)).exists() or _zombie(child), what="the child to be gone")


def _zombie(pid: int) -> bool:
    """Where nobody reaps orphans (a container without an init), a killed child stays as a zombie."""
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_failure_prints_what_the_server_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with Server("{port}", command=COMMAND, bind=None, directory=tmp_path, files=FILES) as server:
            server.expect("child")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert re.search(r"^child \d+ of \d+$", capsys.readouterr().out, re.MULTILINE)


def test_its_environment_is_its_own(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "9")
    program = "import os; print(sorted(os.environ)); print(os.environ['GIVEN'])"
    server = serve(command=(sys.executable, "-c", program), bind=None, env={"GIVEN": "port {port}"})
    assert server.wait() == 0
    assert server.stdout.splitlines()[1] == f"port {server.port}"
    assert "WEB_CONCURRENCY" in os.environ
    assert "WEB_CONCURRENCY" not in server.stdout
