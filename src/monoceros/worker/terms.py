"""What the settings say to the wire, which knows no settings."""

import time

from monoceros.settings.table import Settings
from monoceros.wire.events import Limits
from monoceros.wire.response import Defaults


def defaults_of(settings: Settings) -> Defaults:
    """The fields that the server adds to responses."""
    return Defaults(
        time.time,
        server=b"monoceros" if settings.server_header else b"",
        date=settings.date_header,
        fields=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in settings.headers],
    )


def limits_of(settings: Settings) -> Limits:
    """The wire's limits. A head has room for what its parts may be, and for 64 KiB at least."""
    return Limits(
        line=settings.limit_request_line,
        fields=settings.limit_request_fields,
        field_size=settings.limit_request_field_size,
        head=settings.limit_request_line + max(65536, 2 * settings.limit_request_field_size),
        body=settings.limit_request_body,
    )
