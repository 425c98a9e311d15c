"""Limits, throttles, report jobs, waiting and usage, by functions and with scripts that replace Slurm's commands."""

import io
import time
from pathlib import Path

import pytest
import typer

from cli import console
from cli.usage_view import print_usage, usage_json
from scorer_core.records import PackFolder
from scorer_core.support import waiting
from slurm.backend import Limits, QueuedJob, SchedulerError
from slurm.cluster.cancelling import report_jobs
from slurm.cluster.limits import explained, free_slots
from slurm.cluster.usage import Usage, Used, memory, parse, proposal, time_limit
from slurm.profile import Profile, load_profile
from slurm.status import PackStatus, SweepStatus
from slurm.submissions.submission import Submission, new, split_throttle
from slurm.submit import remaining_throttle

SLURM = Profile(name="cluster", scheduler="slurm")


@pytest.mark.parametrize("throttle", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("arrays", [0, 1, 2, 3, 10])
def test_at_any_moment_the_arrays_together_keep_to_the_throttle(throttle, arrays):
    found = split_throttle(throttle, arrays)
    assert len(found) == arrays
    first = [share for share, behind in found if behind is None]
    assert sum(share or 0 for share in first) == (throttle if arrays else 0)
    for share, behind in found:
        assert share
        if behind is not None:
            assert share == found[behind][0], "it takes the place of the array that it waits for"
    followed = [behind for _, behind in found if behind is not None]
    assert len(followed) == len(set(followed)), "no two arrays wait for the same one"


class Found:
    """The parts of a status that a submission's throttle depends on."""

    def __init__(self, submissions: list[Submission], tasks: list[QueuedJob]):
        self.submissions = submissions
        self.packs = {str(i): type("Pack", (), {"queued": task}) for i, task in enumerate(tasks)}


@pytest.mark.parametrize(
    ("queued", "expected"),
    [(0, (4, [])), (1, (3, [])), (3, (1, [])), (4, (4, ["17"])), (9, (4, ["17"]))],
)
def test_a_second_submission_gets_what_the_first_leaves_of_the_throttle_or_starts_after_it(tmp_path, queued, expected):
    first = new(tmp_path, SLURM.model_copy(update={"throttle": 4}), tmp_path, [10], packs=["a"] * 10)
    first.arrays[0].job = "17"
    tasks = [QueuedJob("pending", job="17", index=i) for i in range(queued)]
    assert remaining_throttle(Found([first], tasks), 4) == expected  # pyright: ignore[reportArgumentType]
    assert remaining_throttle(Found([first], tasks), None) == (None, [])  # pyright: ignore[reportArgumentType]


def slurm_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **answers: str) -> None:
    """Commands that print these answers, and nothing else in PATH but the system's."""
    for name, script in answers.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


SACCTMGR = """
case "$*" in
  *withassoc*) echo "a banner of the site"; echo "lab|lab|normal|capped,normal|"; echo "lab|old|||1" ;;
  *account=lab*) echo "|40"; echo "ann|1" ;;
  *qos*) echo "capped|7||"; echo "normal|30||" ;;
esac"""
SCONTROL = """
case "$*" in
  *config*) echo "AccountingStorageEnforce = associations,limits" ;;
  *partition*) echo "PartitionName=low Default=YES QoS=N/A"; echo "PartitionName=short QoS=capped" ;;
esac"""


SQUEUE = "echo 'welcome, there are'; echo '2|R jobs'; echo 'scorer|JOBID'; echo 'scorer|1_0'; echo 'scorer|2'"


@pytest.mark.parametrize(
    ("profile", "packs", "limit"),
    [
        ({}, 27, "MaxSubmitJobsPerUser of QOS normal: 30"),
        ({"qos": "capped"}, 4, "MaxSubmitJobsPerUser of QOS capped: 7"),
        ({"partition": "short"}, 4, "MaxSubmitJobsPerUser of QOS capped: 7"),
        ({"max_submit": 5}, 2, "max_submit of the profile: 5"),
        ({"max_submit": 2}, 0, "max_submit of the profile: 2"),
    ],
)
def test_the_tightest_limit_is_found_and_named(tmp_path, monkeypatch, profile, packs, limit):
    """Two jobs count for each limit, and one is kept for the report."""
    slurm_of(tmp_path, monkeypatch, sacctmgr=SACCTMGR, scontrol=SCONTROL, squeue=SQUEUE)
    found = free_slots(SLURM.model_copy(update=profile), Limits(1001, None))
    assert found
    assert (found.packs, found.limit) == (packs, limit)


def test_a_squeue_that_does_not_answer_with_a_queue_is_no_empty_queue(tmp_path, monkeypatch):
    portal = "echo please use our portal"
    slurm_of(tmp_path, monkeypatch, sacctmgr=SACCTMGR, scontrol=SCONTROL, squeue=portal)
    with pytest.raises(SchedulerError, match=r"^squeue answered 'please use our portal'$"):
        free_slots(SLURM, Limits(1001, None))


