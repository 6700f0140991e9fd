"""How many CPUs: what the kernel's files say, and what we make of it."""

from __future__ import annotations

import pytest

from monoceros.settings.cpus import available_cpus, cpus

V2 = "0::/\n"
V1 = "12:memory:/docker/a1\n4:cpu,cpuacct:/docker/a1\n1:cpuset:/docker/a1\n"

CASES = {
    "no cgroups": (8, {}, 8),
    "no quota (v2)": (8, {"/proc/self/cgroup": V2, "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    "one and a half CPUs are two": (8, {"/proc/self/cgroup": V2, "/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
    "a tenth of a CPU is one": (8, {"/proc/self/cgroup": V2, "/sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
    "the affinity is smaller": (2, {"/proc/self/cgroup": V2, "/sys/fs/cgroup/cpu.max": "400000 100000\n"}, 2),
    "a service's own quota": (
        8,
        {"/proc/self/cgroup": "0::/a/b.service\n", "/sys/fs/cgroup/a/b.service/cpu.max": "300000 100000"},
        3,
    ),
    "the quota of a slice around it": (
        8,
        {
            "/proc/self/cgroup": "0::/a/b.service\n",
            "/sys/fs/cgroup/a/b.service/cpu.max": "300000 100000",
            "/sys/fs/cgroup/a/cpu.max": "200000 100000",
        },
        2,
    ),
    "the host's path in a container": (
        8,
        {"/proc/self/cgroup": "0::/docker/a1\n", "/sys/fs/cgroup/cpu.max": "200000 100000"},
        2,
    ),
    "no quota (v1)": (
        8,
        {
            "/proc/self/cgroup": V1,
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        8,
    ),
    "a quota (v1)": (
        8,
        {
            "/proc/self/cgroup": V1,
            "/sys/fs/cgroup/cpu,cpuacct/docker/a1/cpu.cfs_quota_us": "250000\n",
            "/sys/fs/cgroup/cpu,cpuacct/docker/a1/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "another controller's directory": (
        8,
        {
            "/proc/self/cgroup": "12:memory:/\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        8,
    ),
    "a period of nothing": (8, {"/proc/self/cgroup": V2, "/sys/fs/cgroup/cpu.max": "100000 0"}, 8),
    "rubbish": (8, {"/proc/self/cgroup": "\n::\nx\n" + V2, "/sys/fs/cgroup/cpu.max": "a b c"}, 8),
    "no CPU at all": (0, {}, 1),
}


@pytest.mark.parametrize(("affinity", "files", "expected"), CASES.values(), ids=CASES)
def test_cpus(affinity: int, files: dict[str, str], expected: int) -> None:
    assert cpus(affinity, lambda path: files.get(path, "")) == expected


def test_here() -> None:
    assert available_cpus() >= 1
