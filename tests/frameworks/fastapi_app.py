"""A FastAPI application with what its tutorial shows."""

import asyncio
import hashlib
import sys
import threading
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, HTTPException, Query, Request, UploadFile, WebSocket
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.websockets import WebSocketDisconnect
from pydantic import BaseModel

caller = ContextVar("caller", default="nobody")


@asynccontextmanager
async def lifespan(app):
    print("lifespan begins", flush=True)
    app.state.notes = []
    app.state.released = asyncio.Event()
    yield {"model": "loaded"}
    print("lifespan ends", flush=True)


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


@app.middleware("http")
async def count_seconds(request: Request, call_next):
    response = await call_next(request)
    response.headers["X-Process-Time"] = "0.1"
    return response


@app.get("/")
async def read_root():
    return {"Hello": "World"}


@app.get("/items/{item_id}")
def read_item(item_id: int, q: str | None = None):
    return {"item_id": item_id, "q": q, "thread": threading.current_thread().name}


@app.post("/items/", status_code=201)
async def create_item(item: Item):
    return item


@app.get("/state")
async def state(request: Request):
    return {"model": request.state.model, "modules": [name for name in sys.modules if name.startswith("uvicorn")]}


# Work after the answer.


async def write_notification(email: str, message: str = "") -> None:
    await app.state.released.wait()
    app.state.notes.append(f"notification for {email}: {message}")


@app.post("/send-notification/{email}")
async def send_notification(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}


@app.post("/release")
async def release():
    app.state.released.set()
    return len(app.state.notes)


@app.get("/notes")
def notes():
    return app.state.notes


# Files and streams.


@app.post("/uploadfile/")
async def create_upload_file(file: UploadFile, token: Annotated[str, Form()]):
    digest = hashlib.sha256()
    while chunk := await file.read(100_000):
        digest.update(chunk)
    return {"filename": file.filename, "size": file.size, "digest": digest.hexdigest(), "token": token}


@app.post("/files/")
def create_file(file: Annotated[bytes, File()]):
    return {"file_size": len(file)}


@app.get("/download")
async def download():
    return FileResponse(__file__, filename="source.py")


@app.get("/video")
def video():
    def pieces():
        with open(__file__, "rb") as file:
            while piece := file.read(1000):
                yield piece

    return StreamingResponse(pieces(), media_type="video/mp4")


@app.get("/events")
async def events(request: Request):
    async def ticks():
        try:
            for number in range(3):
                yield f"data: {number}\n\n"
            print("waiting", flush=True)
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
        finally:
            print("nobody listens any more", flush=True)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.post("/stream-in")
async def stream_in(request: Request):
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return {"size": size, "digest": digest.hexdigest()}


# Dependencies, and what goes wrong.


async def get_db(name: Annotated[str, Query()] = "db"):
    app.state.notes.append(f"open {name}")
    try:
        yield name.upper()
    finally:
        app.state.notes.append(f"close {name}")


@app.get("/query")
async def query(db: Annotated[str, Depends(get_db)], fail: str = ""):
    if fail == "http":
        raise HTTPException(status_code=418, detail="a teapot", headers={"X-Error": "teapot"})
    if fail:
        raise RuntimeError(f"broken with {db}")
    return db


@app.get("/caller/{name}")
async def who(name: str):
    before = caller.get()
    caller.set(name)
    return before


# Where we are.


@app.get("/where/{name}", name="where")
async def where(request: Request, name: str):
    return {
        "url": str(request.url),
        "url_for": str(request.url_for("where", name="x")),
        "client": list(request.client or ()),
        "root_path": request.scope["root_path"],
    }


sub = FastAPI()


@sub.get("/where/{name}", name="inner")
async def inner(request: Request, name: str):
    return {"url_for": str(request.url_for("inner", name="x")), "root_path": request.scope["root_path"]}


app.mount("/sub", sub)


# The chat of the tutorial.


class ConnectionManager:
    def __init__(self):
        self.active_connections = []

    async def connect(self, websocket: WebSocket):
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket):
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str):
        for connection in self.active_connections:
            await connection.send_text(message)


manager = ConnectionManager()


@app.websocket("/ws/{client_id}")
async def websocket_endpoint(websocket: WebSocket, client_id: int):
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await websocket.send_text(f"You wrote: {data}")
            await manager.broadcast(f"Client #{client_id} says: {data}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"Client #{client_id} left the chat")


@app.websocket("/broken")
async def broken(websocket: WebSocket):
    await websocket.accept()
    raise RuntimeError("broken in the middle of a conversation")