def test_limits_that_the_cluster_does_not_enforce_or_tell_do_not_count(tmp_path, monkeypatch):
    slurm_of(tmp_path, monkeypatch, sacctmgr=SACCTMGR, scontrol="echo AccountingStorageEnforce = none", squeue=":")
    assert free_slots(SLURM, Limits(1001, None)) is None
    slurm_of(tmp_path, monkeypatch, sacctmgr="exit 1", scontrol=SCONTROL)
    assert free_slots(SLURM, Limits(1001, None)) is None


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        ("QOSMaxSubmitJobPerUserLimit", "of your account or QOS"),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", "set `max_submit`"),
        ("Resource temporarily unavailable", "MaxJobCount"),
        ("Slurm temporarily unable to accept job, sleeping and retrying", "MaxJobCount"),
    ],
)
def test_a_refusal_for_too_many_jobs_names_max_submit(refusal, says):
    message = str(explained(SchedulerError(refusal)))
    assert says in message
    assert message.startswith(refusal)
    assert "\n" not in message


def test_other_refusals_stay_as_they_are():
    refusal = SchedulerError("Invalid partition name specified")
    assert explained(refusal) is refusal


def test_a_report_job_is_cancelled_with_the_last_jobs_of_its_submission_or_if_it_can_never_start(tmp_path):
    one, two = (new(tmp_path / name, SLURM, tmp_path, [2], packs=["a", "b"]) for name in ("one", "two"))
    assert one.report_job
    assert two.report_job
    tasks = {i: QueuedJob("pending", job="1", index=i) for i in range(2)}
    report, stuck = (
        QueuedJob("pending", "Dependency", job="2"),
        QueuedJob("pending", "DependencyNeverSatisfied", job="4"),
    )
    queued = {one.arrays[0].name: tasks, one.report_job.name: {0: report}, two.report_job.name: {0: stuck}}
    assert report_jobs([one, two], queued, {tasks[0]}) == {stuck}
    assert report_jobs([one, two], queued, set(tasks.values())) == {report, stuck}
    del queued[one.arrays[0].name]
    assert report_jobs([one, two], queued, set()) == {stuck}, "all its jobs have ended: it is about to start"


def test_what_is_waited_for_is_told_and_what_is_quick_is_not(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(waiting, "hook", lines.append)
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.05)
    with waiting.waiting("squeue"):
        end = time.monotonic() + 10
        while not lines and time.monotonic() < end:
            time.sleep(0.01)
    assert lines[0] == "waiting for squeue (0 s) ..."
    assert waiting.FIRST_SECONDS < 5
    lines.clear()
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 3600)
    with waiting.waiting("squeue"):
        pass
    assert lines == []


def test_without_a_terminal_a_question_is_one_line_and_code_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    console.confirm("Cancel 1 pack?", yes=True)
    with pytest.raises(typer.Exit) as ended:
        console.confirm("Cancel 1 pack?", yes=False)
    assert ended.value.exit_code == 2
    said = capsys.readouterr().err
    assert said == "Cancel 1 pack? Add -y to confirm: there is no terminal to answer on. Nothing was done.\n"


SACCT = """a line that the site's wrapper prints
4_0|REQUEUED|100|00:30:00|500M||1|1
4_0.batch|CANCELLED|100|||310.5M|1|1
4_0|COMPLETED|50|00:30:00|500M||1|1
4_0.batch|COMPLETED|50|||210M|1|1
4_1|OUT_OF_MEMORY|7|UNLIMITED|2Gc||1|4
4_1.batch|OUT_OF_MEMORY|7||||1|4
4_[2-3]|PENDING|0|00:30:00|500M||1|1
5|COMPLETED|9|1-00:00:00|3Gn||1|1"""


def test_sacct_s_lines_become_the_use_of_each_task_over_its_attempts():
    assert parse(SACCT) == {
        ("4", 0): Used(150.0, 1800.0, 310.5, 500.0, False),
        ("4", 1): Used(7.0, None, None, 8192.0, True),
        ("5", 0): Used(9.0, 86400.0, None, 3072.0, False),
    }
    assert parse("") == {}


def test_a_proposed_memory_is_a_value_that_a_profile_takes():
    for amount, text in ((1, "100M"), (901, "1000M"), (1001, "1G"), (1025, "2G"), (3000, "3G")):
        assert memory(amount) == text
        assert Profile(name="cluster", scheduler="slurm", memory=text).memory == text


@pytest.mark.parametrize(
    ("seconds", "text", "minutes"),
    [(1, "0:05:00", 5), (300, "0:05:00", 5), (301, "0:10:00", 10), (3600, "1:00:00", 60), (90_000, "25:00:00", 1500)],
)
def test_a_proposed_time_is_a_value_that_a_profile_takes_and_its_unit_is_clear(seconds, text, minutes, tmp_path):
    assert time_limit(seconds) == text
    (tmp_path / "cluster.yaml").write_text(f'scheduler: slurm\ntime: "{text}"\n')
    assert load_profile(str(tmp_path / "cluster.yaml")).time == minutes


def test_usage_proposes_memory_and_time_as_a_profile_is_written(tmp_path, capsys):
    pack = PackStatus(PackFolder(tmp_path / "sweep" / "packs" / "a"), ["r"], {"r": {"status": "done"}}, {})
    board = SweepStatus(tmp_path / "sweep", "", [], {"a": pack}, [])
    found = Usage({"a": Used(seconds=60.0, megabytes=300.0)}, "accounting (sacct)")
    assert usage_json(board, found)["proposal"] == proposal(board, found) == {"memory": "400M", "time": "0:05:00"}
    print_usage(board, found)
    assert 'memory: 400M, time: "0:05:00"' in capsys.readouterr().out
