"""What a server and systemd tell each other: sockets to listen on, and how it goes.

sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). Both are variables and bytes; no library is needed.
"""

import logging
import os
import re
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Final

from monoceros.settings.values import Address

error_log = logging.getLogger("gunicorn.error")

# sd_listen_fds(3): SD_LISTEN_FDS_START
FIRST_FD: Final = 3

# All that says which sockets were handed over, and to whom. Whoever inherits one of them is not meant.
LISTEN_VARIABLES: Final = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")

NUMBER: Final = re.compile(r"[0-9]{1,18}")

# systemd reads quickly, but it may be busy. The master must not stand still for long, in seconds.
PATIENCE: Final = 1.0


def listen_fds(environ: MutableMapping[str, str], pid: int) -> list[Address]:
    """The sockets that systemd has opened for process `pid`; empty if it has not, or not for us.

    The descriptors are closed on exec from now on, and the variables are removed from `environ`. They mean the process
    that systemd started: ask before a fork changes the pid. Raises ValueError for a count that is not true.
    """
    told = {name: environ.pop(name, "") for name in LISTEN_VARIABLES}
    if _number(told["LISTEN_PID"]) != pid:
        return []
    count = _number(told["LISTEN_FDS"])
    if count is None:
        raise ValueError(f"LISTEN_FDS = {told['LISTEN_FDS']!r}: not a number of descriptors")
    found = []
    for fd in range(FIRST_FD, FIRST_FD + count):
        try:
            os.set_inheritable(fd, False)
        except (OSError, OverflowError):
            raise ValueError(f"LISTEN_FDS = {count}, but descriptor {fd} is not open") from None
        found.append(Address("fd", fd=fd))
    return found


class Notifier:
    """The way to tell systemd how it goes. Without NOTIFY_SOCKET in `environ`, nothing is told, and nothing fails.

    `watchdog_interval` is how often to call `watchdog`, in seconds; None if nobody waits for that.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        where = environ.get("NOTIFY_SOCKET", "")
        # Others than "/path" and "@abstract" are for machines, not for services.
        self._where = "\0" + where[1:] if where.startswith("@") else where if where.startswith("/") else ""
        self.watchdog_interval = _watchdog_interval(environ) if self._where else None

    def ready(self, status: str = "") -> None:
        """We serve; also at the end of a reload."""
        self._tell("READY=1", *_status(status))

    def reloading(self) -> None:
        """A reload begins, which ends with `ready`. For Type=notify-reload it says when, in microseconds."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str = "") -> None:
        """We are about to leave; `status` says why, if that is a failure."""
        self._tell("STOPPING=1", *_status(status))

    def watchdog(self) -> None:
        """We are alive."""
        self._tell("WATCHDOG=1")

    def mainpid(self, pid: int) -> None:
        """From now on process `pid` is the master. Only the present one is believed, unless NotifyAccess says more."""
        self._tell(f"MAINPID={pid}")

    def _tell(self, *lines: str) -> None:
        if not self._where or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                sock.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._where)
        except OSError as error:
            error_log.debug("Cannot notify systemd at %r: %s", self._where, error)


def _status(text: str) -> list[str]:
    # A line break would begin another assignment.
    return ["STATUS=" + " ".join(text.splitlines())] if text else []


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Half of what systemd waits, as sd_watchdog_enabled(3) recommends."""
    microseconds = _number(environ.get("WATCHDOG_USEC", ""))
    whose = environ.get("WATCHDOG_PID")
    if not microseconds or (whose is not None and _number(whose) != os.getpid()):
        return None
    return microseconds / 2 / 1_000_000


def _number(text: str) -> int | None:
    return int(text) if NUMBER.fullmatch(text) else None
