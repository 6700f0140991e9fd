"""An application that watches what the server does to it: every key and every message, as the specification has them.

https://asgi.readthedocs.io/en/latest/specs/www.html and .../lifespan.html
"""

import warnings

warnings.simplefilter("error")

KEYS = {
    "type": str,
    "asgi": dict,
    "http_version": str,
    "method": str,
    "scheme": str,
    "path": str,
    "raw_path": bytes,
    "query_string": bytes,
    "root_path": str,
    "headers": list,
    "client": tuple,
    "server": tuple,
    "state": dict,
    "extensions": dict,
}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    watch(scope)
    body, more = b"", True
    while more:
        message = await receive()
        assert set(message) <= {"type", "body", "more_body"}
        assert message["type"] == "http.request"
        assert type(message.get("body", b"")) is bytes
        assert type(message.get("more_body", False)) is bool
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = scope["method"].encode() + b" " + body
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(answer))]
    assert await send({"type": "http.response.start", "status": 200, "headers": fields}) is None
    assert await send({"type": "http.response.body", "body": answer}) is None
    assert await receive() == {"type": "http.disconnect"}


async def lifespan(scope, receive, send):
    assert set(scope) == {"type", "asgi", "state"}
    assert scope["asgi"]["version"] == "3.0"
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["begun"] = True
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == {"type": "lifespan.shutdown"}
    await send({"type": "lifespan.shutdown.complete"})


def watch(scope):
    assert set(scope) == set(KEYS)
    for key, kind in KEYS.items():
        assert type(scope[key]) is kind, key
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": scope["asgi"]["spec_version"]}
    assert scope["http_version"] in ("1.0", "1.1")
    assert scope["method"] == scope["method"].upper()
    assert scope["scheme"] == "http"
    assert scope["path"] == scope["raw_path"].decode() == "/"
    assert scope["state"] == {"begun": True}
    scope["state"]["begun"] = "by this request"  # the state is a copy
    for name, value in scope["headers"]:
        assert type(name) is type(value) is bytes
        assert name == name.lower().strip() != b""
        assert value == value.strip()
    for host, port in (scope["client"], scope["server"]):
        assert type(host) is str
        assert type(port) is int
    assert all(type(name) is str and type(value) is dict for name, value in scope["extensions"].items())
