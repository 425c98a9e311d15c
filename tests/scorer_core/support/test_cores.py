"""The number of cores that a process may use, in real processes with a restricted affinity."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scorer_core.support import cores
from scorer_core.support.cores import usable_cores

ROOT = Path(__file__).parents[3]
SLURM = ("SLURM_JOB_ID", *cores.SLURM_LIMITS)


def in_a_process(code: str, cpus: set[int], **environment: str) -> str:
    """What `code` prints in a process that may use `cpus` only."""
    clean = {name: value for name, value in os.environ.items() if name not in SLURM}
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cpus}); {code}"],
        cwd=ROOT, env=clean | environment, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return done.stdout.strip()


COUNT = "from scorer_core.support.cores import usable_cores; print(usable_cores())"


def test_a_process_with_an_affinity_of_one_core_counts_one_core():
    (first, *_) = sorted(os.sched_getaffinity(0))
    assert in_a_process(COUNT, {first}) == "1"


def test_a_layout_has_as_many_packs_at_a_time_as_the_affinity_has_cores():
    (first, *_) = sorted(os.sched_getaffinity(0))
    code = "from sweeps.layout import choose; print(choose([]).processes)"
    assert in_a_process(code, {first}, CUDA_VISIBLE_DEVICES="") == "1"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "3"}, 2),
        ({"SLURM_CPUS_PER_TASK": "1"}, 4),  # not in a job
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1000"}, 4),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4(x2)"}, 4),
    ],
)
def test_inside_a_job_the_allocation_of_slurm_is_an_upper_bound(monkeypatch, environment, expected):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "_quotas", list)
    assert usable_cores() == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1), ("", 4), ("nonsense", 4)]
)
def test_the_cpu_quota_of_a_control_group_is_an_upper_bound_and_an_unreadable_one_is_none(
    tmp_path, monkeypatch, quota, expected
):
    (tmp_path / "cpu.max").write_text(quota)
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    assert usable_cores() == expected


def test_no_module_counts_the_cores_of_the_machine():
    modules = [
        path for folder in ("cli", "scorer_core", "sweeps", "slurm", "analysis", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)
    ]  # fmt: skip
    assert [path for path in modules if "cpu_count" in path.read_text(encoding="utf-8")] == []
