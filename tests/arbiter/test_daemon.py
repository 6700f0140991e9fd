"""Daemons, and what their launchers say of them. Each is a real one, which ends when its test does."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from monoceros.arbiter.daemon import Launcher
from server import wait_for

SECONDS = 20

# It evaluates the lines that come from `reader` and answers on `writer`. It and its workers end when the test closes
# the other ends of `reader` and of `life`.
DAEMON = """
import json, logging, os, sys
from monoceros.arbiter.daemon import daemonize
print("before the fork")
launcher = daemonize({inherit})
commands, answers = os.fdopen({reader}), os.fdopen({writer}, "w", buffering=1)
def worker(begin):
    if not os.fork():
        answers.close()
        begin()
        os.read({life}, 1)
        os._exit(0)
for command in commands:
    answers.write(json.dumps(eval(command)) + "\\n")
"""


class Daemon:
    """A daemon and its launcher, which is `launcher` while it waits."""

    def __init__(self, stack: ExitStack, *, inherit: bool = False, **options: Any) -> None:
        (reader, commands), (life, end), (answers, writer) = (os.pipe() for _ in range(3))
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        code = DAEMON.format(inherit=inherit, reader=reader, life=life, writer=writer)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.launcher = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=(reader, life, writer),
            text=True,
            env=environ,
            **{**streams, **options},
        )
        for fd in (reader, life, writer):
            os.close(fd)
        stack.callback(os.close, end)
        self._reader = stack.enter_context(os.fdopen(answers))
        self._writer = stack.enter_context(os.fdopen(commands, "w", buffering=1))
        stack.callback(self._end)

    def ask(self, expression: str) -> Any:
        self._writer.write(expression + "\n")
        return json.loads(self._reader.readline())

    def leave(self) -> None:
        self._writer.write("os._exit(0)\n")
        assert self._reader.read() == ""

    def launched(self) -> tuple[int, str, str]:
        """What the launcher has printed and exited with."""
        out, err = self.launcher.communicate(timeout=SECONDS)
        return self.launcher.returncode, out, err

    def _end(self) -> None:
        self.launcher.kill()
        self.launcher.communicate()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_another_process_in_a_session_without_a_terminal(stack: ExitStack) -> None:
    daemon = Daemon(stack, umask=0o077)
    pid, session = daemon.ask("[os.getpid(), os.getsid(0)]")
    assert pid not in (daemon.launcher.pid, session)  # no leader, which could get a terminal
    assert session != os.getsid(0)
    assert daemon.ask("os.umask(0)") == 0o022
    assert daemon.ask("os.getcwd()") == os.getcwd()
    assert daemon.ask("[os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)]") == ["/dev/null"] * 3
    assert daemon.ask("[os.get_inheritable(fd) for fd in (0, 1, 2)]") == [True] * 3
    assert daemon.ask("sorted(map(int, os.listdir('/proc/self/fd')))[:3]") == [0, 1, 2]


def test_the_launcher_waits_until_it_is_ready(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    assert daemon.ask("1 + 1") == 2
    assert daemon.launcher.poll() is None
    daemon.ask("launcher.ready()")
    assert daemon.launched() == (0, "before the fork\n", "")
    assert daemon.ask("1 + 1") == 2


@pytest.mark.parametrize(("status", "exited"), [(3, 3), (1, 1), (0, 1), (-1, 255)])
def test_the_launcher_says_why_it_failed(stack: ExitStack, status: int, exited: int) -> None:
    daemon = Daemon(stack)
    daemon.ask(f"launcher.failed({status}, 'Error: schief gegangen, sch\\xf6n')")
    assert daemon.launched() == (exited, "before the fork\n", "Error: schief gegangen, schön\n")


def test_a_long_story_is_cut(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("launcher.failed(1, 'x' * 1_000_000)")
    assert daemon.launched()[2] == "x" * 4095 + "\n"


ERROR = "logging.getLogger('tale').error"


def test_errors_are_shown_until_it_is_ready(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("launcher.follow(logging.getLogger('tale'))")
    daemon.ask(f"[{ERROR}('sch\xf6n %s', 1), logging.getLogger('tale').warning('no error')]")
    daemon.ask(f"[launcher.ready(), {ERROR}('too late')]")
    status, _, err = daemon.launched()
    assert status == 0
    assert err.endswith(" [ERROR] schön 1\n")
    assert err.count("\n") == 1


def test_errors_of_workers_are_shown(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("launcher.follow(logging.getLogger('tale'))")
    daemon.ask(f"worker(lambda: [launcher.close(), {ERROR}('of a worker')])")
    assert daemon.launcher.stderr is not None
    line = daemon.launcher.stderr.readline()
    assert line.endswith(" [ERROR] of a worker\n")
    daemon.ask("launcher.failed(3, 'Error: the end')")  # while the worker lives
    assert daemon.launched() == (3, "before the fork\n", "Error: the end\n")


def test_errors_do_not_wait_for_a_launcher_that_is_stopped(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("launcher.follow(logging.getLogger('tale'))")
    daemon.launcher.send_signal(signal.SIGSTOP)
    daemon.ask(f"[{ERROR}('x' * 10_000) for _ in range(100)]")
    daemon.launcher.send_signal(signal.SIGCONT)
    daemon.ask("launcher.failed(3, 'Error: the end')")
    status, _, err = daemon.launched()
    assert status == 3
    assert err.endswith("Error: the end\n")


def test_errors_after_the_launcher_was_ended(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("launcher.follow(logging.getLogger('tale'))")
    daemon.launcher.send_signal(signal.SIGINT)
    daemon.launched()
    assert daemon.ask(f"[{ERROR}('a'), {ERROR}('b')]") == [None, None]


def test_only_the_first_word_counts(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("[launcher.ready(), launcher.failed(3, 'too late')]")
    assert daemon.launched()[0] == 0


def test_a_daemon_that_dies_without_a_word(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.leave()
    status, _, err = daemon.launched()
    assert status == 1
    assert err.startswith("Error: the server ended before it was ready")


def test_what_is_said_is_heard_while_a_worker_holds_the_pipe(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("worker(lambda: None)")
    daemon.ask("launcher.ready()")
    assert daemon.launched()[0] == 0


def test_silence_is_heard_while_a_worker_lives_that_has_closed_it(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("worker(launcher.close)")
    daemon.leave()
    assert daemon.launched()[0] == 1


def test_a_launcher_that_was_ended_is_not_missed(stack: ExitStack) -> None:
    daemon = Daemon(stack)
    daemon.ask("0")
    daemon.launcher.send_signal(signal.SIGINT)
    assert daemon.launched() == (-signal.SIGINT, "before the fork\n", "")
    daemon.ask("launcher.ready()")
    assert daemon.ask("1 + 1") == 2


def test_stdio_is_inherited(stack: ExitStack, tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:
        daemon = Daemon(stack, inherit=True, stdout=log, stderr=log)
    daemon.ask("[print('out', flush=True), print('err', file=sys.stderr, flush=True)]")
    assert daemon.ask("os.readlink('/proc/self/fd/0')") == "/dev/null"
    assert (tmp_path / "log").read_text() == "before the fork\nout\nerr\n"


def test_a_terminal_is_not_inherited(stack: ExitStack, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb", buffering=0), open(tmp_path / "log", "w") as log:
        daemon = Daemon(stack, inherit=True, stdout=terminal, stderr=log)
        os.close(terminal)
        assert daemon.ask("[os.isatty(1), os.readlink('/proc/self/fd/1')]") == [False, "/dev/null"]
        assert daemon.ask("os.readlink('/proc/self/fd/2')") == str(tmp_path / "log")
        daemon.ask("launcher.ready()")
        daemon.launched()


def test_what_was_closed_is_opened(stack: ExitStack) -> None:
    """Else a socket or a log could become descriptor 2, and get what is printed on stderr."""
    close = {"preexec_fn": lambda: os.closerange(0, 3)}
    daemon = Daemon(stack, inherit=True, stdin=None, stdout=None, stderr=None, **close)
    assert daemon.ask("[os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)]") == ["/dev/null"] * 3
    daemon.ask("launcher.ready()")
    assert daemon.launcher.wait(SECONDS) == 0


def test_no_thread_may_run() -> None:
    code = """
import threading
from monoceros.arbiter.daemon import DaemonError, daemonize
end = threading.Event()
threading.Thread(target=end.wait, name="sampler").start()
try:
    daemonize(False)
except DaemonError as error:
    print(error)
end.set()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout == "Cannot become a daemon while threads run: sampler\n"


def test_where_nobody_waits() -> None:
    launcher = Launcher()
    launcher.ready()
    launcher.failed(1, "text")
    launcher.close()


def test_the_daemons_of_these_tests_end(stack: ExitStack) -> None:
    with ExitStack() as inner:
        pid = Daemon(inner).ask("os.getpid()")
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="the daemon's end")
