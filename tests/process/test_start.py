"""From the command to a server that serves, or to the exit status that says why not."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monoceros import __version__
from process.apps import FILES
from server import Server

Serve = Callable[..., Server]

LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[(\w+)\] (.*)")


def lines(server: Server) -> list[tuple[int, str, str]]:
    """The error log: pid, level and text of each line."""
    found = [LINE.fullmatch(line) for line in server.stderr.splitlines()]
    assert all(found), server.stderr
    return [(int(match[1]), match[2], match[3]) for match in found if match]


def catches(pid: int, number: int) -> bool:
    """Does a process have a handler of its own for this signal? See proc(5), SigCgt."""
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.smoke
def test_the_lines_of_a_start(serve: Serve) -> None:
    server = serve("-w", "4", "app:app", files=FILES).ready(workers=4)
    assert len(lines(server)) == 7
    pids = sorted(server.workers())
    assert lines(server)[:3] == [
        (server.pid, "INFO", f"Starting monoceros {__version__}"),
        (server.pid, "INFO", f"Listening at: http://127.0.0.1:{server.port} ({server.pid})"),
        (server.pid, "INFO", "Using worker: auto"),
    ]
    assert sorted(lines(server)[3:]) == [(pid, "INFO", f"Booting worker with pid: {pid}") for pid in pids]
    assert server.get("/").text in map(str, pids)
    assert server.stop() == 0
    assert lines(server)[7] == (server.pid, "INFO", "Handling signal: term")
    assert sorted(lines(server)[8:12]) == [(pid, "INFO", f"Worker exiting (pid: {pid})") for pid in pids]
    assert lines(server)[12:] == [(server.pid, "INFO", "Shutting down: Master")]
    assert server.stdout == ""


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_it_says_the_kind_that_was_asked_for(serve: Serve, kind: str) -> None:
    server = serve("-k", kind, "app:app", files=FILES).ready()
    server.expect(f"Using worker: {kind}$")


@pytest.mark.parametrize("args", [["--workers=2", "app:app"], ["app:app", "--workers=2"], ["app:app", "-w2"]])
def test_options_on_either_side_of_the_application(serve: Serve, args: list[str]) -> None:
    server = serve(*args, files=FILES)
    server.expect("Booting worker", times=2)


def test_as_many_workers_as_processors(serve: Serve) -> None:
    one = str(min(os.sched_getaffinity(0)))
    command = ("taskset", "-c", one, sys.executable, "-m", "monoceros")
    server = serve("app:app", "--workers", "auto", command=command, files=FILES).ready()
    assert server.get("/").status == 200
    assert len(server.workers()) == 1
    assert server.stop() == 0


def test_preload(serve: Serve) -> None:
    """The application is imported once, in the master."""
    module = "import os\nprint('imported by', os.getpid(), flush=True)\n" + FILES["app.py"]
    server = serve("--preload", "-w", "2", "app:app", files={"app.py": module}).ready()
    assert int(server.get("/").text) in server.workers()
    assert server.stdout == f"imported by {server.pid}\n"


def test_without_preload_each_worker_imports_it(serve: Serve) -> None:
    # In one piece each, so that they cannot get mixed up.
    module = "import os\nos.write(1, b'imported by %d\\n' % os.getpid())\n" + FILES["app.py"]
    server = serve("-w", "2", "app:app", files={"app.py": module}).ready(workers=2)
    assert sorted(server.stdout.splitlines()) == sorted(f"imported by {pid}" for pid in server.workers())


# Exit statuses


FAILING = {
    "app.py": "app = None\nnumber = 7\n",
    "raising.py": "import elsewhere_entirely\n",
    "leaving.py": "import sys\nsys.exit(0)\n",
    "quitting.py": "import os\nos._exit(7)\n",
    "broken.py": "def app(:\n",
}
BOOT = "Worker failed to boot."
LOAD = "App failed to load."


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
@pytest.mark.parametrize(("spec", "status", "reason"), [("raising:app", 3, BOOT), ("app:missing", 4, LOAD)])
def test_the_same_status_every_time(
    serve: Serve, spec: str, status: int, reason: str, preload: list[str], attempt: int
) -> None:
    server = serve("-w", "4", spec, *preload, files=FAILING)
    assert server.wait() == status
    assert lines_of_master(server)[-2:] == [("ERROR", "Shutting down: Master"), ("ERROR", f"Reason: {reason}")]
    assert server.tree() == []


def lines_of_master(server: Server) -> list[tuple[str, str]]:
    found = map(LINE.fullmatch, server.stderr.splitlines())
    return [(match[2], match[3]) for match in found if match and int(match[1]) == server.pid]


@pytest.mark.parametrize(
    ("spec", "status", "said"),
    [
        ("raising:app", 3, "ModuleNotFoundError: No module named 'elsewhere_entirely'"),
        ("broken:app", 3, "SyntaxError: "),
        ("leaving:app", 3, "SystemExit: 0"),
        ("quitting:app", 3, r"Worker \(pid:\d+\) exited with code 7\."),
        ("nowhere:app", 3, "no module named 'nowhere'; looked in {directory} and on the Python path"),
        ("app:missing", 4, r"no 'missing' in module 'app' \({directory}/app.py\)"),
        ("app:app", 4, "'app:app' is None, not an application"),
        ("app:number", 4, "'app:number' is of type 'int', which cannot be called"),
    ],
)
def test_what_a_boot_failed_of(serve: Serve, spec: str, status: int, said: str) -> None:
    server = serve(spec, files=FAILING)
    assert server.wait() == status
    server.expect(said.replace("{directory}", str(server.directory)))
    traceback = status == 3 and spec.partition(":")[0] in ("raising", "broken", "leaving")
    assert ("Traceback" in server.stderr) == traceback
    assert f"Reason: {BOOT if status == 3 else LOAD}" in server.stderr


@pytest.mark.smoke
def test_status_1_is_for_settings(serve: Serve) -> None:
    server = serve("-w", "many", "app:app", files=FILES)
    assert server.wait() == 1
    assert server.stderr.startswith("Error: workers = 'many' (--workers)")


def test_status_2_is_for_usage(serve: Serve) -> None:
    assert serve("--no-such-thing", "app:app", files=FILES).wait() == 2


def test_an_address_in_use(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        server = serve("app:app", "--log-level", "debug", bind=where, files=FILES)
        assert server.wait() == 1
    assert server.stderr.count(f"Connection in use: {where}") == 5
    assert server.stderr.count("Retrying in 1 second.") == 4
    server.expect(f"Reason: Can't connect to {where}$")


def test_an_address_that_becomes_free(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = serve("app:app", bind=f"127.0.0.1:{taken.getsockname()[1]}", files=FILES)
        server.expect("Connection in use")
    server.expect("Booting worker")
    assert server.stop() == 0


def test_told_to_stop_while_the_address_is_in_use(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = serve("app:app", bind=f"127.0.0.1:{taken.getsockname()[1]}", files=FILES)
        server.expect("Connection in use")
        assert server.stop() == 0
    assert "Booting" not in server.stderr


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("192.0.2.1:8000", "Cannot assign requested address"),
        ("nowhere.invalid:8000", ""),
        (f"{'a' * 80}.example:80", "not a host name"),
        ("unix:/nowhere/sock", "No such file or directory"),
        ("fd://77", "Bad file descriptor"),
    ],
)
def test_an_address_that_cannot_be(serve: Serve, where: str, why: str) -> None:
    server = serve("app:app", bind=where, files=FILES)
    assert server.wait() == 1
    server.expect(f"Cannot listen at {where}: .*{why}")
    server.expect(f"Reason: Can't connect to {where}$")
    assert "Traceback" not in server.stderr


def test_a_log_that_cannot_be_opened(serve: Serve, tmp_path: Path) -> None:
    server = serve("app:app", "--error-logfile", "nowhere/error.log", files=FILES)
    assert server.wait() == 1
    assert server.stderr == "Error: cannot open the error log 'nowhere/error.log': No such file or directory\n"
