"""A job that is killed, preempted, cut off by its time limit or cancelled ends with the bits of one that is not."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.devcluster import processes
from tests.slurm.workplace import Workplace, long_sweep, metrics, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
KILLS = 10  # twenty, without Slurm, are in test_job.py


def kill_whole_job(place: Workplace) -> None:
    """The step, the shell and the trainer at once, in any order, as when a node's memory is gone."""
    node_processes = [pid for pid in processes.every(place.cluster.folder) if _is_a_job_s(pid)]
    for pid in random.sample(node_processes, len(node_processes)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_a_job_s(pid: int) -> bool:
    with suppress(OSError):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return any(entry.startswith(b"SLURM_JOB_ID=") for entry in environment)
    return False


def test_killed_at_ten_random_moments(unaccounted, long, tmp_path):
    """Mostly the process that trains, and the job requeues itself; every fourth time the whole job, and it is lost."""
    dice, kills, resumed = random.Random(0), 0, 0
    for life in range(KILLS):
        place = Workplace(unaccounted, tmp_path / str(life), long_sweep())
        place.scorer("submit")
        while kills < KILLS and killed(place, dice, whole_job=kills % 4 == 3):
            kills += 1
        wait_for(lambda place=place: revived(place) and place.pack.done(), every=0.5, progress=place.progress)
        assert place.states() == {"done": 2}
        resumed += place.attempts() - 1
        place.wait_until_empty()
        assert metrics(place.packs) == long
        if kills == KILLS:
            break
    assert resumed >= KILLS // 2


def killed(place: Workplace, dice: random.Random, whole_job: bool) -> bool:
    """Kill the job at a random moment, mostly while it trains, and see to its next start; False if it was faster.

    Half of the moments come after a new commit: what is traced first may take longer than the time to the others.
    """
    moment, committed = dice.random(), place.pack.committed_step()

    def started_again() -> bool:
        if place.pack.done() or not revived(place) or not place.processes():
            return bool(place.pack.done())
        if moment < 0.5:
            return place.pack.committed_step() > committed
        return moment > 0.8 or (place.training() and place.pack.state()["pid"] in place.processes())

    wait_for(started_again, progress=place.progress)
    with suppress(AssertionError):  # the moment has come
        wait_for(lambda: place.pack.done(), seconds=dice.uniform(0.0, 4.0))
    if place.pack.done():
        return False
    if whole_job:
        kill_whole_job(place)
    else:
        place.kill_trainer()
    wait_for(lambda: not place.jobs("RUNNING", "COMPLETING") or place.pack.done(), every=0.3)
    place.cluster.resume_nodes()
    wait_for(lambda: revived(place), every=0.5)
    return True


def revived(place: Workplace) -> bool:
    """The job is in Slurm (again); else `resume`, or `retry` where it was refused another attempt, puts it there."""
    place.hasten()
    if place.jobs() or place.pack.done():
        return True
    state = place.states()
    if "failed" in state:
        assert "no progress" in next(iter(place.status()["packs"].values()))["note"]
        place.scorer("retry", "--failed")
    elif "lost" in state:
        place.scorer("resume", "-y")
    return bool(place.jobs())


@pytest.mark.parametrize("partition", ["low", "low-grace"])
def test_preempted_by_the_high_partition(unaccounted, long, tmp_path, partition):
    """With a grace period it commits on the signal, its only progress here; without one, it keeps its last commits."""
    graced = partition == "low-grace"
    place = Workplace(unaccounted, tmp_path, long_sweep(), partition=partition, commit_seconds=1000 if graced else 0.4)
    place.scorer("submit")
    for attempt in (1, 2):
        before = place.pack.committed_step()
        place.wait_until_training(attempt, step=0 if graced else before + 400)  # that it does not say between commits
        high = unaccounted.command(
            "sbatch", "--parsable", "--partition=high", "--gpus-per-node=2", "--nodes=2", "--output=/dev/null",
            "--wrap=sleep 600",
        ).strip()  # fmt: skip
        wait_for(lambda: place.jobs("PENDING"))
        assert place.states() == {"pending": 2}
        assert place.pack.committed_step() > before
        unaccounted.command("scancel", high)
    place.wait_until_done(2)
    assert place.attempts() >= 3
    assert metrics(place.packs) == long


def test_a_time_limit_shorter_than_the_run(unaccounted, long, tmp_path):
    """Slurm looks at limits twice a minute, so an attempt lasts 30 s; the slow setup leaves it a part of them only.

    After two attempts the limit is raised: how much more they would need depends on the machine.
    """
    limited = {"time": 1, "signal_seconds": 55, "commit_seconds": 1000, "setup": ["sleep 14"]}
    place = Workplace(unaccounted, tmp_path, long_sweep(), **limited)
    place.scorer("submit")

    def interrupted_twice() -> bool:
        return revived(place) and place.attempts() > 2 and place.pack.committed_step() > 0

    wait_for(interrupted_twice, every=0.5, progress=place.progress)
    assert not place.pack.done()
    for job in place.jobs():
        unaccounted.command("scontrol", "update", f"jobid={job}", "timelimit=60")
    place.wait_until_done(2)
    assert metrics(place.packs) == long


def test_cancelled_it_stays_so_until_it_is_retried(unaccounted, small, tmp_path):
    place = Workplace(unaccounted, tmp_path)
    place.scorer("submit")
    place.wait_until_training(step=400)
    refused = place.run("cancel")
    assert refused.returncode != 0
    assert place.jobs("RUNNING")
    place.scorer("cancel", "-y")
    wait_for(lambda: not place.jobs())
    wait_for(lambda: place.states() == {"cancelled": 2}, every=1)
    assert "To submit: 0 packs" in place.scorer("submit")
    assert not place.jobs()
    place.scorer("retry")
    place.wait_until_done(2)
    assert metrics(place.packs) == small
