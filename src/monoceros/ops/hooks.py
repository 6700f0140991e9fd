"""Where the user's hooks are called. What they raise is logged with the hook's name and file."""

import logging
from typing import Any, Final

from monoceros.settings.table import Settings

error_log = logging.getLogger("gunicorn.error")

# What counts as a hook's failure: sys.exit() in one ends neither a worker nor the master on the spot.
RAISED: Final = (Exception, SystemExit)


def call(settings: Settings, name: str, *arguments: Any) -> None:
    """Call the hook `name`, if there is one. What it raises is logged, and raised again."""
    hook = getattr(settings, name)
    if hook is None:
        return
    try:
        hook(*arguments)
    except RAISED:
        error_log.exception("Exception in %s hook (%s)", name, where(hook))
        raise


def notify(settings: Settings, name: str, *arguments: Any) -> None:
    """The same where nothing hangs on it: what the hook raises is logged, and that is all."""
    try:
        call(settings, name, *arguments)
    except RAISED as error:
        error_log.debug("Going on after the exception in %s: %r", name, error)


def where(hook: Any) -> str:
    """File and line of a hook, or its name where there is no file."""
    hook = getattr(hook, "hook", hook)
    code = getattr(hook, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(hook)
