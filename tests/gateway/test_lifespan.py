"""The lifespan of an application: what it says at its start and its end, and what it should not say."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from monoceros.gateway.asgi import Message, Receive, Scope, Send
from monoceros.gateway.lifespan import Lifespan, StartupFailed
from monoceros.wire.events import AppError

App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("tests.lifespan")

BEGIN = "Waiting for application startup."
BEGUN = "Application startup complete."
UNSUPPORTED = "ASGI 'lifespan' protocol appears unsupported."
END = "Waiting for application shutdown."
ENDED = "Application shutdown complete."
EXCEPTION = "Exception in 'lifespan' protocol"

SPAN = [("INFO", BEGIN), ("INFO", BEGUN)]


class Lived:
    """What became of an application's startup and shutdown."""

    def __init__(self, lifespan: Lifespan, lines: list[logging.LogRecord]) -> None:
        self.state = lifespan.state
        self.lines = [(line.levelname, line.getMessage()) for line in lines]
        self.errors = [line.exc_info and line.exc_info[1] for line in lines if line.levelno == logging.ERROR]


Live = Callable[..., Lived]


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end; nothing may be left that the loop would complain about."""
    complaints: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        async with asyncio.timeout(20):
            await work

    asyncio.run(main())
    gc.collect()
    assert complaints == []


@pytest.fixture
def live(caplog: pytest.LogCaptureFixture) -> Live:
    """Start an application and shut it down, if it has started."""
    caplog.set_level(logging.INFO)

    def lived(app: App, mode: str = "auto", meanwhile: Callable[[Lifespan], object] = lambda _: None) -> Lived:
        lifespan = Lifespan(app, mode, log)

        async def span() -> None:
            await lifespan.startup()
            meanwhile(lifespan)
            await lifespan.shutdown()

        caplog.clear()
        run(span())
        return Lived(lifespan, caplog.records)

    return lived


@pytest.fixture
def failing(caplog: pytest.LogCaptureFixture) -> Callable[..., StartupFailed]:
    """Start an application that does not; what was raised."""
    caplog.set_level(logging.INFO)

    def failed(app: App, mode: str = "auto") -> StartupFailed:
        with pytest.raises(StartupFailed) as caught:
            run(Lifespan(app, mode, log).startup())
        assert caplog.messages == [BEGIN]
        return caught.value

    return failed


def answering(*answers: Message | None, then: BaseException | None = None) -> App:
    """An application that answers each message with the next of these, None for nothing, and then leaves."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for answer in answers:
            await receive()
            if answer is not None:
                await send(answer)
        if then is not None:
            raise then

    return app


def startup(what: str = "complete", **more: str) -> Message:
    return {"type": f"lifespan.startup.{what}", **more}


def shutdown(what: str = "complete", **more: str) -> Message:
    return {"type": f"lifespan.shutdown.{what}", **more}


# A good life


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_and_shutdown(live: Live, mode: str) -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope))
        seen.append(await receive())
        await send(startup())
        seen.append(await receive())
        await send(shutdown())

    lived = live(app, mode, lambda _: seen.append("serving"))
    assert seen == [
        {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}},
        {"type": "lifespan.startup"},
        "serving",
        {"type": "lifespan.shutdown"},
    ]
    assert lived.lines == [*SPAN, ("INFO", END), ("INFO", ENDED)]
    assert lived.state == {}


def test_startup_waits_for_the_application(live: Live) -> None:
    """It may have to wait for others in turn, and so may its shutdown."""
    steps: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for answer in (startup(), shutdown()):
            await receive()
            for _ in range(10):
                await asyncio.sleep(0)
            steps.append(answer["type"])
            await send(answer)

    live(app, "on", lambda _: steps.append("serving"))
    assert steps == ["lifespan.startup.complete", "serving", "lifespan.shutdown.complete"]


def test_an_application_may_answer_before_it_is_asked(live: Live) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(startup())
        assert (await receive())["type"] == "lifespan.startup"
        assert (await receive())["type"] == "lifespan.shutdown"
        await send(shutdown())

    assert live(app).lines == [*SPAN, ("INFO", END), ("INFO", ENDED)]


def test_an_application_may_receive_in_a_task_of_its_own(live: Live) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for answer in (startup(), shutdown()):
            await asyncio.create_task(receive())  # type: ignore[arg-type]
            await asyncio.create_task(send(answer))  # type: ignore[arg-type]

    assert live(app).lines[-1] == ("INFO", ENDED)


def test_the_state_is_kept_for_the_requests(live: Live) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["pool"] = 1
        await answering(startup(), shutdown())(scope, receive, send)

    seen: list[object] = []
    live(app, "auto", lambda lifespan: seen.append(lifespan.state))
    assert seen == [{"pool": 1}]


def test_off(live: Live) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it is not called")

    lived = live(app, "off")
    assert lived.lines == []
    assert lived.state is None


# Startup that fails


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_an_application_that_says_that_it_cannot_start(failing: Callable[..., StartupFailed], mode: str) -> None:
    assert str(failing(answering(startup("failed", message="no database")), mode)) == "no database"


@pytest.mark.parametrize("more", [{}, {"message": ""}])
def test_a_failure_without_words(failing: Callable[..., StartupFailed], more: dict[str, str]) -> None:
    assert str(failing(answering(startup("failed", **more)))) == "the application gave no reason"


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_failure_is_not_forgotten_for_an_exception(failing: Callable[..., StartupFailed], mode: str) -> None:
    """Starlette sends the traceback as the message, and raises."""
    app = answering(startup("failed", message="Traceback: no database"), then=ValueError("no database"))
    assert str(failing(app, mode)) == "Traceback: no database"


