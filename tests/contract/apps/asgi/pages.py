"""The ASGI twin of ../pages.py: the same paths, and as far as ASGI lets it, the same behaviour."""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qs

BLOCK = bytes(range(256)) * 256  # 64 KiB
HERE = Path(__file__).parent.parent


class Cancelled(BaseException):
    """As gevent's Timeout: no Exception."""


class Disconnected(Exception):
    """The client has not sent the body that it promised."""


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    assert scope["type"] == "http"
    name = scope["path"].strip("/").replace("-", "_") or "hello"
    page = globals().get(f"on_{name}")
    if page is None:
        await start(send, status=404)
        await end(send, b"no such page")
    else:
        await page(scope, receive, send)


async def lifespan(receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})


async def start(send, *headers, status=200):
    fields = [(b"Content-Type", b"text/plain"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})


async def part(send, body):
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def end(send, body=b""):
    await send({"type": "http.response.body", "body": body})


async def ok(send, body):
    await start(send)
    await end(send, body)


def argument(scope, name, default=""):
    return parse_qs(scope["query_string"].decode()).get(name, [default])[0]


async def pieces(receive):
    """The content as it comes."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        yield message["body"]
        more = message["more_body"]


async def whole(receive):
    return b"".join([piece async for piece in pieces(receive)])


async def on_hello(scope, receive, send):
    await ok(send, b"Hello, World!\n")


async def on_method(scope, receive, send):
    await ok(send, scope["method"].encode())


async def on_pid(scope, receive, send):
    await ok(send, str(os.getpid()).encode())


async def on_environ(scope, receive, send):
    """What WSGI calls these things, of what ASGI says."""
    client, server = scope["client"] or ("", None), scope["server"]
    raw, query = scope["raw_path"].decode(), scope["query_string"].decode()
    environ = {
        "REMOTE_ADDR": client[0],
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope["root_path"],
        "PATH_INFO": scope["path"],
        "QUERY_STRING": query,
        "RAW_URI": f"{raw}?{query}" if query else raw,
        "wsgi.url_scheme": scope["scheme"],
    }
    if client[1] is not None:
        environ["REMOTE_PORT"] = str(client[1])
    for name, value in scope["headers"]:
        key, value = "HTTP_" + name.decode().upper().replace("-", "_"), value.decode("latin-1")
        joint = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = environ[key] + joint + value if key in environ else value
    await ok(send, json.dumps(environ).encode())


async def on_echo(scope, receive, send):
    await ok(send, await whole(receive))


async def on_digest(scope, receive, send):
    digest, size = hashlib.sha256(), 0
    async for piece in pieces(receive):
        digest.update(piece)
        size += len(piece)
    await ok(send, f"{size} {digest.hexdigest()}".encode())


async def on_ignore(scope, receive, send):
    await ok(send, b"not read")


async def on_part(scope, receive, send):
    message = await receive()
    await ok(send, message["body"][:10])


async def on_swallow(scope, receive, send):
    """Takes half a body for a whole one, if it is let."""
    try:
        size = len(await whole(receive))
    except Exception as error:
        print("swallowed", type(error).__name__, file=sys.stderr)
        size = -1
    await ok(send, f"all is well: {size}".encode())


async def on_large(scope, receive, send):
    await ok(send, BLOCK * (int(argument(scope, "mib", "20")) * 16))


async def on_stream(scope, receive, send):
    await start(send)
    for number in range(int(argument(scope, "count", "3"))):
        await part(send, f"chunk {number}\n".encode())
    await end(send)


async def on_stream_large(scope, receive, send):
    await start(send)
    for _ in range(320):
        await part(send, BLOCK)
    await end(send)


async def on_file(scope, receive, send):
    path, begin, length = HERE / "pages.py", int(argument(scope, "from", "0")), argument(scope, "length")
    await start(send, *([(b"Content-Length", length.encode())] if length else []))
    if begin:  # a pathsend begins where the file does
        data = path.read_bytes()[begin:]
        await end(send, data[: int(length)] if length else data)
    else:
        await send({"type": "http.response.pathsend", "path": str(path)})


async def on_large_file(scope, receive, send):
    await start(send)
    await send({"type": "http.response.pathsend", "path": argument(scope, "path")})


async def on_long(scope, receive, send):
    await start(send, (b"Content-Length", b"5"))
    for piece in (b"hel", b"lo, ", b"world"):
        await part(send, piece)
    await end(send)


async def on_short(scope, receive, send):
    await start(send, (b"Content-Length", b"10"))
    await part(send, b"hel")
    await part(send, b"lo")
    await end(send)


async def on_nothing(scope, receive, send):
    await start(send, (b"Content-Length", b"10"))
    await end(send)


async def on_no_content(scope, receive, send):
    await send({"type": "http.response.start", "status": 204})
    await end(send, b"not to be sent")


async def on_not_modified(scope, receive, send):
    await send({"type": "http.response.start", "status": 304, "headers": [(b"ETag", b'"x"')]})
    await end(send)


async def on_endless(scope, receive, send):
    await start(send)
    while True:
        await part(send, b"tick\n")


async def on_raise(scope, receive, send):
    raise ValueError("the application is broken")


async def on_raise_late(scope, receive, send):
    await start(send)
    await part(send, b"begun\n")
    raise ValueError("broken in the middle")


async def on_exit(scope, receive, send):
    sys.exit(3)


async def on_cancelled(scope, receive, send):
    raise Cancelled("timed out")


async def on_asyncio(scope, receive, send):
    raise asyncio.CancelledError


async def on_inject(scope, receive, send):
    await start(send, (b"X-Value", b"1\r\nX-Forged: 2"))
    await end(send, b"never sent")


async def on_text(scope, receive, send):
    await ok(send, "text")


async def on_none(scope, receive, send):
    await start(send)


async def on_silent(scope, receive, send):
    await end(send, b"http.response.start was not sent")


async def on_write(scope, receive, send):
    await start(send)
    await part(send, b"written, ")
    await end(send, b"returned")


async def on_hints(scope, receive, send):
    for link in (b"</style.css>; rel=preload", b"</script.js>; rel=preload"):
        await send({"type": "http.response.early_hint", "links": [link]})
    await ok(send, b"final")


async def on_headers(scope, receive, send):
    fields = [
        (b"x-lower", b"1"),
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
        (b"Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"gzip"),
        (b"X-Latin", b"caf\xe9"),
    ]
    await send({"type": "http.response.start", "status": 299, "headers": fields})
    await end(send, b"x")


async def on_close(scope, receive, send):
    await start(send, (b"Connection", b"close"))
    await end(send, b"the application wants it closed")


async def on_errors(scope, receive, send):
    print("a line from the application", file=sys.stderr, flush=True)
    await ok(send, b"told")


async def on_wait(scope, receive, send):
    """Waits until somebody opens the pipe at this path for writing, and answers what was written."""
    await ok(send, await asyncio.to_thread(Path(argument(scope, "path")).read_bytes))


async def on_trailers(scope, receive, send):
    fields = [(b"Trailer", b"X-Sum")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    await part(send, b"hello, ")
    await end(send, b"world")
    await send({"type": "http.response.trailers", "headers": [(b"X-Sum", b"12")]})


async def on_listen(scope, receive, send):
    """Says what it hears while it does not answer."""
    await whole(receive)
    print("listening", file=sys.stderr, flush=True)
    print("heard", (await receive())["type"], file=sys.stderr, flush=True)
    await ok(send, b"late")
