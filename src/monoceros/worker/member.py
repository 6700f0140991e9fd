"""A worker as hooks know it: under the names that Gunicorn's worker has."""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from monoceros.app import Application
from monoceros.listener import Listener
from monoceros.settings.table import Settings
from monoceros.wire.response import Response

error_log = logging.getLogger("gunicorn.error")

# What logs and hooks have for a status where the client has gone before there was one, as nginx says it.
GONE: Final = 499


@dataclass(eq=False)
class Member:
    """The same object is given to all hooks about one worker in one process, so they may leave things on it.

    `age` counts workers in the order of their birth; `pid` is None until the fork. `app` is the application, and
    `booted` says that it is loaded; both are known in the worker only. `log` is of the `logger_class`.
    """

    age: int
    cfg: Settings
    ppid: int
    sockets: list[Listener]
    pid: int | None = None
    app: Application | None = None
    booted: bool = False
    alive: bool = True
    aborted: bool = False
    nr: int = 0
    log: Any = field(default=error_log, repr=False)

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    @property
    def wsgi(self) -> Application | None:
        """The application, as Gunicorn's workers call it."""
        return self.app

    @property
    def timeout(self) -> float:
        """Half of the setting, which is how often Gunicorn's workers give a sign of life."""
        return self.cfg.timeout / 2

    def born(self) -> None:
        """In the new process."""
        self.pid = os.getpid()


class Outcome(NamedTuple):
    """How an exchange has ended: its status, bytes of content sent, the response as far as there was one, its duration
    in seconds.
    """

    status: int
    sent: int
    response: Response | None
    seconds: float


class Asked:
    """A request as hooks and logger classes know it. `headers` are pairs of text, names in upper case."""

    def __init__(self, connection: Any) -> None:
        line, fields = connection.request
        self.method: str = line.method
        self.uri: str = line.target
        self.path: str = line.path
        self.query: str = line.query
        self.fragment = ""
        self.version = tuple(int(part) for part in line.version.removeprefix("HTTP/").split("."))
        self.headers = [(name.decode("ascii").upper(), value.decode("latin-1")) for name, value in fields]
        self.scheme: str = fields.trust.scheme if fields.trust else "http"
        self.peer_addr: tuple[str, int] = connection.peer
        self.remote_addr: tuple[str, int] = connection.client
        self.body = None
        self.proxy_protocol_info = None

    def __str__(self) -> str:
        return f"{self.method} {self.uri}"


class Answered:
    """A response as hooks and logger classes know it, as far as it has been sent. `sent` counts bytes of content."""

    def __init__(self, outcome: Outcome) -> None:
        status, sent, response, _ = outcome
        if response is not None and response.status != status:  # it was made, but the client had gone
            response = None
        reason = response.reason.decode("latin-1") if response else ""
        self.status = f"{status} {reason}".rstrip()
        self.status_code = status
        self.headers = [(_text(name), _text(value)) for name, value in response.given] if response else []
        self.sent = sent
        self.response_length = sent


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
