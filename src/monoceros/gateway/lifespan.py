"""Startup and shutdown of an ASGI application, and the state that startup leaves for the requests.

The specification: https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

import logging
from asyncio import CancelledError, Future, Task, get_running_loop
from typing import Any, Final

from monoceros.gateway.asgi import Application, Message
from monoceros.wire.events import AppError

VERSIONS: Final = {"version": "3.0", "spec_version": "2.0"}


class StartupFailed(Exception):
    """The application cannot serve. The text is what it said about that."""


class Lifespan:
    """The lifespan of an application. `mode` is "auto", "on" or "off".

    In "auto" an application that raises before it has answered is taken for one that does not know the protocol;
    in "on" that is a failure. `state` is what the application has put there, None where there is no lifespan.
    """

    def __init__(self, application: Application, mode: str, log: logging.Logger) -> None:
        self._application = application
        self._mode = mode
        self._log = log
        self._task: Task[None] | None = None
        self._messages: list[Message] = []
        self._waiter: Future[None] | None = None
        self._answer: Future[Message | None] | None = None
        self._started = False
        self._failure: BaseException | None = None
        self.state: dict[str, Any] | None = None if mode == "off" else {}

    async def startup(self) -> None:
        """Returns when the application is ready, or does not know the protocol. Raises `StartupFailed`."""
        if self._mode == "off":
            return
        self._log.info("Waiting for application startup.")
        loop = get_running_loop()
        self._task = loop.create_task(self._live(), name="lifespan")
        answer = await self._ask("lifespan.startup")
        if answer is None:
            self._without()
        elif answer["type"] == "lifespan.startup.failed":
            raise StartupFailed(str(answer.get("message", "")) or "the application gave no reason")
        else:
            self._started = True
        self._log.info("Application startup complete.")

    def _without(self) -> None:
        """The application has left without an answer to startup."""
        self.state = None
        if self._mode != "on":
            self._log.info("ASGI 'lifespan' protocol appears unsupported.")
            return
        if self._failure is not None:
            raise StartupFailed("Exception in 'lifespan' protocol") from self._failure
        raise StartupFailed("the application has returned from its lifespan without an answer to startup")

    async def shutdown(self) -> None:
        """Returns when the application has cleaned up. To be called once, after `startup` has."""
        if not self._started or self._task is None:
            return
        if self._task.done():
            self._log.error("The application has left its lifespan before shutdown", exc_info=self._failure)
            return
        self._log.info("Waiting for application shutdown.")
        answer = await self._ask("lifespan.shutdown")
        if answer is None and self._failure is not None:
            self._log.error("Exception in 'lifespan' protocol", exc_info=self._failure)
        elif answer is not None and answer["type"] == "lifespan.shutdown.failed":
            self._log.error("Application shutdown failed: %s", answer.get("message", ""))
        else:
            self._log.info("Application shutdown complete.")

    async def _ask(self, kind: str) -> Message | None:
        """What the application answers to a message of this kind, None if it leaves instead."""
        self._answer = get_running_loop().create_future()
        self._messages.append({"type": kind})
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return await self._answer

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": VERSIONS, "state": self.state}
        try:
            await self._application(scope, self._receive, self._send)
        except CancelledError as error:
            self._failure = error
            raise
        except BaseException as error:
            self._failure = error
        finally:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(None)

    async def _receive(self) -> Message:
        while not self._messages:
            self._waiter = get_running_loop().create_future()
            await self._waiter
        return self._messages.pop(0)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        awaited = "lifespan.shutdown" if self._started else "lifespan.startup"
        if kind not in (f"{awaited}.complete", f"{awaited}.failed") or self._answer is None or self._answer.done():
            raise AppError(f"the application has sent {kind!r} when it was not asked for it")
        self._answer.set_result(message)
