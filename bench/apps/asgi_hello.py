"""The least an ASGI application can do: what is left to measure is the server."""


async def app(scope, receive, send):
    # To raise is how an application says that it has no lifespan.
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello, World!"})
