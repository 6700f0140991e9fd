"""What is hidden of a query, and of which fields."""

from __future__ import annotations

import time

import pytest

from monoceros.ops import atoms, redact, uvicorn
from monoceros.ops.atoms import Facts
from monoceros.ops.redact import Redaction
from monoceros.settings.log_values import SECRETS

BY_DEFAULT = Redaction(SECRETS)
FACTS = Facts(
    peer="192.0.2.7",
    method="GET",
    target="/in?token=abc&x=1",
    path="/in",
    query="token=abc&x=1",
    protocol="HTTP/1.1",
    fields=[
        (b"referer", b"http://a/b?sig=abc&y=2"),
        (b"authorization", b"Bearer abc"),
        (b"cookie", b"id=abc"),
        (b"x-api-key", b"abc"),
        (b"host", b"example.com"),
    ],
    status=200,
    response_fields=[("Set-Cookie", "id=abc"), ("Location", "/next?password=abc")],
    sent=5,
    seconds=0.5,
    environ={
        "RAW_URI": "/in?token=abc&x=1",
        "QUERY_STRING": "token=abc&x=1",
        "HTTP_AUTHORIZATION": "Bearer abc",
        "HTTP_X_API_KEY": "abc",
        "HTTP_HOST": "example.com",
    },
)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/", "/"),
        ("/token=abc", "/token=abc"),
        ("/?", "/?"),
        ("/?x=1&y=%20", "/?x=1&y=%20"),
        ("/?token=abc&x=1", "/?token=[redacted]&x=1"),
        ("/?x=1&ACCESS_Token=abc", "/?x=1&ACCESS_Token=[redacted]"),
        ("/?x=1&token=", "/?x=1&token=[redacted]"),
        ("/?token", "/?token"),
        ("/?user%5Bpassword%5D=abc", "/?user%5Bpassword%5D=[redacted]"),
        ("/?to%6Ben=abc", "/?to%6Ben=[redacted]"),
        ("/?token=abc;def=abc", "/?token=[redacted]"),
        ("/?x=1;sig=abc", "/?x=1;sig=[redacted]"),
        ("/?token=a=b=abc", "/?token=[redacted]"),
        ("/?next=/in?token=abc", "/?next=/in?token=[redacted]"),
        ("/?next=%2Fin%3Ftoken%3Dabc&x=1", "/?next=[redacted]&x=1"),
        ("/?next=%252Fin%253Ftoken%253Dabc&x=1", "/?next=[redacted]&x=1"),
        ("/?next=%2Fin%3Fx%3D1", "/?next=%2Fin%3Fx%3D1"),
        ("/?%2Fin%3Ftoken%3Dabc", "/?[redacted]"),
        ("/?monkey=1&author=2&code=49&signal=3&sidebar=4", "/?monkey=1&author=2&code=49&signal=3&sidebar=4"),
        ("/?X-Amz-Signature=abc&X-Amz-Date=1", "/?X-Amz-Signature=[redacted]&X-Amz-Date=1"),
        ("http://a/?key=abc", "http://a/?key=[redacted]"),
    ],
)
def test_targets(target: str, shown: str) -> None:
    assert BY_DEFAULT.target(target) == shown
    assert BY_DEFAULT.target(target) == shown  # remembered
    assert Redaction(()).target(target) == target


def test_stars() -> None:
    some = Redaction(["a*c", "*mid*", "end*", "*front", "ex.ct"])
    query = "abc=1&abcd=1&amidst=1&ending=1&thend=1&infront=1&fronts=1&ex.ct=1&exact=1"
    hidden = {pair.partition("=")[0] for pair in some.query(query).split("&") if pair.endswith(redact.REDACTED)}
    assert hidden == {"abc", "amidst", "ending", "infront", "ex.ct"}


@pytest.mark.parametrize(
    "query",
    [
        "token" * 1600,
        "=" * 8000,
        "&token=" * 1100,
        "x=" + "%253D" * 1600,
        ";" * 8000 + "=",
        "?=" * 4000,
        ";a=b" * 2000,
        "%25" * 2600 + "3D",
    ],
)
def test_the_worst_queries_cost_no_more_than_their_length(query: str) -> None:
    """The longest that a request line may be by default. What grows with the square would take seconds."""
    begun = time.process_time()
    BY_DEFAULT.query(query)
    assert time.process_time() - begun < 0.5


def test_what_is_remembered_has_no_secret_and_a_bound() -> None:
    redaction = Redaction(SECRETS)
    for number in range(3000):
        assert redaction.query(f"x={number}") == f"x={number}"
        assert redaction.query(f"token={number}") == "token=[redacted]"
    assert 0 < len(redaction._harmless) <= redact.CACHED
    assert not any("token" in query for query in redaction._harmless)


@pytest.mark.parametrize(
    ("format", "shown"),
    [
        ("%(r)s", "GET /in?token=[redacted]&x=1 HTTP/1.1"),
        ("%(q)s", "token=[redacted]&x=1"),
        ("%(f)s", "http://a/b?sig=[redacted]&y=2"),
        ("%({referer}i)s", "http://a/b?sig=[redacted]&y=2"),
        ("%({Authorization}i)s %({cookie}i)s %({proxy-authorization}i)s", "[redacted] [redacted] -"),
        ("%({x-api-key}i)s %({host}i)s", "[redacted] example.com"),
        ("%({set-cookie}o)s %({location}o)s", "[redacted] /next?password=[redacted]"),
        ("%({raw_uri}e)s", "/in?token=[redacted]&x=1"),
        ("%({QUERY_STRING}e)s", "token=[redacted]&x=1"),
        ("%({http_authorization}e)s %({HTTP_X_API_KEY}e)s", "[redacted] [redacted]"),
        ("%({HTTP_HOST}e)s %({http_cookie}e)s", "example.com -"),
    ],
)
def test_atoms(format: str, shown: str) -> None:
    assert atoms.compile(format, redaction=BY_DEFAULT)(FACTS) == shown
    assert "redacted" not in atoms.compile(format)(FACTS)


def test_uvicorns_lines() -> None:
    line = uvicorn.message(FACTS, query_shown=BY_DEFAULT.query)
    assert line == '192.0.2.7:0 - "GET /in?token=[redacted]&x=1 HTTP/1.1" 200'
    assert line.arguments.full_path == "/in?token=[redacted]&x=1"
