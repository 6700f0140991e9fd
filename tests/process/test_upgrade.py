"""USR2: a new master of the same command takes over the sockets, and the old one leaves when it is told to."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGQUIT, SIGTERM, SIGUSR2, SIGWINCH

import pytest

from process.apps import APP, FILES
from process.load import Load
from server import Server, processes, wait_for

Serve = Callable[..., Server]


def children(pid: int) -> list[int]:
    return [row.pid for row in processes() if row.parent == pid]


def upgrade(server: Server, workers: int = 1) -> int:
    """Send USR2. The pid of the new master, once it has so many workers, and all of them serve."""
    masters = server.stderr.count("Starting monoceros")
    server.signal(SIGUSR2)
    pid = int(server.expect(r"\[(\d+)\] \[INFO\] Starting monoceros", times=masters + 1)[1])
    wait_for(lambda: serves(server, pid, workers), what="the new master's workers")
    return pid


def serves(server: Server, master: int, workers: int = 1) -> bool:
    found = set(children(master))
    return len(found) == workers and found <= set(server.serving())


def served_by(server: Server, master: int) -> None:
    """Ask until one of this master's workers has answered."""
    wait_for(lambda: int(server.get("/").text) in children(master), what=f"an answer of a worker of {master}")


def gone(pid: int) -> bool:
    return all(row.pid != pid for row in processes())


