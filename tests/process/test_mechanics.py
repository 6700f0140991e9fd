"""What a master does beside serving: pid file, background, another user, and orphans that are none of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import monoceros
from process.apps import APP, FILES, asgi, make_gate, open_gate
from process.load import Load
from server import Server, descriptors, processes, wait_for

Serve = Callable[..., Server]


def children(pid: int) -> list[int]:
    return [row.pid for row in processes() if row.parent == pid]


def pid_in(path: Path) -> int:
    """The pid in a file; 0 if there is none."""
    with suppress(FileNotFoundError):
        return int(path.read_text())
    return 0


# The pid file


def test_pid_file(serve: Serve, tmp_path: Path) -> None:
    server = serve("--pid", "run/master.pid", "app:app", files={**FILES, "run/other": ""}).ready()
    path = tmp_path / "run" / "master.pid"
    assert path.read_text() == f"{server.pid}\n"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert server.stop() == 0
    assert os.listdir(tmp_path / "run") == ["other"]


def test_pid_file_of_a_server_that_runs(serve: Serve, tmp_path: Path) -> None:
    first = serve("--pid", "master.pid", "app:app", files=FILES).ready()
    second = serve("--pid", "master.pid", "app:app")
    assert second.wait() == 1
    path = tmp_path / "master.pid"
    second.expect(rf"\[ERROR\] Reason: Already running on PID {first.pid} \(or pid file '{path}' is stale\)$")
    assert path.read_text() == f"{first.pid}\n"
    assert first.get("/").status == 200


def test_pid_file_of_a_server_that_was_killed(serve: Serve, tmp_path: Path) -> None:
    first = serve("--pid", "master.pid", "app:app", files=FILES).ready()
    first.kill()
    assert pid_in(tmp_path / "master.pid") == first.pid
    second = serve("--pid", "master.pid", "app:app").ready()
    assert pid_in(tmp_path / "master.pid") == second.pid


def test_pid_file_that_is_anothers_by_now(serve: Serve, tmp_path: Path) -> None:
    server = serve("--pid", "master.pid", "app:app", files=FILES).ready()
    (tmp_path / "master.pid").write_text("1\n")
    assert server.stop() == 0
    assert pid_in(tmp_path / "master.pid") == 1


def test_pid_file_that_cannot_be_written(serve: Serve, tmp_path: Path) -> None:
    server = serve("--pid", "nowhere/master.pid", "app:app", files=FILES)
    assert server.wait() == 1
    server.expect("Reason: Cannot write pid file '.*nowhere/master.pid': there is no directory")


def test_no_pid_file_is_left_by_a_start_that_fails(serve: Serve, tmp_path: Path) -> None:
    server = serve("--pid", "master.pid", "app:missing", files=FILES)
    assert server.wait() == 4
    assert list(tmp_path.glob("*.pid*")) == []


# In the background

# A config file as people have it.
BACKGROUND = """
bind = "127.0.0.1:{port}"
workers = 1
accesslog = "gunicorn/access.log"
errorlog = "gunicorn/error.log"
capture_output = True
loglevel = "all"
"""

FLASK = """
import json
from flask import Flask, request

app = Flask(__name__)

@app.route("/predict", methods=["POST"])
def predict():
    print("predicting by", request.form["model_type"])
    answer = {"by": request.form["model_type"], "file": request.form["img_file"]}
    return app.response_class(response=json.dumps(answer), status=500, mimetype="application/json")