FAULTS = [ValueError("x"), SystemExit(1), KeyboardInterrupt()]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
@pytest.mark.parametrize("answers", [(), (None,)], ids=["at once", "asked"])
def test_an_exception_in_auto_means_that_there_is_no_lifespan(
    live: Live, fault: BaseException, answers: tuple[None, ...]
) -> None:
    lived = live(answering(*answers, then=fault), "auto")
    assert lived.lines == [("INFO", BEGIN), ("INFO", UNSUPPORTED), ("INFO", BEGUN)]
    assert lived.state is None


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_an_exception_in_on_is_a_failure(failing: Callable[..., StartupFailed], fault: BaseException) -> None:
    error = failing(answering(None, then=fault), "on")
    assert str(error) == EXCEPTION
    assert error.__cause__ is fault


def test_an_application_that_leaves_without_an_answer(live: Live) -> None:
    lived = live(answering(None), "auto")
    assert lived.lines == [("INFO", BEGIN), ("INFO", UNSUPPORTED), ("INFO", BEGUN)]
    assert lived.state is None


def test_an_application_that_leaves_without_an_answer_in_on(failing: Callable[..., StartupFailed]) -> None:
    error = failing(answering(None), "on")
    assert str(error) == "the application has returned from its lifespan without an answer to startup"
    assert error.__cause__ is None


def test_an_application_that_knows_no_lifespan_at_all(live: Live) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    assert live(app).lines == [("INFO", BEGIN), ("INFO", UNSUPPORTED), ("INFO", BEGUN)]


# Shutdown that fails


def test_an_application_that_says_that_it_could_not_clean_up(live: Live) -> None:
    lived = live(answering(startup(), shutdown("failed", message="still busy")))
    assert lived.lines == [*SPAN, ("INFO", END), ("ERROR", "Application shutdown failed: still busy")]


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_an_exception_at_shutdown(live: Live, mode: str, fault: BaseException) -> None:
    lived = live(answering(startup(), None, then=fault), mode)
    assert lived.lines == [*SPAN, ("INFO", END), ("ERROR", EXCEPTION)]
    assert lived.errors == [fault]


def test_an_exception_behind_the_last_answer_is_too_late_to_matter(live: Live) -> None:
    assert live(answering(startup(), shutdown(), then=ValueError())).lines[-1] == ("INFO", ENDED)


def test_leaving_at_shutdown_without_an_answer_is_an_answer(live: Live) -> None:
    assert live(answering(startup(), None)).lines == [*SPAN, ("INFO", END), ("INFO", ENDED)]


@pytest.mark.parametrize("fault", [ValueError("x"), None], ids=repr)
def test_an_application_that_has_left_before_shutdown(caplog: pytest.LogCaptureFixture, fault: ValueError) -> None:
    caplog.set_level(logging.INFO)
    lifespan = Lifespan(answering(startup(), then=fault), "on", log)

    async def span() -> None:
        await lifespan.startup()
        assert lifespan._task is not None
        await asyncio.wait([lifespan._task])
        await lifespan.shutdown()

    run(span())
    lived = Lived(lifespan, caplog.records)
    assert lived.lines == [*SPAN, ("ERROR", "The application has left its lifespan before shutdown")]
    assert lived.errors == [fault]


def test_shutdown_of_what_was_never_started() -> None:
    run(Lifespan(answering(startup(), shutdown()), "on", log).shutdown())


def test_a_shutdown_that_is_given_up_lets_the_application_go() -> None:
    """The worker's time is over: what is waited for may be cancelled, and the lifespan with it."""
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(startup(), None)(scope, receive, send)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def span() -> None:
        lifespan = Lifespan(app, "on", log)
        await lifespan.startup()
        waiting = asyncio.create_task(lifespan.shutdown())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert lifespan._task is not None
        lifespan._task.cancel()
        await asyncio.wait([lifespan._task])
        assert lifespan._task.cancelled()

    run(span())
    assert ended == ["cancelled"]


# The order of messages


@pytest.mark.parametrize("kind", ["lifespan.shutdown.complete", "lifespan.startup", "http.response.start"])
def test_what_was_not_asked_for_at_startup(failing: Callable[..., StartupFailed], kind: str) -> None:
    error = failing(answering({"type": kind}), "on")
    assert isinstance(error.__cause__, AppError)
    assert str(error.__cause__) == f"the application has sent {kind!r} when it was not asked for it"


@pytest.mark.parametrize("kind", ["lifespan.startup.complete", "lifespan.startup.failed", "lifespan.shutdown"])
def test_what_was_not_asked_for_at_shutdown(live: Live, kind: str) -> None:
    lived = live(answering(startup(), {"type": kind}))
    assert lived.lines[-1] == ("ERROR", EXCEPTION)
    [error] = lived.errors
    assert str(error) == f"the application has sent {kind!r} when it was not asked for it"


@pytest.mark.parametrize("early", [startup(), startup("failed"), shutdown(), shutdown("failed")])
def test_an_answer_that_comes_before_its_question(live: Live, early: Message) -> None:
    """Startup is answered already, and shutdown has not begun."""
    refused: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(startup())
        try:
            await send(early)
        except AppError as error:
            refused.append(str(error))
        await receive()
        await send(shutdown())
        with pytest.raises(AppError):
            await send(shutdown())

    assert live(app).lines == [*SPAN, ("INFO", END), ("INFO", ENDED)]
    assert refused == [f"the application has sent {early['type']!r} when it was not asked for it"]
