"""The file that tells others the master's pid.

Whoever reads it acts on it (`kill -HUP $(cat FILE)`). So it is never half written, it is not taken from a server that
runs, and of two servers that start at the same time only one gets it.
"""

import errno
import fcntl
import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from typing import Final

# A pid and a newline are far shorter: a longer file is no pid file, but one that was named by mistake.
LONGEST: Final = 64

# The first word, if it is a number that a pid can be.
RECORD: Final = re.compile(rb"\s*0*([1-9][0-9]{0,9})(?!\S)")

# Somebody else made or removed the file in between: look again, this often.
TRIES: Final = 20

# A file's time comes from a coarse clock, a process's in hundredths of a second: less than this is no difference.
BLUR: Final = 2.0

# link(2): what a file system without hard links says, as vfat or some network's.
NO_LINKS: Final = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS))


class PidfileError(Exception):
    """The pid file cannot be had. The text is one line for the user, which names the file and the reason."""


class Pidfile:
    """The pid file at `path`, which means the same file also after the working directory has changed."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.pid = 0

    def create(self, pid: int) -> None:
        """Record `pid`, in place of one that does not run any more. The mode is 0644.

        Raises `PidfileError`, also where another process is recorded that runs.
        """
        try:
            temporary = _written(self.path, pid)
            try:
                self._claim(temporary, pid)
            finally:
                with suppress(FileNotFoundError):  # it may have been renamed
                    os.unlink(temporary)
        except OSError as error:
            raise PidfileError(f"Cannot write pid file '{self.path}': {_reason(error, self.path)}") from None
        self.pid = pid

    def remove(self) -> None:
        """Remove the file, if it is still ours. Raises `PidfileError`."""
        try:
            fd = _opened(self.path)
            try:
                ours = _recorded(fd) == self.pid
            finally:
                os.close(fd)
            if ours:
                os.unlink(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise PidfileError(f"Cannot remove pid file '{self.path}': {_reason(error, self.path)}") from None

    def rename(self, path: str) -> None:
        """Move to `path`, as a successor does when its predecessor has gone. At no time is there no file.

        Raises `PidfileError`; where `path` is not to be had, the file stays where it is.
        """
        there = Pidfile(path)
        there.create(self.pid)
        try:
            self.remove()
        finally:
            self.path = there.path

    def _claim(self, temporary: str, pid: int) -> None:
        """Give `temporary` the name of the pid file."""
        for _ in range(TRIES):
            try:
                os.link(temporary, self.path)  # unlike a rename, it fails if there is one
                return
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                if not os.path.lexists(self.path):
                    os.rename(temporary, self.path)
                    return
            if self._replace(temporary, pid):
                return
        raise PidfileError(f"Pid file '{self.path}' comes and goes")

    def _replace(self, temporary: str, pid: int) -> bool:
        """Put `temporary` in place of a file that says nothing any more. False if that is not there now."""
        try:
            fd = _opened(self.path)
        except FileNotFoundError:
            return False
        try:
            recorded = _recorded(fd)
            if recorded not in (None, pid) and _runs(recorded, os.fstat(fd).st_mtime):
                raise PidfileError(f"Already running on PID {recorded} (or pid file '{self.path}' is stale)")
            # Who else starts now may have read the same. One of us replaces it; the other finds a new file.
            _lock(fd, self.path)
            if not os.path.samestat(os.fstat(fd), os.lstat(self.path)):
                return False
            os.rename(temporary, self.path)
            return True
        except FileNotFoundError:
            return False
        finally:
            os.close(fd)


def _written(path: str, pid: int) -> str:
    """A new file beside `path` with this pid in it."""
    directory, name = os.path.split(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        os.write(fd, b"%d\n" % pid)
        os.fchmod(fd, 0o644)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def _opened(path: str) -> int:
    """A descriptor to read the file with. Raises `OSError`, and `PidfileError` for what no pid file can be."""
    try:
        # Whoever may write to the directory could lay a pipe there, which makes us wait, or a link to something dear.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PidfileError(f"Pid file '{path}' is a symbolic link") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise PidfileError(f"Pid file '{path}' is not a file")
    if os.fstat(fd).st_size > LONGEST:
        os.close(fd)
        raise PidfileError(f"Pid file '{path}' holds something else than a pid")
    return fd


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PidfileError(f"Another server is starting with pid file '{path}'") from None
    except OSError:
        pass  # NFS locks no file that is only read; what remains is a race that hardly anybody runs


def _recorded(fd: int) -> int | None:
    match = RECORD.match(os.pread(fd, LONGEST, 0))
    return int(match[1]) if match else None


def _runs(pid: int, written: float) -> bool:
    """Whether this process may be the one whose pid was written down at that time (seconds since 1970)."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # proc(5): the name, in parentheses, may contain anything; state is field 3, starttime field 22.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return True
    if fields[0] in (b"Z", b"X"):  # it is dead, and whoever started it has not noticed
        return False
    # The clock may have been set since, so a start after the file was written is no proof by itself: of a server that
    # runs, somebody might take the file. And a server may have been started with another Python. But if both are so,
    # the pid belongs to somebody else by now, as happens after a reboot.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return not (time.time() - age > written + BLUR and _is_another_program(pid))


def _is_another_program(pid: int) -> bool:
    """Whether it runs something else than this Python; False if we may not know."""
    try:
        return not os.path.samestat(os.stat(f"/proc/{pid}/exe"), os.stat("/proc/self/exe"))
    except FileNotFoundError:  # a thread of the kernel
        return True
    except OSError:
        return False


def _reason(error: OSError, path: str) -> str:
    directory = os.path.dirname(path)
    if error.errno == errno.ENOENT and not os.path.isdir(directory):
        return f"there is no directory '{directory}'"
    return error.strerror or str(error)
