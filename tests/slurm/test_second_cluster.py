"""The faults of the other tests on a cluster that another site configured (FOREIGN in conftest.py).

Its nodes and partitions have other names, it keeps no accounts, its arrays have 50 tasks at most, it cancels preempted
jobs, it requeues only jobs that ask for it, its sbatch and squeue print text around the result, the home directory has
a space in its name, and the language is German.
"""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slurm.backend import Finding
from slurm.cluster.profile_check import check_profile
from slurm.profile import Profile
from tests.devcluster.cluster import DevCluster
from tests.slurm.workplace import LONG_STEPS, Workplace, long_sweep, metrics, wait_for

pytestmark = pytest.mark.timeout(900)
TINY = {"name": "tiny", "total_steps": 2_000}
SIXTY = {"name": "sixty", "seeds": 60, "total_steps": 2_000}
NOT_TODAY = {"sbatch": {"begin": "now+1hour"}, "lanes": 1}
SOMEBODY_ELSE = {"LOGNAME": "games", "USER": "games"}
NOBODY = {"LOGNAME": "nosuch", "USER": "nosuch"}

Works = Callable[..., Workplace]


@pytest.fixture
def work(foreign, request) -> Iterator[Works]:
    """Makes a place below the home directory; at the end no job of it is left."""
    places: list[Workplace] = []

    def begin(sweep: dict[str, Any] | None = None, **profile: Any) -> Workplace:
        folder = foreign.folder / "home of ann" / f"{request.node.name[:40]} {len(places)}"
        places.append(Workplace(foreign, folder, sweep, **{"partition": "gpu", **profile}))
        return places[-1]

    yield begin
    foreign.command("scancel", "--quiet", "--user=root")
    wait_for(lambda: not foreign.command("squeue", "--noheader"))


def nodes_of(place: Workplace) -> list[str]:
    return place.cluster.command("squeue", "--noheader", "--states=RUNNING", "--format=%N").split()


def wait_until_committed(place: Workplace, attempt: int, beyond: int) -> int:
    """Until the attempt trains and has committed a later step than `beyond`; that step."""
    place.wait_until_training(attempt)
    wait_for(lambda: place.pack.committed_step() > beyond)
    return place.pack.committed_step()


# --- the cluster itself ---


def test_a_cluster_is_as_it_was_configured(foreign):
    assert sorted(foreign.node_states()) == ["cpu07", "gn-a100-01", "gn-a100-02"]
    config = " ".join(foreign.command("scontrol", "show", "config").split())
    for setting in ("MaxArraySize = 50", "PreemptMode = CANCEL", "JobRequeue = 0", "accounting_storage/none"):
        assert setting in config
    partitions = foreign.command("sinfo", "--noheader", "--format=%R %N").splitlines()
    assert partitions == ["gpu gn-a100-[01-02]", "cpu cpu07", "gpu_urgent gn-a100-[01-02]"]


