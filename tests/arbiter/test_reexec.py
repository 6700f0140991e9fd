"""One master hands over to the next: what is said and handed on, by real processes, to and from Gunicorn as well."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from monoceros.arbiter.reexec import HandoverError, Launch, adopt, inherited, successor_environ
from monoceros.settings.values import Address, address
from server import wait_for

SECONDS = 20
PARENT = str(os.getppid())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def listen(stack: ExitStack) -> Callable[..., socket.socket]:
    """`listen(where, family)` makes a listening socket."""

    def listening(where: Any = ("127.0.0.1", 0), family: int = socket.AF_INET) -> socket.socket:
        sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.bind(where)
        sock.listen()
        return sock

    return listening


def at(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address("tcp", host=host, port=port)


def handed_over(*socks: socket.socket) -> list[int]:
    """As a successor finds them: descriptors that belong to nobody else."""
    return [os.dup(sock.fileno()) for sock in socks]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# How it was started.

REPORT = """
import json
from monoceros.arbiter.reexec import Launch
launch = Launch.remember()
print(json.dumps([launch.executable, launch.argv, launch.cwd, launch.environ["SEEN"]]))
"""


def remembered(*command: str, **options: Any) -> list[Any]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=True, **{"cwd": "/", **options}
    )
    return list(json.loads(done.stdout))


def test_the_command_with_the_options_of_the_interpreter() -> None:
    environ = {**os.environ, "SEEN": "yes"}
    found = remembered(sys.executable, "-W", "error", "-c", REPORT, "--bind", ":1", env=environ)
    assert found == [sys.executable, [sys.executable, "-W", "error", "-c", REPORT, "--bind", ":1"], "/", "yes"]


def test_an_interpreter_that_is_found_in_the_path() -> None:
    environ = {**os.environ, "PATH": os.path.dirname(sys.executable), "SEEN": "yes"}
    assert remembered("python", "-c", REPORT, env=environ)[0] == sys.executable


def test_a_link_is_remembered_as_a_link(tmp_path: Path) -> None:
    """Which leads to another release by then."""
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1")
    (tmp_path / "release-1" / "env").symlink_to(Path(sys.prefix))
    current = str(tmp_path / "current")
    environ = {**os.environ, "PWD": current, "SEEN": "yes"}
    found = remembered("./env/bin/python", "-c", REPORT, env=environ, cwd=current)
    assert found[0] == "./env/bin/python"
    assert found[2] == current


def test_the_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEN", "before")
    launch = Launch.remember()
    monkeypatch.setenv("SEEN", "after")
    assert launch.environ["SEEN"] == "before"


# What the predecessor says.

START = {"PATH": "/bin", "WATCHDOG_USEC": "5"}
STALE = {
    "GUNICORN_PID": "1",
    "GUNICORN_FD": "9",
    "LISTEN_PID": "1",
    "LISTEN_FDS": "1",
    "LISTEN_FDNAMES": "x",
    "LISTEN_PIDFDID": "1",
    "WATCHDOG_PID": "1",
}


def test_what_a_successor_is_told() -> None:
    told = successor_environ({**START, **STALE}, 77, [5, 6])
    assert told == {**START, "GUNICORN_PID": "77", "GUNICORN_FD": "5,6"}


def test_what_a_successor_is_told_where_systemd_had_opened_the_sockets() -> None:
    told = successor_environ({**START, **STALE}, 77, [5, 6], activated=78)
    assert told == {**START, "GUNICORN_PID": "77", "LISTEN_PID": "78", "LISTEN_FDS": "2"}


# What the successor understands.


def test_inherited(listen: Callable[..., socket.socket]) -> None:
    one, two = listen(), listen()
    one.set_inheritable(True)
    environ = {"GUNICORN_PID": PARENT, "GUNICORN_FD": f"{one.fileno()},{two.fileno()},{one.fileno()}", "OTHER": "x"}
    assert inherited(environ) == (os.getppid(), [one.fileno(), two.fileno()])
    assert environ == {"OTHER": "x"}
    assert not one.get_inheritable()


def test_nothing_inherited(listen: Callable[..., socket.socket]) -> None:
    assert inherited({}) == (None, [])
    assert inherited({"GUNICORN_FD": str(listen().fileno())}) == (None, [])


@pytest.mark.parametrize("pid", [str(os.getpid()), "1000000000", "", "x", "-1"])
def test_a_predecessor_that_has_gone(listen: Callable[..., socket.socket], pid: str) -> None:
    """It is our parent as long as it lives. The sockets are good all the same."""
    fd = listen().fileno()
    assert inherited({"GUNICORN_PID": pid, "GUNICORN_FD": str(fd)}) == (None, [fd])


@pytest.mark.parametrize("listed", ["", None])
def test_a_predecessor_without_sockets(listed: str | None) -> None:
    environ = {"GUNICORN_PID": PARENT} | ({} if listed is None else {"GUNICORN_FD": listed})
    assert inherited(environ) == (os.getppid(), [])


@pytest.mark.parametrize("listed", ["x", "3,", "-1", "999999999", "9" * 30, " 3", "٣"])
def test_no_descriptors(listed: str) -> None:
    with pytest.raises(HandoverError, match="is not a listening socket"):
        inherited({"GUNICORN_PID": PARENT, "GUNICORN_FD": listed})


def test_descriptors_of_something_else(stack: ExitStack) -> None:
    datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    connected, other = socket.socketpair()
    stack.enter_context(connected)
    stack.enter_context(other)
    reader, writer = os.pipe()
    for fd in (reader, writer):
        stack.callback(os.close, fd)
    for wrong in (datagrams.fileno(), connected.fileno(), reader):
        with pytest.raises(HandoverError, match=f"GUNICORN_FD = '{wrong}'"):
            inherited({"GUNICORN_PID": PARENT, "GUNICORN_FD": str(wrong)})
        assert is_open(wrong)


# Which socket is for which address.


def test_adopt(listen: Callable[..., socket.socket], stack: ExitStack) -> None:
    one, two, three = listen(), listen(), listen()
    fds = handed_over(one, two, three)
    elsewhere = Address("tcp", host="127.0.0.2", port=at(one).port)
    found = adopt([at(two), elsewhere, at(one)], fds)
    for sock in found.values():
        stack.enter_context(sock)
    assert {wanted: sock.getsockname() for wanted, sock in found.items()} == {
        at(one): one.getsockname(),
        at(two): two.getsockname(),
    }
    assert [is_open(fd) for fd in fds] == [True, True, False]
    assert not any(sock.getblocking() for sock in found.values())
    assert all(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in found.values())


def test_names_are_looked_up(listen: Callable[..., socket.socket], stack: ExitStack) -> None:
    one = listen()
    wanted = Address("tcp", host="localhost", port=at(one).port)
    assert socket.getaddrinfo("localhost", 1, socket.AF_INET)[0][4] == ("127.0.0.1", 1)
    if socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)[0][0] != socket.AF_INET:
        pytest.skip("here localhost is ::1")
    stack.enter_context(adopt([wanted], handed_over(one))[wanted])


@pytest.mark.parametrize("host", ["no such host", "a" * 64 + ".invalid", "\udcff"])
def test_a_name_that_nobody_knows(listen: Callable[..., socket.socket], host: str) -> None:
    assert adopt([Address("tcp", host=host, port=1)], handed_over(listen())) == {}


def test_any_port_is_what_the_others_have_left(listen: Callable[..., socket.socket], stack: ExitStack) -> None:
    one, two = listen(), listen()
    anything = address("127.0.0.1:0")
    found = adopt([anything, at(one)], handed_over(one, two))
    for sock in found.values():
        stack.enter_context(sock)
    assert found[anything].getsockname() == two.getsockname()
    assert adopt([anything], handed_over(listen(("127.0.0.2", 0)))) == {}


def test_ipv6(listen: Callable[..., socket.socket], stack: ExitStack) -> None:
    try:
        six = listen(("::1", 0), socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")
    four = listen(("127.0.0.1", 0))
    wanted = [Address("tcp", host="::1", port=at(six).port), address("[::1]:0"), Address("tcp", host="::", port=1)]
    found = adopt(wanted, handed_over(four, six))
    assert list(found) == wanted[:1]
    assert stack.enter_context(found[wanted[0]]).family == socket.AF_INET6


def test_unix_sockets(listen: Callable[..., socket.socket], stack: ExitStack, tmp_path: Path) -> None:
    path, gone = str(tmp_path / "here.sock"), str(tmp_path / "gone.sock")
    abstract = f"\0monoceros-{os.getpid()}"
    socks = [listen(where, socket.AF_UNIX) for where in (path, gone, abstract)]
    os.unlink(gone)
    wanted = [Address("unix", path=where) for where in (abstract, gone, path)]
    found = adopt(wanted, handed_over(*socks))
    for sock in found.values():
        stack.enter_context(sock)
    # Where the file has gone, a new socket has to be made: nobody can connect to the old one.
    assert {wanted.path: sock.getsockname() for wanted, sock in found.items()} == {
        path: path,
        abstract: os.fsencode(abstract),
    }


def test_a_descriptor_that_is_wanted_by_its_number(listen: Callable[..., socket.socket], stack: ExitStack) -> None:
    one, two = handed_over(listen(), listen())
    found = adopt([Address("fd", fd=two)], [one, two])
    assert stack.enter_context(found[Address("fd", fd=two)]).fileno() == two
    assert not is_open(one)


# The whole of it.

# Listens, forks, and becomes what is given as code, under the name of a server that hands over.
PREDECESSOR = """
import fcntl, os, signal, socket, sys
from dataclasses import replace
from monoceros.arbiter.reexec import Launch, exec_successor, successor_environ
from monoceros.settings.values import address
from monoceros.signals import Signals
launch = Launch.remember()
os.environ["LATER"], os.environ["PWD"] = "x", "/tmp"
os.chdir("/tmp")
socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
ports = [str(sock.getsockname()[1]) for sock in socks]
fds = [sock.detach() for sock in socks]
signals = Signals([signal.SIGTERM, signal.SIGUSR1])
{prepare}
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
master = os.getpid()
child = os.fork()
if child == 0:
    {begin}
    activated = os.getpid() if {activated} else None
    environ = successor_environ(launch.environ, master, fds[::-1], activated=activated)
    launch = replace(launch, argv=(launch.executable, "-c", sys.argv[1], *ports))
    try:
        exec_successor({launch}, environ, fds[::-1])
    except OSError as error:
        print(error, flush=True)
        os._exit(1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(f"got {{signals.drain()}}, status {{status}}" if status < 0 else status)
"""

SUCCESSOR = """
import json, os, signal, sys
from monoceros.arbiter.reexec import adopt, inherited
from monoceros.arbiter.systemd import listen_fds
from monoceros.settings.values import address
wanted = [address("127.0.0.1:" + port) for port in sys.argv[1:]]
activated = listen_fds(os.environ, os.getpid())
predecessor, fds = inherited(os.environ)
found = adopt(wanted if fds else activated, fds or [address.fd for address in activated])
print(json.dumps({
    "is the parent": predecessor == os.getppid(),
    "activated": [str(address) for address in activated],
    "ports": {str(address): sock.getsockname()[1] for address, sock in found.items()},
    "wanted": [address.port for address in wanted],
    "cwd": os.getcwd(),
    "later": os.environ.get("LATER"),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "handlers": [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGUSR1)],
    "left": [name for name in os.environ if name.startswith(("GUNICORN_", "LISTEN_"))],
}))
"""


def succession(
    successor: str, *, activated: bool = False, launch: str = "launch", prepare: str = "", begin: str = "pass"
) -> subprocess.CompletedProcess[str]:
    code = PREDECESSOR.format(activated=activated, launch=launch, prepare=prepare, begin=begin)
    return subprocess.run(
        [sys.executable, "-c", code, successor], capture_output=True, text=True, timeout=SECONDS, cwd="/"
    )


def test_a_successor() -> None:
    done = succession(SUCCESSOR)
    assert done.stderr == ""
    said = json.loads(done.stdout)
    ports = said.pop("wanted")
    assert said == {
        "is the parent": True,
        "activated": [],
        "ports": {f"127.0.0.1:{port}": port for port in ports},
        "cwd": "/",
        "later": None,
        "blocked": [],
        "handlers": [True, True],
        "left": [],
    }


# To higher numbers, so that 3 and 4 are free.
MOVED = "fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in fds]; [os.close(fd) for fd in (3, 4)]"


@pytest.mark.parametrize("prepare", ["", MOVED], ids=["the other way round", "elsewhere"])
def test_a_successor_of_one_that_systemd_gave_its_sockets(prepare: str) -> None:
    """They have the numbers 3 and 4 again, in the order in which they are handed over."""
    done = succession(SUCCESSOR, activated=True, prepare=prepare)
    assert done.stderr == ""
    said = json.loads(done.stdout)
    first, second = said["wanted"]
    assert said["activated"] == ["fd://3", "fd://4"]
    assert said["ports"] == {"fd://3": second, "fd://4": first}
    assert said["is the parent"]
    assert said["left"] == []


def test_a_signal_to_the_successor_is_not_the_predecessors() -> None:
    done = succession(SUCCESSOR, begin="os.kill(os.getpid(), signal.SIGTERM)")
    assert (done.stdout, done.stderr) == ("", "got b'', status -15\n")


@pytest.mark.parametrize(
    ("launch", "reason"),
    [
        ("replace(launch, cwd='/missing')", "[Errno 2] No such file or directory: '/missing'"),
        ("replace(launch, executable='/missing/python')", "[Errno 2] No such file or directory: '/missing/python'"),
        ("replace(launch, executable='/etc/passwd')", "[Errno 13] Permission denied: '/etc/passwd'"),
    ],
)
def test_no_successor(launch: str, reason: str) -> None:
    done = succession(SUCCESSOR, launch=launch)
    assert (done.returncode, done.stdout.strip()) == (1, reason)


# Gunicorn, in either place.


def app_in(directory: Path) -> None:
    (directory / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '8')])\n"
        "    return [b'Gunicorn']\n"
    )


def ask(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


GUNICORN = """
import sys
sys.argv = ["gunicorn", "--no-control-socket", "--pid", "gunicorn.pid", "app:app"]
from gunicorn.app.wsgiapp import run
run()
"""


@pytest.mark.process
def test_gunicorn_takes_over(tmp_path: Path, stack: ExitStack) -> None:
    pytest.importorskip("gunicorn")
    app_in(tmp_path)
    sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    hands_over = """
