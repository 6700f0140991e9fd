"""Bodies that are large, slow, asked for, or not wanted; and several requests on one connection."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from contract.client import Client, CutOff, client
from contract.exceptions import WORDS
from server import Server, wait_for

MIB = 1 << 20
BLOCK = bytes(range(256)) * 256


def post(path: str, body: bytes, *lines: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {size}", *lines, "", ""])
    return head.encode() + body


def chunks(body: bytes, size: int) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-Trailer: 1\r\n\r\n"


CHUNKED = b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


# Large bodies


@pytest.mark.smoke
def test_a_large_upload_arrives_whole(server: Server) -> None:
    body = os.urandom(5 * MIB)
    with client(server, 20) as connection:
        assert connection.ask(post("/digest", body)).text == digest(body)
        assert connection.stays()
        assert connection.ask(CHUNKED + chunks(body, 70_001)).text == digest(body)
        assert connection.stays()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072])
def test_bodies_around_the_size_that_is_collected(server: Server, size: int) -> None:
    body = os.urandom(size)
    with client(server) as connection:
        assert connection.ask(post("/digest", body)).text == digest(body)
        assert connection.ask(CHUNKED + chunks(body, 1000)).text == digest(body)
        assert connection.stays()


@pytest.mark.parametrize("path", ["/large", "/stream-large"])
def test_a_large_download_arrives_whole(server: Server, path: str) -> None:
    with client(server, 20) as connection:
        answer = connection.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert digest(answer.body) == digest(BLOCK * 320)
        assert connection.stays()


def test_a_large_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(data := os.urandom(20 * MIB + 123))
    with client(server, 20) as connection:
        answer = connection.ask(f"GET /large-file?path={path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answer.get("Content-Length") == str(len(data))
        assert digest(answer.body) == digest(data)
        assert connection.stays()


def slow_reader(server: Server) -> socket.socket:
    """A client that takes next to nothing: its receive buffer is small, and it does not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", server.port))
    return sock


