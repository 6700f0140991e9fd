"""A worker's farewell to root, before anything of the application runs.

The master keeps its privileges, since it opens ports and log files. What it opens for workers, it gives to them.
"""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from monoceros import app

# What setting users and groups takes, see credentials(7) and capabilities(7).
NEEDED: Final = "start the server as root, or with CAP_SETUID and CAP_SETGID"


class PrivilegeError(app.BootError):
    """A user or group cannot be taken on, or a file not be given away. The text says of what, and what is missing."""


def drop(user: int | None, group: int | None, initgroups: bool) -> None:
    """Become `user` and `group` for good, in all of real, effective and saved ids; None leaves it as it is.

    Other groups are given up; with `initgroups` they become those that the user is a member of. Nothing is done if
    this process is that user and group already. Raises `PrivilegeError`, also if there were a way back: the process
    has to end then, for it may be neither the one nor the other.
    """
    users, groups = os.getresuid(), os.getresgid()
    uid, gid = users[1] if user is None else user, groups[1] if group is None else group
    if users == (uid,) * 3 and groups == (gid,) * 3:
        return
    try:
        # Groups first: once we are somebody else, they cannot be changed any more.
        os.setgroups(_memberships(uid, gid) if initgroups else [])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such id"
        advice = f"; {NEEDED}" if isinstance(error, PermissionError) else ""
        raise PrivilegeError(f"Cannot run as {_described(uid, gid)}: {reason}{advice}") from None
    _verify(uid, gid, users, groups)


def _memberships(uid: int, gid: int) -> list[int]:
    """The user's groups; a user without a name is in none."""
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return []


def _verify(uid: int, gid: int, users: Iterable[int], groups: Iterable[int]) -> None:
    """Look whether it worked, and try to go back, which must not be possible."""
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise PrivilegeError(f"Still not running as {_described(uid, gid)}")
    if uid == 0:  # root may do anything
        return
    back = any(_possible(os.seteuid, former) for former in set(users) - {uid})
    back = back or any(_possible(os.setegid, former) for former in set(groups) - {gid})
    if back:
        raise PrivilegeError(
            f"Running as {_described(uid, gid)}, but with the right to change that (CAP_SETUID or CAP_SETGID)"
        )


def _possible(become: Callable[[int], None], former: int) -> bool:
    try:
        become(former)
    except PermissionError:
        return False
    return True


def hidden() -> str | None:
    """What this user may not read though the worker needs it, in a line; None if there is no such thing."""
    for what, path in (("Python", os.__file__), ("Monoceros", app.__file__), ("the working directory", os.curdir)):
        if not os.access(path, os.R_OK):
            where = os.path.dirname(path) or os.getcwd()
            return f"Running as {_described(os.getuid(), os.getgid())}, who may not read {what} in {where}"
    return None


def chown(target: str | int, user: int | None, group: int | None) -> None:
    """Give a file to a user and a group; None leaves either. `target` is a path or a descriptor.

    Of a path the last component is not followed if it is a symbolic link. Only files and sockets are given away, so
    that a log at /dev/null or in a pipe is left alone. Raises `PrivilegeError`.
    """
    try:
        status = os.fstat(target) if isinstance(target, int) else os.lstat(target)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISSOCK(status.st_mode):
            return
        uid, gid = status.st_uid if user is None else user, status.st_gid if group is None else group
        if (uid, gid) == (status.st_uid, status.st_gid):
            return
        if isinstance(target, int):
            os.fchown(target, uid, gid)
        else:
            os.lchown(target, uid, gid)
    except OSError as error:
        advice = "; start the server as root" if isinstance(error, PermissionError) else ""
        name = _path(target) if isinstance(target, int) else target
        to = " and ".join([f"user {user}"] * (user is not None) + [f"group {group}"] * (group is not None))
        raise PrivilegeError(f"Cannot give {name!r} to {to}: {error.strerror}{advice}") from None


def _path(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


def _described(uid: int, gid: int) -> str:
    """User and group as numbers, with the names that they have."""
    user, group = str(uid), str(gid)
    with suppress(KeyError, OverflowError):
        user = f"{uid} ({pwd.getpwuid(uid).pw_name})"
    with suppress(KeyError, OverflowError):
        group = f"{gid} ({grp.getgrgid(gid).gr_name})"
    return f"user {user} and group {group}"
