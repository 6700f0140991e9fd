"""How many CPUs this process may use, which in a container is not how many the machine has.

Two things can hold it back: its CPU affinity, and the quotas of the cgroups around it. A quota of 150 ms in every
100 ms counts as two CPUs: one would leave a third of it unused.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

MEMBERSHIP: Final = "/proc/self/cgroup"
ROOT: Final = "/sys/fs/cgroup"


def available_cpus() -> int:
    """The number of CPUs that this process may use, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return cpus(affinity, _read)


def cpus(affinity: int, read: Callable[[str], str]) -> int:
    """What `available_cpus` says, from an affinity and from what `read(path)` finds ("" if there is no such file)."""
    quotas = [quota for cgroup in _cgroups(read(MEMBERSHIP)) if (quota := _quota(cgroup, read)) is not None]
    return max(1, min([affinity, *map(math.ceil, quotas)]))


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace")
    except OSError:  # no cgroups here, or not of this version, or not for us to see
        return ""


def _cgroups(membership: str) -> Iterator[str]:
    """The directories that hold our cgroups and all those around them.

    A line of `membership` is ID:CONTROLLERS:PATH, with no controllers for version 2 (cgroups(7)). In a container the
    path may be the host's and lead nowhere, so the root, which is then the container's own, is always among them.
    """
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = PurePosixPath("/", path)
        for mount in (ROOT,) if not controllers else (f"{ROOT}/cpu", f"{ROOT}/{controllers}"):
            yield from (f"{mount}{parent}".rstrip("/") for parent in (inner, *inner.parents))


def _quota(cgroup: str, read: Callable[[str], str]) -> float | None:
    """The CPUs that a cgroup may use, None if it sets no quota."""
    words = read(f"{cgroup}/cpu.max").split()  # version 2: "max 100000" or "150000 100000"
    if not words:
        words = [*read(f"{cgroup}/cpu.cfs_quota_us").split(), *read(f"{cgroup}/cpu.cfs_period_us").split()]
    if len(words) != 2 or not all(map(str.isdecimal, words)) or int(words[1]) == 0:  # version 1: -1 is no quota
        return None
    return int(words[0]) / int(words[1])
