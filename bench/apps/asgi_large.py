"""One MiB in, one MiB out of memory, one MiB out of a file, for ASGI."""

from large import CHUNKS, FILE, MIB
from starlette.responses import FileResponse


async def upload(scope, receive, send):
    assert scope["type"] == "http"
    total, more = 0, True
    while more:
        message = await receive()
        # A client that has gone sends no more, and nobody is left to be told how much it was.
        if message["type"] == "http.disconnect":
            return
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    answer = b"%d" % total
    await send(start(b"text/plain", len(answer)))
    await send({"type": "http.response.body", "body": answer})


async def download(scope, receive, send):
    assert scope["type"] == "http"
    await send(start(b"application/octet-stream", MIB))
    for chunk in CHUNKS:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


async def file(scope, receive, send):
    assert scope["type"] == "http"
    # Starlette sends the path alone to a server that announces the extension.
    announced = "http.response.pathsend" in scope.get("extensions", {})
    response = FileResponse(FILE, headers={"x-pathsend": "yes" if announced else "no"})
    await response(scope, receive, send)


def start(kind, length):
    headers = [(b"content-type", kind), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}
