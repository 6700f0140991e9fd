"""The request line, parsed once per distinct line.

The few lines that a site serves come again and again, so the bounded cache below holds what each one
means; and what the gateways derive from it hangs on the same object.
"""

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from monoceros.wire import grammar
from monoceros.wire.events import NotImplementedHere, RemoteError, VersionUnknown

# A cache of this many lines of this length is at most some 600 KB; when it is full it is emptied, since
# a cache that stops growing could be filled with rubbish once and for all.
CACHED_LINES: Final = 1024
CACHED_LENGTH: Final = 256

# What may stand before the host of a URL (RFC 3986 §3.2.1): a name, and perhaps a password.
USERINFO: Final = re.compile(rb"//[^/?# ]*@")


class RequestLine:
    """Method, target and version of a request (RFC 9112 §3).

    `target` is the target as sent; `path` the raw path, still percent-encoded; `query` the part behind
    the first "?"; `authority` what an absolute-form target says instead of the Host field, else None.
    `plain` says that a response needs no thought because of it: HTTP/1.1, and not HEAD. `environ` and `scope`
    hold what the gateways derive from this line.
    """

    __slots__ = ("authority", "environ", "method", "path", "plain", "query", "scope", "target", "version")

    def __init__(self, method: str, target: str, path: str, query: str, version: str, authority: str | None) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.version = version
        self.authority = authority
        self.plain = version == "HTTP/1.1" and method != "HEAD"
        self.environ: dict[str, Any] | None = None
        self.scope: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.version}"

    @property
    def decoded_path(self) -> str:
        """The path without its percent-encoding, each byte a character."""
        return unquote_to_bytes(self.path).decode("latin-1")


_lines: dict[bytes, RequestLine] = {}


def request_line(raw: bytes) -> RequestLine:
    """The meaning of a request line without its CR LF. Raises `RemoteError`."""
    line = _lines.get(raw)
    if line is None:
        line = _parse(raw)
        if len(raw) <= CACHED_LENGTH:
            if len(_lines) >= CACHED_LINES:
                _lines.clear()
            _lines[raw] = line
    return line


def refuse_tls(data: bytes | bytearray, at: int = 0) -> None:
    """Say so if somebody speaks TLS to us: a record of the type handshake begins with these (RFC 8446 §5.1)."""
    if data[at : at + 2] == b"\x16\x03":
        raise RemoteError("a TLS handshake on a port that speaks plain HTTP")


def _parse(raw: bytes) -> RequestLine:
    match = grammar.request_line.fullmatch(raw)
    if match is None:
        refuse_tls(raw)
        raise RemoteError(f"invalid request line: {shown(raw)!r}")
    method, target, major, minor = match.groups()
    if not grammar.method.fullmatch(method):
        raise RemoteError(f"invalid method: {method[:100]!r}")
    if major != b"1":
        raise VersionUnknown(f"HTTP version not supported: {raw[-8:]!r}")
    if method == b"CONNECT":
        raise NotImplementedHere("CONNECT is for proxies")
    authority, path = _split_target(method, target)
    path, _, query = path.partition(b"?")
    # RFC 9110 §6.2: a higher minor version is answered as the highest that we speak.
    version = "HTTP/1.0" if minor == b"0" else "HTTP/1.1"
    return RequestLine(
        method.decode("ascii"),
        target.decode("ascii"),
        path.decode("ascii"),
        query.decode("ascii"),
        version,
        None if authority is None else authority.decode("ascii"),
    )


def _split_target(method: bytes, target: bytes) -> tuple[bytes | None, bytes]:
    """Authority, and path with query, of a target in any of the forms of RFC 9112 §3.2."""
    if target.startswith(b"/"):
        return None, target
    if target == b"*":
        if method != b"OPTIONS":
            raise RemoteError(f"target * with method {method.decode('ascii')}")
        return None, target
    match = grammar.absolute_form.fullmatch(target)
    if match is None or not grammar.host.fullmatch(match[1]):
        raise RemoteError(f"invalid target: {shown(target)!r}")
    path = match[2] or b"/"
    return match[1], path if path.startswith(b"/") else b"/" + path


def shown(raw: bytes) -> bytes:
    """The beginning of a line that is refused, for the log, without what a URL may have of a name and a password."""
    return USERINFO.sub(b"//[redacted]@", raw)[:100]
