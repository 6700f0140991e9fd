"""Where a kind of worker behaves otherwise, and why. What does not stand here holds for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Words:
    """What the error log says. `failed` stands before the request of an application that has failed."""

    failed: str = "Error handling request "
    cut_off: str = "RemoteError|PeerGone"

    def failure(self, method: str, target: str) -> str:
        """The beginning of the record about a request that the application did not answer."""
        return rf"\[ERROR\] {self.failed}{method} {re.escape(target)}\b"


# Who runs ASGI looks for the sentences of ASGI's servers. An application that has returned too early has not raised.
CALLABLE = r"(Exception in ASGI application|ASGI callable returned without \w+ response\.) \([\d.]+:\d+ "

WORDS = {
    "sync": Words(),
    "gthread": Words(),
    "gevent": Words(),
    "asgi": Words(failed=CALLABLE, cut_off="Disconnected"),
}


@dataclass(frozen=True)
class Otherwise:
    """A row of a table that does not hold: what of it is different, and for which reason."""

    reason: str
    changes: Mapping[str, Any] = field(default_factory=dict)


# By kind, and by the name of a case in test_exchanges.py.
CASES: dict[str, dict[str, Otherwise]] = {
    "asgi": {
        "a HEAD of what never ends": Otherwise(
            "an iterable can be left alone, a coroutine that sends cannot: it is told when its client has gone",
            {"stays": None},
        ),
        "content longer than its length": Otherwise(
            "send() says so where it happens; what is left is an application that has raised in its content",
            {"cut": True},
        ),
    },
}

# By kind and path: what the error log says of an application that has failed.
FAILURES: dict[str, dict[str, Otherwise]] = {
    "asgi": {
        "/none": Otherwise("nothing is iterated over", {"words": "returned without starting response"}),
        "/text": Otherwise("headers are bytes, too", {"words": "headers and content must be bytes, not str"}),
        "/silent": Otherwise("messages have names", {"words": "'http.response.body' before http.response.start"}),
        "/nothing": Otherwise(
            "a message says that it is the last", {"words": "the content has 0 bytes, but its Content-Length is 10"}
        ),
    },
}

# By kind and request line: status and size in the access log.
SIZES: dict[str, dict[str, Otherwise]] = {
    "asgi": {
        "GET /long?log=5 HTTP/1.1": Otherwise(
            "the piece that is too long was refused, but the application has given it", {"size": 7}
        )
    },
}

# By kind and name of an answer: what two kinds may differ in, byte for byte.
BYTES: dict[str, dict[str, Otherwise]] = {
    "asgi": {
        "a HEAD of a file": Otherwise("the file was opened before it was known that nobody reads it: its size is told"),
        "content longer than its length": Otherwise("as above"),
        "the application's own headers": Otherwise("an application cannot give a reason phrase"),
    },
}
