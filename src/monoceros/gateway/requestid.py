"""The id of a request: what a trusted proxy calls it, else a name of our own."""

import itertools
import re
import secrets
from typing import Any, Final

from monoceros.settings.table import Settings
from monoceros.wire.fields import FieldBlock

FIELD: Final = b"x-request-id"
KEY: Final = "HTTP_X_REQUEST_ID"

# To an environ it is the same, see `Policy`.
LOOKALIKE: Final = b"x_request_id"

# What others put into logs, headers and queries of their own must be harmless there, and short.
ACCEPTED: Final = re.compile(rb"[!-~]{1,128}")


# What a block says without such a field, and with an empty one or several: neither would be accepted.
NOTHING: Final = b""
UNUSABLE: Final = b" "


class RequestIds:
    """Decides once for each request what it is called.

    An id of ours is 32 hexadecimal digits, of which the first 20 are this process's own and left to chance: no two
    processes have the same, and nobody who has not seen an id can guess one.
    """

    def __init__(self, settings: Settings) -> None:
        self._trusted = settings.forwarded_allow_ips
        self._prefix = secrets.token_hex(10)
        # Decimal digits, all twelve of them from the start on: that takes half as long as others.
        self._serial = itertools.count(10**11)

    def decide(self, fields: FieldBlock, peer: str) -> str:
        """The id of the request with these fields; `peer` is an IP address, "" over a Unix socket."""
        given = fields.called
        if given is None or fields.overrides:
            given = _given(fields)
        if given and (not peer or peer in self._trusted) and ACCEPTED.fullmatch(given):
            return given.decode("ascii")
        return f"{self._prefix}{next(self._serial)}"


def wanted(settings: Settings) -> bool:
    """Whether requests have ids. Left open, they have where lines have a place for them."""
    return settings.log_format == "json" if settings.request_id is None else settings.request_id


def put_in_scope(scope: dict[str, Any], request_id: str, fields: FieldBlock) -> None:
    """Let an ASGI application find the id, in the place of whatever the client has sent. The scope's list is replaced.

    In an environ, `KEY` is where it stands.
    """
    headers = scope["headers"]
    if fields.called != NOTHING or fields.overrides:
        headers = [field for field in headers if field[0] != FIELD]
    scope["headers"] = [*headers, (FIELD, request_id.encode("ascii"))]


def _given(fields: FieldBlock) -> bytes:
    """What the field says; `NOTHING` if there is none, `UNUSABLE` if it says nothing, or more than one thing.

    Where it differs with each request, it is an override, so that what the root says does not count.
    """
    for field in fields.overrides:
        if field.name == FIELD:
            return field.value
    root = fields.root
    if root.called is None:
        found = [field for field in root.fields if field.name in (FIELD, LOOKALIKE)]
        root.called = UNUSABLE if found else NOTHING
        if len(found) == 1 and found[0].name == FIELD and found[0].value:
            root.called = found[0].value
    return root.called
