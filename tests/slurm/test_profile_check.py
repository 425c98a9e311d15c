"""The check on real clusters: it finds what is so, says what to do, and a probe sees what a job would."""

import json
from pathlib import Path
from typing import Any

import pytest

from slurm.backend import Finding
from slurm.cluster.check_job import run_check_job
from slurm.cluster.profile_check import check_profile
from slurm.profile import Profile
from tests.devcluster.cluster import DevCluster
from tests.slurm.workplace import Workplace


def profile(**fields: Any) -> Profile:
    given = {"name": "dev", "scheduler": "slurm", "partition": "low", "gpus": "1", "device": "cpu"}
    return Profile.model_validate(given | fields)


@pytest.fixture
def on(monkeypatch):
    """Work on one cluster."""

    def choose(cluster: DevCluster) -> None:
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))

    return choose


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    assert len({finding.subject for finding in findings}) == len(findings)
    return {finding.subject: finding for finding in findings}


def test_it_says_what_a_cluster_with_accounting_allows(accounted, on):
    on(accounted)
    found = by_subject(check_profile(profile(account="lab")))
    assert found["slurm"].found.startswith("version 2")
    assert found["partition"].found == "low is up: 2 working nodes, 0 down or drained"
    assert found["gpus"] == Finding("ok", "gpus", "1 of 2 per node")
    assert found["MaxArraySize"].level == "note"
    assert found["MaxArraySize"].found == "4 tasks per array"
    assert found["accounting"] == Finding("ok", "accounting", "on; account lab")
    assert found["MaxSubmitJobs"] == Finding("ok", "MaxSubmitJobs", "scorer found no limit")
    assert found["preemption"].level == "note"
    assert "jobs in high can preempt yours (PreemptMode=REQUEUE) after 0 s" in found["preemption"].found
    assert "300 s" in found["preemption"].advice
    assert found["requeue"].level == "ok"
    assert not [finding for finding in found.values() if finding.level == "problem"]


def test_it_reads_the_submit_limit_of_the_account_that_is_used(accounted, on):
    on(accounted)
    limit = ["sacctmgr", "-i", "modify", "user", "root", "where", "account=lab", "set"]
    accounted.command(*limit, "MaxSubmitJobs=7")
    try:
        assert by_subject(check_profile(profile(account="lab")))["MaxSubmitJobs"].found == "7 queued jobs"
        assert by_subject(check_profile(profile(account="root")))["MaxSubmitJobs"].found == "scorer found no limit"
        assert by_subject(check_profile(profile(account="lab", max_submit=3)))["MaxSubmitJobs"].found == "3 queued jobs"
    finally:
        accounted.command(*limit, "MaxSubmitJobs=-1")


def test_without_accounting_it_says_so_and_that_nothing_is_to_be_done(unaccounted, on):
    on(unaccounted)
    found = by_subject(check_profile(profile(partition=None)))
    assert found["accounting"].level == "note"
    assert found["accounting"].found.startswith("off")
    assert found["MaxArraySize"] == Finding("ok", "MaxArraySize", "1,001 tasks per array")


def test_gpus_that_a_job_would_not_use_are_named(unaccounted, on):
    on(unaccounted)
    advice = "set `packs_per_job: 2`, which trains a pack on each"
    unused = Finding("note", "gpus", "a job requests 2 and uses 1", advice)
    assert by_subject(check_profile(profile(gpus="2")))["gpus"] == unused
    whole = by_subject(check_profile(profile(gpus="2", packs_per_job=2)))
    assert whole["gpus"] == Finding("ok", "gpus", "2 of 2 per node")


@pytest.mark.parametrize(
    ("fields", "subject", "found", "advice"),
    [
        ({"partition": "gpu"}, "partition", "there is no gpu", "set `partition` to one of: low, low-grace, high"),
        ({"gpus": "3"}, "gpus", "low has 2 per node, the profile requests 3", "change `gpus`"),
        ({"gpus": "a100:1"}, "gpus", "low has 2 per node, the profile requests a100:1", "change `gpus`"),
        ({"account": "rich"}, "accounting", "account rich is not yours", "set `account` to one of: lab, root"),
        ({"account": "lab", "qos": "gold"}, "qos", "gold is not yours", "set `qos` to one of: normal"),
    ],
)
def test_what_does_not_fit_is_a_problem_with_a_way_out(accounted, on, fields, subject, found, advice):
    on(accounted)
    finding = by_subject(check_profile(profile(**fields)))[subject]
    assert (finding.level, finding.found, finding.advice) == ("problem", found, advice)


def test_a_partition_that_is_down_or_too_short_is_a_problem(unaccounted, on):
    on(unaccounted)
    change = ["scontrol", "update", "partitionname=low-grace"]
    unaccounted.command(*change, "maxtime=30", "state=down")
    try:
        found = by_subject(check_profile(profile(partition="low-grace", time=60)))
    finally:
        unaccounted.command(*change, "maxtime=infinite", "state=up")
    assert found["partition"].level == "problem"
    assert found["time"].level == "problem"
    assert found["time"].advice.startswith("set `time: 00:30:00`")
    assert found["preemption"].found.endswith("after 4 s")


def test_the_partition_that_preempts_is_not_preempted(unaccounted, on):
    on(unaccounted)
    assert by_subject(check_profile(profile(partition="high")))["preemption"] == Finding(
        "ok", "preemption", "jobs in high are not preempted"
    )


def test_where_slurm_is_not_installed_that_is_the_one_finding(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = check_profile(profile())
    assert (finding.level, finding.subject) == ("problem", "slurm")
    assert finding.found == "scontrol: not found; is this a login node of a Slurm cluster?"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "level", "subject", "found"),
    [
        ({}, "ok", "output folder", "jobs can read and write it, and file locks work across nodes"),
        ({}, "ok", "speed", "environment steps/s on cpu with 8 lanes of paper_minatar; "),
        ({"device": "auto"}, "problem", "device of a job", "has no NVIDIA driver: libcuda.so.1 was not found"),
        ({"setup": ["echo no such module >&2", "exit 1"]}, "problem", "probe", "failed: no such module"),
        ({"account": "nobody"}, "problem", "probe", "refused: "),
    ],
)
def test_a_probe_sees_what_a_job_sees(accounted, tmp_path, fields, level, subject, found):
    place = Workplace(accounted, tmp_path, **fields)
    words = "profile", "check", str(place.profile), "--outputs", str(place.outputs), "--json", "--probe"
    done = place.run_words(*words)
    findings = json.loads(done.stdout)
    (seen,) = [finding for finding in findings if finding["subject"] == subject]
    assert seen["level"] == level
    assert found in seen["found"]
    assert done.returncode == any(finding["level"] == "problem" for finding in findings)
    assert not list(Path(place.outputs).glob(".probe-*"))


@pytest.mark.slow
def test_a_probe_that_waits_in_vain_is_cancelled_and_slurm_s_reason_is_given(unaccounted, tmp_path, on):
    on(unaccounted)
    late = profile(sbatch={"begin": "now+1hour"})
    lines: list[str] = []
    (finding,) = run_check_job(late, tmp_path, timeout=1.0, on_wait=lines.append)
    assert finding.level == "problem"
    assert "PENDING (BeginTime) after" in finding.found
    assert not unaccounted.command("squeue", "--noheader", "--states=PENDING", "--name", "probe").strip()
