"""Submitting: too much for one array, refused half-way, cut off, twice at once. The rest goes next time, none twice."""

from collections import Counter
from pathlib import Path

import pytest

from scorer_core.pack_folders import pack_folders
from tests.devcluster.cluster import DevCluster
from tests.slurm.workplace import PATIENCE_SECONDS, Workplace, metrics, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
# Ten packs of one lane; they wait for the nodes' GPUs, or for an hour where they are not to start at all.
TEN = {"seeds": 10, "total_steps": 2_000}
HELD = {"sbatch": {"begin": "now+1hour"}, "lanes": 1}


@pytest.fixture
def held(clean, tmp_path):
    return Workplace(clean, tmp_path, TEN, **HELD)


def tasks(place: Workplace) -> Counter[str]:
    """How often each pack is in Slurm's queue, as the record of the submissions says which task is which pack."""
    found: Counter[str] = Counter()
    for pack in place.status()["packs"].values():
        found[pack["state"]] += 1
    return found


def limit(cluster: DevCluster, what: str) -> None:
    cluster.command("sacctmgr", "-i", "modify", "user", "root", "set", what)


def test_more_tasks_than_max_array_size_become_several_arrays(held):
    """MaxArraySize is 4 on this cluster."""
    held.scorer("submit")
    jobs = held.jobs()
    assert len(jobs) == 10
    assert len({job.partition("_")[0] for job in jobs}) == 3
    assert max(int(job.partition("_")[2]) for job in jobs) < 4
    assert tasks(held) == {"pending": 10}
    assert "Already running or pending: 10 pack" in held.scorer("submit")
    assert sorted(held.jobs()) == sorted(jobs)


def test_what_slurm_holds_is_told_and_released_by_resume(held, accounted):
    held.scorer("submit")
    jobs = held.jobs()
    accounted.command("scontrol", "uhold", ",".join(jobs[:2]))
    assert tasks(held) == {"pending": 10}
    shown = held.scorer("status")
    assert "JobHeldUser (2 packs)" in shown
    assert f"Slurm holds some jobs. Release them with: scorer resume {held.name}" in shown
    assert "2 held jobs would be released" in held.scorer("resume", "--dry-run")
    assert "JobHeldUser (2 packs)" in held.scorer("status")
    assert "2 held jobs released" in held.scorer("resume", "-y")
    assert "JobHeldUser" not in held.scorer("status")
    assert sorted(held.jobs()) == sorted(jobs), "none was submitted again"


def test_more_than_max_submit_jobs_waits_for_the_next_call(held, accounted):
    limit(accounted, "MaxSubmitJobs=5")
    try:
        assert "4 packs submitted" in held.scorer("submit")
        assert len(held.jobs()) == 4
        assert tasks(held) == {"pending": 4, "missing": 6}
    finally:
        limit(accounted, "MaxSubmitJobs=-1")
    assert "6 packs submitted" in held.scorer("submit")
    assert len(held.jobs()) == 10
    assert tasks(held) == {"pending": 10}


