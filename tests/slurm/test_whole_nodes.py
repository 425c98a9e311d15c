"""Jobs that train several packs: which packs each job has, what it requests, and how its packs are shown."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cli.plan import cluster_estimate
from cli.submit_view import SHOWN_PACKS, dry_run_text
from scorer_core.records import PackFolder
from slurm.cluster import scheduler, script
from slurm.profile import Profile, load_profile
from slurm.status import SweepStatus, read_status
from slurm.submissions.submission import new, read, submissions
from slurm.submit import number_of_jobs
from sweeps.errors import DefinitionError
from sweeps.loading import parse
from sweeps.plan import Plan, make_plan
from tests.devcluster.cluster import DevCluster, why_not
from tests.devcluster.settings import Settings
from tests.slurm.test_faults_killed import kill_whole_job
from tests.slurm.workplace import Workplace, metrics, steps_in, train_here, wait_for

FOUR: dict[str, Any] = {"packs_per_job": 4, "gpus": "a100:4", "cpus": 3, "memory": "16G"}
SWEEP: dict[str, Any] = {
    "name": "ten", "question": "?", "tasks": ["minatar/breakout"], "total_steps": 10_000, "seeds": 10,
    "variants": {"scorer": {}},
}  # fmt: skip


def profile(**fields: Any) -> Profile:
    return Profile(name="whole", scheduler="slurm", **{**FOUR, **fields})


@pytest.fixture
def planned(tmp_path) -> Plan:
    """Ten packs of one run each, on disk."""
    planned = make_plan(parse(SWEEP, "ten.yaml"), tmp_path, 1)
    planned.write()
    return planned


def submitted(planned: Plan, **fields: Any):
    names = [pack.folder.pack_id for pack in planned.packs]
    submission = new(planned.folder, profile(**fields), planned.folder, [3], packs=names)
    submission.arrays[0].job = "17"
    submission.write()
    return submission


def test_ten_packs_run_in_three_jobs_of_four(planned):
    submission = submitted(planned)
    assert number_of_jobs(10, submission.profile) == 3
    shares = [packs for _, _, packs in submission.tasks()]
    assert [len(packs) for packs in shares] == [3, 3, 4]
    assert list(chain(*shares)) == submission.packs
    assert submission.accepted == 10
    assert read(submission.folder) == submission


def test_a_record_that_older_versions_read_has_no_key_that_they_do_not_know(planned):
    assert "packs_per_job" in (submitted(planned).folder / "submission.json").read_text()
    one = submitted(planned, packs_per_job=1, gpus="1")
    assert "packs_per_job" not in (one.folder / "submission.json").read_text()


def test_no_more_jobs_than_run_at_once_so_that_the_next_pack_starts_where_one_ends():
    assert number_of_jobs(10, profile(throttle=2)) == 2
    assert number_of_jobs(10, profile(throttle=9)) == 3
    assert number_of_jobs(10, profile(packs_per_job=1, gpus="1", throttle=2)) == 10


def test_a_job_requests_gpus_cores_and_memory_for_all_its_packs_and_the_report_job_for_one(planned):
    submission = submitted(planned)
    (array,) = submission.arrays
    text = script.executor(submission, array).text(script.array_body(submission, array))
    for option in ("--gpus-per-node=a100:4", "--cpus-per-task=12", "--mem=64G", "--array=0-2%3"):
        assert f"#SBATCH {option}\n" in text
    assert "-m slurm.jobs.train_packs --at-once 4 --device cuda " in text
    assert submission.report_job
    text = script.executor(submission, submission.report_job, is_array=False).text("")
    for option in ("--gpus-per-node=a100:1", "--cpus-per-task=3", "--mem=16G"):
        assert f"#SBATCH {option}\n" in text
    workers = submission.model_copy(update={"packs": [], "command": ["true"]})
    assert "#SBATCH --gpus-per-node=a100:1\n" in script.executor(workers, array).text("")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scheduler: slurm\npacks_per_job: 4\ngpus: 2\n", "packs_per_job: 4: needs one GPU per pack, not `gpus: 2`"),
        ("scheduler: slurm\npacks_per_job: 2\ngpus: a100:4\n", "packs_per_job: 2: needs one GPU per pack, not "),
        ("scheduler: slurm\npacks_per_job: 2\ndevice: cuda:1\n", "device: cuda:1: with `packs_per_job`, each pack has"),
        ("scheduler: slurm\npacks_per_job: 0\n", "packs_per_job: Input should be greater than or equal to 1, not '0'"),
        ("scheduler: local\npacks_per_job: 2\n", "packs_per_job: not used with scheduler: local; remove it"),
    ],
)
def test_a_profile_with_another_number_of_gpus_is_refused(tmp_path, text, message):
    (tmp_path / "whole.yaml").write_text(text)
    with pytest.raises(DefinitionError, match=r"^\S*whole\.yaml: ") as error:
        load_profile(str(tmp_path / "whole.yaml"))
    assert message in str(error.value)


def test_all_memory_of_a_node_stays_all_of_it():
    for memory, requested in (("0", "0"), ("500", "2000"), ("1500M", "6000M"), (None, None)):
        assert profile(memory=memory).memory_of(4) == requested


def test_the_estimate_says_how_many_jobs_have_the_packs(planned):
    assert cluster_estimate(planned.packs, profile())[0].endswith("with 10 packs at once in 3 jobs.")
    assert cluster_estimate(planned.packs, profile(throttle=2))[0].endswith("with 8 packs at once in 2 jobs.")


def test_a_dry_run_says_how_many_jobs_have_how_many_packs(planned):
    text = "\n".join(dry_run_text(planned, submitted(planned)))
    assert "3 jobs with 10 packs, 3 at once" in text
    assert sum(pack.folder.pack_id in text for pack in planned.packs) == SHOWN_PACKS
    assert f"  and {10 - SHOWN_PACKS} more" in text


def beat(pack: PackFolder, phase: str, submission: str = "1") -> None:
    pack.write_state(submission=submission, step=40, total_steps=10_000, lanes=1, phase=phase, error="out of luck")


def test_each_pack_of_a_running_job_has_its_own_state(planned, tmp_path, monkeypatch):
    submission = submitted(planned)
    (array,) = submission.arrays
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def squeue(*rows: str) -> SweepStatus:
        lines = ["scorer|ARRAY_JOB_ID", *[f"{scheduler.MARK}{row}" for row in rows]]
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)
        return read_status(planned.folder, accounting=False)

    packs = [pack.folder for pack in planned.packs]
    _, _, last = submission.tasks()
    first, second, third, fourth = (pack for pack in packs if pack.pack_id in last[2])
    beat(first, "training")
    beat(second, "failed")
    beat(third, "interrupted")
    third.mark_cancelled(True)
    found = squeue(f"17|2|RUNNING|None|n1|{array.name}")
    states = {pack: (found.packs[pack.pack_id].state, found.packs[pack.pack_id].note) for pack in packs}
    assert states[first] == ("running", "on n1")
    assert states[second] == ("failed", "out of luck")
    assert states[third] == ("cancelled", "at step 40")
    assert states[fourth] == ("pending", "other packs of its job run first")
    again = new(planned.folder, submission.profile, planned.folder, [1], packs=[second.pack_id, third.pack_id])
    again.arrays[0].job = "18"
    again.write()
    third.mark_cancelled(False)
    found = squeue(f"17|2|RUNNING|None|n1|{array.name}", f"18|0|PENDING|Priority||{again.arrays[0].name}")
    for pack in (second, third):
        one = found.packs[pack.pack_id]
        assert (one.state, one.note, one.queued and one.queued.job) == ("pending", "Priority", "18")
    first.finish({run_id: {"status": "done", "verdicts": []} for run_id in first.run_ids()})
    assert squeue(f"17|2|RUNNING|None|n1|{array.name}").packs[first.pack_id].state == "done"


# --- on a real Slurm whose nodes have four GPUs each ---


@pytest.fixture(scope="module")
def four() -> Iterator[DevCluster]:
    reason = why_not(accounting=False)
    if reason:
        pytest.skip(f"no Slurm here: {reason}")
    with TemporaryDirectory(prefix="four") as folder:
        cluster = DevCluster(Path(folder))
        cluster.start(
            Settings(accounting=False, grace=4, kill_wait=20, nodes={"n1": 4, "n2": 4}), while_alive=os.getpid()
        )
        yield cluster
        cluster.stop()


def variables(pid: int) -> dict[str, str]:
    """The environment of a process; empty if it has ended."""
    with suppress(OSError):
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)
    return {}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


def trains(pack: PackFolder) -> bool:
    """Does a process train this pack now?"""
    state = pack.state()
    return state.get("phase") == "training" and "SLURM_JOB_ID" in variables(state["pid"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_packs_in_three_jobs_end_with_the_bits_of_an_undisturbed_run_whatever_happens(four, tmp_path):
    # A pack of one run takes half the time of one of two, by which the speed is measured.
    sweep = {"seeds": 10, "total_steps": steps_in(30, (200_000, 800_000))}
    place = Workplace(four, tmp_path / "home", sweep, lanes=1, packs_per_job=4, gpus="4")
    place.scorer("submit")
    assert len(place.jobs()) == 3
    (submission,) = submissions(place.outputs / "small")
    shares = [[PackFolder(place.packs / name) for name in packs] for _, _, packs in submission.tasks()]
    assert [len(share) for share in shares] == [3, 3, 4]

    seen: dict[PackFolder, int] = {}

    def unfinished(share: list[PackFolder]) -> list[PackFolder]:
        return [pack for pack in share if not pack.done() and not pack.cancelled]

    def wait_until_training(share: list[PackFolder]) -> list[PackFolder]:
        """Until all unfinished packs of a job train at once, and have committed since they were last waited for."""

        def reached() -> bool:
            place.hasten()
            return all(trains(pack) and pack.committed_step() > seen.get(pack, -1) for pack in unfinished(share))

        wait_for(reached, every=0.3, progress=place.progress)
        assert unfinished(share), "this machine is so fast that the packs must be longer"
        seen.update({pack: pack.committed_step() for pack in share})
        return unfinished(share)

    def attempts(share: list[PackFolder]) -> list[int]:
        return [len(pack.attempts()) for pack in share]

    # Each pack has a GPU of the four that Slurm gave the job.
    training = wait_until_training(shares[0])
    tokens = [variables(pack.state()["pid"])["CUDA_VISIBLE_DEVICES"] for pack in training]
    assert len(set(tokens)) == len(training) > 1
    assert set(tokens) <= {"0", "1", "2", "3"}

    # One pack is cancelled: its job goes on with the others.
    cancelled = training[0]
    (seed,) = [config.seed for config in cancelled.configs()]
    assert "1 pack cancelled" in place.scorer("cancel", "--seed", str(seed), "-y")
    wait_for(lambda: place.states().get("cancelled") == 1, every=0.5)
    assert len(place.jobs()) == 3

    def log() -> str:
        return place.run_words("logs", str(cancelled.path)).stdout

    wait_for(lambda: f"pack {cancelled.pack_id}: cancelled" in log(), every=0.5)
    assert f"pack {cancelled.pack_id} starts on GPU {tokens[0]}" in log()

    # A worker is killed: its pack starts again in the same job.
    victim = wait_until_training(shares[1])[0]
    os.kill(victim.state()["pid"], signal.SIGKILL)
    wait_for(lambda: len(victim.attempts()) == 2, progress=place.progress)

    # The process of one job is killed, and the time limit of another one is near: both are requeued.
    packs = wait_until_training(shares[0]) + wait_until_training(shares[1])
    before = attempts(packs)
    os.kill(parent_of(packs[0].state()["pid"]), signal.SIGKILL)
    four.command("scancel", "--batch", "--signal=USR2", f"{submission.arrays[0].job}_1")
    wait_for(lambda: not any(map(trains, packs)), progress=place.progress)
    assert not any(pack.done() for pack in packs)

    # All jobs are preempted.
    wait_until_training(shares[0])
    high = four.command(
        "sbatch", "--parsable", "--partition=high", "--gpus-per-node=4", "--nodes=2", "--output=/dev/null",
        "--wrap=sleep 600",
    ).strip()  # fmt: skip
    wait_for(lambda: not place.jobs("RUNNING", "COMPLETING"), every=0.5)
    four.command("scancel", high)

    # All processes of all jobs are killed: what was not finished is lost, and resumed.
    wait_until_training(shares[0])
    assert place.states()["cancelled"] == 1
    kill_whole_job(place)
    wait_for(lambda: not place.jobs("RUNNING", "COMPLETING"), every=0.5)
    four.resume_nodes()

    def ten_are_done() -> bool:
        place.hasten()
        states = place.states()
        if states.get("done") != 10 and ("lost" in states or not place.jobs()):
            place.scorer("resume", "-y")  # the cancelled pack too
        return states.get("done") == 10

    wait_for(ten_are_done, every=1, progress=place.progress)
    assert all(now > then for now, then in zip(attempts(packs), before, strict=True))
    train_here(tmp_path / "undisturbed", sweep)
    assert metrics(place.packs) == metrics(tmp_path / "undisturbed" / "small" / "packs")
