"""A listener: a bound socket with a name, whatever its birth.

Who accepts does not know which kind it has. Reload and hand-over work on names.
"""

import ctypes
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Final

from monoceros.settings.values import Address

# The machine is short of something for now, which is not the client's fault: wait, and accept later.
OVERLOAD: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

# accept(2): network errors of the new connection are reported here; it is gone, the listener is well.
GONE: Final = frozenset(
    (
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.EINVAL,  # the arbiter has shut the listener (see `shut`): nobody will come any more
        errno.ENETUNREACH,
    )
)

# A peer that says nothing for a minute is asked whether it is still there, and given up after four more questions
# (tcp(7)). Without that, a request whose application waits for long would be kept for a client that has vanished.
KEEPALIVE_IDLE: Final = 60
KEEPALIVE_INTERVAL: Final = 15
KEEPALIVE_PROBES: Final = 4

# struct tcp_info begins with eight bytes, behind which are words. The fifth, tcpi_unacked, is of a listening socket how
# many connections are queued (tcp_get_info in net/ipv4/tcp.c).
TCP_INFO_UNACKED: Final = 8 + 4 * 4

Peer = tuple[str, int]  # address and port of a client; ("", 0) over a Unix socket


class Overloaded(Exception):
    """No connection can be accepted for lack of descriptors or memory."""


class Listener:
    """A socket that listens at `address`. `owned` is False for one that somebody handed to us."""

    def __init__(self, address: Address, sock: socket.socket, *, owned: bool = True, shared: bool = True) -> None:
        self.address = address
        self.sock = sock
        self.owned = owned
        self.shared = shared
        self.name = address.name
        # What getsockname says costs a system call, and is asked for with each connection.
        self.bound = sock.getsockname()
        self._file = _identity(address.path) if address.kind == "unix" else None

    def __str__(self) -> str:
        if self.sock.family == socket.AF_UNIX:
            return f"unix:{self._path}"
        host, port = self.bound[:2]
        return f"http://[{host}]:{port}" if self.sock.family == socket.AF_INET6 else f"http://{host}:{port}"

    @property
    def _path(self) -> str:
        # The kernel reports an abstract socket's name in bytes that begin with a NUL.
        return (os.fsdecode(self.bound) if isinstance(self.bound, bytes) else str(self.bound)).replace("\0", "@", 1)

    @property
    def server(self) -> tuple[str, int | None]:
        """Host and port as applications are told; a Unix socket's path and None."""
        if self.sock.family == socket.AF_UNIX:
            return self._path, None
        return self.bound[0], self.bound[1]

    @classmethod
    def open(cls, address: Address, backlog: int, *, reuse_port: bool = False, umask: int = 0) -> "Listener":
        """Bind and listen. With `reuse_port`, only bind: each worker listens on a socket of its own.

        `umask` is what the file of a Unix socket is made with. Raises `OSError`.
        """
        if address.kind == "fd":
            return cls(address, _listening(_adopt(address.fd), backlog), owned=False)
        if address.kind == "unix":
            return cls(address, _listening(_bind_unix(address.path, umask), backlog))
        sock = _bind_tcp(address.host, address.port, reuse_port)
        return cls(address, sock if reuse_port else _listening(sock, backlog), shared=not reuse_port)

    def for_worker(self, backlog: int) -> "Listener":
        """What a worker accepts on: this very listener, or its own one on the same address (`reuse_port`)."""
        if self.shared:
            return self
        sock = _listening(_bind_tcp(self.bound[0], self.bound[1], reuse_port=True), backlog)
        return Listener(self.address, sock, shared=False)

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self) -> tuple[socket.socket, Peer] | None:
        """A connection that does not block, and who it is; None if none waits. Raises `Overloaded`."""
        try:
            sock, peer = self.sock.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in OVERLOAD:
                raise Overloaded(os.strerror(error.errno)) from error
            if error.errno in GONE:
                return None
            raise
        sock.setblocking(False)
        if isinstance(peer, tuple):
            # An IPv4 client of an IPv6 socket is known to logs and to networks by its IPv4 address.
            return sock, (peer[0].removeprefix("::ffff:"), peer[1])
        return sock, ("", 0)

    def refuse_new(self) -> None:
        """From now on no new connection begins, while those already made can still be accepted.

        The kernel has no word for this: closing resets whoever waits in the queue. So SYN packets are
        dropped by a filter, which a client takes for a busy network, and comes again.
        """
        if not self.owned:
            return
        if self.sock.family == socket.AF_UNIX:
            self._unlink()
            return
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN)
        buffer = ctypes.create_string_buffer(program, len(program))
        filter = struct.pack("HP", len(DROP_SYN), ctypes.addressof(buffer))
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter)
        except OSError:
            return  # a sandbox without socket filters: whoever comes in the last moment is reset

    @property
    def queued(self) -> int | None:
        """How many connections wait to be accepted; None where the kernel does not tell, as of a Unix socket."""
        if self.sock.family == socket.AF_UNIX:
            return None
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_UNACKED + 4)
        except OSError:  # it is closed
            return None
        return int.from_bytes(info[TCP_INFO_UNACKED:], sys.byteorder)

    def shut(self) -> bool:
        """Refuse whoever comes, in all processes that have a copy. False as long as somebody waits to be accepted.

        To be called some time after `refuse_new`, when handshakes that had begun are complete.
        """
        if not self.owned or not self.shared or self.sock.family == socket.AF_UNIX:
            return True
        if self.queued:
            return False
        with suppress(OSError):  # shut or closed already
            self.sock.shutdown(socket.SHUT_RDWR)
        return True

    def close(self) -> None:
        """Close this process's copy; the socket listens on while others have one."""
        self.sock.close()

    def discard(self) -> None:
        """Close a listener that nobody has been told of, and leave nothing behind."""
        if self.owned and self.sock.family == socket.AF_UNIX:
            self._unlink()
        self.close()

    def _unlink(self) -> None:
        """Remove our socket's file, if it is still ours: another server may have put its own there."""
        if self._file is not None and self._file == _identity(self.address.path):
            os.unlink(self.address.path)


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if there is none, as for an abstract socket."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