"""


class Daemon:
    """A server in the background, once its launcher has left. `log` is its error log."""

    def __init__(self, server: Server, log: str = "error.log", pidfile: str = "master.pid") -> None:
        self.server = server
        self.status = server.wait()
        self._log = server.directory / log
        self._pidfile = server.directory / pidfile

    @property
    def pid(self) -> int:
        """The master, who is no child of the others."""
        if recorded := pid_in(self._pidfile):
            return recorded
        tree = self.server.tree()
        (master,) = [row.pid for row in processes() if row.pid in tree and row.parent not in tree]
        return master

    @property
    def log(self) -> str:
        return self._log.read_text()

    def expect(self, text: str) -> None:
        wait_for(lambda: text in self.log, what=f"{text!r} in the error log")

    def stop(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)
        wait_for(lambda: self.server.tree() == [], what="the daemon to leave")


def background(serve: Serve, *args: str, files: dict[str, str] = FILES) -> Server:
    return serve("--daemon", "--pid", "master.pid", "--error-logfile", "error.log", *args, "app:app", files=files)


def test_as_people_run_it(serve: Serve, tmp_path: Path) -> None:
    files = {"wsgi.py": FLASK, "gunicorn/gunicorn_cfg.py": BACKGROUND}
    args = ("--reload", "wsgi:app", "-c", "gunicorn/gunicorn_cfg.py", "--daemon")
    server = serve(*args, bind=None, files=files)
    daemon = Daemon(server, log="gunicorn/error.log")
    assert daemon.status == 0
    content = b"model_type=strawberry&img_file=a.png"
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    answer = server.get("/predict", method="POST", body=content, **form)
    assert (answer.status, answer.reason, answer.headers["Content-Type"]) == (
        500,
        "INTERNAL SERVER ERROR",
        "application/json",
    )
    assert json.loads(answer.body) == {"by": "strawberry", "file": "a.png"}
    daemon.expect("predicting by strawberry\n")
    wait_for(lambda: '"POST /predict HTTP/1.1" 500' in (tmp_path / "gunicorn" / "access.log").read_text())
    assert (tmp_path / "gunicorn" / "access.log").read_text().count("\n") == 1
    assert "[WARNING] Unknown loglevel 'all', using info." in daemon.log
    assert "[INFO] Booting worker with pid: " in daemon.log
    assert (server.stdout, server.stderr) == ("", "")
    daemon.stop()
    assert "[INFO] Worker exiting (pid: " in daemon.log
    assert "Shutting down: Master" in daemon.log
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_kill_9_of_a_daemon(serve: Serve, tmp_path: Path) -> None:
    """Its workers notice, and the address is free."""
    daemon = Daemon(background(serve, "-w", "2"))
    daemon.stop(signal.SIGKILL)
    assert daemon.log.count("[INFO] Parent changed, shutting down: worker=") == 2
    server = daemon.server
    with Server("app:app", bind=server.bind, directory=tmp_path) as next_one:
        next_one.port = server.port
        assert next_one.ready().get("/").status == 200


@pytest.mark.smoke
def test_a_daemon_serves_when_its_launcher_leaves(serve: Serve) -> None:
    slow = "import os\nos.mkfifo('importing')\nopen('gate').close()\n" + APP
    server = background(serve, files={"app.py": slow})
    make_gate(server)
    wait_for((server.directory / "importing").exists)
    assert server.running
    open_gate(server)
    daemon = Daemon(server)
    assert daemon.status == 0
    pid = daemon.pid
    assert int(server.get("/").text) in children(pid)
    assert server.pid != pid
    # A session of its own that it does not lead: proc_pid_stat(5), session and tty_nr.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) not in (pid, server.pid)
    assert fields[4] == "0"
    for process in (pid, *children(pid)):
        assert {descriptors(process)[fd] for fd in range(3)} == {"/dev/null"}
    daemon.stop()
    assert not (server.directory / "master.pid").exists()


@pytest.mark.parametrize(
    ("args", "files", "status", "said"),
    [
        (["-b", "192.0.2.1:8000"], FILES, 1, "Error: Can't connect to 192.0.2.1:8000"),
        ([], {"app.py": "1 / 0"}, 3, "Error: Worker failed to boot."),
        ([], {"app.py": "import os; os._exit(7)"}, 3, "Error: Worker failed to boot."),
        (["--preload"], {"app.py": "1 / 0"}, 3, "Error: Worker failed to boot."),
        ([], {"app.py": "app = None"}, 4, "Error: App failed to load."),
        (["--error-logfile", "nowhere/log"], FILES, 1, "Error: cannot open the error log 'nowhere/log'"),
        (["--pid", "nowhere/pid"], FILES, 1, "Error: Cannot write pid file"),
        (["--workers", "many"], FILES, 1, "Error: workers = 'many'"),
        (["--reload"], {"app.py": "1 / 0"}, 3, "Error: Worker failed to boot. It will be tried again when a file"),
    ],
)
def test_a_daemon_that_cannot_serve(
    serve: Serve, args: list[str], files: dict[str, str], status: int, said: str
) -> None:
    server = background(serve, *args, files=files)
    assert server.wait() == status
    *_, last = server.stderr.splitlines()
    assert last.startswith(said)
    if "--reload" in args:
        (server.directory / "app.py").write_text(APP)
        assert server.ready(20).get("/").status == 200
    else:
        wait_for(lambda: server.tree() == [])


@pytest.mark.parametrize("args", [[], ["--preload"]])
def test_what_the_application_raised_is_told_to_the_terminal(serve: Serve, args: list[str]) -> None:
    """Without a file for the error log, nobody else would see it."""
    server = serve("--daemon", *args, "app:app", files={"app.py": "1 / 0"})
    assert server.wait() == 3
    assert "ZeroDivisionError: division by zero\n" in server.stderr
    assert "Shutting down" not in server.stderr
    assert server.stderr.splitlines()[-1] == "Error: Worker failed to boot."


def test_a_daemon_that_is_told_to_stop_before_it_serves(serve: Serve) -> None:
    server = background(serve, files={"app.py": "open('gate').close()"})
    make_gate(server)
    wait_for(lambda: pid_in(server.directory / "master.pid"))
    os.kill(pid_in(server.directory / "master.pid"), signal.SIGTERM)
    assert server.wait() == 1
    assert server.stderr == "Error: it was told to stop\n"


def test_a_daemon_that_is_killed_before_it_serves(serve: Serve) -> None:
    server = background(serve, files={"app.py": "open('gate').close()"})
    make_gate(server)
    wait_for(lambda: pid_in(server.directory / "master.pid"))
    os.kill(pid_in(server.directory / "master.pid"), signal.SIGKILL)
    assert server.wait() == 1
    assert server.stderr == "Error: the server ended before it was ready; its error log may say why\n"


def test_the_number_of_a_daemons_workers_may_be_none(serve: Serve) -> None:
    """WINCH, and back by HUP."""
    daemon = Daemon(background(serve, "-w", "2"))
    pid = daemon.pid
    wait_for(lambda: len(daemon.server.serving()) == 2)
    os.kill(pid, signal.SIGWINCH)
    daemon.expect("graceful stop of workers")
    wait_for(lambda: children(pid) == [])
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: len(daemon.server.serving()) == 2)
    assert int(daemon.server.get("/").text) in children(pid)


def test_the_successor_of_a_daemon(serve: Serve) -> None:
    """It is in the background already: nobody waits, and the pid that the old one knows is that of the master."""
    daemon = Daemon(background(serve))
    old = daemon.pid
    with Load(daemon.server, 2) as load:
        os.kill(old, signal.SIGUSR2)
        second = wait_for(lambda: pid_in(daemon.server.directory / "master.pid.2"))
        wait_for(lambda: set(children(second)) & set(daemon.server.serving()))
        assert second in children(old)
        os.kill(old, signal.SIGTERM)
        daemon.expect("Master has been promoted.")
        wait_for(lambda: daemon.pid == second)
        load.more(20)
    assert load.errors == []
    assert load.refused == 0
    assert int(daemon.server.get("/").text) in children(second)
    daemon.stop()


PRINTING = "import sys\nprint('printed', flush=True)\nprint('complained', file=sys.stderr, flush=True)\n" + APP


def test_stdio_of_a_daemon(serve: Serve) -> None:
    server = Daemon(background(serve, files={"app.py": PRINTING})).server
    assert (server.stdout, server.stderr) == ("", "")


def test_stdio_that_is_inherited(serve: Serve) -> None:
    server = Daemon(background(serve, "-R", files={"app.py": PRINTING})).server
    assert (server.stdout, server.stderr) == ("printed\n", "complained\n")


# Another user

NOBODY = 65534

# It says who imports it, and who serves.
WHO = """
import os

