"""The metrics of an application that uses prometheus_client, kept for all workers together.

The library has a mode for several processes: each writes its values into files of its own, by its pid, in a directory
that a variable names, and whoever is asked adds them up. What it leaves to others is done here: the directory is made
before the workers and removed after them, the gauges of dead workers that are about living ones go, and their other
files are handed to the next worker, which goes on counting where they stopped. Else there were more of them each day.
"""

import glob
import importlib.util
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from monoceros.settings.table import Settings

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

# How often to read again what another process has renamed meanwhile.
TRIES: Final = 10


class Directory:
    """The directory, as the master looks after it. `path` is None where there is none."""

    def __init__(self) -> None:
        self.path: str | None = None
        self._ours = False
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
            self.path = environ[VARIABLE] = tempfile.mkdtemp(prefix="monoceros-prometheus-")
            self._ours = True
        if self._ours and self.path and (settings.user is not None or settings.group is not None):
            os.chown(self.path, *(-1 if owner is None else owner for owner in (settings.user, settings.group)))

    def bequeath(self) -> int | None:
        """The pid of a dead worker whose files the next one is to have."""
        return self._estate.pop(0) if self._estate else None

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


def inherit(path: str, dead: int, pid: int) -> None:
    """Take over the files of a dead worker, before the application is imported; `pid` is ours."""
    for file in glob.glob(f"{glob.escape(path)}/*_{dead}.db"):
        with suppress(FileNotFoundError):
            os.rename(file, f"{file.removesuffix(f'_{dead}.db')}_{pid}.db")


def applications(path: str) -> "Collector":
    """What an application's metrics are, over all workers, for a registry of prometheus_client."""
    from prometheus_client.multiprocess import MultiProcessCollector

    class Patient(MultiProcessCollector):
        """Reads again where a new worker has taken over a file meanwhile."""

        def describe(self) -> list[Any]:
            """Nothing: else all would be read twice."""
            return []

        def collect(self) -> Any:
            for _ in range(TRIES - 1):
                with suppress(FileNotFoundError):
                    return super().collect()  # type: ignore[no-untyped-call]
            return super().collect()  # type: ignore[no-untyped-call]

    return Patient(None, path)  # type: ignore[no-untyped-call]
