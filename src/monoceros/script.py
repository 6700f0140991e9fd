"""The server as a call in somebody's own script: what `monoceros.run` does."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from monoceros import cli
from monoceros.arbiter.arbiter import Arbiter
from monoceros.arbiter.reexec import Launch
from monoceros.settings import Settings, SettingsError
from monoceros.settings.load import load
from monoceros.settings.place import enter


def run(app: str | Callable[..., Any], given: Mapping[str, object]) -> None:
    """Serve until told to stop; `given` are settings by our names or by Uvicorn's.

    Returns if the exit status is 0, else raises SystemExit with it. Raises SettingsError, TypeError for an application
    that is none and for names that mean nothing, and RuntimeError outside the main thread, which is where Python
    handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("monoceros.run() must be called in the main thread, since signals are handled there")
    if not isinstance(app, str) and not callable(app):
        raise TypeError(f"run() takes an application or MODULE:NAME, not an object of type {type(app).__name__!r}")
    application = None if isinstance(app, str) else app
    environ, launched = cli.starting_point()
    launch = Launch.remember(environ)
    call = {"app": app if isinstance(app, str) else name_of(app), **given}

    def reload_settings() -> Settings:
        settings = cli.checked(load((), environ, launched, call))
        # An object is loaded: there is nothing that could be imported before the fork, or called to make it.
        if application is None:
            return settings
        notes = ("reload has no effect on an application object: name it as MODULE:NAME",) if settings.reload else ()
        return replace(settings, preload_app=False, reload=False, notes=(*settings.notes, *notes))

    settings = reload_settings()
    if settings.wsgi_app is None:
        raise SettingsError(cli.NO_APPLICATION)
    enter(settings)
    if settings.factory and application is not None:
        application = application()
    with signals_kept():
        status = Arbiter(settings, reload_settings, launch, application).run()
    if status:
        raise SystemExit(status)


def name_of(application: Callable[..., Any]) -> str:
    """MODULE:NAME of a function or a class; of another object, that of its class."""
    named = application if hasattr(application, "__qualname__") else type(application)
    return f"{named.__module__}:{named.__qualname__}"


@contextmanager
def signals_kept() -> Iterator[None]:
    """What the script does on a signal, it does so again afterwards."""
    handlers = {number: signal.getsignal(number) for number in Arbiter.HANDLERS}
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    try:
        yield
    finally:  # not in the workers, which never come back here
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            if handler is not None:  # None: installed by other means than Python
                signal.signal(number, handler)
