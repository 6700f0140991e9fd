"""An ASGI application that waits, as one does for a database."""

import asyncio

from asgi_hello import app as hello


async def sleep(scope, receive, send):
    assert scope["type"] == "http"
    await asyncio.sleep(0.010)
    await hello(scope, receive, send)