def read(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text()
    return ""


@pytest.mark.smoke
@pytest.mark.parametrize("number", [SIGQUIT, SIGTERM])
def test_the_whole_way_costs_no_request(serve: Serve, tmp_path: Path, number: int) -> None:
    server = serve("-w", "2", "--pid", "master.pid", "app:app", files=FILES).ready(workers=2)
    old, first, second = server.pid, tmp_path / "master.pid", tmp_path / "master.pid.2"
    with Load(server, 6) as load:
        load.more(50)
        new = upgrade(server, workers=2)
        assert (first.read_text(), second.read_text()) == (f"{old}\n", f"{new}\n")
        server.expect(rf"\[{new}\] \[INFO\] Listening at: http://127.0.0.1:{server.port} \({new}\)")
        before = set(server.workers()) - {new}
        load.more(50)
        server.signal(SIGWINCH)
        server.expect(r"\[INFO\] graceful stop of workers")
        wait_for(lambda: before.isdisjoint(server.workers()), what="the old workers to leave")
        load.more(50)
        assert server.running
        assert server.stop(number) == 0
        server.expect(rf"\[{new}\] \[INFO\] Master has been promoted\.")
        wait_for(lambda: read(first) == f"{new}\n", what="the pid file to be renamed")
        assert not second.exists()
        load.more(50)
    assert load.errors == []
    assert load.refused == 0
    server.signal(SIGTERM, new)
    wait_for(lambda: server.tree() == [], what="the new master to leave")
    server.expect(rf"\[{new}\] \[INFO\] Shutting down: Master$")
    assert not first.exists()
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_without_winch_and_over_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    server = serve("-w", "2", "app:app", bind="unix:sock", files=FILES).ready(workers=2)
    with Load(server, 6) as load:
        load.more(50)
        new = upgrade(server, workers=2)
        assert server.stop(SIGTERM) == 0
        load.more(50)
    assert load.errors == []
    assert load.refused == 0
    server.expect("Master has been promoted")
    assert (tmp_path / "sock").is_socket()
    server.signal(SIGTERM, new)
    wait_for(lambda: server.tree() == [])
    assert not (tmp_path / "sock").exists()


def test_several_sockets(serve: Serve, tmp_path: Path) -> None:
    server = serve("app:app", "-b", "unix:sock", "-b", "unix:@{port}", files=FILES).ready()
    new = upgrade(server)
    served_by(server, server.pid)
    served_by(server, new)
    assert server.stop(SIGQUIT) == 0
    server.expect("Master has been promoted")
    tcp = server.bind
    for bind in (tcp, "unix:sock"):
        server.bind = bind
        assert int(server.get("/").text) in children(new)
    assert any(line.endswith(f"@{server.port}") for line in Path("/proc/net/unix").read_text().splitlines())


@pytest.mark.parametrize(
    ("number", "bind"),
    [(SIGQUIT, "127.0.0.1:{port}"), (SIGQUIT, "unix:sock"), (SIGTERM, "127.0.0.1:{port}"), (SIGKILL, "unix:sock")],
)
def test_the_new_one_may_leave_again(serve: Serve, tmp_path: Path, number: int, bind: str) -> None:
    server = serve("--pid", "master.pid", "app:app", bind=bind, files=FILES).ready()
    with Load(server, 4) as load:
        new = upgrade(server)
        load.more(50)
        server.signal(number, new)
        server.expect(rf"\[WARNING\] The new master \(pid:{new}\) has ended; this one goes on")
        wait_for(lambda: len(server.tree()) == 2, what="the new workers to leave")
        load.more(50)
    if number == SIGTERM:
        assert load.errors == []
    if number != SIGKILL:
        server.expect(rf"\[{new}\] \[INFO\] Shutting down: Master\.2$")
        assert not (tmp_path / "master.pid.2").exists()
    assert load.refused == 0
    served_by(server, server.pid)
    assert read(tmp_path / "master.pid") == f"{server.pid}\n"
    another = upgrade(server)
    assert read(tmp_path / "master.pid.2") == f"{another}\n"


def test_hup_brings_the_old_workers_back(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", files=FILES).ready(workers=2)
    new = upgrade(server, workers=2)
    server.signal(SIGWINCH)
    wait_for(lambda: server.workers() == [new], what="the old workers to leave")
    server.signal(SIGHUP)
    server.expect(rf"\[{server.pid}\] \[INFO\] Hang up: Master$")
    wait_for(lambda: serves_beside(server, new, 2), what="the old master's workers")
    server.signal(SIGQUIT, new)
    server.expect("The new master")
    served_by(server, server.pid)
    assert server.stop() == 0


def serves_beside(server: Server, new: int, workers: int) -> bool:
    found = set(server.workers()) - {new}
    return len(found) == workers and found <= set(server.serving())


def test_if_the_new_one_dies_an_emptied_old_one_serves_again(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", files=FILES).ready(workers=2)
    new = upgrade(server, workers=2)
    server.signal(SIGWINCH)
    wait_for(lambda: server.workers() == [new], what="the old workers to leave")
    server.signal(SIGKILL, new)
    server.expect("The new master")
    wait_for(lambda: serves(server, server.pid, 2), what="workers of the old master")
    served_by(server, server.pid)


def test_one_at_a_time(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    new = upgrade(server)
    server.signal(SIGUSR2)
    server.expect(rf"\[{server.pid}\] \[WARNING\] USR2 signal ignored\. Child exists\.")
    server.signal(SIGUSR2, new)
    server.expect(rf"\[{new}\] \[WARNING\] USR2 signal ignored\. Parent exists\.")
    assert server.stderr.count("Starting monoceros") == 2


def test_a_reload_of_the_new_one_while_the_old_one_lives(serve: Serve, tmp_path: Path) -> None:
    server = serve("--pid", "master.pid", "app:app", files=FILES).ready()
    new = upgrade(server)
    (worker,) = children(new)
    server.signal(SIGHUP, new)
    server.expect(rf"\[{new}\] \[INFO\] Hang up: Master\.2$")
    wait_for(lambda: worker not in children(new) and serves(server, new), what="another worker of the new master")
    assert read(tmp_path / "master.pid.2") == f"{new}\n"
    assert read(tmp_path / "master.pid") == f"{server.pid}\n"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"app.py": "1 / 0"}, "ZeroDivisionError"),
        ({"app.py": "app = None"}, "'app:app' is None, not an application"),
        ({"conf.py": "workers = 'many'"}, "workers = 'many'"),
    ],
)
def test_a_successor_that_cannot_serve(serve: Serve, broken: dict[str, str], said: str) -> None:
    """The old one goes on, whatever is wrong; once that is mended, there can be another successor."""
    files = {**FILES, "conf.py": "workers = 1\n"}
    server = serve("-c", "conf.py", "--pid", "master.pid", "app:app", files=files).ready()
    with Load(server, 2) as load:
        for name, text in broken.items():
            (server.directory / name).write_text(text)
        server.signal(SIGUSR2)
        server.expect(said)
        server.expect("The new master .* has ended; this one goes on")
        load.more(20)
        assert not (server.directory / "master.pid.2").exists()
        for name, text in files.items():
            (server.directory / name).write_text(text)
        new = upgrade(server)
        assert server.stop() == 0
        served_by(server, new)
    assert load.errors == []
    assert load.refused == 0


