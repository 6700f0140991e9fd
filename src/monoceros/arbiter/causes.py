"""Why a worker died, as far as the kernel says."""

import logging
import os
import signal
from collections.abc import Callable
from typing import Final

from monoceros import signals


def oom_kills(read: Callable[[str], str] | None = None) -> int | None:
    """How many processes the kernel has killed for lack of memory, here or on the machine; None if it does not say.

    `read` gives the text of a file, or raises OSError.
    """
    read = read or _read
    for path in _sources(read):
        try:
            text = read(path)
        except OSError:
            continue
        for line in text.splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.strip().isdigit():
                return int(number)
    return None


VMSTAT: Final = "/proc/vmstat"


def _sources(read: Callable[[str], str]) -> list[str]:
    """Our own cgroup first (version 2, then version 1), since a container's limit is what is met first."""
    try:
        groups = read("/proc/self/cgroup").splitlines()
    except OSError:
        return [VMSTAT]
    sources = []
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:
            sources.append(f"/sys/fs/cgroup{path.rstrip('/')}/memory.events")
        elif "memory" in controllers.split(","):
            sources.append(f"/sys/fs/cgroup/memory{path.rstrip('/')}/memory.oom_control")
    return [*sources, "/sys/fs/cgroup/memory.events", VMSTAT]


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def obituary(pid: int, status: int, *, killed: bool, oom: bool | None, role: str = "worker") -> tuple[int, str] | None:
    """Log level and line for a worker that ended with this `waitpid` status; None if it left in order.

    `role` is what it was, "worker" or "site"; `killed` says that we did it; `oom` whether the kernel has counted a
    process killed for lack of memory since the last death, None if it does not count.
    """
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    who = role.capitalize()
    if code > 0:
        return logging.ERROR, f"{who} (pid:{pid}) exited with code {code}."
    name = signals.name(-code)
    line = f"{who} (pid:{pid}) was sent {name}!"
    if -code == signal.SIGTERM:
        return logging.INFO, line
    if -code != signal.SIGKILL:
        return logging.WARNING, line
    if killed:
        return logging.ERROR, f"{line} By us: it was past its deadline."
    if oom is None:
        return logging.ERROR, f"{line} Perhaps out of memory?"
    if oom:
        return logging.ERROR, f"{line} Out of memory: the kernel has killed it."
    return logging.ERROR, f"{line} Not by us, and not for lack of memory, says the kernel."


def of_boot(late: bool, code: int, patience: float) -> str:
    """Why a worker did not get ready: it was late, or ended with this exit code (negative: a signal)."""
    if late:
        return f"it was not ready within {patience:g} s"
    return f"it was sent {signals.name(-code)}" if code < 0 else f"it exited with code {code}, its lines above say why"