ids = " ".join(map(str, (*os.getresuid(), *os.getresgid(), sorted(os.getgroups()))))
print(ids)

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(ids)))])
    return [ids.encode()]
"""

TRY = "import sys, selectors, asyncio, logging.config, monoceros; sys.exit(sys.version_info < (3, 11))"


def python_of_everybody() -> tuple[str, dict[str, str]]:
    """A Python that others than root may use, with our package: mostly ours, but not if it is below /root."""
    env = {"PYTHONPATH": str(Path(monoceros.__file__).parents[1])}
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError):
            if not subprocess.run([python, "-c", TRY], env=env, user=NOBODY, capture_output=True).returncode:
                return python, env
    pytest.skip("no Python here that everybody may use")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can read."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory(prefix="server-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def serve_as(serve: Serve, public: Path, *args: str, **options: object) -> Server:
    python, env = python_of_everybody()
    command = (python, "-m", "monoceros")
    return serve(*args, "app:app", command=command, env=env, directory=public, **{"files": {"app.py": WHO}, **options})


def ids(pid: int) -> dict[str, list[int]]:
    """Real, effective, saved and file system id, of user and group, see proc_pid_status(5)."""
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: [int(part) for part in rest.split()] for name, _, rest in lines if name in ("Uid", "Gid", "Groups")}


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_workers_are_somebody_else(serve: Serve, public: Path, kind: str) -> None:
    server = serve_as(serve, public, "-k", kind, "-w", "2", "--user", "nobody", "--group", "nogroup").ready(workers=2)
    for pid in server.workers():
        assert ids(pid) == {"Uid": [NOBODY] * 4, "Gid": [NOBODY] * 4, "Groups": []}
    assert ids(server.pid)["Uid"] == [0] * 4
    theirs = f"{NOBODY} {NOBODY} {NOBODY} {NOBODY} {NOBODY} {NOBODY} []"
    assert server.get("/").text == theirs
    assert server.stdout == f"{theirs}\n" * 2  # they are so before they import anything
    assert server.stop() == 0


def test_by_number_and_with_the_groups_of_the_user(serve: Serve, public: Path) -> None:
    server = serve_as(serve, public, "-u", str(NOBODY), "-g", "1", "--initgroups").ready()
    (worker,) = server.workers()
    assert ids(worker)["Uid"] == [NOBODY] * 4
    assert ids(worker)["Gid"] == [1] * 4
    assert 1 in ids(worker)["Groups"]
    assert 0 not in ids(worker)["Groups"]


def test_what_the_master_opens_for_them_is_theirs(serve: Serve, public: Path) -> None:
    """The socket's file, and log files, also those that are made when logs are rotated."""
    logs = ("--access-logfile", "access", "--error-logfile", "error")
    args = ("--user", "nobody", "--group", "nogroup", *logs, "--umask", "0117")
    server = serve_as(serve, public, *args, bind="unix:sock").ready()
    for name in ("sock", "access", "error"):
        assert ((public / name).stat().st_uid, (public / name).stat().st_gid) == (NOBODY, NOBODY)
    assert (public / "sock").stat().st_mode & 0o777 == 0o660
    (worker,) = server.workers()
    for name in ("access", "error"):
        (public / name).rename(public / f"{name}.1")
    server.signal(signal.SIGUSR1)
    names = {str(public / name) for name in ("access", "error")}
    wait_for(lambda: names <= set(descriptors(worker).values()), what="the worker to reopen its logs")
    assert ((public / "access").stat().st_uid, (public / "error").stat().st_uid) == (NOBODY, NOBODY)
    server.get("/?after")
    wait_for(lambda: "after" in (public / "access").read_text())
    assert "Cannot reopen" not in (public / "error").read_text() + (public / "error.1").read_text()
    assert server.stop() == 0
    assert not (public / "sock").exists()