# socket(7), asm-generic/socket.h
SO_ATTACH_FILTER: Final = 26

# Classic BPF over a TCP header: drop the packet if of SYN and ACK only SYN is set, else let it pass.
DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # A = flags
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # A == SYN?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def _listening(sock: socket.socket, backlog: int) -> socket.socket:
    # An inherited socket that listens already keeps the backlog of its maker.
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.listen(backlog)
    if sock.family != socket.AF_UNIX:
        # Connections inherit it: our writes are whole messages, so waiting for more would only delay them.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setblocking(False)
    return sock


def _adopt(inherited: int) -> socket.socket:
    """A socket on a descriptor that somebody handed to us, which stays open."""
    fd = os.dup(inherited)
    try:
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise


def _bind_tcp(host: str, port: int, reuse_port: bool) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    with ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, kind, protocol))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        undo.pop_all()
    return sock


def _bind_unix(path: str, umask: int) -> socket.socket:
    """A bound Unix socket. One left behind by a dead server is removed, one in use is not."""
    if not path.startswith("\0"):
        _remove_stale(path)
    with ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        # By default 0: the proxy in front runs as another user, and who may come in is for the directory to say.
        before = os.umask(umask)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        undo.pop_all()
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # somebody listens, and is so busy that the queue is full
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


class Listeners(dict[str, Listener]):
    """Listeners by name."""

    def at(self, addresses: Iterable[Address]) -> "Listeners":
        """Those of them that listen at these addresses."""
        return Listeners((address.name, self[address.name]) for address in addresses)

    def reconcile(
        self, wanted: Iterable[Address], backlog: int, *, reuse_port: bool = False, umask: int = 0
    ) -> tuple["Listeners", list[Listener]]:
        """Keep what is still wanted, open what is new, return what may be closed later. All or nothing.

        Raises `OSError` with the address as its filename.
        """
        result = Listeners()
        with ExitStack() as undo:
            for address in wanted:
                listener = self.get(address.name)
                if listener is None:
                    listener = _open(address, backlog, reuse_port, umask)
                    undo.callback(listener.discard)
                result[address.name] = listener
            undo.pop_all()
        return result, [listener for name, listener in self.items() if name not in result]


def _open(address: Address, backlog: int, reuse_port: bool, umask: int) -> Listener:
    try:
        return Listener.open(address, backlog, reuse_port=reuse_port, umask=umask)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), address.name) from error
    except UnicodeError as error:  # no name that DNS could have: Python refuses to ask for it
        raise OSError(errno.EINVAL, "not a host name", address.name) from error
