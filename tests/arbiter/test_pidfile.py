"""Pid files: whose they are, when they are taken from somebody, and that nobody ever reads half of one."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from monoceros.arbiter.pidfile import Pidfile, PidfileError
from server import wait_for

US = os.getpid()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.pid"


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """`start(*command)` gives the pid of a process that lives until the test ends."""
    with ExitStack() as stack:

        def started(*command: str) -> int:
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            )
            stack.callback(process.kill)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"here\n")  # what comes back says that the program has begun
            assert process.stdout.readline() == b"here\n"
            return process.pid

        yield started


PYTHON = (sys.executable, "-c", "import sys; print(sys.stdin.readline(), end='', flush=True); sys.stdin.read()")
ANOTHER = ("cat",)


@pytest.fixture
def dead() -> int:
    """A pid that nobody has any more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def created(path: Path) -> Pidfile:
    pidfile = Pidfile(str(path))
    pidfile.create(US)
    return pidfile


def aged(path: Path, content: str, seconds: float) -> None:
    """A file that was written so long ago."""
    path.write_text(content)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_content_and_mode(path: Path) -> None:
    before = os.umask(0o077)
    try:
        created(path)
    finally:
        os.umask(before)
    assert path.read_text() == f"{US}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["server.pid"]


@pytest.mark.parametrize("command", [PYTHON, ANOTHER], ids=["Python", "another"])
def test_a_running_server_keeps_its_file(path: Path, start: Callable[..., int], command: tuple[str, ...]) -> None:
    pid = start(*command)
    path.write_text(f"{pid}\n")
    with pytest.raises(PidfileError) as caught:
        created(path)
    assert str(caught.value) == f"Already running on PID {pid} (or pid file '{path}' is stale)"
    assert path.read_text() == f"{pid}\n"
    assert os.listdir(path.parent) == ["server.pid"]


def test_the_clock_was_set_but_the_server_runs(path: Path, start: Callable[..., int]) -> None:
    aged(path, f"{start(*PYTHON)}\n", 86_400)
    with pytest.raises(PidfileError, match="Already running"):
        created(path)


def test_a_pid_that_another_program_has_by_now(path: Path, start: Callable[..., int]) -> None:
    aged(path, f"{start(*ANOTHER)}\n", 86_400)
    created(path)
    assert path.read_text() == f"{US}\n"


def test_a_server_of_another_user_is_a_running_server(path: Path, start: Callable[..., int]) -> None:
    if os.geteuid():
        pytest.skip("only root can start a process of another user")
    code = "import os, sys; os.setuid(65534); print(sys.stdin.readline(), end='', flush=True); sys.stdin.read()"
    pid = start(sys.executable, "-c", code)
    aged(path, f"{pid}\n", 86_400)
    with pytest.raises(PidfileError, match=f"PID {pid} "):
        created(path)


@pytest.mark.parametrize("content", ["", "\n", "nonsense", "0", "-1", "9999999999", "12x", "\0\0\0\0"])
def test_what_is_no_pid_is_replaced(path: Path, content: str) -> None:
    path.write_text(content)
    created(path)
    assert path.read_text() == f"{US}\n"


def test_the_dead_are_replaced(path: Path, dead: int) -> None:
    path.write_text(f"{dead}\n")
    created(path)
    assert path.read_text() == f"{US}\n"


def test_a_zombie_is_dead(path: Path) -> None:
    process = subprocess.Popen(["true"])
    try:
        wait_for(lambda: b") Z " in Path(f"/proc/{process.pid}/stat").read_bytes(), what="a zombie")
        path.write_text(f"{process.pid}\n")
        created(path)
    finally:
        process.wait()
    assert path.read_text() == f"{US}\n"


def test_our_own_pid_is_no_hindrance(path: Path) -> None:
    """In a container the pid is the same each time."""
    aged(path, f"{US}\n", 86_400)
    os.chmod(path, 0o600)
    created(path)
    assert path.read_text() == f"{US}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_other_data_is_not_replaced(path: Path) -> None:
    path.write_text("1\n" + "precious " * 10)
    with pytest.raises(PidfileError, match="holds something else than a pid"):
        created(path)
    assert "precious" in path.read_text()


def test_what_is_no_file_is_not_replaced(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(PidfileError, match=f"'{path}' is not a file"):
        created(path)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_symbolic_link_is_not_followed(path: Path) -> None:
    target = path.with_name("target")
    path.symlink_to(target)
    with pytest.raises(PidfileError, match="is a symbolic link"):
        created(path)
    assert not target.exists()


def test_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "server.pid"
    with pytest.raises(PidfileError) as caught:
        created(path)
    assert str(caught.value) == f"Cannot write pid file '{path}': there is no directory '{path.parent}'"


def test_no_permission() -> None:
    path = Path("/proc/server.pid")  # where root, too, may not write
    with pytest.raises(PidfileError, match=r"Cannot write pid file '/proc/server.pid': \w+"):
        created(path)


def test_a_relative_path_stays_the_same_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    pidfile = created(Path(path.name))
    monkeypatch.chdir("/")
    pidfile.remove()
    assert not path.exists()


def test_remove(path: Path) -> None:
    pidfile = created(path)
    pidfile.remove()
    assert not path.exists()
    pidfile.remove()  # once more does no harm


def test_a_file_of_somebody_else_is_not_removed(path: Path) -> None:
    pidfile = created(path)
    path.write_text("1\n")
    pidfile.remove()
    assert path.read_text() == "1\n"


def test_one_that_was_never_created_is_not_removed(path: Path) -> None:
    path.write_text("0\n")
    Pidfile(str(path)).remove()
    assert path.exists()


def test_rename(path: Path, dead: int) -> None:
    """The predecessor was killed and has left its file."""
    path.write_text(f"{dead}\n")
    second = created(path.with_name("server.pid.2"))
    second.rename(str(path))
    assert path.read_text() == f"{US}\n"
    assert os.listdir(path.parent) == ["server.pid"]
    second.remove()
    assert os.listdir(path.parent) == []


def test_no_rename_while_the_predecessor_lives(path: Path, start: Callable[..., int]) -> None:
    pid = start(*PYTHON)
    path.write_text(f"{pid}\n")
    second = created(path.with_name("server.pid.2"))
    with pytest.raises(PidfileError, match="Already running"):
        second.rename(str(path))
    assert path.read_text() == f"{pid}\n"
    assert Path(second.path).read_text() == f"{US}\n"


RACER = """
import os, sys
from monoceros.arbiter.pidfile import Pidfile, PidfileError
for path in sys.stdin:
    try:
        Pidfile(path.strip()).create(os.getpid())
        print("mine", flush=True)
    except PidfileError as error:
        print(error, flush=True)
"""


def test_of_many_that_start_at_once_one_gets_it(tmp_path: Path, dead: int) -> None:
    with ExitStack() as stack:
        racers = []
        for _ in range(4):
            racer = subprocess.Popen([sys.executable, "-c", RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(racer)
            stack.callback(racer.send_signal, signal.SIGKILL)
            racers.append(racer)

        def race(path: Path) -> list[str]:
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(f"{path}\n".encode())
                racer.stdin.flush()
            return [racer.stdout.readline().decode().strip() for racer in racers if racer.stdout]

        for number in range(200):
            path = tmp_path / str(number)
            if number % 2:
                path.write_text(f"{dead}\n")
            said = race(path)
            assert said.count("mine") == 1, said
            assert path.read_text() == f"{racers[said.index('mine')].pid}\n"
    assert len(os.listdir(tmp_path)) == 200
