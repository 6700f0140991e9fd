"""`spew`: every line of Python that is run, on standard error. For the desperate."""

import linecache
import sys
from types import FrameType
from typing import Any


def begin() -> None:
    """From now on, in this thread and in those that are started later."""
    import threading

    sys.settrace(_trace)
    threading.settrace(_trace)


def _trace(frame: FrameType, event: str, argument: Any) -> Any:
    if event == "line":
        path, number = frame.f_code.co_filename, frame.f_lineno
        module = frame.f_globals.get("__name__", "?")
        sys.stderr.write(f"{module}:{number}: {linecache.getline(path, number).rstrip()}\n")
    return _trace