@pytest.mark.parametrize("path", ["/large", "/large-file?path={}"])
def test_a_slow_reader_does_not_keep_the_others_waiting(server: Server, path: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(data := BLOCK * 320)
    target = path.format(tmp_path / "large")
    readers = [slow_reader(server) for _ in range(6)]  # more than there are threads
    try:
        for sock in readers:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        for sock in readers:
            assert sock.recv(9) == b"HTTP/1.1 "
        with client(server, 5) as connection:
            assert connection.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        # And when it reads at last, nothing is missing.
        connection = Client(readers[0], 20)
        connection.buffer = b"HTTP/1.1 "
        assert digest(connection.answer().body) == digest(data)
    finally:
        for sock in readers:
            sock.close()


def test_a_client_that_leaves_in_the_middle_costs_only_its_own_answer(server: Server) -> None:
    before = server.workers()
    for path in ("/large", "/stream-large", "/endless"):
        with slow_reader(server) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert sock.recv(100)
    with client(server) as connection:
        assert connection.stays()
    assert server.workers() == before


# Files


def test_a_file_is_sent_to_the_byte(server: Server) -> None:
    data = (Path(__file__).parent / "apps" / "pages.py").read_bytes()
    with client(server) as connection:
        for query, expected in (
            ("", data),
            ("from=1000", data[1000:]),
            ("length=100", data[:100]),
            ("from=50&length=100", data[50:150]),
            (f"from={len(data)}", b""),
        ):
            answer = connection.ask(f"GET /file?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert answer.body == expected
            assert answer.get("Content-Length") == str(len(expected))


def test_a_file_shorter_than_its_length_is_never_taken_for_whole(server: Server, kind: str) -> None:
    data = (Path(__file__).parent / "apps" / "pages.py").read_bytes()
    with client(server) as connection:
        connection.send(f"GET /file?length={len(data) + 1} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        seen = connection.rest()
        if kind == "asgi":  # a pathsend names the whole file, so it is known before anything is sent
            assert seen.startswith(b"HTTP/1.1 500 ")
            return
        assert seen.endswith(data)
        assert f"Content-Length: {len(data) + 1}\r\n".encode() in seen


# Content that is not what it was said to be


def test_content_shorter_than_its_length_is_cut_off_visibly(server: Server, kind: str) -> None:
    since = len(server.stderr)
    with client(server) as connection:
        connection.send(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
        seen = connection.rest()
        assert b"Content-Length: 10\r\n" in seen
        assert seen.endswith(b"\r\n\r\nhello")
    server.expect(WORDS[kind].failure("GET", "/short"), since=since)
    server.expect("content is 5 bytes shorter", since=since)


def test_content_longer_than_its_length_is_cut(server: Server, kind: str) -> None:
    since = len(server.stderr)
    if kind == "asgi":  # send() raises, and that is the end of the connection
        with client(server) as connection:
            connection.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.rest().endswith(b"\r\n\r\nhel")
        server.expect("content is 2 bytes longer than its Content-Length", since=since)
        return
    with client(server) as connection:
        assert connection.ask(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n").body == b"hello"
        assert connection.stays()
    server.expect(r"\[WARNING\] GET /long: content is longer than its Content-Length of 5", since=since)


# Bodies that are cut off


@pytest.mark.parametrize("body", [b"x" * 1000, b"x" * 200_000], ids=["small", "large"])
@pytest.mark.parametrize("how", ["length", "chunks"])
def test_a_body_that_is_cut_off_is_never_taken_for_whole(server: Server, how: str, body: bytes) -> None:
    with client(server) as connection:
        if how == "length":
            connection.send(post("/swallow", body, length=len(body) + 1))
        else:
            connection.send(CHUNKED.replace(b"digest", b"swallow") + chunks(body, 5000)[:-30])
        connection.finish()
        answer = connection.answer()
        assert answer.status == 400
        assert b"well" not in answer.body
        assert connection.closed()


def test_the_application_sees_an_error_for_a_body_that_is_cut_off(server: Server, kind: str) -> None:
    since = len(server.stderr)
    with client(server) as connection:
        connection.send(post("/swallow", b"x" * 200_000, length=200_001))
        connection.finish()
        assert connection.answer().status == 400
    server.expect(f"swallowed ({WORDS[kind].cut_off})", since=since)


def test_a_client_that_resets_in_the_middle_of_its_body(server: Server, kind: str) -> None:
    since = len(server.stderr)
    with server.connect() as sock:
        sock.sendall(post("/swallow", b"", "Expect: 100-continue", length=5 * MIB))
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")  # so that the application has begun
        sock.sendall(b"x" * 200_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close() resets
    server.expect(f"swallowed ({WORDS[kind].cut_off})", since=since)
    with client(server) as connection:
        assert connection.stays()


def test_a_fault_in_a_large_body_is_refused(server: Server) -> None:
    with client(server) as connection:
        connection.send(CHUNKED + chunks(b"x" * 200_000, 5000).replace(b"\r\n0\r\n", b"\r\nzero\r\n"))
        assert connection.answer().status == 400
        assert connection.closed()


# Expect: 100-continue


@pytest.mark.parametrize("size", [5, 200_000])
def test_100_continue(server: Server, size: int) -> None:
    body = os.urandom(size)
    with client(server) as connection:
        connection.send(post("/digest", b"", "Expect: 100-continue", length=size))
        wait_for(lambda: b"\r\n\r\n" in connection.buffer or not connection._fill(), what="100 Continue")
        assert connection.buffer == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        answer = connection.answer()
        assert [each.status for each in answer.interim] == [100]
        assert answer.text == digest(body)
        assert connection.stays()


def test_100_continue_is_not_said_for_a_large_body_that_is_not_read(server: Server) -> None:
    with client(server) as connection:
        connection.send(post("/ignore", b"", "Expect: 100-continue", length=200_000))
        answer = connection.answer()
        assert (answer.status, answer.interim, answer.body) == (200, [], b"not read")
        # The client may send the body or not: what it sends next cannot be told apart, so this is the end.
        assert answer.get("Connection") == "close"
        assert connection.closed()


def test_100_continue_is_not_said_to_a_client_that_does_not_wait(server: Server) -> None:
    body = b"x" * 1000
    with client(server) as connection:
        answer = connection.ask(post("/digest", body, "Expect: 100-continue"))
        assert answer.interim == []
        assert answer.text == digest(body)


def test_100_continue_is_not_said_to_http_1_0(server: Server) -> None:
    with client(server) as connection:
        raw = post("/digest", b"", "Expect: 100-continue", length=5).replace(b"HTTP/1.1", b"HTTP/1.0")
        connection.send(raw)
        connection.send(b"hello")
        answer = connection.answer()
        assert (answer.interim, answer.text) == ([], digest(b"hello"))


# Early hints


def test_early_hints(server: Server) -> None:
    with client(server) as connection:
        answer = connection.ask(b"GET /hints HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [(each.status, each.get("Link")) for each in answer.interim] == [
            (103, "</style.css>; rel=preload"),
            (103, "</script.js>; rel=preload"),
        ]
        assert [len(each.headers) for each in answer.interim] == [1, 1]
        assert answer.body == b"final"
        assert connection.stays()
    with client(server) as connection:
        answer = connection.ask(b"GET /hints HTTP/1.0\r\n\r\n")
        assert (answer.interim, answer.body) == ([], b"final")


# Several requests on one connection


@pytest.mark.smoke
def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    paths = ["/echo", "/stream", "/", "/part", "/large?mib=1", "/echo", "/x", "/echo"]
    raw = b"".join(post(path, f"body {n}".encode()) for n, path in enumerate(paths))
    with client(server) as connection:
        connection.send(raw)
        seen = [connection.answer() for _ in paths]
        bodies = [each.body for each in seen]
        assert (bodies[0], bodies[5], bodies[7]) == (b"body 0", b"body 5", b"body 7")
        assert (bodies[1], bodies[2], bodies[3]) == (b"chunk 0\nchunk 1\nchunk 2\n", b"Hello, World!\n", b"body 3")
        assert len(bodies[4]) == MIB
        assert [each.status for each in seen] == [200] * 6 + [404, 200]
        assert connection.stays()


def test_many_pipelined_requests_in_one_piece(server: Server) -> None:
    with client(server) as connection:
        connection.send(b"GET /method HTTP/1.1\r\nHost: a\r\n\r\n" * 500)
        assert [connection.answer().body for _ in range(500)] == [b"GET"] * 500


def test_what_stands_behind_a_closing_request_is_not_answered(server: Server) -> None:
    with client(server) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /pid HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.answer().get("Connection") == "close"
        assert connection.closed()


def test_pipelined_requests_before_a_refused_one_are_answered(server: Server) -> None:
    with client(server) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"GET / HTTP/1.1\r\n\r\n")
        assert [connection.answer().status for _ in range(3)] == [200, 200, 400]
        assert connection.closed()


def test_pipelined_requests_and_the_end(server: Server) -> None:
    with client(server) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        connection.finish()
        assert [connection.answer().status for _ in range(3)] == [200] * 3
        assert connection.closed()


def test_a_request_in_single_bytes(server: Server) -> None:
    with client(server) as connection:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post("/echo", b"hello"):
            connection.send(bytes([byte]))
        assert connection.answer().body == b"hello"
        assert connection.stays()


@pytest.mark.parametrize("path", ["/ignore", "/part"])
def test_an_answer_before_the_body_was_read(server: Server, path: str) -> None:
    """The rest is not taken for a request, whether the connection goes on or not."""
    body = b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n" * 10
    for size in (len(body), 100_000, MIB):
        with client(server) as connection:
            answer = connection.ask(post(path, (body * 4000)[:size]))
            assert answer.status == 200
            if answer.get("Connection") == "close":
                assert connection.closed()
            else:
                assert connection.stays()


def test_what_breaks_off_in_a_stream_is_seen(server: Server) -> None:
    with client(server) as connection:
        connection.send(b"GET /raise-late HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(CutOff):
            connection.answer()
