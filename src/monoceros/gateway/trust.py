"""Which peer may say what: the one place where a header about the request's origin is believed.

A header that a proxy sets, a client can set as well. So what it says counts only where the peer, the other
end of our socket, is one that the operator trusts (`forwarded_allow_ips`).
"""

from typing import NamedTuple

from monoceros.settings.table import Settings
from monoceros.wire.events import RemoteError
from monoceros.wire.fields import FieldBlock


class Decision(NamedTuple):
    """What is believed of a request: its scheme, the prefix the proxy took off, and which names do not count."""

    scheme: str
    script_name: str
    dropped: frozenset[bytes]


class Policy:
    """What `settings` say about trust. The same object judges for every kind of worker."""

    def __init__(self, settings: Settings, scheme: str = "http") -> None:
        self._trusted = settings.forwarded_allow_ips
        self._scheme = scheme
        self._schemes = {
            name.lower().encode("latin-1"): value.encode("latin-1")
            for name, value in settings.secure_scheme_headers.items()
        }
        self._pinned = frozenset(self._schemes)
        self._header_map = settings.header_map
        self._forwarders = frozenset(name.upper().encode("latin-1") for name in settings.forwarder_headers)

    def apply(self, fields: FieldBlock, peer: str) -> Decision:
        """What to believe of a request with these fields; `peer` is an IP address, "" over a Unix socket.

        The decision is kept on the block, which belongs to one connection and so to one peer, and the names
        on which it rests are pinned there. Raises `RemoteError` where fields contradict each other, or a
        name is refused.
        """
        trusted = not peer or peer in self._trusted
        scheme = self._forwarded_scheme(fields) if trusted else self._scheme
        script_name = b""
        dropped: frozenset[bytes] = frozenset()
        if fields.underscores:
            dropped = self._dropped(fields, trusted)
            if trusted and b"script_name" not in dropped:
                script_name = next((value for name, value in fields if name == b"script_name"), b"")
                dropped |= {b"script_name"}
        fields.pinned = self._pinned
        decision = fields.trust = Decision(scheme, script_name.decode("latin-1"), dropped)
        return decision

    def _forwarded_scheme(self, fields: FieldBlock) -> str:
        """The scheme by which the client spoke to the proxy. Two fields that disagree are somebody's trick."""
        found = ""
        for field in fields.fields:
            secure = self._schemes.get(field.name)
            if secure is not None:
                scheme = "https" if field.value == secure else "http"
                if found and found != scheme:
                    raise RemoteError("contradictory scheme headers")
                found = scheme
        return found or self._scheme

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
