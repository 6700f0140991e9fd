"""Which files have changed between two looks at them."""

import glob
import logging
import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from monoceros.reloader.watch import Patterns, Watch

log = logging.getLogger("gunicorn.error")

# Directories that hold nothing a developer edits, and often more files than all the rest.
NEVER: Final = frozenset(("__pycache__", "node_modules", ".git", ".hg", ".svn", "site-packages", "dist-packages"))
# What makes a directory an environment of Python's venv, or of conda.
ENVIRONMENT: Final = frozenset(("pyvenv.cfg", "conda-meta"))

# How many files, and how many directories, are watched at most: about 50 MB of memory.
MOST: Final = 100_000
# A look that takes longer, in seconds, is worth a warning.
SLOW: Final = 1.0

Stamp = tuple[int, int]  # modification time in nanoseconds, size in bytes


class Survey:
    """What the files looked like when they were looked at last; at first there are none.

    At most about `most` files and `most` directories are watched; who has more is warned. `cost` is how many seconds
    the last look took.
    """

    def __init__(self, watch: Watch, most: int = MOST) -> None:
        self._watch = watch
        self._most = most
        self._includes = Patterns(watch.includes)
        # Who spells a name out, as in `.env`, means that file, whatever is excluded.
        self._spelled_out = Patterns([pattern for pattern in watch.includes if not glob.has_magic(pattern)])
        self._excludes = Patterns(watch.excludes)
        self._trees: dict[str, Stamp] = {}
        self._extra: dict[str, Stamp] = {}
        self._warned = False
        self.cost = 0.0

    def changes(self, *, trees: bool = True) -> set[str]:
        """The paths of files that have come, gone or been written since the last look. Without `trees`, extra files."""
        began = time.monotonic()
        changed = set()
        if trees:
            found, complete = self._scan()
            changed = {path for path, _ in found.items() ^ self._trees.items()}
            self._trees = found
            self._warn(time.monotonic() - began, complete)
        extra = dict(islice(self._scan_extra(), self._most))
        changed.update(path for path, _ in extra.items() ^ self._extra.items())
        self._extra = extra
        self.cost = time.monotonic() - began
        return changed

    def concerns(self, path: str) -> bool:
        """Whether to look, as something has happened to this path. It may be, or have been, a directory."""
        return self._wants(path) or not os.path.isfile(path)

    def _warn(self, seconds: float, complete: bool) -> None:
        if self._warned or (complete and seconds < SLOW):
            return
        self._warned = True
        if complete:
            log.warning(
                "The reloader needs %.1f s to look at %d files: name fewer reload_dirs", seconds, len(self._trees)
            )
        else:
            log.warning("The reloader watches %d files, and no more: name fewer reload_dirs", len(self._trees))

    def _scan(self) -> tuple[dict[str, Stamp], bool]:
        """The files in the trees, and whether these are all. Each directory is looked into once, by whatever name."""
        found: dict[str, Stamp] = {}
        seen: set[tuple[int, int]] = set()
        waiting = deque(self._watch.directories)
        while waiting:
            if len(found) >= self._most or len(seen) >= self._most:
                return found, False
            directory = waiting.popleft()
            try:
                status = os.stat(directory)
                identity = status.st_dev, status.st_ino
                if identity not in seen:
                    seen.add(identity)
                    waiting.extend(self._scan_directory(directory, found))
            except OSError:
                continue  # it has gone meanwhile, or is not for us to read
        return found, True

    def _scan_directory(self, directory: str, found: dict[str, Stamp]) -> list[str]:
        """Add the files of one directory to `found`. Returns the directories in it that are to be looked into."""
        below = []
        files = {}
        root = directory in self._watch.directories
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name in ENVIRONMENT and not root:
                    return []
                with suppress(OSError):  # a link that leads nowhere, a file that has just gone
                    if not entry.is_dir():
                        if self._wants(entry.path):
                            files[entry.path] = _stamp(entry.stat())
                    elif entry.name not in NEVER and not self._excludes.match(entry.path):
                        below.append(entry.path)
        found.update(files)
        return below

    def _wants(self, path: str) -> bool:
        return self._includes.match(path) and (self._spelled_out.match(path) or not self._excludes.match(path))

    def _scan_extra(self) -> Iterator[tuple[str, Stamp]]:
        for pattern in self._watch.extra_files:
            # A file may be called data[1].json.
            paths = [pattern] if os.path.exists(pattern) else glob.iglob(pattern, recursive=True)
            for path in paths:
                with suppress(OSError):
                    status = os.stat(path)
                    if not stat.S_ISDIR(status.st_mode):
                        yield path, _stamp(status)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size
