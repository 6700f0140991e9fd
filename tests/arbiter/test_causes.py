"""Why a worker died: the line for each way to go, and the kernel's counters as text."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

import pytest

from monoceros.arbiter.causes import obituary, oom_kills


def exited(code: int) -> int:
    """A `waitpid` status, see wait(2)."""
    return code << 8


def killed_by(number: int, *, core: bool = False) -> int:
    return number | (0x80 if core else 0)


@pytest.mark.parametrize(
    ("status", "level", "line"),
    [
        (exited(1), logging.ERROR, "Worker (pid:7) exited with code 1."),
        (exited(255), logging.ERROR, "Worker (pid:7) exited with code 255."),
        (killed_by(signal.SIGTERM), logging.INFO, "Worker (pid:7) was sent SIGTERM!"),
        (killed_by(signal.SIGSEGV, core=True), logging.WARNING, "Worker (pid:7) was sent SIGSEGV!"),
        (killed_by(signal.SIGABRT), logging.WARNING, "Worker (pid:7) was sent SIGABRT!"),
        (killed_by(40), logging.WARNING, "Worker (pid:7) was sent SIG40!"),
        (killed_by(signal.SIGKILL), logging.ERROR, "Worker (pid:7) was sent SIGKILL! Perhaps out of memory?"),
    ],
)
def test_obituaries(status: int, level: int, line: str) -> None:
    assert obituary(7, status, killed=False, oom=None) == (level, line)


@pytest.mark.parametrize("killed", [False, True])
def test_leaving_in_order_is_not_worth_a_line(killed: bool) -> None:
    assert obituary(7, exited(0), killed=killed, oom=True) is None


@pytest.mark.parametrize(
    ("killed", "oom", "end"),
    [
        (True, None, "By us: it was past its deadline."),
        (True, True, "By us: it was past its deadline."),
        (False, True, "Out of memory: the kernel has killed it."),
        (False, False, "Not by us, and not for lack of memory, says the kernel."),
    ],
)
def test_who_sent_the_kill(killed: bool, oom: bool | None, end: str) -> None:
    expected = (logging.ERROR, f"Worker (pid:7) was sent SIGKILL! {end}")
    assert obituary(7, killed_by(signal.SIGKILL), killed=killed, oom=oom) == expected


def test_the_statuses_are_those_of_the_kernel() -> None:
    pid = os.fork()
    if not pid:
        os._exit(3)
    assert os.waitpid(pid, 0)[1] == exited(3)
    pid = os.fork()
    if not pid:
        signal.pause()
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == killed_by(signal.SIGKILL)


# Counters


def machine(**files: str) -> Callable[[str], str]:
    """Reads these files; in their names `__` stands for `/`, and `_dot_` for a dot."""
    texts = {"/" + name.replace("__", "/").replace("_dot_", "."): text for name, text in files.items()}

    def read(path: str) -> str:
        try:
            return texts[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    return read


EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 9\n"


def test_our_own_cgroup() -> None:
    read = machine(
        proc__self__cgroup="0::/system.slice/web.service\n",
        sys__fs__cgroup__system_dot_slice__web_dot_service__memory_dot_events=EVENTS,
        proc__vmstat="oom_kill 70\n",
    )
    assert oom_kills(read) == 2


def test_a_container_that_is_the_root_of_its_namespace() -> None:
    read = machine(proc__self__cgroup="0::/\n", sys__fs__cgroup__memory_dot_events=EVENTS, proc__vmstat="oom_kill 7\n")
    assert oom_kills(read) == 2


def test_version_1() -> None:
    read = machine(
        proc__self__cgroup="12:pids:/x\n5:cpu,cpuacct:/x\n4:memory:/web\n",
        sys__fs__cgroup__memory__web__memory_dot_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
    )
    assert oom_kills(read) == 4


def test_only_the_machine_counts() -> None:
    assert oom_kills(machine(proc__self__cgroup="0::/a:b\n", proc__vmstat="nr_free 1\noom_kill 70\n")) == 70
    assert oom_kills(machine(proc__vmstat="oom_kill 70\n")) == 70


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill many\n", "oom_kills 3\n", "\0\n"])
def test_a_file_that_does_not_say(text: str) -> None:
    assert oom_kills(machine(proc__self__cgroup="0::/\n", proc__vmstat=text)) is None


def test_nothing_counts() -> None:
    assert oom_kills(machine()) is None


def test_this_machine() -> None:
    assert oom_kills() is None or oom_kills() >= 0  # type: ignore[operator]