def test_a_reload_of_somebody_else(serve: Serve, public: Path) -> None:
    """A new log file, a new socket: they are theirs, too."""
    files = {"app.py": WHO, "conf.py": "user = 'nobody'\nbind = '127.0.0.1:{port}'"}
    server = serve_as(serve, public, "-c", "conf.py", bind=None, files=files).ready()
    conf = f"user = 'nobody'\nbind = ['127.0.0.1:{server.port}', 'unix:sock']\nerrorlog = 'error'\naccesslog = 'access'"
    (public / "conf.py").write_text(conf)
    server.signal(signal.SIGHUP)
    wait_for(lambda: (public / "error").exists() and "Generation 2 serves" in (public / "error").read_text())
    for name in ("sock", "access", "error"):
        assert (public / name).stat().st_uid == NOBODY
    server.bind = "unix:sock"
    assert server.get("/").status == 200


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--user", "no-such-user"], "Error: user = 'no-such-user' .*there is no user 'no-such-user'"),
        (["--group", "no-such-group"], "Error: group = 'no-such-group' .*there is no group 'no-such-group'"),
    ],
)
def test_nobody_that_is_known(serve: Serve, args: list[str], said: str) -> None:
    server = serve(*args, "app:app", files=FILES)
    assert server.wait() == 1
    server.expect(said)


