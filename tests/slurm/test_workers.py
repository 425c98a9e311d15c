"""Workers: identical jobs of one command, on a real Slurm and on this machine."""

import sys
from pathlib import Path

import pytest

from slurm.profile import Profile
from slurm.submissions.submission import Submission
from slurm.submit import live_workers, submit_workers
from tests.devcluster.cluster import DevCluster
from tests.fake_secrets import fake
from tests.slurm.workplace import hasten, wait_for

# The first two starts ask to be started again, the others say they are done; each notes the secret it was given.
CODE = """
import os, pathlib, sys
here = pathlib.Path(sys.argv[1])
n = len(list(here.iterdir()))
(here / str(os.getpid())).write_text(os.environ["SCORER_STORAGE"] + os.environ.get("MY_TOKEN", ""))
sys.exit(75 if n < 2 else 0)
"""


# The last task asks once to be started again; the first one runs until that has happened.
LAST_AGAIN = """
import os, pathlib, sys, time
folder, task, start = sys.argv[1], os.environ["SLURM_ARRAY_TASK_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
pathlib.Path(folder, f"{task}-{start}").touch()
while not pathlib.Path(folder, "1-1" if task == "0" else "0-0").exists():
    time.sleep(0.1)
sys.exit(75 if (task, start) == ("1", "0") else 0)
"""


@pytest.fixture
def starts(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SCORER_STORAGE", "a-password")
    (tmp_path / "starts").mkdir()
    return tmp_path / "starts"


def test_workers_here_are_started_again_on_75_and_one_at_a_time_if_told(starts, tmp_path):
    profile = Profile(name="here", scheduler="local", processes=1)
    submit_workers(profile, [sys.executable, "-c", CODE, str(starts)], 2, tmp_path / "search")
    assert live_workers(tmp_path / "search")
    wait_for(lambda: live_workers(tmp_path / "search") == 0)
    assert len(list(starts.iterdir())) == 4


def over(cluster: DevCluster, submission: Submission, search: Path) -> bool:
    """Have all workers ended? Requeued ones need not wait."""
    hasten(cluster, lambda name: name == submission.arrays[0].name)
    return live_workers(search) == 0


@pytest.mark.timeout(900)
def test_a_task_that_requeues_itself_leaves_the_other_tasks_of_its_array_alone(
    unaccounted, starts, tmp_path, monkeypatch
):
    """The last task of an array has the id of the array: for Slurm, this id alone means all tasks."""
    for key, value in unaccounted.environment().items():
        monkeypatch.setenv(key, value)
    profile = Profile(name="dev", scheduler="slurm", partition="low")
    submission = submit_workers(profile, [sys.executable, "-c", LAST_AGAIN, str(starts)], 2, tmp_path / "search")
    wait_for(lambda: over(unaccounted, submission, tmp_path / "search"))
    assert sorted(path.name for path in starts.iterdir()) == ["0-0", "1-0", "1-1"]


@pytest.mark.timeout(900)
def test_workers_on_slurm_are_requeued_on_75_and_a_secret_reaches_them_but_no_file(
    unaccounted, starts, tmp_path, monkeypatch
):
    for key, value in unaccounted.environment().items():
        monkeypatch.setenv(key, value)
    # A site, or a profile, may keep the variables of the shell from jobs; those of the profile reach them all the same.
    profile = Profile(
        name="dev", scheduler="slurm", partition="low", throttle=1, environment={fake("MY¦_TOKEN"): "it's\na 'token'"},
        sbatch={"export": "SCORER_STORAGE"},
    )  # fmt: skip
    submission = submit_workers(profile, [sys.executable, "-c", CODE, str(starts)], 2, tmp_path / "search")
    assert live_workers(tmp_path / "search") in (1, 2)
    script = unaccounted.command("scontrol", "write", "batch_script", submission.arrays[0].job or "", "-")
    assert "environment.sh" in script
    assert "token" not in script

    wait_for(lambda: over(unaccounted, submission, tmp_path / "search"))
    secrets = [path.read_text() for path in starts.iterdir()]
    assert secrets == ["a-passwordit's\na 'token'"] * 4
    written = [path for path in (tmp_path / "search").rglob("*") if path.is_file() and "code" not in path.parts]
    assert len(written) >= 2
    assert not any(b"a-password" in path.read_bytes() for path in written)
    assert [path.name for path in written if b"token" in path.read_bytes()] == ["environment.sh"]


def test_a_scheduler_that_is_silent_has_an_unknown_number_of_workers(starts, tmp_path, monkeypatch):
    assert live_workers(tmp_path / "search") == 0
    profile = Profile(name="here", scheduler="local")
    submission = submit_workers(profile, [sys.executable, "-c", "pass"], 1, tmp_path / "search")
    submission.profile = Profile(name="dev", scheduler="slurm")
    submission.write()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert live_workers(tmp_path / "search") is None
