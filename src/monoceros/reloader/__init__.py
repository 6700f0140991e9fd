"""Watching files in development: a child process, the watcher, that tells the arbiter which of them have changed.

The arbiter has no thread and never waits for a disk, so the looking is done elsewhere; what it gets is a descriptor for
its selector. The modules of the application are known to workers only, so what is watched are directories.

What a change is, is decided in one way, by comparing two looks (`survey`). The engines differ in when to look: poll
does so all the time, watchfiles when the kernel says that something has happened (`watcher`).
"""

from monoceros.reloader.watch import Watch, watch_of
from monoceros.reloader.watcher import Watcher, WatcherGone, start

__all__ = ["Watch", "Watcher", "WatcherGone", "start", "watch_of"]