def test_who_is_not_root_cannot_become_somebody_else(serve: Serve, public: Path) -> None:
    python, env = python_of_everybody()
    command = ("setpriv", "--reuid=65534", "--clear-groups", python, "-m", "monoceros")
    os.chown(public, NOBODY, -1)
    server = serve("--user", "1", "app:app", command=command, env=env, directory=public, files={"app.py": WHO})
    assert server.wait() == 3
    server.expect(r"\[ERROR\] Cannot run as user 1 .*: Operation not permitted; start the server as root")
    server.expect("Reason: Worker failed to boot")


def test_preload_as_root_is_worth_a_warning(serve: Serve, public: Path) -> None:
    server = serve_as(serve, public, "--preload", "--user", "nobody").ready()
    server.expect(r"\[WARNING\] preload_app imports the application as root")
    (worker,) = server.workers()
    assert ids(worker)["Uid"] == [NOBODY] * 4
    assert server.stdout.split()[0] == "0"


# Other things that one can ask for


def test_umask_of_a_socket(serve: Serve, tmp_path: Path) -> None:
    server = serve("app:app", "--umask", "0o077", bind="unix:sock", files=FILES).ready()
    assert (tmp_path / "sock").stat().st_mode & 0o777 == 0o700
    assert server.stop() == 0


def test_spew(serve: Serve) -> None:
    line = "    here = 'a line to see'"
    module = f"def app(environ, start_response):\n{line}\n    start_response('204 No', [])\n    return []\n"
    server = serve("--spew", "app:app", files={"app.py": module}).ready(30)
    assert server.get("/", seconds=30).status == 204
    server.expect(rf"^app:2: {line}$")
    server.expect(r"^app:4:     return \[\]$")


PASTE = """
[DEFAULT]
colour = red

[app:main]
paste.app_factory = pasted:make
size = 3
"""

PASTED = """
def make(global_conf, size):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [f"{global_conf['colour']} {global_conf.get('shape')} {size}".encode()]
    return app
"""


def test_paste(serve: Serve) -> None:
    args = ("--paste", "etc/site.ini", "--paste-global", "shape=round")
    server = serve(*args, files={"etc/site.ini": PASTE, "pasted.py": PASTED}).ready()
    assert server.get("/").text == "red round 3"
    ini = PASTE.replace("red", "blue")
    (server.directory / "etc" / "site.ini").write_text(ini)
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 serves")
    assert server.get("/").text == "blue round 3"


def test_a_section_that_is_not_there(serve: Serve) -> None:
    server = serve("--paste", "site.ini#other", files={"site.ini": PASTE, "pasted.py": PASTED})
    assert server.wait() == 4
    server.expect("No section 'other'")


