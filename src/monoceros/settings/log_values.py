"""Text to value, for what logs say, and the outputs of logs and metrics. Parsers as in `values`."""

import re
import sys
from types import FunctionType
from typing import Final, NamedTuple

from monoceros.settings.values import Address, names, text, text_or_none

# Names of our own class of loggers, and of Gunicorn's that it stands for.
OUR_LOGGER: Final = "monoceros.ops.logger.Logger"
GUNICORNS_LOGGER: Final = "gunicorn.glogging.Logger"
OURS: Final = frozenset((GUNICORNS_LOGGER, "gunicorn.instrument.statsd.Statsd", "simple", OUR_LOGGER))

# RFC 3164 §4.1.1, by the names that Gunicorn knows.
FACILITIES: Final = {
    "auth": 4,
    "authpriv": 10,
    "cron": 9,
    "daemon": 3,
    "ftp": 11,
    "kern": 0,
    "lpr": 6,
    "mail": 2,
    "news": 7,
    "security": 4,
    "syslog": 5,
    "user": 1,
    "uucp": 8,
    **{f"local{number}": 16 + number for number in range(8)},
}

SYSLOG_PORT: Final = 514
STATSD_PORT: Final = "8125"

# Where a platform's syslog listens, as Gunicorn has it.
SYSLOG_ADDRESS: Final = {
    "darwin": "unix:///var/run/syslog",
    "freebsd": "unix:///var/run/log",
    "dragonfly": "unix:///var/run/log",
    "openbsd": "unix:///dev/log",
}.get(sys.platform.rstrip("0123456789"), "udp://localhost:514")


# What may carry a secret in a query, by what the scrubbers of Sentry and Datadog look for and what signed URLs of the
# clouds have. Not `code`, `state` and `auth*`: those hit country codes, states and authors far more often.
SECRETS: Final = (
    "*token*",
    "*secret*",
    "*passw*",
    "*passphrase*",
    "pass",
    "pwd",
    "*credential*",
    "*api_key*",
    "*api-key*",
    "*apikey*",
    "*access_key*",
    "*access-key*",
    "*accesskey*",
    "*private_key*",
    "key",
    "*signature*",
    "sig",
    "auth",
    "*authorization*",
    "*session*",
    "sid",
    "*jwt*",
)

PATTERN: Final = re.compile(r"[!-~]*[!-)+-~][!-~]*")  # visible, and not only of *


class SyslogAddress(NamedTuple):
    """Where a syslog listens: at `host` and `port`, or at `path`.

    `kind` is that of its socket, "datagram" or "stream"; "" tries one after the other.
    """

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""


def logger_class(value: object) -> str | type:
    """MODULE.CLASS, or in a config file the class itself."""
    right = "MODULE.CLASS, or in a config file the class itself"
    if isinstance(value, FunctionType):  # Gunicorn calls it to get the class
        value = value()
    if isinstance(value, type):
        return value
    name = text(value) if isinstance(value, str) else ""
    if name in OURS:
        return GUNICORNS_LOGGER
    parts = name.replace(":", ".").split(".")
    if len(parts) < 2 or not all(map(str.isidentifier, parts)):
        raise ValueError(right)
    return name


def syslog_addr(value: object) -> str:
    """udp://HOST:PORT, tcp://HOST:PORT or unix://PATH, which may end in #stream or #dgram."""
    address = text(value)
    parse_syslog_addr(address)
    return address


def parse_syslog_addr(address: str) -> SyslogAddress:
    """The same taken apart, as Gunicorn reads it. Raises ValueError."""
    right = "udp://HOST:PORT, tcp://HOST:PORT or unix://PATH, which may end in #stream or #dgram"
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        path, _, kind = rest.partition("#")
        if not path:
            raise ValueError(right)
        # So it is in Gunicorn: who says #stream gets a stream where there is no datagram socket.
        return SyslogAddress("datagram" if kind == "dgram" else "", path=path)
    if scheme not in ("udp", "tcp") or "://" not in address:
        raise ValueError(right)
    if found := re.fullmatch(r"\[([^][]*)\](?::(\d+))?", rest) or re.fullmatch(r"([^][:]*)(?::(\d+))?", rest):
        host, port = found[1].lower() or "localhost", int(found[2] or SYSLOG_PORT)
        if port < 65536:
            return SyslogAddress("datagram" if scheme == "udp" else "stream", host, port)
    raise ValueError(right)


def syslog_facility(value: object) -> str:
    """The name of a facility, such as user, daemon or local0."""
    name = text(value).lower()
    if name not in FACILITIES:
        raise ValueError(f"one of {', '.join(FACILITIES)}")
    return name


def statsd_host(value: object) -> Address | None:
    """HOST:PORT, or unix://PATH."""
    address = text_or_none(value)
    if address is None:
        return None
    # "unix" is a host where a port follows, for the sake of those who have named one so.
    if not re.fullmatch(r"unix:\d+", address) and (found := re.fullmatch(r"unix:(?://)?(.+)", address)):
        return Address("unix", path=found[1])
    address = address.removeprefix("tcp://")
    if found := re.fullmatch(r"\[([^][]+)\](?::(\d+))?", address) or re.fullmatch(r"([^][:/]+)(?::(\d+))?", address):
        port = int(found[2] or STATSD_PORT)
        if port < 65536:
            return Address("tcp", found[1].lower(), port)
    raise ValueError("HOST:PORT, or unix://PATH")


def log_format(value: object) -> str:
    """One of text, json."""
    choice = value.strip().lower() if isinstance(value, str) else ""
    if choice not in ("text", "json"):
        raise ValueError("text or json")
    return choice


def patterns(value: object) -> tuple[str, ...]:
    """Names, in which `*` stands for anything, comma-separated or as a list."""
    right = "names, in which * stands for anything, comma-separated"
    try:
        found = tuple(name.lower() for name in names(value))
    except ValueError:
        raise ValueError(right) from None
    if not all(map(PATTERN.fullmatch, found)):
        raise ValueError(right)
    return found
