"""What runs in a child process."""

from typing import NoReturn

from monoceros.worker.base import Berth, Worker
from monoceros.worker.thread import ThreadWorker

__all__ = ["Berth", "start"]

KINDS: dict[str, type[Worker]] = {"auto": ThreadWorker, "sync": ThreadWorker, "gthread": ThreadWorker}


def start(kind: str, berth: Berth) -> NoReturn:
    """Live the life of a worker of this kind, in a process just forked. Never returns."""
    KINDS[kind](berth).live()