def test_a_user_s_environment_has_the_site_s_commands_home_and_language(foreign):
    def user(command: str) -> str:
        done = subprocess.run(["bash", "-c", command], env=foreign.environment(), capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert user("squeue --noheader").splitlines()[0] == "HELIOS: maintenance on 2026-12-01"
    assert user("squeue --noheader").splitlines()[-1] == "(end of the queue)"
    assert user("cd && pwd").strip() == f"{foreign.folder}/home of ann"
    assert user("printf '%.1f' 1,5; date --date=2026-03-01 +%B") == "1,5März\n"
    assert foreign.command("squeue", "--noheader") == ""


# --- submitting ---


def test_sixty_packs_are_two_arrays_of_at_most_fifty_tasks_and_none_is_submitted_twice(work):
    place = work(SIXTY, **NOT_TODAY)
    assert "60 packs submitted" in place.scorer("submit")
    jobs = place.jobs()
    assert len(jobs) == 60
    assert len({job.partition("_")[0] for job in jobs}) == 2
    assert max(int(job.partition("_")[2]) for job in jobs) < 50
    for user in (SOMEBODY_ELSE, NOBODY):
        assert '"pending": 60' in place.scorer("status", "--json", environment=user)
    assert "Already running or pending: 60 pack" in place.scorer("submit", environment=SOMEBODY_ELSE)
    assert sorted(place.jobs()) == sorted(jobs)
    assert "60 packs and 1 report job cancelled" in place.scorer("cancel", "-y", environment=SOMEBODY_ELSE)
    place.wait_until_empty()  # of the job that draws the report, too
    assert place.states() == {"cancelled": 60}


@pytest.mark.slow
def test_a_sweep_is_submitted_trained_and_reported(work):
    place = work(TINY)
    assert "1 pack submitted" in place.scorer("submit")
    assert place.states().keys() <= {"pending", "running", "done"}
    place.wait_until_done(2)
    place.wait_until_empty()
    assert place.states() == {"done": 2}
    assert place.attempts() == 1
    assert list((place.outputs / "tiny" / "report").glob("*.html"))
    shown = place.run_words("logs", place.pack.pack_id, "--outputs", str(place.outputs))
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.slow
def test_a_setup_line_that_fails_is_told_by_status_and_logs(work):
    place = work(TINY, setup=["no-such-module load cuda/12.8"])
    place.scorer("submit")
    wait_for(lambda: not place.jobs(), every=0.3)
    wait_for(lambda: "unknown" not in place.states(), every=1)
    assert place.states().keys() <= {"failed", "lost"}
    assert place.attempts() == 0
    assert "setup line 1 failed with exit code 127: no-such-module load" in place.scorer("status")
    shown = place.run_words("logs", place.pack.pack_id, "--outputs", str(place.outputs))
    assert ": no-such-module: " in shown.stdout  # and «command not found», in the user's language


@pytest.mark.slow
def test_a_job_that_slurm_kills_for_its_memory_is_lost_for_that_reason(work):
    place = work(TINY, memory="100M")
    place.scorer("submit")
    wait_for(lambda: not place.jobs(), every=0.3)
    wait_for(lambda: "unknown" not in place.states(), every=1)
    assert place.states().keys() <= {"failed", "lost"}
    shown = place.scorer("status")
    assert "memory limit" in shown
    assert "Set a larger `memory`" in shown
    shown = place.run_words("logs", place.pack.pack_id, "--outputs", str(place.outputs))
    assert "exceeded memory limit" in shown.stdout


# --- the check of a profile ---


def check(foreign: DevCluster, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> dict[str, Finding]:
    for key, value in foreign.environment().items():
        monkeypatch.setenv(key, value)
    given = {"name": "dev", "scheduler": "slurm", "partition": "gpu", "gpus": "1", "device": "cpu"}
    return {finding.subject: finding for finding in check_profile(Profile.model_validate(given | fields))}


def test_the_check_reads_what_this_site_allows(foreign, monkeypatch):
    found = check(foreign, monkeypatch)
    assert found["partition"].found == "gpu is up: 2 working nodes, 0 down or drained"
    assert found["gpus"] == Finding("ok", "gpus", "1 of 2 per node")
    assert found["MaxArraySize"].found == "50 tasks per array"
    assert found["accounting"].found.startswith("off")
    assert "JobRequeue=0" in found["requeue"].found
    assert found["preemption"].level == "problem"
    assert "jobs in gpu_urgent can preempt yours (PreemptMode=CANCEL)" in found["preemption"].found
    assert "scorer resume" in found["preemption"].advice


def test_a_partition_that_shares_no_node_with_a_higher_one_is_not_preempted(foreign, monkeypatch):
    assert check(foreign, monkeypatch, partition="cpu", gpus=None)["preemption"].level == "ok"


@pytest.mark.slow
def test_a_probe_below_a_path_with_a_space_sees_what_a_job_sees(work):
    place = work(partition="cpu", gpus=None)
    words = "profile", "check", str(place.profile), "--outputs", str(place.outputs), "--probe"
    done = place.run_words(*words)
    assert done.returncode == 0, done.stdout
    assert "jobs can read and write it, and file locks work across nodes" in done.stdout
    assert "ran on" in done.stdout


# --- faults while it trains ---


@pytest.mark.slow
def test_killed_told_to_stop_and_with_its_node_and_the_controller_gone_it_is_requeued(work, foreign, long):
    """The cluster requeues no job by itself (JobRequeue=0); ours ask for it, so `scontrol requeue` is not refused."""
    place = work(long_sweep())
    place.scorer("submit")
    step = wait_until_committed(place, attempt=1, beyond=0)
    place.kill_trainer()
    step = wait_until_committed(place, attempt=2, beyond=step)
    foreign.command("scancel", "--batch", "--signal=USR2", *place.jobs("RUNNING"))  # as Slurm does near the time limit
    step = wait_until_committed(place, attempt=3, beyond=step)
    foreign.stop_daemon("slurmctld")
    try:
        assert place.status()["scheduler"] != "answered"
        assert place.states().keys() <= {"running", "unknown", "done"}
    finally:
        foreign.start_daemon("slurmctld")
    wait_for(lambda: foreign.node_states(), every=0.5)
    (node,) = nodes_of(place)
    foreign.kill_node(node)
    try:
        place.wait_until_training(attempt=4)
        assert node not in nodes_of(place)
    finally:
        foreign.start_daemon(node)
    place.wait_until_done(2)
    assert metrics(place.packs) == long
    wait_for(lambda: foreign.node_states()[node] in ("idle", "mixed"), every=0.5)


@pytest.mark.slow
def test_preempted_or_cancelled_by_hand_it_is_lost_and_resume_goes_on(work, foreign):
    """The cluster cancels a preempted job instead of queueing it again."""
    place = work({"total_steps": LONG_STEPS[1]})  # never at its end before it is stopped
    place.scorer("submit")
    step = wait_until_committed(place, attempt=1, beyond=0)
    urgent = ["--partition=gpu_urgent", "--gpus-per-node=2", "--nodes=2", "--output=/dev/null", "--wrap=sleep 600"]
    job = foreign.command("sbatch", "--parsable", *urgent).strip()
    wait_for(lambda: not place.jobs(), every=0.3)
    wait_for(lambda: place.states() == {"lost": 2}, every=1)
    assert f"scorer resume {place.name}" in place.scorer("status")
    foreign.command("scancel", job)
    place.scorer("resume", "-y")
    step = wait_until_committed(place, attempt=2, beyond=step)
    foreign.command("scancel", *place.jobs())
    wait_for(lambda: not place.jobs(), every=0.3)
    wait_for(lambda: place.states() == {"lost": 2}, every=1)
    place.scorer("resume", "-y")
    wait_until_committed(place, attempt=3, beyond=step)
    assert place.pack.state()["starts"][0] >= step
