"""How many cores this process may use, never the machine's number, of which a job has only a part; and their model."""

import os
import platform
from contextlib import suppress
from pathlib import Path

SLURM_LIMITS = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may use, at least 1.

    The smallest of: its CPU affinity, inside a job the CPUs that Slurm allocated to the task and on the node, and the
    CPU quota of its control group (a container, for instance).
    """
    limits = [len(os.sched_getaffinity(0)), *_quotas()]
    if "SLURM_JOB_ID" in os.environ:
        limits += [int(value) for name in SLURM_LIMITS if (value := os.environ.get(name, "")).isdecimal()]
    return max(1, min(limits))


def _quotas() -> list[int]:
    """The CPU quotas, in whole cores, of this process's control group and those above it (cgroup version 2)."""
    found = []
    with suppress(OSError, ValueError):
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").split("::")[1].split("\n")[0].strip("/")
        for group in (CGROUPS / own, *(CGROUPS / own).parents):
            if group.is_relative_to(CGROUPS) and (group / "cpu.max").exists():
                quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
                if quota != "max":
                    found.append(int(quota) // int(period))
    return found


def cpu_model() -> str:
    """The model of the CPU, e.g. "AMD EPYC 7B13"; where the kernel does not tell it, the architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()
