"""A worker as a process of the system: its log files, its stacks, its size, its end."""

import atexit
import faulthandler
import os
import resource
import sys
from typing import NoReturn

from monoceros.ops import log
from monoceros.ops.logger import Logs


def reopen(logs: Logs) -> None:
    """Open the log files anew; stacks are dumped to the new error log, too."""
    logs.reopen()
    arm_dump()


def arm_dump() -> None:
    """On SIGABRT, or a crash, write the stacks of all threads, even if the interpreter is stuck in C.

    The handler that was there before is called next: once the worker serves, ours.
    """
    stream = next((handler.stream for handler in log.error.handlers if isinstance(handler, log.Sink)), sys.stderr)
    faulthandler.enable(file=stream, all_threads=True)


def resident_size() -> int:
    """How much memory this process holds, in bytes (proc(5), statm)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def leave(status: int) -> NoReturn:
    """End the process as an interpreter would, but not through the frames of the arbiter that forked it."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
