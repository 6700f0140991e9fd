"""Which peer may say what: the one place where a header about the request's origin is believed.

A header that a proxy sets, a client can set as well. So what it says counts only where the peer, the other
end of our socket, is one that the operator trusts (`forwarded_allow_ips`).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from monoceros.gateway import forwarded
from monoceros.gateway.forwarded import Address
from monoceros.settings.table import Settings
from monoceros.wire.events import RemoteError
from monoceros.wire.fields import FieldBlock

FOR: Final = b"x-forwarded-for"
PROTO: Final = b"x-forwarded-proto"
HOST: Final = b"x-forwarded-host"
PORT: Final = b"x-forwarded-port"
PREFIX: Final = b"x-forwarded-prefix"
FORWARDED: Final = b"forwarded"

NOTHING: Final[frozenset[bytes]] = frozenset()

# The values of each name among those that count.
Said = dict[bytes, list[bytes]]


class Decision(NamedTuple):
    """What is believed of a request.

    `scheme` is "http" or "https", `script_name` the prefix that the proxy took off. `dropped` are names that do not
    count. `client` is the IP address and port of the client, port 0 if it is not known; None if the client is the
    peer itself. `host` takes the place of the Host field, and `port` is where the client believes to have connected
    to; both None if nobody said so.
    """

    scheme: str
    script_name: str
    dropped: frozenset[bytes]
    client: Address | None = None
    host: str | None = None
    port: int | None = None


class Policy:
    """What `settings` say about trust. The same object judges for every kind of worker."""

    def __init__(self, settings: Settings, scheme: str = "http") -> None:
        self._trusted = settings.forwarded_allow_ips
        self._scheme = scheme
        self._schemes = {
            name.lower().encode("latin-1"): value.encode("latin-1")
            for name, value in settings.secure_scheme_headers.items()
        }
        self._proxy_headers = settings.proxy_headers
        # X-Forwarded-Proto counts only as one of those above: an operator who says that the scheme stands elsewhere
        # has a proxy that may well hand on what a client put there.
        names = {FOR, HOST, PORT, PREFIX, FORWARDED} if self._proxy_headers else NOTHING
        self._pinned = frozenset(self._schemes) | names
        self._header_map = settings.header_map
        self._forwarders = frozenset(name.upper().encode("latin-1") for name in settings.forwarder_headers)

    def apply(self, fields: FieldBlock, peer: str) -> Decision:
        """What to believe of a request with these fields; `peer` is an IP address, "" over a Unix socket.

        The decision is kept on the block, which belongs to one connection and so to one peer, and the names
        on which it rests are pinned there. Raises `RemoteError` where fields contradict each other, a
        name is refused, or Forwarded cannot be read.
        """
        trusted = not peer or peer in self._trusted
        script_name: bytes | None = None
        dropped = NOTHING
        if fields.underscores:
            dropped = self._dropped(fields, trusted)
            if trusted and b"script_name" not in dropped:
                script_name = next((value for name, value in fields if name == b"script_name"), None)
                dropped |= {b"script_name"}
        decision = Decision(self._scheme, (script_name or b"").decode("latin-1"), dropped)
        if trusted and (said := self._said(fields, dropped)):
            decision = self._believe(said, decision, may_prefix=script_name is None)
        fields.pinned = self._pinned if trusted else NOTHING
        fields.trust = decision
        return decision

    def _said(self, fields: FieldBlock, dropped: frozenset[bytes]) -> Said:
        said: Said = {}
        for field in fields.fields:
            if field.name in self._pinned and field.name not in dropped:
                said.setdefault(field.name, []).append(field.value)
        return said

    def _believe(self, said: Said, before: Decision, may_prefix: bool) -> Decision:
        """`before` and what a trusted peer said.

        Of a scheme, a host, a port and a prefix the last value counts: it is the nearest proxy's. A proxy that knows
        SCRIPT_NAME has said all about the prefix.

        Most proxies know either Forwarded or the X-Forwarded- fields, and hand on the other as the client sent it.
        Which of both is the proxy's cannot be seen. To prefer one would let a client speak for itself behind some
        proxies, and to believe neither would make it look like the proxy, which often may more than others. So
        where both say the same thing differently, the request is refused.
        """
        if not self._proxy_headers:
            return before._replace(scheme=self._scheme_of(said, b""))
        elements = forwarded.elements(said.get(FORWARDED, ()))
        nearest = elements[-1] if elements else {}
        host = forwarded.host(forwarded.last(said.get(HOST, ())))
        other = forwarded.host(nearest.get(b"host", b""))
        if host and other and host.lower() != other.lower():
            raise RemoteError("contradictory forwarded hosts")
        return Decision(
            self._scheme_of(said, nearest.get(b"proto", b"")),
            forwarded.prefix(forwarded.last(said.get(PREFIX, ()))) if may_prefix else before.script_name,
            before.dropped,
            self._client_of(said.get(FOR, ()), elements),
            other or host,
            forwarded.port(forwarded.last(said.get(PORT, ()))),
        )

    def _scheme_of(self, said: Said, proto: bytes) -> str:
        """The scheme by which the client spoke to the proxy. Two fields that disagree are somebody's trick."""
        found = {self._claim(name, value) for name, values in said.items() if name in self._schemes for value in values}
        found |= {forwarded.scheme(proto)} - {""}
        if len(found) > 1:
            raise RemoteError("contradictory scheme headers")
        return found.pop() if found else self._scheme

    def _claim(self, name: bytes, value: bytes) -> str:
        """What one line says. Whatever is not the text that means HTTPS means HTTP, as with Gunicorn."""
        if value == self._schemes[name]:
            return "https"
        if name == PROTO and self._proxy_headers:
            return forwarded.scheme(forwarded.last((value,))) or "http"
        return "http"

    def _client_of(self, lines: Sequence[bytes], elements: list[dict[bytes, bytes]]) -> Address | None:
        """Who the client is; None for the peer itself. `lines` are those of X-Forwarded-For."""
        one = forwarded.client(forwarded.hops(lines), self._trusted) if lines else None
        if not any(b"for" in element for element in elements):
            return one
        other = forwarded.client((element.get(b"for", b"") for element in reversed(elements)), self._trusted)
        if any(lines) and (one and one[0]) != (other and other[0]):
            raise RemoteError("contradictory forwarded clients")
        return other

    def _dropped(self, fields: FieldBlock, trusted: bool) -> frozenset[bytes]:
        """`X_Forwarded_For` and `X-Forwarded-For` become one key of the environ, so the former is not let in.

        Where a proxy is trusted to send the former, the latter is not: a client may have sent it.
        """
        names = {name for name, _ in fields if b"_" in name}
        proxys = {name for name in names if trusted and self._forwards(name)}
        dropped = {name.replace(b"_", b"-") for name in proxys}
        strangers = names - proxys
        if strangers and self._header_map == "refuse":
            raise RemoteError(f"header name with an underscore: {min(strangers)[:40].decode('ascii')!r}")
        if self._header_map == "drop":
            dropped |= strangers
        return frozenset(dropped)

    def _forwards(self, name: bytes) -> bool:
        return b"*" in self._forwarders or name.upper() in self._forwarders
