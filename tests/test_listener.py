"""Listeners of every birth, on real sockets: what they are called, whom they let in, and how they end."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from monoceros.listener import Listener, Listeners, Overloaded, Peer
from monoceros.settings.values import Address, address
from server import wait_for

LONG = 20.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def opened(stack: ExitStack) -> Listener:
    """On a port of the kernel's choice."""
    return stack.enter_context(closing(Listener.open(address("127.0.0.1:0"), 64)))


class closing:
    """A listener that is closed in the end."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def __enter__(self) -> Listener:
        return self.listener

    def __exit__(self, *_: object) -> None:
        self.listener.close()


def client(listener: Listener, seconds: float = LONG) -> socket.socket:
    sock = socket.socket(listener.sock.family)
    sock.settimeout(seconds)
    try:
        sock.connect(listener.bound)
    except OSError:
        sock.close()
        raise
    return sock


def accepted(listener: Listener) -> tuple[socket.socket, Peer]:
    return wait_for(listener.accept, LONG, "a connection")  # type: ignore[return-value]


def talks(listener: Listener) -> Peer:
    """A client connects and says something, which arrives. Returns who it was to the listener."""
    with client(listener) as sock:
        served, peer = accepted(listener)
        with served:
            assert not served.getblocking()
            sock.sendall(b"hello")
            assert wait_for(lambda: received(served), LONG) == b"hello"
    return peer


def received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


def refused(listener: Listener) -> bool:
    try:
        client(listener).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


# TCP


def test_tcp(opened: Listener) -> None:
    port = opened.sock.getsockname()[1]
    assert str(opened) == f"http://127.0.0.1:{port}"
    assert opened.server == ("127.0.0.1", port)
    assert opened.name == "127.0.0.1:0"
    assert opened.owned
    assert opened.shared
    assert opened.accept() is None
    assert talks(opened)[0] == "127.0.0.1"
    assert opened.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_connections_send_without_delay(opened: Listener) -> None:
    with client(opened):
        served, _ = accepted(opened)
        with served:
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_clients_that_vanish_are_found_out(opened: Listener) -> None:
    with client(opened):
        served, _ = accepted(opened)
        with served:
            assert served.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            idle, interval, count = (served.getsockopt(socket.IPPROTO_TCP, option) for option in options)
            assert idle + interval * count <= 120


def test_a_name_instead_of_an_address() -> None:
    with closing(Listener.open(address("localhost:0"), 64)) as listener:
        assert talks(listener)[0] in ("127.0.0.1", "::1")


def test_ipv6() -> None:
    with closing(Listener.open(address("[::1]:0"), 64)) as listener:
        assert str(listener) == f"http://[::1]:{listener.bound[1]}"
        assert listener.server == ("::1", listener.bound[1])
        assert talks(listener)[0] == "::1"


def test_an_ipv4_client_of_an_ipv6_socket() -> None:
    with closing(Listener.open(address("[::]:0"), 64)) as listener:
        port = listener.bound[1]
        with socket.create_connection(("127.0.0.1", port), timeout=LONG) as sock:
            served, peer = accepted(listener)
            served.close()
            assert peer == ("127.0.0.1", sock.getsockname()[1])


def test_a_port_in_use(opened: Listener) -> None:
    taken = Address("tcp", host="127.0.0.1", port=opened.bound[1])
    with pytest.raises(OSError) as caught:
        Listener.open(taken, 64)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_that_was_just_left(opened: Listener) -> None:
    """Connections of the server before linger in TIME_WAIT: no reason to wait for them."""
    with client(opened) as sock:
        served, _ = accepted(opened)
        served.close()  # first, so that this end is the one in TIME_WAIT
        assert sock.recv(1) == b""
    opened.close()
    again = Address("tcp", host="127.0.0.1", port=opened.bound[1])
    with closing(Listener.open(again, 64)) as listener:
        talks(listener)


def test_a_client_that_is_gone_before_it_is_accepted(opened: Listener) -> None:
    client(opened).close()
    talks_after, _ = accepted(opened)
    talks_after.close()
    talks(opened)


def test_out_of_descriptors(opened: Listener) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with client(opened):
        # The lowest free descriptor is the first that may not be had.
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            with pytest.raises(Overloaded, match="Too many open files"):
                opened.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        accepted(opened)[0].close()  # it has waited


# Unix


def test_unix(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with closing(Listener.open(address(f"unix:{path}"), 64)) as listener:
        assert str(listener) == f"unix:{path}"
        assert listener.name == f"unix:{path}"
        assert listener.server == (str(path), None)
        assert stat.S_IMODE(path.stat().st_mode) == 0o777  # the proxy is another user
        assert talks(listener) == ("", 0)


def test_the_umask_stays(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        Listener.open(address(f"unix:{tmp_path}/sock"), 64).close()
    finally:
        assert os.umask(before) == 0o027


def test_a_socket_left_behind(tmp_path: Path) -> None:
    where = address(f"unix:{tmp_path}/sock")
    Listener.open(where, 64).close()
    assert (tmp_path / "sock").is_socket()
    with closing(Listener.open(where, 64)) as listener:
        talks(listener)


def test_a_socket_in_use(tmp_path: Path) -> None:
    where = address(f"unix:{tmp_path}/sock")
    with closing(Listener.open(where, 64)) as first:
        with pytest.raises(OSError) as caught:
            Listener.open(where, 64)
        assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, f"{tmp_path}/sock")
        accepted(first)[0].close()  # the question whether it is in use
        talks(first)


def test_a_socket_in_use_whose_queue_is_full(tmp_path: Path) -> None:
    where = address(f"unix:{tmp_path}/sock")
    with closing(Listener.open(where, 1)) as first, ExitStack() as clients:
        for _ in range(10):
            sock = clients.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            try:
                sock.connect(str(tmp_path / "sock"))
            except BlockingIOError:
                break
        with pytest.raises(OSError) as caught:
            Listener.open(where, 64)
        assert caught.value.errno == errno.EADDRINUSE
        accepted(first)[0].close()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "sock").write_text("precious")
    with pytest.raises(FileExistsError, match="exists and is not a socket"):
        Listener.open(address(f"unix:{tmp_path}/sock"), 64)
    assert (tmp_path / "sock").read_text() == "precious"


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Listener.open(address(f"unix:{tmp_path}/nowhere/sock"), 64)


def test_abstract() -> None:
    name = f"monoceros-{uuid.uuid4().hex}"
    with closing(Listener.open(address(f"unix:@{name}"), 64)) as listener:
        assert str(listener) == f"unix:@{name}"
        assert listener.server == (f"@{name}", None)
        assert talks(listener) == ("", 0)
        with pytest.raises(OSError) as caught:
            Listener.open(address(f"unix:@{name}"), 64)
        assert caught.value.errno == errno.EADDRINUSE
        listener.refuse_new()  # has no file to remove


# A descriptor that somebody hands us


@pytest.mark.parametrize("listening", [False, True])
def test_a_descriptor(listening: bool) -> None:
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        if listening:
            given.listen(7)
        with closing(Listener.open(address(f"fd://{given.fileno()}"), 64)) as listener:
            assert str(listener) == f"http://127.0.0.1:{given.getsockname()[1]}"
            assert listener.name == f"fd://{given.fileno()}"
            assert not listener.owned
            talks(listener)
            listener.refuse_new()
            talks(listener)  # it is not for us to close the door
        assert given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)  # still open, and listens


def test_a_unix_descriptor(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(tmp_path / "sock"))
        with closing(Listener.open(address(f"fd://{given.fileno()}"), 64)) as listener:
            assert str(listener) == f"unix:{tmp_path}/sock"
            assert talks(listener) == ("", 0)
            listener.refuse_new()
    assert (tmp_path / "sock").is_socket()  # its maker's


def test_a_descriptor_that_is_no_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError) as caught:
            Listener.open(address(f"fd://{file.fileno()}"), 64)
        assert caught.value.errno == errno.ENOTSOCK
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_that_is_not_open() -> None:
    with pytest.raises(OSError) as caught:
        Listener.open(address("fd://987"), 64)
    assert caught.value.errno == errno.EBADF


# One socket per worker


def test_reuse_port(stack: ExitStack) -> None:
    reserved = stack.enter_context(closing(Listener.open(address("127.0.0.1:0"), 64, reuse_port=True)))
    assert not reserved.shared
    assert refused(reserved)  # the arbiter only holds the port
    first = stack.enter_context(closing(reserved.for_worker(64)))
    second = stack.enter_context(closing(reserved.for_worker(64)))
    assert first.bound == second.bound == reserved.bound
    assert str(first) == str(reserved)
    with client(reserved):
        served, _ = wait_for(lambda: first.accept() or second.accept(), LONG)  # type: ignore[misc]
        served.close()
    first.close()
    talks(second)


def test_a_worker_accepts_on_the_shared_one(opened: Listener) -> None:
    assert opened.for_worker(64) is opened


def test_reuse_port_leaves_other_kinds_alone(tmp_path: Path) -> None:
    with closing(Listener.open(address(f"unix:{tmp_path}/sock"), 64, reuse_port=True)) as listener:
        assert listener.shared
        talks(listener)


# The door is closed, and whoever is inside is served


def test_who_has_connected_is_served_and_who_comes_later_is_not(opened: Listener) -> None:
    early = [client(opened) for _ in range(3)]
    for number, sock in enumerate(early):
        sock.sendall(b"early %d" % number)
    opened.refuse_new()
    with pytest.raises(TimeoutError):  # and no reset: the client tries again, and may find our successor
        client(opened, seconds=0.5)
    for number, sock in enumerate(early):
        served, _ = accepted(opened)
        with sock, served:
            assert wait_for(lambda served=served: received(served), LONG) == b"early %d" % number  # type: ignore[misc]
            served.sendall(b"answer")
            assert sock.recv(100) == b"answer"
    assert opened.accept() is None


def test_the_door_of_all_who_share_it(opened: Listener) -> None:
    """The filter belongs to the socket, whoever has a descriptor of it."""
    other = Listener(opened.address, opened.sock.dup())
    with closing(other):
        other.refuse_new()
        with pytest.raises(TimeoutError):
            client(opened, seconds=0.5)


def test_the_door_of_a_unix_socket(tmp_path: Path) -> None:
    with closing(Listener.open(address(f"unix:{tmp_path}/sock"), 64)) as listener:
        with client(listener) as early:
            early.sendall(b"early")
            listener.refuse_new()
            assert not (tmp_path / "sock").exists()
            assert refused(listener)
            served, _ = accepted(listener)
            with served:
                assert wait_for(lambda: received(served), LONG) == b"early"
        listener.refuse_new()  # a second time does no harm


# By name


def test_reconcile(stack: ExitStack, tmp_path: Path) -> None:
    tcp, unix, other = address("127.0.0.1:0"), address(f"unix:{tmp_path}/a"), address(f"unix:{tmp_path}/b")
    first, dropped = Listeners().reconcile([tcp, unix], 64)
    assert list(first) == ["127.0.0.1:0", f"unix:{tmp_path}/a"]
    assert dropped == []
    second, dropped = first.reconcile([other, tcp], 64)
    assert list(second) == [f"unix:{tmp_path}/b", "127.0.0.1:0"]
    assert second[tcp.name] is first[tcp.name]
    assert dropped == [first[unix.name]]
    talks(dropped[0])  # closed by whoever asked, and not before
    for listener in [*dropped, *second.values()]:
        listener.close()


def test_reconcile_is_all_or_nothing(opened: Listener, tmp_path: Path) -> None:
    before = Listeners({opened.name: opened})
    taken = f"127.0.0.1:{opened.bound[1]}"
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as caught:
        before.reconcile([address(f"unix:{tmp_path}/new"), address(taken)], 64)
    assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, taken)
    assert list(before.values()) == [opened]
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert list(tmp_path.iterdir()) == []
    talks(opened)


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("nowhere.invalid:80", ""),
        (f"{'a' * 80}.example:80", "not a host name"),
        ("a..b:80", "not a host name"),
        ("192.0.2.1:0", "Cannot assign requested address"),
        ("fd://987", "Bad file descriptor"),
        ("unix:/nowhere/sock", "No such file or directory"),
    ],
)
def test_what_cannot_be_opened_is_named(where: str, why: str) -> None:
    with pytest.raises(OSError) as caught:
        Listeners().reconcile([address(where)], 64)
    assert caught.value.filename == where
    assert why in caught.value.strerror