def test_the_old_one_is_killed(serve: Serve, tmp_path: Path) -> None:
    server = serve("--pid", "master.pid", "app:app", files=FILES).ready()
    old = server.workers()
    new = upgrade(server)
    server.signal(SIGKILL)
    assert server.wait() == -SIGKILL
    server.expect("Master has been promoted", seconds=5)  # less than an idle master sleeps
    wait_for(lambda: read(tmp_path / "master.pid") == f"{new}\n", what="the pid file to be renamed")
    wait_for(lambda: all(map(gone, old)), what="the old worker to notice")
    served_by(server, new)


def test_from_one_to_the_next(serve: Serve, tmp_path: Path) -> None:
    """Who was a successor may have one, and serves under the first name by then."""
    server = serve("--pid", "master.pid", "app:app", files=FILES).ready()
    second = upgrade(server)
    assert server.stop() == 0
    server.signal(SIGUSR2, second)
    third = int(server.expect(r"\[(\d+)\] \[INFO\] Starting monoceros", times=3)[1])
    wait_for(lambda: serves(server, third))
    assert read(tmp_path / "master.pid.2") == f"{third}\n"
    server.signal(SIGTERM, second)
    server.expect("Master has been promoted", times=2)
    wait_for(lambda: read(tmp_path / "master.pid") == f"{third}\n")
    served_by(server, third)


def test_it_starts_where_the_first_one_was_started(serve: Serve, tmp_path: Path) -> None:
    """A relative path of the command line means the same, and variables of `raw_env` are not left over."""
    app = APP.replace("{os.getpid()}", "{os.getpid()} {os.environ.get('COLOUR')} {os.environ.get('GUNICORN_PID')}")
    conf = "chdir = 'below'\nraw_env = ['COLOUR=red']\n"
    server = serve("-c", "conf.py", "app:app", files={"below/app.py": app, "conf.py": conf}).ready()
    (tmp_path / "conf.py").write_text("chdir = 'below'\n")
    assert server.get("/").text.split()[1:] == ["red", "None"]
    upgrade(server)
    assert server.stop() == 0
    assert server.get("/").text.split()[1:] == ["None", "None"]


def test_other_addresses(serve: Serve, tmp_path: Path) -> None:
    """What the new one does not want, the old one has alone; what is new, the new one opens."""
    conf = "bind = ['unix:kept', 'unix:dropped']"
    server = serve("-c", "conf.py", "app:app", bind=None, files={**FILES, "conf.py": conf})
    server.bind = "unix:kept"
    server.ready()
    (tmp_path / "conf.py").write_text("bind = ['unix:kept', 'unix:opened']")
    new = upgrade(server)
    server.bind = "unix:opened"
    assert int(server.get("/").text) in children(new)
    server.bind = "unix:dropped"
    assert int(server.get("/").text) not in children(new)
    assert server.stop() == 0
    server.bind = "unix:kept"
    assert int(server.get("/").text) in children(new)


