"""Request to environ (PEP 3333). The only place where a field's name becomes a key."""

import os
from io import BytesIO
from typing import Any, Final

import monoceros
from monoceros.gateway.trust import Decision
from monoceros.settings.table import Settings
from monoceros.wire.events import Request
from monoceros.wire.fields import Field, FieldBlock
from monoceros.wire.line import RequestLine

Environ = dict[str, Any]

# CGI gives these two without HTTP_ (RFC 3875 §4.1).
UNPREFIXED: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}

# Several lines of one field are one list (RFC 9110 §5.3), but a list of cookies is divided by semicolons
# (RFC 6265 §4.2.1, RFC 9113 §8.2.3).
SEPARATORS: Final = {"HTTP_COOKIE": "; "}


# What each request sets anew. It stands in the template so that setting it does not make the dict grow.
OF_THE_REQUEST: Final = dict.fromkeys(
    ("REQUEST_METHOD", "RAW_URI", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "wsgi.input")
)

# The keys of names that were met. Clients choose names, so it is emptied when it is full.
CACHED_KEYS: Final = 256
_keys: dict[bytes, str] = {}


def server_part(settings: Settings, errors: object, file_wrapper: object) -> Environ:
    """What is the same in all requests of a worker."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.errors": errors,
        "wsgi.multithread": settings.threads > 1,
        "wsgi.multiprocess": settings.workers > 1,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": file_wrapper,
        "wsgi.input_terminated": True,
        "SERVER_SOFTWARE": f"monoceros/{monoceros.__version__}",
        "SCRIPT_NAME": (settings.root_path or os.environ.get("SCRIPT_NAME", "")).rstrip("/"),
    }


def connection_part(server: Environ, address: tuple[str, int | None], peer: tuple[str, int], sock: object) -> Environ:
    """The same, and what one connection adds: who serves whom. Over a Unix socket there is no port."""
    host, port = address
    environ = server | {
        "SERVER_NAME": host,
        "SERVER_PORT": "80" if port is None else str(port),
        "REMOTE_ADDR": peer[0],
        "gunicorn.socket": sock,
    }
    if peer[0]:
        environ["REMOTE_PORT"] = str(peer[1])
    return environ


def build(connection: Environ, request: Request, decision: Decision) -> Environ:
    """The environ of one request, with an empty `wsgi.input`."""
    line, fields = request
    root = fields.root
    template = root.environ
    if template is None:
        template = root.environ = _template(connection, root, decision)
    environ = template.copy()
    for field in fields.overrides:
        key, text = field.environ or _key_and_text(field)
        environ[key] = text
    environ.update(line.environ or _from_line(line))
    if line.authority is not None and decision.host is not None:
        environ["HTTP_HOST"] = decision.host
    environ["wsgi.input"] = BytesIO()
    if environ["SCRIPT_NAME"]:
        _take_off_prefix(environ)
    return environ


def _template(connection: Environ, fields: FieldBlock, decision: Decision) -> Environ:
    """All that follows from the connection, the header block, and what is believed of it."""
    environ = connection | OF_THE_REQUEST
    host = decision.host
    if host is None and not connection["REMOTE_ADDR"] and fields.host:
        host = fields.host.decode("latin-1")  # over a Unix socket there is no other name
    if decision.client is not None:
        _put_client(environ, *decision.client)
    environ["wsgi.url_scheme"] = decision.scheme
    if decision.script_name:
        environ["SCRIPT_NAME"] = decision.script_name.rstrip("/")
    for field in fields.fields:
        if field.name in decision.dropped:
            continue
        key, text = field.environ or _key_and_text(field)
        if key in environ:
            text = environ[key] + SEPARATORS.get(key, ",") + text
        environ[key] = text
    if decision.host is not None:
        environ["HTTP_HOST"] = decision.host
    if host:
        _name_by_host(environ, host)
    if decision.port is not None:
        environ["SERVER_PORT"] = str(decision.port)
    return environ


def _put_client(environ: Environ, address: str, port: int) -> None:
    """In the place of the peer. A port that is not known is not there, rather than be "0" or the proxy's."""
    environ["REMOTE_ADDR"] = address
    environ.pop("REMOTE_PORT", None)
    if port:
        environ["REMOTE_PORT"] = str(port)


def key_of(name: bytes) -> str:
    """The key of a field by this name, in lower case."""
    return UNPREFIXED.get(name) or "HTTP_" + name.decode("ascii").upper().replace("-", "_")


def _key_and_text(field: Field) -> tuple[str, str]:
    key = _keys.get(field.name)
    if key is None:
        key = key_of(field.name)
        if len(_keys) >= CACHED_KEYS:
            _keys.clear()
        _keys[field.name] = key
    field.environ = pair = key, field.value.decode("latin-1")
    return pair


def _from_line(line: RequestLine) -> Environ:
    """All that follows from the request line. An absolute target overrides Host (RFC 9112 §3.2.2)."""
    environ = line.environ = {
        "REQUEST_METHOD": line.method,
        "RAW_URI": line.target,
        "PATH_INFO": line.decoded_path,
        "QUERY_STRING": line.query,
        "SERVER_PROTOCOL": line.version,
    }
    if line.authority is not None:
        environ["HTTP_HOST"] = line.authority
    return environ


def _take_off_prefix(environ: Environ) -> None:
    """Where the path begins with the prefix, the application sees the rest; a proxy may have taken it off itself."""
    prefix, path = environ["SCRIPT_NAME"], environ["PATH_INFO"]
    if path == prefix or path.startswith(prefix + "/"):
        environ["PATH_INFO"] = path[len(prefix) :]


def _name_by_host(environ: Environ, host: str) -> None:
    """The server has the name and the port that the client used."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    environ["SERVER_NAME"] = name
    environ["SERVER_PORT"] = port or ("443" if environ["wsgi.url_scheme"] == "https" else "80")