import os, sys
from dataclasses import replace
from monoceros.arbiter.reexec import Launch, exec_successor, successor_environ
launch, master, fds = Launch.remember(), os.getpid(), [int(sys.argv[1])]
if os.fork() == 0:
    launch = replace(launch, argv=(launch.executable, "-c", sys.argv[2]))
    exec_successor(launch, successor_environ(launch.environ, master, fds), fds)
os.wait()
"""
    predecessor = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", hands_over, str(sock.fileno()), GUNICORN],
            pass_fds=[sock.fileno()],
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        )
    )
    stack.callback(predecessor.kill)
    second = tmp_path / "gunicorn.pid.2"
    pid = wait_for(lambda: second.exists() and int(second.read_text() or 0), SECONDS, "the second pid file")
    stack.callback(end, pid)
    assert ask(sock.getsockname()[1]) == b"Gunicorn"
    predecessor.kill()
    predecessor.wait()
    wait_for(lambda: (tmp_path / "gunicorn.pid").exists(), SECONDS, "the promotion")
    assert not second.exists()


@pytest.mark.process
def test_gunicorn_hands_over(tmp_path: Path, stack: ExitStack) -> None:
    """The same command twice, as after an update that put us in Gunicorn's place."""
    pytest.importorskip("gunicorn")
    app_in(tmp_path)
    (tmp_path / "server.py").write_text("""
import json, os, sys
if "GUNICORN_PID" in os.environ:
    from monoceros.arbiter.reexec import adopt, inherited
    from monoceros.settings.values import address
    predecessor, fds = inherited(os.environ)
    found = adopt([address(sys.argv[2])], fds)
    said = [predecessor, {str(address): sock.getsockname()[1] for address, sock in found.items()}]
    with open("said.part", "w") as file:
        json.dump(said, file)
    os.rename("said.part", "said")
else:
    from gunicorn.app.wsgiapp import run
    run()
""")
    probe = socket.create_server(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    command = ["server.py", "--bind", f"127.0.0.1:{port}", "--no-control-socket", "--pid", "gunicorn.pid", "app:app"]
    gunicorn = stack.enter_context(
        subprocess.Popen([sys.executable, *command], cwd=tmp_path, stderr=subprocess.DEVNULL)
    )
    stack.callback(gunicorn.wait, SECONDS)
    stack.callback(gunicorn.terminate)
    wait_for(lambda: (tmp_path / "gunicorn.pid").exists(), SECONDS, "Gunicorn")
    wait_for(lambda: answers(port), SECONDS, "an answer")
    gunicorn.send_signal(signal.SIGUSR2)
    wait_for(lambda: (tmp_path / "said").exists(), SECONDS, "our word")
    assert json.loads((tmp_path / "said").read_text()) == [gunicorn.pid, {f"127.0.0.1:{port}": port}]


def answers(port: int) -> bool:
    try:
        return ask(port) == b"Gunicorn"
    except OSError:
        return False


def end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}") or b") Z " in Path(f"/proc/{pid}/stat").read_bytes(), SECONDS)
