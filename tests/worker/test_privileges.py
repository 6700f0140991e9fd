"""Workers that are root no more. Each test is a process of its own, since there must be no way back."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from monoceros.worker.privileges import PrivilegeError, chown

NEEDED = "start the server as root, or with CAP_SETUID and CAP_SETGID"

NOBODY = 65534
GROUP = 65533  # without a name
NAMELESS = 54321

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def run(code: str) -> list[str]:
    """What a process prints that begins as root. Its last line is the error, if there was one."""
    whole = f"""
import os, sys
from monoceros.worker.privileges import PrivilegeError, chown, drop, hidden
try:
    {code.strip().replace(chr(10), chr(10) + "    ")}
except PrivilegeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


WHO = "print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))"


@as_root
def test_becomes_somebody_else_for_good() -> None:
    said = run(f"""
os.setgroups([0, 4, 27])
drop({NOBODY}, {GROUP}, False)
{WHO}
for back in (os.setuid, os.seteuid, os.setgid, os.setegid):
    try:
        back(0)
        print("went back")
    except PermissionError:
        pass
""")
    assert said == [f"{(NOBODY,) * 3} {(GROUP,) * 3} []"]


@as_root
def test_groups_of_which_the_user_is_a_member() -> None:
    said = run(f"""
import grp, pwd
os.setgroups([0, 4, 27])
drop({NOBODY}, {GROUP}, True)
print(set(os.getgroups()) == set(os.getgrouplist(pwd.getpwuid({NOBODY}).pw_name, {GROUP})))
{WHO}
""")
    assert said[0] == "True"
    assert said[1].startswith(f"{(NOBODY,) * 3} {(GROUP,) * 3} ")
    assert str(GROUP) in said[1].rpartition("[")[2]


@as_root
def test_a_user_without_a_name_is_in_no_group() -> None:
    assert run(f"os.setgroups([0, 4])\ndrop({NAMELESS}, {GROUP}, True)\n{WHO}") == [
        f"{(NAMELESS,) * 3} {(GROUP,) * 3} []"
    ]


@as_root
def test_only_the_user() -> None:
    assert run(f"os.setgroups([4])\ndrop({NOBODY}, None, False)\n{WHO}") == [f"{(NOBODY,) * 3} (0, 0, 0) []"]


@as_root
def test_only_the_group() -> None:
    assert run(f"os.setgroups([4])\ndrop(None, {GROUP}, False)\n{WHO}") == [f"(0, 0, 0) {(GROUP,) * 3} []"]


@as_root
@pytest.mark.parametrize("wanted", ["None, None", "0, 0", "0, None", "None, 0"])
def test_nothing_is_done_where_nothing_is_to_do(wanted: str) -> None:
    assert run(f"os.setgroups([0, 4])\ndrop({wanted}, True)\n{WHO}") == ["(0, 0, 0) (0, 0, 0) [0, 4]"]


@as_root
def test_nothing_is_needed_of_who_is_that_user_already() -> None:
    said = run(f"os.setgid({GROUP})\nos.setuid({NOBODY})\ndrop({NOBODY}, {GROUP}, True)\nprint('done')")
    assert said == ["done"]


@as_root
def test_a_saved_id_is_given_up_as_well() -> None:
    """The effective user is right already, but the saved one is a way back."""
    said = run(f"os.setresgid({GROUP}, {GROUP}, {GROUP})\nos.seteuid({NOBODY})\ndrop({NOBODY}, {GROUP}, False)")
    # Not root now, so the other groups cannot be given up any more: better no worker than one that keeps them.
    assert len(said) == 1
    assert "Operation not permitted; start the server as root" in said[0]


@as_root
def test_a_user_may_not() -> None:
    said = run(f"os.setresgid({GROUP}, {GROUP}, {GROUP})\nos.setuid({NAMELESS})\ndrop({NOBODY}, {GROUP}, False)\n{WHO}")
    assert said == [
        f"Cannot run as user {NOBODY} (nobody) and group {GROUP}: Operation not permitted; {NEEDED}",
    ]


@as_root
@pytest.mark.parametrize(
    ("before", "wanted", "described"),
    [
        ("pass", f"{NOBODY}, None", f"user {NOBODY} (nobody) and group 0 (root)"),
        (f"os.setuid({NOBODY})", f"None, {GROUP}", f"user {NOBODY} (nobody) and group {GROUP}"),
    ],
)
def test_a_way_back_is_no_farewell(before: str, wanted: str, described: str) -> None:
    """Capabilities that outlive the change of user."""
    said = run(f"""
import ctypes
# prctl(2): PR_SET_SECUREBITS, capabilities(7): SECBIT_NO_SETUID_FIXUP
assert ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0) == 0
{before}
drop({wanted}, False)
print("went on")
""")
    assert said == [f"Running as {described}, but with the right to change that (CAP_SETUID or CAP_SETGID)"]


@as_root
def test_there_is_no_such_id() -> None:
    assert run("drop(1 << 64, 0, False)") == [f"Cannot run as user {1 << 64} and group 0 (root): there is no such id"]


@as_root
@as_root
def test_what_the_user_may_not_read_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    said = run(f"""
os.chdir({str(tmp_path)!r})
os.__file__ = sys.modules["monoceros.app"].__file__ = "/etc/passwd"  # wherever these tests have theirs
print(hidden())
drop({NOBODY}, {GROUP}, False)
print(hidden())
os.__file__ = {str(tmp_path / "os.py")!r}
print(hidden())
""")
    who = f"Running as user {NOBODY} (nobody) and group {GROUP}, who may not read"
    assert said == ["None", f"{who} the working directory in {tmp_path}", f"{who} Python in {tmp_path}"]


@as_root
def test_a_file_is_given_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "w") as file:
        chown(file.fileno(), NOBODY, GROUP)
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, GROUP)
        chown(file.fileno(), None, 0)
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, 0)
    chown(str(path), 0, None)
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)


@as_root
def test_of_a_link_nothing_is_given_away(tmp_path: Path) -> None:
    """Who may write to the directory could else get any file."""
    (tmp_path / "shadow").touch()
    (tmp_path / "server.sock").symlink_to("shadow")
    chown(str(tmp_path / "server.sock"), NOBODY, GROUP)
    assert (tmp_path / "shadow").stat().st_uid == 0


@as_root
def test_a_device_is_not_given_away(tmp_path: Path) -> None:
    device = tmp_path / "null"
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with open(device, "wb") as file:
        chown(file.fileno(), NOBODY, GROUP)
    chown(str(device), NOBODY, GROUP)
    assert device.stat().st_uid == 0


def test_what_belongs_to_them_already_needs_no_right(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    chown(str(path), path.stat().st_uid, None)
    chown(str(path), None, None)


@as_root
def test_a_file_that_we_may_not_give_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    tmp_path.chmod(0o755)
    said = run(f"file = open({str(path)!r})\nos.setuid({NOBODY})\nchown(file.fileno(), {NOBODY}, {GROUP})")
    assert len(said) == 1
    assert said[0].startswith(f"Cannot give {str(path)!r} to user {NOBODY} and group {GROUP}: Operation not permitted;")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PrivilegeError, match=r"Cannot give '.*/missing' to user 0: No such file or directory$"):
        chown(str(tmp_path / "missing"), 0, None)
