"""Ten thousand runs: what planning, submitting and watching cost in time, in files and in calls of Slurm."""

import os
import re
import time
from pathlib import Path

import pytest

from tests.devcluster.cluster import DevCluster
from tests.slurm.workplace import Workplace, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
RUNS = 10_000
PLAN_SECONDS, STATUS_SECONDS = 10.0, 2.0
# What clients ask; the nodes' daemons ask other things. One squeue asks for jobs and, to name their partitions, for
# partitions, which is not counted.
QUESTIONS = ("REQUEST_JOB_INFO", "REQUEST_JOB_USER_INFO", "REQUEST_JOB_INFO_SINGLE", "REQUEST_NODE_INFO",
             "REQUEST_BUILD_INFO", "REQUEST_SUBMIT_BATCH_JOB", "REQUEST_KILL_JOB", "REQUEST_JOB_STEP_INFO",
             "REQUEST_PING")  # fmt: skip


@pytest.fixture(scope="module")
def place(unaccounted, tmp_path_factory):
    """The grid in packs as they come; its jobs wait for an hour, so they never start."""
    folder = tmp_path_factory.mktemp("scale")
    sweep = {"name": "scale", "seeds": RUNS, "total_steps": 60_000}
    place = Workplace(unaccounted, folder, sweep, sbatch={"begin": "now+1hour"})
    yield place
    place.run("cancel", "-y")


def asked(cluster: DevCluster) -> dict[str, int]:
    """How often each question was put to the controller since the last reset, as it counts itself."""
    counts = re.findall(r"^\s+(REQUEST_\w+)\s+\(\s*\d+\)\s+count:(\d+)", cluster.command("sdiag"), re.MULTILINE)
    return {name: int(count) for name, count in counts if name in QUESTIONS}


def seconds(place: Workplace, *words: str) -> float:
    """Of the processor, its children's included: the clock would time the machine's other users as well."""
    before = os.times()
    place.scorer(*words)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def test_a_dry_run_of_ten_thousand_runs_takes_ten_seconds_and_writes_nothing(place):
    assert seconds(place, "submit", "--dry-run") < PLAN_SECONDS
    assert not place.outputs.exists() or files(place.outputs) == 0
    assert place.jobs() == []


def test_submitting_and_status_of_ten_thousand_runs(place, unaccounted, record_property):
    unaccounted.command("sdiag", "--reset")
    spent = seconds(place, "submit")
    packs, calls = len(place.jobs()), asked(unaccounted)
    record_property("submit_seconds", spent)
    assert spent < PLAN_SECONDS
    assert calls["REQUEST_SUBMIT_BATCH_JOB"] == 2  # one array, and the job that draws the report
    assert files(place.packs) == packs  # pack.json
    assert files(place.outputs / "scale" / "submissions") <= 6  # one is the index that `status` reads
    unaccounted.command("sdiag", "--reset")
    assert seconds(place, "status") < STATUS_SECONDS
    calls = asked(unaccounted)
    assert sum(calls.values()) == 1, calls
    assert place.states() == {"pending": RUNS}


def test_watching_asks_slurm_at_most_once_in_thirty_seconds(place, unaccounted):
    place.scorer("submit")  # by the test before, unless that ran in another process
    unaccounted.command("sdiag", "--reset")
    with place.start("status", "--watch") as watching:
        began = time.monotonic()
        try:
            wait_for(lambda: sum(asked(unaccounted).values()) >= 2, seconds=110, every=1)
        finally:
            watching.kill()
        assert time.monotonic() - began >= 30
    assert sum(asked(unaccounted).values()) == 2, asked(unaccounted)
