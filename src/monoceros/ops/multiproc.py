"""The metrics of an application that uses prometheus_client, kept for all workers together.

The library has a mode for several processes: each writes its values into files of its own, by its pid, in a directory
that a variable names, and whoever is asked adds them up. What it leaves to others is done here: the directory is made
before the workers and removed after them, the gauges of dead workers that are about living ones go, and their other
files are handed to the next worker, which goes on counting where they stopped. Else there were more of them each day.
"""

import fcntl
import glob
import importlib.util
import logging
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from monoceros.settings.table import Settings

if TYPE_CHECKING:
    from prometheus_client import Metric

log = logging.getLogger("gunicorn.error")

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

PREFIX: Final = "monoceros-prometheus-"
LOCK: Final = "lock"

# How often to read again what another process has renamed meanwhile.
TRIES: Final = 10

# Where the user or the group that runs us keeps a file.
NOBODY: Final = (-1, -1)

# What the library raises for a file that is cut off, or that something else than the library has written.
BROKEN: Final = (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)


class Directory:
    """The directory, as the master looks after it. `path` is None where there is none."""

    def __init__(self) -> None:
        self.path: str | None = None
        self._ours = False
        self._owner = NOBODY
        self._lock: int | None = None
        self._estate: list[int] = []  # the pids of dead workers whose files nobody has yet
        self._heirs: dict[int, int] = {}  # who was to have whose

    def prepare(self, settings: Settings, environ: MutableMapping[str, str]) -> None:
        """Make it and name it in `environ`, if somebody may need it. Raises OSError.

        One that the user has named stays the user's: what is in it is kept, at the start and at the end.
        """
        if not settings.prometheus_multiproc or importlib.util.find_spec("prometheus_client") is None:
            return
        named = environ.get(VARIABLE)
        if named:
            os.makedirs(named, exist_ok=True)
            self.path = named
        elif settings.workers > 1 or settings.admin_bind:
            remove_stale()
            self.path = environ[VARIABLE] = tempfile.mkdtemp(prefix=PREFIX)
            self._ours = True
            self._lock = locked(self.path)
        self._owner = (-1 if settings.user is None else settings.user, -1 if settings.group is None else settings.group)
        if self._ours:
            self._hand_over()

    def _hand_over(self) -> None:
        if self.path is not None and self._owner != NOBODY:
            os.chown(self.path, *self._owner)

    def bequeath(self) -> int | None:
        """The pid of a dead worker whose files the next one is to have. The directory is there, if that is possible."""
        if self._ours and self.path is not None and not os.path.isdir(self.path):
            self._make_again(self.path)
        return self._estate.pop(0) if self._estate else None

    def _make_again(self, path: str) -> None:
        """Else no worker that counts something could boot any more."""
        log.error("%s has been removed, and with it the metrics of the application. It is made again", path)
        self._estate.clear()
        try:
            os.mkdir(path, 0o700)
            self._lock = locked(path)
            self._hand_over()
        except OSError as problem:
            log.error("Cannot make %s: %s", path, problem.strerror)

    def bequeathed(self, dead: int, heir: int) -> None:
        """The next one is there."""
        self._heirs[heir] = dead

    def bury(self, pid: int) -> None:
        """A worker is dead."""
        if self.path is None:
            return
        for dead in {pid, self._heirs.pop(pid, pid)}:  # it may have died before it took what it was to have
            files = glob.glob(f"{glob.escape(self.path)}/*_{dead}.db")
            lively = [file for file in files if os.path.basename(file).startswith("gauge_live")]
            for file in lively:
                with suppress(FileNotFoundError):
                    os.unlink(file)
            if len(files) > len(lively):
                self._estate.append(dead)

    def remove(self) -> None:
        """All workers are gone."""
        if self._ours and self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)


def locked(path: str) -> int:
    """Mark a directory as one in use. The lock is held as long as any process forked from now on lives (flock(2))."""
    # It gets its name when it is locked: before, somebody else who starts might take it for left behind.
    lock = os.path.join(path, LOCK)
    fd = os.open(f"{lock}.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.rename(f"{lock}.new", lock)
    return fd


def remove_stale() -> None:
    """Remove what a server has left behind that was killed."""
    for lock in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), f"{PREFIX}*", LOCK)):
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or just removed by its server
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_uid == os.geteuid():
                shutil.rmtree(os.path.dirname(lock), ignore_errors=True)
        except BlockingIOError:
            continue  # in use
        finally:
            os.close(fd)


def inherit(path: str, dead: int, pid: int) -> None:
    """Take over the files of a dead worker, before the application is imported; `pid` is ours."""
    for file in glob.glob(f"{glob.escape(path)}/*_{dead}.db"):
        with suppress(FileNotFoundError):
            os.rename(file, f"{file.removesuffix(f'_{dead}.db')}_{pid}.db")


class Reader:
    """Reads what the workers have written. What cannot be read is left out; the error log says so once for each path.

    `told` are the paths of which it has said so. Any thread may read.
    """

    def __init__(self, path: str, told: set[str]) -> None:
        from prometheus_client.multiprocess import MultiProcessCollector

        self._path = path
        self._told = told
        self._merge = MultiProcessCollector.merge

    def describe(self) -> list[Any]:
        """Nothing: else a registry of prometheus_client would read all twice."""
        return []

    def collect(self) -> "Iterable[Metric]":
        """The metrics of the application over all workers. Reads again where one has taken over a file meanwhile."""
        for _ in range(TRIES):
            with suppress(FileNotFoundError):
                files = self._files()
                try:
                    return self._sum(files)
                except FileNotFoundError:
                    raise
                except BROKEN:
                    return self._sum([file for file in files if self._readable(file)])
        return []

    def _sum(self, files: list[str]) -> "Iterable[Metric]":
        found: Iterable[Metric] = self._merge(files)  # type: ignore[no-untyped-call]
        return found

    def _files(self) -> list[str]:
        """Those with something in them: one that is being made is empty for a moment."""
        try:
            with os.scandir(self._path) as entries:
                return [entry.path for entry in entries if entry.name.endswith(".db") and has_content(entry)]
        except OSError as problem:
            self._complain(self._path, problem)
            return []

    def _readable(self, file: str) -> bool:
        """Whether the library can read the file. Raises FileNotFoundError."""
        try:
            self._sum([file])
        except FileNotFoundError:
            raise
        except BROKEN as problem:
            self._complain(file, problem)
            return False
        return True

    def _complain(self, where: str, problem: Exception) -> None:
        if where not in self._told:
            self._told.add(where)
            log.error("Metrics of the application are left out: cannot read %s: %s", where, problem)


def has_content(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a file with something in it."""
    try:
        return entry.is_file() and entry.stat().st_size > 0
    except FileNotFoundError:
        return False