def shim(folder: Path, lines: str) -> dict[str, str]:
    """An environment whose sbatch is the real one with something before or after it."""
    folder.mkdir()
    (folder / "sbatch").write_text(f"#!/bin/bash\n{lines}\n")
    (folder / "sbatch").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_refused_half_way_the_rest_is_submitted_on_the_next_call_and_none_twice(held, accounted, tmp_path):
    """A limit that cannot be asked for, because sacctmgr fails: the second array is refused by sbatch itself."""
    limit(accounted, "GrpSubmitJobs=5")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sacctmgr").write_text("#!/bin/bash\nexit 1\n")
    (tmp_path / "bin" / "sacctmgr").chmod(0o755)
    try:
        refused = held.run("submit", environment={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
        assert refused.returncode == 1
        assert "Slurm rejected the remaining packs" in refused.stderr
        assert "set `max_submit` in the profile" in refused.stderr
        taken = len(held.jobs())
        assert 0 < taken < 10
        assert tasks(held) == {"pending": taken, "missing": 10 - taken}
    finally:
        limit(accounted, "GrpSubmitJobs=-1")
    assert f"{10 - taken} packs submitted" in held.scorer("submit")
    assert len(held.jobs()) == 10
    assert tasks(held) == {"pending": 10}


def test_what_fits_below_a_group_s_limit_is_submitted_and_the_limit_is_named(held, accounted):
    limit(accounted, "GrpSubmitJobs=5")
    try:
        said = held.scorer("submit")
        assert "4 packs submitted" in said
        assert "GrpSubmitJobs of your account" in said
    finally:
        limit(accounted, "GrpSubmitJobs=-1")


def test_killed_between_sbatch_s_answer_and_its_being_written_down(held, tmp_path):
    """The first array is in Slurm and nobody noted its number: it is found by its name."""
    environment = shim(tmp_path / "bin", '/usr/bin/sbatch "$@"; kill -9 $PPID')
    assert held.run("submit", environment=environment).returncode == -9
    taken = len(held.jobs())
    assert taken in (3, 4)
    assert tasks(held)["pending"] == taken
    assert f"{10 - taken} packs submitted" in held.scorer("submit")
    assert len(held.jobs()) == 10
    assert tasks(held) == {"pending": 10}


def test_killed_before_sbatch_nothing_is_submitted_and_the_next_call_submits_all(held, tmp_path):
    environment = shim(tmp_path / "bin", "kill -9 $PPID")
    assert held.run("submit", environment=environment).returncode == -9
    assert held.jobs() == []
    assert tasks(held) == {"missing": 10}
    assert "10 packs submitted" in held.scorer("submit")
    assert len(held.jobs()) == 10


def test_two_submits_at_the_same_moment_submit_each_pack_once(accounted, tmp_path):
    place = Workplace(accounted, tmp_path, {"seeds": 4, "total_steps": 2_000}, lanes=1)
    both = [place.start("submit") for _ in range(2)]
    ends = [process.communicate(timeout=PATIENCE_SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert sorted("4 packs submitted" in out for out, _ in ends) == [False, True]
    place.wait_until_done(4)
    place.wait_until_empty()
    assert [len(list((folder.path / "attempts").iterdir())) for folder in pack_folders(place.packs)] == [1] * 4


def test_two_jobs_on_one_pack_train_it_once(unaccounted, small, tmp_path):
    """The second array is a copy of the first, submitted by hand from the script that Slurm kept."""
    place = Workplace(unaccounted, tmp_path)
    place.scorer("submit")
    place.wait_until_training()
    (job,) = place.jobs()
    script = tmp_path / "copy.sh"
    unaccounted.command("scontrol", "write", "batch_script", job, str(script))
    copy = unaccounted.command("sbatch", "--parsable", "--partition=high", "--array=0", str(script)).strip()
    place.wait_until_done(2)
    wait_for(lambda: copy not in unaccounted.command("squeue", "--noheader", "--format=%A").split())
    assert place.attempts() == 1
    assert place.states() == {"done": 2}
    assert metrics(place.packs) == small


@pytest.mark.parametrize(
    ("sweep", "profile", "says"),
    [
        ({"total_steps": -1}, {}, "total_steps"),
        ({"tasks": ["minatar/brakeout"]}, {}, "unknown game 'brakeout'"),
        ({}, {"partiton": "low"}, "partiton"),
        ({}, {"time": "soon"}, "soon"),
        ({}, {"partition": "nowhere"}, "partition"),
        ({}, {"account": "nobody"}, "account"),
        ({}, {"gpus": 3}, "Requested node configuration is not available"),
    ],
)
def test_a_bad_definition_or_profile_is_refused_in_one_line_and_nothing_is_submitted(
    accounted, tmp_path, sweep, profile, says
):
    place = Workplace(accounted, tmp_path, sweep, **profile)
    before = accounted.command("squeue", "--noheader", "--format=%A")
    refused = place.run("submit")
    assert refused.returncode in (1, 2)
    assert says in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert accounted.command("squeue", "--noheader", "--format=%A") == before