# Started as systemd does it: the sockets are there already.
ACTIVATE = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", {port}))
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "monoceros", *sys.argv[1:]])
"""


def test_sockets_of_systemd(serve: Serve) -> None:
    command = (sys.executable, "activate.py")
    files = {**FILES, "activate.py": ACTIVATE}
    server = serve("-w", "2", "app:app", command=command, bind=None, files=files).ready(workers=2)
    with Load(server, 4) as load:
        new = upgrade(server, workers=2)
        server.expect(rf"\[{new}\] \[INFO\] Listening at: http://127.0.0.1:{server.port} ")
        assert server.stop() == 0
        wait_for(lambda: gone(server.pid))
        load.more(50)
        server.signal(SIGUSR2, new)  # nobody needs to wait for its promotion
        third = int(server.expect(r"\[(\d+)\] \[INFO\] Starting monoceros", times=3)[1])
        wait_for(lambda: serves(server, third, 2))
        server.signal(signal.SIGQUIT, third)
        server.expect("The new master")
        load.more(50)
    assert load.errors == []
    assert load.refused == 0


HOOK = """
import os

def pre_exec(server):
    server.log.info("pre_exec of %s in %s", server.pid, os.getpid())
    {then}
"""


def test_pkill_finds_the_new_one(serve: Serve) -> None:
    named = """
import os
if "GUNICORN_PID" not in os.environ:
    with open("/proc/self/comm", "w") as name:
        name.write("unicorn")
"""
    server = serve("app:app", files={**FILES, "gunicorn.conf.py": named}).ready()
    new = upgrade(server)
    for pid in (server.pid, new, *children(new)):
        assert Path(f"/proc/{pid}/comm").read_text() == "unicorn\n"


def test_pre_exec(serve: Serve) -> None:
    files = {**FILES, "conf.py": HOOK.replace("{then}", "os.environ['NO'] = 'use'")}
    server = serve("-c", "conf.py", "app:app", files=files).ready()
    new = upgrade(server)
    server.expect(rf"pre_exec of {server.pid} in {new}$")


def test_pre_exec_that_fails(serve: Serve) -> None:
    files = {**FILES, "conf.py": HOOK.replace("{then}", "1 / 0")}
    server = serve("-c", "conf.py", "app:app", files=files).ready()
    server.signal(SIGUSR2)
    server.expect(rf"\[ERROR\] Exception in pre_exec hook \({server.directory}/conf.py:4\)")
    server.expect("ZeroDivisionError")
    server.expect(r"\[ERROR\] Cannot start a new master: division by zero")
    server.expect("has ended; this one goes on")
    served_by(server, server.pid)


def test_a_port_for_each_worker(serve: Serve) -> None:
    """With reuse_port there is nothing to hand over: the new one listens beside the old one."""
    server = serve("-w", "2", "app:app", "--reuse-port", files=FILES).ready(workers=2)
    with Load(server, 4) as load:
        new = upgrade(server, workers=2)
        served_by(server, new)
        assert server.stop() == 0
        load.more(50)
    assert load.errors == []
    assert load.refused == 0


def test_a_descriptor_as_address(serve: Serve) -> None:
    activate = ACTIVATE.replace('os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")\n', "")
    command = (sys.executable, "activate.py")
    server = serve("app:app", command=command, bind="fd://3", files={**FILES, "activate.py": activate}).ready()
    new = upgrade(server)
    assert server.stop() == 0
    served_by(server, new)


def test_with_a_reloader(serve: Serve) -> None:
    server = serve("app:app", "--reload", files=FILES).ready()
    server.signal(SIGUSR2)
    new = int(server.expect(r"\[(\d+)\] \[INFO\] Starting monoceros", times=2)[1])
    wait_for(lambda: set(children(new)) & set(server.serving()))
    assert server.stop() == 0
    wait_for(lambda: set(server.tree()) == {new, *children(new)}, what="all of the old one to leave")
    server.expect("Master has been promoted")
    (server.directory / "app.py").write_text(APP + "\n\n")
    server.expect(rf"\[{new}\] \[INFO\] Worker reloading: .*app.py modified")
    server.expect(rf"\[{new}\] \[INFO\] Generation 2 serves")
