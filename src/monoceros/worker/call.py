"""What runs for a client on an asyncio loop: one call of the application, over HTTP or WebSocket."""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from monoceros.gateway.asgi import DONE, HTTPExchange, Message
from monoceros.wire.events import PeerGone, Request

if TYPE_CHECKING:
    from monoceros.worker.stream import Stream

log = logging.getLogger("gunicorn.error")

# How many pieces an application may send in one go before the others have a turn: where the client takes all of them
# at once, there is still room for them, or there is nothing to take, as for HEAD, it would never wait.
UNBROKEN: Final = 8


class Call:
    """One call of the application, for a request of a client.

    `task` runs it; it may outlive the answer. `waiting` is there while the application waits for a message.
    `over` says that nothing more is expected of it: its answer is complete, or it was told that the client has
    left; `is_gone` that nothing it sends would arrive. `accepted`: it is a WebSocket now, which may last.
    """

    task: "asyncio.Task[None] | None" = None
    waiting: asyncio.Event | None = None
    over: bool
    is_gone: bool
    request: Request
    request_id: str | None = None
    accepted = False
    unbroken = 0

    def changed(self) -> None:
        """Let who waits for a message look again."""
        if self.waiting is not None:
            self.waiting.set()
            self.waiting = None

    async def change(self) -> None:
        """Wait until there may be a message."""
        if self.waiting is None:
            self.waiting = asyncio.Event()
        await self.waiting.wait()

    def arrived(self, data: bytes) -> None:
        """Bytes have come from the client; b"" says that it will send no more. Raises `RemoteError`, `PeerGone`."""
        raise NotImplementedError

    async def give_way(self) -> None:
        """One more piece was sent: now and then let the others have a turn."""
        self.unbroken += 1
        if self.unbroken == UNBROKEN:
            self.unbroken = 0
            await asyncio.sleep(0)

    @property
    def settled(self) -> bool:
        """Is the answer complete? What the task still does is nobody's business then."""
        raise NotImplementedError

    def gone(self) -> None:
        """The client is not there any more, or not to be answered."""
        raise NotImplementedError

    def flushed(self) -> None:
        """The client has taken all that it was sent."""

    def left(self) -> None:
        """The task has ended, and the connection is still busy with this call."""
        raise NotImplementedError

    def returned(self) -> None:
        """The application has left without a complete answer. Raises `PeerGone`."""
        raise NotImplementedError

    def raised(self) -> None:
        """The application has failed. Raises `PeerGone`."""
        raise NotImplementedError


class HTTPCall(HTTPExchange, Call):
    """A request with the application: `receive` and `send`, which wait where the exchange does not."""

    sink: "Stream"

    async def receive(self) -> Message:
        """The next message for the application; waits for it."""
        while (message := self.message()) is None:
            if not self.complete:
                self.sink.want_content()
            await self.change()
        return message

    async def send(self, message: Message) -> None:
        """Do what the message asks for. Waits where the application outruns its client.

        Raises `AppError` for what may not be sent, and `PeerGone`, an OSError, where the client is gone.
        """
        stream = self.sink
        try:
            self.take(message)
        except PeerGone:
            if not self.is_gone:
                stream.lost()
            raise
        if self.state is DONE:
            stream.complete(self)
            return
        if stream.unsent:
            await stream.drained(self)
        if self.started:
            await self.give_way()

    def arrived(self, data: bytes) -> None:
        """Content, the beginning of the next request, or the client's end."""
        stream = self.sink
        stream.wire.receive_data(data)
        if not self.complete:
            stream.take_content(self, len(data))
        elif not data:
            stream.disconnected(self)
        else:
            stream.hold_back()

    @property
    def settled(self) -> bool:
        """Is the answer complete?"""
        return self.state is DONE

    def flushed(self) -> None:
        """The client has taken what it was sent: it is awaited for what is missing of its content."""
        if not self.complete:
            self.sink.await_content()

    def left(self) -> None:
        """The task has ended without a complete answer, so nothing may follow."""
        self.sink.finish(self)

    def returned(self) -> None:
        """The application has left without a complete answer: 500, or the connection is cut off."""
        missing = "completing" if self.started else "starting"
        log.error("ASGI callable returned without %s response. (%s)", missing, self.sink)
        self.sink.apologise()

    def raised(self) -> None:
        """The application has failed: 500, or the connection is cut off."""
        self.sink.apologise()


def due_to(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Was the error raised because of one of this kind? Frameworks make their own of ours, and groups of them."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, kind):
            return True
        if isinstance(error, BaseExceptionGroup) and all(due_to(each, kind) for each in error.exceptions):
            return True
        error = error.__cause__ or error.__context__
        seen += 1
    return False