FROZEN = "import gc\ndef when_ready(server):\n    server.log.info('frozen: %d', gc.get_freeze_count())\n"


@pytest.mark.parametrize(("args", "frozen"), [([], False), (["--preload"], True)])
def test_what_is_preloaded_is_out_of_the_collectors_way(serve: Serve, args: list[str], frozen: bool) -> None:
    """A collector that writes to each object would copy the pages that the workers share."""
    server = serve(*args, "-c", "conf.py", "app:app", files={**FILES, "conf.py": FROZEN}).ready()
    count = int(server.expect(r"frozen: (\d+)")[1])
    assert (count > 10_000) == frozen


# As the first process of a container

AT_HAND = """
import gc, sys

def pre_fork(server, worker):
    server.log.info("frozen: %s, asyncio: %s", gc.get_freeze_count() > 0, "asyncio" in sys.modules)
"""


@pytest.mark.parametrize(
    ("kind", "files", "first", "then"),
    [
        ("auto", FILES, False, False),
        ("gthread", FILES, False, False),
        ("asgi", asgi(), True, True),
        ("auto", asgi(), False, True),
    ],
)
def test_what_workers_run_on_is_at_hand(
    serve: Serve, kind: str, files: dict[str, str], first: bool, then: bool
) -> None:
    """The master imports it for them, but asyncio only if it is needed."""
    server = serve("-k", kind, "-c", "conf.py", "app:app", files={**files, "conf.py": AT_HAND}).ready()
    server.expect(f"frozen: True, asyncio: {first}")
    server.signal(signal.SIGHUP)
    server.expect(f"frozen: True, asyncio: {then}", times=2 if first == then else 1)


REAPER = """
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36  # prctl(2); it outlives the exec
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "monoceros", *sys.argv[1:]])
"""

# A process that its parent has left: it becomes a child of the master.
ORPHAN = """
import os, time

def app(environ, start_response):
    if os.fork() == 0:
        if os.fork() == 0:
            with open("orphan", "w") as file:
                file.write(f"{os.getpid()}\\n")
            open("gate").close()
            os._exit(int(environ["QUERY_STRING"]))
        os._exit(0)
    os.wait()
    start_response("204 No Content", [])
    return []
"""


def state(pid: int) -> tuple[str, int] | None:
    """State and parent of a process, a zombie too; None if nothing is left of it."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[1])
    return None


@pytest.mark.parametrize("status", [0, 3])
def test_orphans_are_buried(serve: Serve, tmp_path: Path, status: int) -> None:
    files = {"app.py": ORPHAN, "reaper.py": REAPER}
    server = serve("app:app", command=(sys.executable, "reaper.py"), files=files).ready()
    make_gate(server)
    (worker,) = server.workers()
    assert server.get(f"/?{status}").status == 204
    orphan = wait_for(lambda: (tmp_path / "orphan").exists() and pid_in_whole(tmp_path / "orphan"))
    wait_for(lambda: (state(orphan) or ("", 0))[1] == server.pid, what="the master to get the orphan")
    open_gate(server)
    wait_for(lambda: state(orphan) is None, what="the end of the orphan, as a zombie, too")
    assert server.workers() == [worker]
    assert server.stop() == 0
    assert "ERROR" not in server.stderr
    assert str(orphan) not in server.stderr


def pid_in_whole(path: Path) -> int:
    text = path.read_text()
    return int(text) if text.endswith("\n") else 0


def test_orphans_do_not_delay_the_end(serve: Serve, tmp_path: Path) -> None:
    """They were none of the server's workers, and go on."""
    files = {"app.py": ORPHAN, "reaper.py": REAPER}
    server = serve("app:app", command=(sys.executable, "reaper.py"), files=files).ready()
    make_gate(server)
    assert server.get("/?0").status == 204
    orphan = wait_for(lambda: (tmp_path / "orphan").exists() and pid_in_whole(tmp_path / "orphan"))
    assert server.stop() == 0
    assert server.tree() == [orphan]
