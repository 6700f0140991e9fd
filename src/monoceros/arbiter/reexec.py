"""One master hands over to the next (USR2): a new process of the same command, with the same sockets.

Both sides speak as Gunicorn does: GUNICORN_PID is the predecessor, GUNICORN_FD the listening sockets. Where systemd had
opened these, they are handed on in its way, LISTEN_PID and LISTEN_FDS. So either can take over from the other.
"""

import fcntl
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn

from monoceros.arbiter.systemd import FIRST_FD, LISTEN_VARIABLES
from monoceros.settings.place import here
from monoceros.settings.values import Address

PREDECESSOR: Final = "GUNICORN_PID"
SOCKETS: Final = "GUNICORN_FD"

NUMBER: Final = re.compile(r"[0-9]{1,9}")

FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class HandoverError(Exception):
    """What a predecessor has handed over is not what it should be. The text is one line for the user."""


@dataclass(frozen=True)
class Launch:
    """How this process was started, so that it can be done again: to be noted before anything of it is changed.

    `argv` begins with `executable`, and both may be relative to `cwd`.
    """

    executable: str
    argv: tuple[str, ...]
    cwd: str
    environ: Mapping[str, str]

    @classmethod
    def remember(cls, environ: Mapping[str, str] = os.environ) -> "Launch":
        """The present process. `cwd` is $PWD where that is the same directory, see `settings.place.here`."""
        cwd = here(environ)
        executable = _executable(cwd)
        # Unlike sys.argv it has `-m` and the interpreter's options, and nobody changes it.
        return cls(executable, (executable, *sys.orig_argv[1:]), cwd, MappingProxyType(dict(environ)))


def _executable(cwd: str) -> str:
    """The interpreter as it was called: `current/bin/python` is another one when `current` leads elsewhere."""
    typed = sys.orig_argv[0] if sys.orig_argv else ""
    try:
        if "/" in typed and os.path.samefile(os.path.join(cwd, typed), sys.executable):
            return typed
    except OSError:
        pass
    return sys.executable


# The predecessor's side.


def successor_environ(
    environ: Mapping[str, str], predecessor: int, fds: Sequence[int], *, activated: int | None = None
) -> dict[str, str]:
    """The environment of a successor, made of the one that we were started with (`Launch.environ`).

    `predecessor` is our pid, `fds` are the sockets to hand over. Where systemd had opened them, `activated` is the
    successor's pid.
    """
    # systemd's watchdog watches whoever is the master; with a pid, the successor would take it for another's.
    stale = (PREDECESSOR, SOCKETS, "WATCHDOG_PID", *LISTEN_VARIABLES)
    result = {name: value for name, value in environ.items() if name not in stale}
    result[PREDECESSOR] = str(predecessor)
    if activated is None:
        result[SOCKETS] = ",".join(map(str, fds))
    else:
        result["LISTEN_PID"], result["LISTEN_FDS"] = str(activated), str(len(fds))
    return result


def exec_successor(launch: Launch, environ: Mapping[str, str], fds: Sequence[int]) -> NoReturn:
    """Become the successor: to be called in a child that the main thread has just forked, with signals blocked.

    Raises `OSError` if that cannot be, naming the directory or the program.
    """
    # A signal that comes now is for us, but the handlers that we have write it into a socket that the parent reads.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the mask would outlive the exec
    os.chdir(launch.cwd)
    os.stat(launch.executable)  # as long as we can still say what is wrong: below, a log may lose its descriptor
    if "LISTEN_FDS" in environ:
        _renumber(fds)
    else:
        for fd in fds:
            os.set_inheritable(fd, True)
    os.execve(launch.executable, launch.argv, environ)


def _renumber(fds: Sequence[int]) -> None:
    """Make them 3, 4, 5 ..., the numbers that systemd gives, and inheritable."""
    first_free = FIRST_FD + len(fds)
    for target, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first_free) for fd in fds], FIRST_FD):
        os.dup2(fd, target)


# The successor's side.


def inherited(environ: MutableMapping[str, str]) -> tuple[int | None, list[int]]:
    """Who we take over from, and the listening sockets it has handed over. The variables are removed from `environ`.

    The pid is None if there is nobody, or nobody any more: a predecessor that lives is our parent. Raises
    `HandoverError` for descriptors that are no listening sockets.
    """
    pid, listed = environ.pop(PREDECESSOR, None), environ.pop(SOCKETS, "")
    if pid is None:
        return None, []
    fds = []
    for item in listed.split(",") if listed else []:
        if not NUMBER.fullmatch(item) or not _listens(int(item)):
            raise HandoverError(f"{SOCKETS} = {listed!r}: {item!r} is not a listening socket")
        if int(item) not in fds:
            fds.append(int(item))
    for fd in fds:
        os.set_inheritable(fd, False)
    return (os.getppid() if pid == str(os.getppid()) else None), fds


def take_name(predecessor: int) -> None:
    """Be called as the predecessor is, and not `python`, by which `pkill monoceros` would not find us."""
    with suppress(OSError):  # it has just gone, or this /proc may not be written: the name is a comfort
        with open(f"/proc/{predecessor}/comm", "rb") as theirs:
            name = theirs.read().rstrip(b"\n")
        with open("/proc/self/comm", "wb") as ours:
            ours.write(name)


def _listens(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as sock:
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return bool(listens) and sock.type == socket.SOCK_STREAM and sock.family in FAMILIES
    except OSError:
        return False


def adopt(wanted: Iterable[Address], fds: Iterable[int]) -> dict[Address, socket.socket]:
    """Of the handed-over sockets `fds`, those that listen at an address that is wanted; the others are closed.

    They do not block. An address that nobody listens at yet is not in the result. Port 0 is satisfied with any port.
    """
    free = {fd: socket.socket(fileno=fd) for fd in fds}
    found = {}
    # Who leaves the port to the kernel gets what is left by those who name theirs.
    for address in sorted(wanted, key=_is_modest):
        where = _where(address)
        fd = next((fd for fd, sock in free.items() if fd == address.fd or _at(sock, address) == where), None)
        if fd is not None:
            found[address] = sock = free.pop(fd)
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for sock in free.values():
        sock.close()
    return found


def _is_modest(address: Address) -> bool:
    return address.kind == "tcp" and address.port == 0


def _where(address: Address) -> object:
    """What `_at` says of a socket that listens at this address; no socket does if it is an object of its own."""
    if address.kind == "unix":
        # A socket whose file has gone is one that nobody finds.
        path = address.path
        if path.startswith("\0") or _is_socket(path):
            return os.fsencode(path)
    elif address.kind == "tcp":
        try:
            family, *_, place = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, UnicodeError):  # it is reported when the address is to be opened
            return object()
        return family, *place
    return object()


def _at(sock: socket.socket, address: Address) -> object:
    bound: Any = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return os.fsencode(bound)
    host, port, *rest = bound
    return sock.family, host, 0 if _is_modest(address) else port, *rest


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
