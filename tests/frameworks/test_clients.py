"""Clients as they are: what they send by themselves, and what they make of what they get."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests

from server import Server

APPS = Path(__file__).parent.parent / "contract" / "apps"


@pytest.fixture(scope="module", params=["1", "4"], ids=["sync", "gthread"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = ("pages:app", "--pythonpath", str(APPS), "--workers", "2", "--threads", request.param)
    with Server(*arguments, directory=tmp_path_factory.mktemp("clients")) as running:
        yield running.ready()


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def run(*command: str | Path, input: bytes = b"", seconds: float = 30) -> str:
    """What a program prints, if it is installed and ends well."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, input=input, capture_output=True, timeout=seconds)
    assert done.returncode == 0, (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
    return (done.stderr + done.stdout).decode(errors="replace")


def curl(*arguments: str | Path, input: bytes = b"") -> str:
    """Headers (by -i) and body as curl prints them."""
    return run("curl", "--silent", "--show-error", "--include", "--max-time", "20", *arguments, input=input)


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


@pytest.mark.smoke
def test_curl(url: str) -> None:
    head, _, body = curl(url).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert body == "Hello, World!\n"


def test_curl_in_http_1_0(url: str) -> None:
    head, _, body = curl("--http1.0", f"{url}/stream").partition("\r\n\r\n")
    assert "Connection: close" in head
    assert "chunked" not in head
    assert body == "chunk 0\nchunk 1\nchunk 2\n"


def test_curl_head(url: str) -> None:
    for path in ("/", "/stream", "/file", "/endless"):
        assert curl("--head", url + path).endswith("\r\n\r\n")


def test_curl_upload(url: str, tmp_path: Path) -> None:
    """curl waits for 100 Continue before a body of over 1 MiB."""
    path = tmp_path / "upload"
    path.write_bytes(data := os.urandom(3 << 20))
    answer = curl("--upload-file", path, f"{url}/digest", "--header", "Expect: 100-continue")
    assert answer.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith("\r\n\r\n" + digest(data))
    assert curl("--data-binary", f"@{path}", f"{url}/digest").endswith(digest(data))
    assert curl("--http1.0", "--data-binary", f"@{path}", f"{url}/digest").endswith(digest(data))


def test_curl_chunked(url: str) -> None:
    data = os.urandom(300_000)
    assert curl("-T", "-", f"{url}/digest", input=data).endswith(digest(data))
    chunked = ("--header", "Transfer-Encoding: chunked")
    assert curl(*chunked, "--data-binary", "@-", f"{url}/digest", input=data).endswith(digest(data))


def test_curl_on_one_connection(url: str) -> None:
    said = run("curl", "--silent", "--verbose", url, f"{url}/stream", f"{url}/echo", "--data", "x")
    assert said.count("Re-using existing") + said.count("Reusing existing") == 2


def test_curl_reads_early_hints(url: str) -> None:
    answer = curl(f"{url}/hints")
    assert re.findall(r"^HTTP/1\.1 (\d+)", answer, re.MULTILINE) == ["103", "103", "200"]


def test_curl_is_refused_in_peace(url: str) -> None:
    assert curl("--header", "Expect: nothing", url).startswith("HTTP/1.1 417 ")
    assert curl("--header", f"X: {'a' * 9000}", url).startswith("HTTP/1.1 431 ")
    assert curl("--header", "Host:", url).startswith("HTTP/1.1 400 ")


def test_httpx(url: str) -> None:
    with httpx.Client(base_url=url, timeout=10) as client:
        ports = set()
        for _ in range(5):
            answer = client.get("/environ")
            ports.add(answer.json()["REMOTE_PORT"])
        assert len(ports) == 1, "the connection is kept"
        assert client.post("/echo", content=iter([b"in ", b"chunks"])).text == "in chunks"
        with client.stream("GET", "/stream-large") as response:
            assert sum(map(len, response.iter_bytes())) == 20 << 20
        assert client.request("OPTIONS", "/method").text == "OPTIONS"


def test_requests(url: str) -> None:
    with requests.Session() as session:
        ports = {session.get(f"{url}/environ", timeout=10).json()["REMOTE_PORT"] for _ in range(5)}
        assert len(ports) == 1, "the connection is kept"
        assert session.post(f"{url}/echo", data=iter([b"in ", b"chunks"]), timeout=10).text == "in chunks"
        assert session.put(f"{url}/digest", data=b"x" * 100_000, timeout=10).text == digest(b"x" * 100_000)
        assert session.get(f"{url}/raise", timeout=10).status_code == 500
        assert session.head(url, timeout=10).headers["Content-Length"] == "14"


@pytest.mark.parametrize("keep", [(), ("-k",)], ids=["a connection each", "kept alive"])
def test_ab(url: str, keep: tuple[str, ...]) -> None:
    said = run("ab", "-q", "-n", "1000", "-c", "8", *keep, f"{url}/")
    assert re.search(r"^Complete requests:\s+1000$", said, re.MULTILINE), said
    assert re.search(r"^Failed requests:\s+0$", said, re.MULTILINE), said
    assert "Non-2xx" not in said
    if keep:
        assert re.search(r"^Keep-Alive requests:\s+1000$", said, re.MULTILINE), said


def test_ab_posts(url: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x" * 1000)
    said = run("ab", "-q", "-k", "-n", "500", "-c", "8", "-p", tmp_path / "body", "-T", "text/plain", f"{url}/echo")
    assert re.search(r"^Complete requests:\s+500$", said, re.MULTILINE), said
    assert re.search(r"^Failed requests:\s+0$", said, re.MULTILINE), said
    assert re.search(r"^HTML transferred:\s+500000 bytes$", said, re.MULTILINE), said


def test_wrk(url: str, server: Server) -> None:
    since = len(server.stderr)
    said = run("wrk", "-t", "1", "-c", "32", "-d", "2s", f"{url}/")
    match = re.search(r"(\d+) requests in", said)
    assert match, said
    assert int(match[1]) > 500
    assert "Socket errors" not in said, said
    assert "Non-2xx" not in said, said
    assert server.stderr[since:] == ""
