"""Access records as Uvicorn makes them, and its formatters, so that logging configurations written for it work.

A record has the message `MESSAGE` and exactly five arguments, since formatters and filters of users unpack them. The
line of a formatter of ours is the same with or without a record.
"""

import logging
import sys
from collections.abc import Callable
from copy import copy
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from monoceros.ops.atoms import Facts

MESSAGE: Final = '%s - "%s %s HTTP/%s" %d'
ACCESS_FORMAT: Final = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'

# Clients choose paths, so it is a bounded number of bounded ones that is remembered: some 600 KB.
CACHED_PATHS: Final = 1024
CACHED_LENGTH: Final = 256

# What may stand in a line as it was sent: visible ASCII, but for what could end the quotes around it.
HARMLESS: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')

TRACE: Final = 5  # Uvicorn's level below debug
LEVEL_COLOURS: Final = {
    TRACE: "\33[34m",
    logging.DEBUG: "\33[36m",
    logging.INFO: "\33[32m",
    logging.WARNING: "\33[33m",
    logging.ERROR: "\33[31m",
    logging.CRITICAL: "\33[91m",
}
STATUS_COLOURS: Final = {1: "\33[97m", 2: "\33[32m", 3: "\33[33m", 4: "\33[31m", 5: "\33[91m"}
BOLD: Final = "\33[1m"
PLAIN: Final = "\33[0m"
PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}


class Arguments(NamedTuple):
    """The five of a record: `client_addr` is host:port, or empty over a Unix socket; `full_path` has the query."""

    client_addr: str
    method: str
    full_path: str
    http_version: str
    status_code: int


class Message(str):
    """An access line as a bare message, and the arguments of which it was made."""

    __slots__ = ("arguments",)
    arguments: Arguments


def message(facts: "Facts", root_path: str = "", query_shown: Callable[[str], str] | None = None) -> Message:
    """What Uvicorn says of an exchange. `root_path` stands in front of the path, unless it is there already.

    `query_shown` makes of the query what may be shown of it.

    Uvicorn quotes the decoded path anew. Here it is made of the target, which is the same and does not depend on how
    a path that is not UTF-8 was decoded. What could end a line or its quotes is percent-encoded.
    """
    path, _, query = facts.target.partition("?")
    if query and query_shown is not None:
        query = query_shown(query)
    made = quoted(path) if len(path) <= CACHED_LENGTH else quoted.__wrapped__(path)
    if root_path and made != root_path and not made.startswith(root_path + "/"):
        made = root_path + made
    arguments = Arguments(
        f"{facts.peer}:{facts.port}" if facts.peer else "",
        facts.method,
        f"{made}?{query}" if query else made,
        facts.protocol.removeprefix("HTTP/"),
        facts.status,
    )
    text = MESSAGE % arguments
    if not text.isprintable() or text.count('"') != 2 or "\\" in text:
        address, method, full_path, version, status = arguments
        arguments = Arguments(harmless(address), harmless(method), harmless(full_path), harmless(version), status)
        text = MESSAGE % arguments
    line = Message(text)
    line.arguments = arguments
    return line


@lru_cache(CACHED_PATHS)
def quoted(path: str) -> str:
    """The path in a target without its query, decoded and quoted anew. What is before it in an absolute one goes."""
    if not path.startswith("/") and "://" in path:  # absolute-form (RFC 9112 §3.2.2)
        path = "/" + path.partition("://")[2].partition("/")[2]
    return quote(unquote_to_bytes(path))


def harmless(text: str) -> str:
    return quote(text, safe=HARMLESS, errors="backslashreplace")


class DefaultFormatter(logging.Formatter):
    """`uvicorn.logging.DefaultFormatter`: knows `%(levelprefix)s`, and `color_message` where there are colours.

    If `use_colors` is None, there are if standard output is a terminal.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self.use_colors = sys.stdout.isatty() if use_colors is None else use_colors

    def formatMessage(self, record: logging.LogRecord) -> str:
        shown = copy(record)
        shown.levelprefix = self.prefix(record.levelno, record.levelname)
        coloured = getattr(record, "color_message", None)
        if self.use_colors and coloured is not None:
            shown.msg = coloured
            shown.message = shown.getMessage()
        return super().formatMessage(shown)

    def prefix(self, level: int, name: str) -> str:
        """The name of a level, padded to ten columns together with its colon and the blank behind."""
        blanks = " " * (8 - len(name))
        return f"{self.coloured(name, LEVEL_COLOURS.get(level))}:{blanks}"

    def coloured(self, text: str, colour: str | None) -> str:
        return f"{colour}{text}{PLAIN}" if colour and self.use_colors else text


class AccessFormatter(DefaultFormatter):
    """`uvicorn.logging.AccessFormatter`: knows `%(client_addr)s`, `%(request_line)s` and `%(status_code)s`.

    A record that is not one of the access log is formatted as `DefaultFormatter` does it with `%(message)s`.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        if not isinstance(record.args, tuple) or len(record.args) != 5:
            return f"{self.prefix(record.levelno, record.levelname)} {record.message}"
        client_addr, method, full_path, http_version, status = record.args
        shown = copy(record)
        shown.client_addr = client_addr
        shown.request_line = self.coloured(f"{method} {full_path} HTTP/{http_version}", BOLD)
        shown.status_code = self.status(int(str(status)))
        return super().formatMessage(shown)

    def status(self, code: int) -> str:
        return self.coloured(f"{code} {PHRASES.get(code, '')}", STATUS_COLOURS.get(code // 100))


class AccessLine(AccessFormatter):
    """The formatter of our own access log, which also makes a line without a record."""

    def __init__(self, *, use_colors: bool) -> None:
        super().__init__(ACCESS_FORMAT, use_colors=use_colors)
        # Once for all lines. There are no more statuses than three digits can say.
        self._info = self.prefix(logging.INFO, "INFO")
        self._bold, _, self._plain = self.coloured("|", BOLD).partition("|")
        self._statuses: dict[int, str] = {}

    def line(self, message: str) -> str:
        """The same as of a record at INFO, which for a `Message` has its arguments."""
        if not isinstance(message, Message):
            return f"{self._info} {message}"
        client_addr, method, full_path, http_version, code = message.arguments
        status = self._statuses.get(code)
        if status is None:
            status = self._statuses[code] = self.status(code)
        request_line = f"{self._bold}{method} {full_path} HTTP/{http_version}{self._plain}"
        return f'{self._info} {client_addr} - "{request_line}" {status}'
