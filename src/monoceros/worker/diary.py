"""The access log where somebody's own class keeps it (`logger_class`): each exchange is one call of its `access`."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from monoceros.gateway import environ as environs
from monoceros.ops.logger import Logs
from monoceros.worker.member import Answered, Asked, Outcome

error_log = logging.getLogger("gunicorn.error")


class Diary:
    """Tells `access` of exchanges, in Gunicorn's terms. What it raises is logged."""

    def __init__(self, access: Callable[[Any, Any, environs.Environ, timedelta], object]) -> None:
        self._access = access

    def enter(self, connection: Any, exchange: Any, outcome: Outcome) -> None:
        """Tell of an exchange, or, where that is None, of a request that was refused."""
        asked = Asked(connection)
        environ = (exchange and exchange.environ) or environ_of(connection, asked)
        try:
            self._access(Answered(outcome), asked, environ, timedelta(seconds=outcome.seconds))
        except Exception:  # it is the user's code, and the request has been answered
            error_log.exception("Exception in the access log of the logger class")


def of(logs: Logs) -> Diary | None:
    """The diary, if the logger class keeps one of its own."""
    return Diary(logs.logger.access) if logs.is_asked else None


def environ_of(connection: Any, asked: Asked) -> environs.Environ:
    """As much of an environ as an access log asks for, where there was no WSGI."""
    host, port = connection.listener.server
    environ: environs.Environ = {
        "REQUEST_METHOD": asked.method,
        "RAW_URI": asked.uri,
        "PATH_INFO": connection.request.line.decoded_path,
        "QUERY_STRING": asked.query,
        "SERVER_PROTOCOL": connection.request.line.version,
        "SCRIPT_NAME": "",
        "SERVER_NAME": host,
        "SERVER_PORT": "80" if port is None else str(port),
        "REMOTE_ADDR": asked.remote_addr[0],
        "wsgi.url_scheme": asked.scheme,
    }
    if asked.remote_addr[1]:
        environ["REMOTE_PORT"] = str(asked.remote_addr[1])
    for name, value in asked.headers:
        key = environs.key_of(name.lower().encode())
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
