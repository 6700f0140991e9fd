"""The process that watches, and what the arbiter has of it."""

import importlib
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, NoReturn

from monoceros.reloader.survey import Survey
from monoceros.reloader.watch import Watch

log = logging.getLogger("gunicorn.error")

# How many names of a burst are told: enough for a log line.
TOLD: Final = 20
# Seconds without a further change after which a burst of them is over, and how long one may be: an editor saves in
# several steps, and a checkout takes its time.
SETTLE: Final = 0.05
BURST: Final = 2.0
# The least pause between two looks, in seconds, however small `delay` is.
LEAST_DELAY: Final = 0.01
# After each look there is a rest of so many times what it took, so that a big tree costs a quarter of a processor.
REST: Final = 3
# Network and container mounts do not tell of changes made elsewhere: how many seconds, and how many times what a look
# takes, until there is one that nothing gave reason for.
UNTOLD: Final = 5.0
UNTOLD_REST: Final = 100
# Seconds between looks whether the arbiter is still there.
ORPHANED: Final = 1.0
# How long `start` waits for the first look, in seconds.
FIRST_LOOK: Final = 10.0


class WatcherGone(Exception):
    """The watcher has ended by itself, and will tell of nothing any more."""


class Watcher:
    """What the arbiter has of a watcher: a descriptor that becomes readable when there is something to ask for."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self._sock = sock
        self._owner = os.getpid()
        self._unread = b""
        self._gone = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def changes(self) -> list[str]:
        """The files that changed since the last call, at most TOLD of each burst, in print; it never blocks.

        Raises `WatcherGone` once there will be no more; the descriptor then stays readable, so `close` it.
        """
        self._read()
        if self._gone and not self._unread:
            raise WatcherGone(f"the reloader (pid:{self.pid}) has ended")
        *names, rest = self._unread.split(b"\0")
        self._unread = b"" if self._gone else rest
        return [_in_print(os.fsdecode(name)) for name in dict.fromkeys(names) if name]

    def close(self) -> None:
        """End the watcher and reap it. In a process forked later, only its copy of the descriptor is closed."""
        if self._sock.fileno() < 0:
            return
        if os.getpid() == self._owner:
            self._end()
        self._sock.close()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := self._sock.recv(65536):
                self._unread += data
            self._gone = True

    def _end(self) -> None:
        self._read()
        if self._gone:
            # Whoever waits for any child may have reaped it, and the pid be somebody else's.
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
            return
        # Its end of the sockets is open, so nobody has reaped it. It has nothing to finish, and may be stopped.
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _in_print(name: str) -> str:
    """A file's name as text for one log line."""
    return name if name.isprintable() else ascii(name)[1:-1]


def start(watch: Watch, *, close: Iterable[int] = (), begin: Callable[[], object] | None = None) -> Watcher:
    """Fork a watcher. Returns when it has looked for the first time: what is written afterwards is a change.

    The child closes the descriptors `close`, and calls `begin` before it looks. To be called by a process without
    threads, from its main thread. Raises OSError if the machine has no more processes to give.
    """
    ours, theirs = socket.socketpair()
    arbiter = os.getpid()
    # In the child, a signal must not find our handlers, nor write to our wakeup descriptor.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            _become_watcher(watch, theirs, arbiter, mask, (ours.detach(), *close), begin)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    ours.setblocking(False)
    ready = select.poll()
    ready.register(ours, select.POLLIN)
    ready.poll(FIRST_LOOK * 1000)
    return Watcher(pid, ours)


def _become_watcher(
    watch: Watch,
    sock: socket.socket,
    arbiter: int,
    mask: Iterable[int],
    close: Iterable[int],
    begin: Callable[[], object] | None,
) -> NoReturn:
    status = 1
    try:
        _forget_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in close:
            with suppress(OSError):
                os.close(fd)
        # A thread, because a look may take its time.
        threading.Thread(target=_end_with, args=(sock, arbiter), daemon=True).start()
        if begin is not None:
            begin()
        _look(watch, sock)
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the arbiter has gone, and the thread has not seen it yet
    except Exception:
        log.exception("The reloader has failed: changes are not noticed any more")
    finally:
        os._exit(status)  # whatever happens, no way leads back into the arbiter's code


def _forget_signals() -> None:
    """Leave to the arbiter what it handles: a terminal, or `kill -- -GROUP`, sends it to all. TERM ends us.

    What is ignored, or has its default action, does not write to the wakeup descriptor that we share with the arbiter.
    """
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _end_with(sock: socket.socket, arbiter: int) -> None:
    """End this process when the arbiter ends. Its workers have copies of its socket, which keep that open."""
    closed = select.poll()
    closed.register(sock, select.POLLIN)  # it never sends anything
    while os.getppid() == arbiter and not closed.poll(ORPHANED * 1000):
        pass
    os._exit(0)


def _look(watch: Watch, sock: socket.socket) -> None:
    """Tell of all changes, for ever. Each name ends with a NUL, which no path can have."""
    survey = Survey(watch)
    survey.changes()  # what is there already is no news
    sock.sendall(b"\0")
    moments = _notified(watch, survey) if watch.engine == "watchfiles" else _polled(watch, survey)
    for trees in moments:
        if changed := burst(survey, trees=trees):
            sock.sendall(b"".join(os.fsencode(path) + b"\0" for path in sorted(changed)[:TOLD]))


def burst(survey: Survey, *, trees: bool) -> set[str]:
    """What has changed, as `Survey.changes`, and what else does until there is a moment's peace."""
    changed = survey.changes(trees=trees)
    end = time.monotonic() + BURST
    more = changed
    while more and time.monotonic() < end:
        time.sleep(SETTLE)
        more = survey.changes()
        changed |= more
    return changed


def _polled(watch: Watch, survey: Survey) -> Iterator[bool]:
    """The moments to look. True if in the trees, too."""
    while True:
        time.sleep(max(watch.delay, LEAST_DELAY, REST * survey.cost))
        yield True


def _notified(watch: Watch, survey: Survey) -> Iterator[bool]:
    """As `_polled`, but into the trees only when watchfiles says so, and now and then in case it cannot know."""
    # It logs each event, and where the log is in the tree, that would be the next one.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    pause = int(max(watch.delay, LEAST_DELAY) * 1000)
    rested = due = 0.0  # nobody watched since the first look
    try:
        events = importlib.import_module("watchfiles").watch(
            *filter(os.path.isdir, watch.directories),
            watch_filter=None,
            debounce=int(SETTLE * 1000),  # the end of a burst is found by looking, here as there
            rust_timeout=pause,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        for happened in events:
            told = any(survey.concerns(path) for _, path in happened)
            if told:
                time.sleep(survey.cost)
            elif time.monotonic() < rested:
                continue
            trees = told or time.monotonic() >= due
            yield trees
            rested = time.monotonic() + REST * survey.cost
            if trees:
                due = time.monotonic() + max(UNTOLD, UNTOLD_REST * survey.cost)
    except (ImportError, OSError, RuntimeError) as error:  # mostly that the kernel watches no more directories
        log.warning("watchfiles does not work here, so the reloader polls: %s", error)
        yield from _polled(watch, survey)
