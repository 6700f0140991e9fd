"""A Starlette application: its parts as they are, without what a framework on top would add."""

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles


@asynccontextmanager
async def lifespan(app):
    yield {"released": asyncio.Event(), "counted": []}


async def homepage(request):
    return PlainTextResponse("Hello, world!")


async def count(request):
    request.state.counted.append(1)
    request.state.mine = "only here"
    return JSONResponse(len(request.state.counted))


async def mine(request):
    return JSONResponse(hasattr(request.state, "mine"))


async def later(request):
    async def work():
        await request.state.released.wait()
        print("worked", flush=True)

    return PlainTextResponse("accepted", background=BackgroundTask(work))


async def release(request):
    request.state.released.set()
    return PlainTextResponse("released")


def slow(request):
    """A plain function, which blocks its thread and nobody else."""
    request.app.state.waiting = True
    while not getattr(request.app.state, "go", False):
        time.sleep(0.001)
    return PlainTextResponse("slow")


async def go(request):
    while not getattr(request.app.state, "waiting", False):
        await asyncio.sleep(0.001)
    request.app.state.go = True
    return PlainTextResponse("go")


async def stream(request):
    async def pieces():
        try:
            number = 0
            while True:
                yield f"{number}\n"
                number += 1
                await asyncio.sleep(0.001)
        finally:
            print("stream ends", flush=True)

    return StreamingResponse(pieces())


async def events(request):
    async def ticks():
        try:
            yield "data: first\n\n"
            while not await request.is_disconnected():
                await asyncio.sleep(0.001)
        finally:  # the response may notice first, and cancel this
            print("listener left", flush=True)

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def upload(request):
    digest, size = hashlib.sha256(), 0
    try:
        async for chunk in request.stream():
            digest.update(chunk)
            size += len(chunk)
    except ClientDisconnect:
        print("upload broke off", flush=True)
        raise
    return PlainTextResponse(f"{size} {digest.hexdigest()}")


async def file(request):
    return FileResponse(request.query_params["path"])


async def text(request):
    return PlainTextResponse("all alike " * 10_000)


async def url(request):
    return JSONResponse(
        {"url": str(request.url), "base": str(request.base_url), "here": str(request.url_for("admin:url"))}
    )


async def broken(request):
    raise RuntimeError("broken on purpose")


async def broken_stream(request):
    async def pieces():
        yield "begun\n"
        raise RuntimeError("broken in the middle")

    return StreamingResponse(pieces())


async def away(request):
    return RedirectResponse(request.url_for("home"))


class Methods(HTTPEndpoint):
    async def get(self, request):
        return PlainTextResponse("got")

    async def put(self, request):
        return JSONResponse(await request.json())


class Echo(WebSocketEndpoint):
    encoding = "bytes"

    async def on_connect(self, websocket):
        wanted = websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=wanted[0] if wanted else None, headers=[(b"x-mine", b"1")])

    async def on_receive(self, websocket, data):
        await websocket.send_bytes(data)

    async def on_disconnect(self, websocket, close_code):
        print("closed with", close_code, flush=True)


async def denied(websocket):
    await websocket.send_denial_response(JSONResponse({"why": "no token"}, status_code=401))


async def closes(websocket):
    await websocket.accept()
    await websocket.send_json({"url": str(websocket.url), "path": websocket.url.path})
    await websocket.close(code=4001, reason="enough")


PAGES = (count, mine, later, release, slow, go, stream, events, upload, file, url, broken, broken_stream, away)

routes = [
    Host("other.example", Starlette(routes=[Route("/", lambda request: PlainTextResponse("the other"))])),
    Route("/", homepage, name="home"),
    Route("/methods", Methods),
    *[Route(f"/{each.__name__}", each, methods=["GET", "POST"]) for each in PAGES],
    Mount("/admin", routes=[Route("/url", url, name="url")], name="admin"),
    Mount("/zipped", app=Starlette(routes=[Route("/", text)], middleware=[Middleware(GZipMiddleware)])),
    Mount("/static", StaticFiles(directory="."), name="static"),
    WebSocketRoute("/echo", Echo),
    WebSocketRoute("/denied", denied),
    WebSocketRoute("/closes", closes),
]

app = Starlette(routes=routes, lifespan=lifespan)
