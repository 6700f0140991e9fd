"""Lines for a syslog: their bytes, and what happens if it is not there, hangs, or comes back."""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoceros.ops import log, syslog
from monoceros.ops.syslog import Syslog
from monoceros.settings.log_values import SyslogAddress
from server import wait_for

USER = 1


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("a")
    yield made
    for handler in made.handlers:
        handler.close()


def attach(logger: logging.Logger, address: SyslogAddress) -> Syslog:
    handler = Syslog(address, USER, patience=0.05)
    handler.setFormatter(logging.Formatter("gunicorn.a.error: %(message)s"))
    logger.addHandler(handler)
    return handler


def bound(kind: socket.SocketKind, address: str | tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.settimeout(10)
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def accepted(ear: socket.socket) -> socket.socket:
    speaker, _ = ear.accept()
    speaker.settimeout(10)
    return speaker


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "TRACE"])
def test_the_bytes_are_those_of_the_standard_library(logger: logging.Logger, level: str) -> None:
    with bound(socket.SOCK_DGRAM) as ear:
        attach(logger, SyslogAddress("datagram", *ear.getsockname()))
        theirs = logging.handlers.SysLogHandler(ear.getsockname(), facility=USER)
        theirs.setFormatter(logging.Formatter("gunicorn.a.error: %(message)s"))
        logger.addHandler(theirs)
        record = logging.makeLogRecord({"levelname": level, "levelno": 20, "msg": "grüße\nund %s", "args": ("mehr",)})
        logger.handle(record)
        ours = ear.recv(1000)
        assert ours == ear.recv(1000)
        assert ours.endswith("gunicorn.a.error: grüße\nund mehr\0".encode())


def test_nobody_is_there(logger: logging.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log.error.addHandler(caplog.handler)
    log.error.propagate = False
    path = str(tmp_path / "log")
    attach(logger, SyslogAddress("", path=path))
    for _ in range(3):
        logger.error("lost")
    said = [record.getMessage() for record in caplog.records if record.name == "gunicorn.error"]
    assert said == [f"Cannot write to syslog at {path}: No such file or directory"]
    with bound(socket.SOCK_DGRAM, path) as ear:
        logger.error("heard")
        assert ear.recv(1000) == b"<11>gunicorn.a.error: heard\0"


def test_its_own_complaint_is_not_sent_to_it(tmp_path: Path) -> None:
    """The handler is one of the logger to which it complains."""
    handler = attach(log.error, SyslogAddress("datagram", path=str(tmp_path / "log")))
    log.error.warning("once")
    log.error.removeHandler(handler)
    handler.close()


def test_a_path_may_be_of_a_stream(logger: logging.Logger, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with bound(socket.SOCK_STREAM, path) as ear:
        attach(logger, SyslogAddress("", path=path))
        logger.info("one")
        logger.info("two")
        with accepted(ear) as speaker:
            expected = b"<14>gunicorn.a.error: one\0<14>gunicorn.a.error: two\0"
            assert speaker.recv(len(expected), socket.MSG_WAITALL) == expected


def test_a_stream_that_is_closed_is_connected_anew(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog, "PAUSE", 0.0)
    with bound(socket.SOCK_STREAM) as ear:
        attach(logger, SyslogAddress("stream", *ear.getsockname()))
        for text in ("one", "two"):
            logger.info(text)
            with accepted(ear) as speaker:
                expected = b"<14>gunicorn.a.error: %s\0" % text.encode()
                assert speaker.recv(len(expected), socket.MSG_WAITALL) == expected


def test_what_is_said_before_a_stream_is_there_arrives(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog, "PAUSE", 0.0)
    with bound(socket.SOCK_STREAM) as ear:
        address = ear.getsockname()
    attach(logger, SyslogAddress("stream", *address))
    logger.info("one")
    with bound(socket.SOCK_STREAM, address) as ear:
        logger.info("two")
        with accepted(ear) as speaker:
            expected = b"<14>gunicorn.a.error: one\0<14>gunicorn.a.error: two\0"
            assert speaker.recv(len(expected), socket.MSG_WAITALL) == expected


def test_a_stream_that_hangs_keeps_nobody(logger: logging.Logger) -> None:
    """Nothing reads: what the kernel and the buffer do not take is dropped; then lines are whole again."""
    line = "x" * 1000
    with bound(socket.SOCK_STREAM) as ear:
        handler = attach(logger, SyslogAddress("stream", *ear.getsockname()))
        for _ in range(20_000):
            logger.info(line)
        assert len(handler._unsent) <= syslog.BUFFER
        with accepted(ear) as speaker:
            received = bytearray()

            def read() -> None:
                while piece := speaker.recv(1 << 20):
                    received.extend(piece)

            reader = threading.Thread(target=read)
            reader.start()

            def arrived() -> bool:
                logger.info("last")
                return b"last" in received

            wait_for(arrived)
            handler.close()
            reader.join()
    messages = bytes(received).split(b"\0")[:-1]
    assert set(messages) == {b"<14>gunicorn.a.error: " + text for text in (line.encode(), b"last")}
    assert len(messages) < 20_000


def test_a_stream_that_never_answers_keeps_nobody(logger: logging.Logger) -> None:
    """The queue of connections is full: the kernel says nothing to who would connect."""
    with bound(socket.SOCK_STREAM) as ear:
        ear.listen(0)
        others = []
        for _ in range(3):
            others.append(socket.socket())
            others[-1].setblocking(False)
            others[-1].connect_ex(ear.getsockname())
        handler = attach(logger, SyslogAddress("stream", *ear.getsockname()))
        for _ in range(10_000):
            logger.info("not lost, as long as there is room")
        assert 0 < len(handler._unsent) <= syslog.BUFFER
        for other in others:
            other.close()


def test_a_queue_that_is_full_keeps_nobody(logger: logging.Logger, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with bound(socket.SOCK_DGRAM, path) as ear:
        attach(logger, SyslogAddress("datagram", path=path))
        for number in range(10_000):
            logger.info("%d", number)
        assert ear.recv(1000) == b"<14>gunicorn.a.error: 0\0"


def test_each_process_has_a_stream_of_its_own(logger: logging.Logger) -> None:
    with bound(socket.SOCK_STREAM) as ear:
        handler = attach(logger, SyslogAddress("stream", *ear.getsockname()))
        logger.info("parent")
        pid = os.fork()
        if not pid:
            logger.info("child")
            handler.close()
            os._exit(0)
        os.waitpid(pid, 0)
        heard = []
        for _ in range(2):
            with accepted(ear) as speaker:
                heard.append(speaker.recv(1000))
        assert heard == [b"<14>gunicorn.a.error: parent\0", b"<14>gunicorn.a.error: child\0"]
