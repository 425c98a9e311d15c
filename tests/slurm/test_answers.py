"""What Slurm's commands and a job's log print, with what sites add to it; the commands are small scripts here."""

import os
import pwd
import signal

import pytest

from cli import logs
from scorer_core.records import PackFolder
from slurm import submit
from slurm.backend import SchedulerError, SubmissionUnknownError
from slurm.cluster import losses, scheduler
from slurm.cluster.script import job_number
from slurm.profile import Profile
from slurm.status import read_status
from slurm.submissions.submission import new, submissions
from sweeps.loading import parse
from sweeps.plan import Plan, make_plan
from tests.slurm.workplace import SMALL, says

TITLES = "scorer|ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|REASON|NODELIST|NAME"
ROW = "scorer|12|3|PENDING|Nodes required for job are DOWN|(null)|scorer-small-1-ab12cd-0"
SLURM = Profile(name="cluster", scheduler="slurm")


@pytest.mark.parametrize(
    "lines",
    [
        ["HELIOS: maintenance on 2026-12-01", TITLES, ROW],
        [TITLES, ROW, "Used 3|4|5|6|7|8 of 10000 hours", ""],
        ["CLUSTER: c1", TITLES, ROW],
        [f"no newline here: {TITLES}", f"nor here: {ROW}"],
        [ROW],  # a script of the site that adds --noheader
    ],
)
def test_lines_that_a_site_adds_to_squeue_are_skipped(commands, lines):
    commands("squeue", says(*lines))
    jobs = scheduler.queue()
    assert list(jobs) == ["scorer-small-1-ab12cd-0"]
    found = jobs["scorer-small-1-ab12cd-0"][3]
    assert (found.job, found.index, found.state) == ("12", 3, "pending")
    assert found.reason == "Nodes required for job are DOWN"
    assert sum(map(len, scheduler.queue().values())) == 1


def test_an_empty_queue_with_a_site_s_text_is_an_empty_queue(commands):
    commands("squeue", says("HELIOS: maintenance", TITLES))
    assert scheduler.queue() == {}
    assert sum(map(len, scheduler.queue().values())) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (says("please use our portal", "and not squeue"), "squeue answered 'please use our portal and not squeue'"),
        ("true", "squeue answered ''"),
        (says(TITLES, "scorer|what|is|this"), "squeue answered 'scorer|ARRAY_JOB_ID"),
        (says(TITLES) + "\necho 'squeue: error: Invalid user: nosuch' >&2", "Invalid user: nosuch"),
    ],
)
def test_what_is_not_understood_is_silence_and_no_empty_queue(commands, body, message):
    commands("squeue", body)
    with pytest.raises(SchedulerError) as raised:
        scheduler.queue()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_long_answer_that_is_not_understood_is_shown_with_its_beginning_and_its_end(commands):
    commands("squeue", says("HELIOS: " + "maintenance " * 100, "squeue: see https://helios/status"))
    with pytest.raises(
        SchedulerError, match=r"^squeue answered 'HELIOS: .* \.\.\. .*https://helios/status'$"
    ) as raised:
        scheduler.queue()
    assert len(str(raised.value)) < 300


def test_the_user_is_the_one_of_the_process_whatever_LOGNAME_says(commands, monkeypatch):  # noqa: N802
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "games")
    calls = [commands("squeue", says(TITLES)), commands("sacctmgr", "true")]
    commands("scontrol", says("MaxArraySize = 50"))
    scheduler.queue()
    scheduler.limits()
    assert f"--user={os.getuid()} " in calls[0].read_text()
    assert f"user={pwd.getpwuid(os.getuid()).pw_name} " in calls[1].read_text()


def test_lines_that_a_site_adds_to_accounting_are_skipped(commands):
    commands("scontrol", says("Welcome to HELIOS", "MaxArraySize            = 50"))
    commands("sacctmgr", says("HELIOS: hello", "lab|7", "a|b|c", "lab|"))
    assert scheduler.limits("lab") == scheduler.Limits(50, 7)
    commands(
        "sacct", says("hello", "12_3|CANCELLED by 0", "12_4|OUT_OF_MEMORY", "12_5|COMPLETED", "12_6|", "|", "a|b|c")
    )
    assert scheduler.final_states(["12"]) == {("12", 3): "cancelled", ("12", 4): "out of memory"}


def test_an_answer_in_another_locale_s_bytes_is_read(commands):
    commands("squeue", f"printf 'Wartung f\\374r alle\\n'\n{says(TITLES, ROW)}")
    assert len(scheduler.queue()) == 1


# --- sbatch ---


@pytest.mark.parametrize(
    "answer",
    ["17", "17;c1", "Dear user\n17\nYour project has used 3412 of 10000 core-hours.\n", "  17;c1  \r\nused 12\n"],
)
def test_the_number_of_a_job_is_the_first_line_of_its_form(answer):
    assert job_number(answer) == "17"


@pytest.mark.parametrize("answer", ["", "Submitted", "used 3412 of 10000\n", "job 17\n"])
def test_an_answer_without_a_number_is_not_known_and_no_refusal(answer):
    with pytest.raises(SubmissionUnknownError):
        job_number(answer)


@pytest.fixture
def planned(tmp_path) -> Plan:
    """One pack of two runs."""
    return make_plan(parse(SMALL | {"total_steps": 60_000}, "small.yaml"), tmp_path, 32)


def send(planned: Plan, profile: Profile = SLURM) -> submit.SubmitResult:
    planned.write()
    planned.folder.mkdir(exist_ok=True)
    (planned.folder / "sweep.yaml").touch()
    names = [pack.folder.pack_id for pack in planned.packs]
    submission = new(planned.folder.resolve(), profile, planned.folder, [len(names)], packs=names)
    return submit.start(submission, [])


def test_all_lines_of_a_refusal_are_shown(commands, planned):
    commands("sbatch", "cat >&2 <<'END'\nsbatch: error: ******\nsbatch: error: HELIOS: please name your project with "
             "--account=hl_XXXX\nsbatch: error: Batch job submission failed: Invalid account\nEND\nexit 1")  # fmt: skip
    with pytest.raises(SchedulerError) as raised:
        send(planned)
    assert str(raised.value) == (
        "HELIOS: please name your project with --account=hl_XXXX / Batch job submission failed: Invalid account"
    )


IN_QUEUE = f"""name=$(sed -n 's/^#SBATCH --job-name=//p' "{{bin}}"/../small/submissions/1/*-0.sh)
echo "{TITLES}"; echo "scorer|18|0|PENDING|Priority|(null)|$name\""""


@pytest.mark.parametrize(
    "body",
    [
        'echo "Thank you."',
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1',
        'echo "18"; echo "your quota is nearly used" >&2; exit 3',
        "kill -9 $$",
    ],
)
def test_where_sbatch_does_not_tell_the_job_is_found_by_its_name(commands, planned, tmp_path, body):
    calls = commands("sbatch", f"case $2 in *-report.sh) echo 19;; *) {body};; esac")
    commands("squeue", IN_QUEUE.format(bin=tmp_path / "bin"))
    sent = send(planned)
    assert (sent.packs, sent.refused) == (1, "")
    (submission,) = submissions(planned.folder)
    assert submission.arrays[0].job == "18"
    assert submission.report_job
    assert submission.report_job.job == "19", "the job that draws the report was submitted too"
    assert len(calls.read_text().splitlines()) == 2


@pytest.mark.parametrize("squeue", [says(TITLES), "exit 1"])
def test_where_squeue_does_not_have_it_either_it_is_not_known_whether_it_was_submitted(commands, planned, squeue):
    commands("sbatch", 'echo "Thank you."')
    commands("squeue", squeue)
    with pytest.raises(SubmissionUnknownError) as raised:
        send(planned)
    assert str(raised.value).startswith("it is not known whether scorer-small-1-")
    assert "was submitted (sbatch answered 'Thank you.')" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_sbatch_that_does_not_end_may_have_submitted(commands, planned, tmp_path, monkeypatch):
    monkeypatch.setattr("slurm.cluster.script.SBATCH_SECONDS", 0.2)
    commands("sbatch", "case $2 in *-report.sh) echo 19;; *) exec sleep 5;; esac")
    commands("squeue", IN_QUEUE.format(bin=tmp_path / "bin"))
    assert send(planned).submission.arrays[0].job == "18"


# After Ctrl-C, subprocess.run kills sbatch and does not wait for it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_ctrl_c_and_after_a_crash_the_array_s_number_is_taken_from_the_queue(commands, planned, tmp_path):
    commands("sbatch", "case $2 in *-report.sh) echo 19;; *) sleep 0.5; kill -INT $PPID; exec sleep 5;; esac")
    commands("squeue", IN_QUEUE.format(bin=tmp_path / "bin"))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of pytest-xdist ignores it
    try:
        sent = send(planned)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (sent.interrupted, sent.packs) == (True, 1)
    (submission,) = submissions(planned.folder)
    assert submission.arrays[0].job == "18"
    submission.arrays[0].job = None
    submission.write()
    assert submit.recover_job_ids(read_status(planned.folder)) == 1
    (submission,) = submissions(planned.folder)
    assert submission.report_job
    assert (submission.arrays[0].job, submission.report_job.job) == ("18", "19")
    script = (submission.folder / f"{submission.report_job.name}.sh").read_text()
    assert f"cd {planned.folder.resolve()}/code/" in script, "its own code has no command for the report"
    assert submission.code == planned.folder


# --- why a job was lost: lines of real logs ---

LOGS = {
    "slurmstepd: error: StepId=90.batch exceeded memory limit (320811008 > 272629760), being killed\n"
    "slurmstepd: error: *** JOB 90 ON n1 CANCELLED AT 2026-11-26T10:00:00 ***\n": ("exceeded memory limit", "`memory`"),
    "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.batch. Some of your processes may have been killed by "
    "the cgroup out-of-memory handler.\n": ("oom-kill event", "`memory`"),
    "SETUP\n/var/spool/slurmd/job108/slurm_script: line 22: module: command not found\n"
    "setup line 1 failed with exit code 127: module load cuda\n": ("setup line 1 failed", "`setup`"),
    "/var/spool/slurmd/job1/slurm_script: line 36: /home/ann/old env/bin/python: No such file or directory\n": (
        "/home/ann/old env/bin/python: No such file or directory", "Python"),
    "/var/spool/slurmd/job1/slurm_script: line 30: cd: /scratch/ann/code: No such file or directory\n": (
        "cd: /scratch/ann/code: No such file or directory", "folder"),
    "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-11-26T10:00:00 DUE TO TIME LIMIT ***\n": (
        "DUE TO TIME LIMIT", "`signal_seconds`"),
    "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-11-26T10:00:00 DUE TO PREEMPTION ***\n": (
        "JOB 12 ON n1 CANCELLED AT 2026-11-26T10:00:00 DUE TO PREEMPTION", ""),
    "x" * 100_000 + "\nslurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026 DUE TO NODE FAILURE ***\n": (
        "NODE FAILURE", ""),
}  # fmt: skip


@pytest.mark.parametrize("text", LOGS, ids=[line for line, _ in LOGS.values()])
def test_the_line_of_a_job_s_log_that_explains_a_loss_is_found(tmp_path, text):
    line, advice = LOGS[text]
    (tmp_path / "log").write_text(text)
    loss = losses.explain(tmp_path / "log")
    assert loss
    assert line in loss.line
    assert "slurmstepd" not in loss.line
    assert "slurm_script" not in loss.line
    assert advice in loss.advice
    assert bool(advice) == bool(loss.advice)


@pytest.fixture
def lost(commands, planned) -> PackFolder:
    """A pack whose job is gone: Slurm killed it for its memory."""
    commands("sbatch", "echo 18")
    commands("squeue", says(TITLES))
    submission = send(planned).submission
    submission.time = "2026-01-01T00:00:00+00:00"
    submission.write()
    (planned.folder / "sweep.yaml").unlink()
    log = submission.folder / "logs" / "18_0.log"
    log.write_text("slurmstepd: error: StepId=18.batch exceeded memory limit (32 > 27), being killed\n")
    return planned.packs[0].folder


@pytest.mark.parametrize("started", [False, True])
def test_status_quotes_why_a_pack_was_lost_and_what_to_change(lost, started):
    if started:
        lost.write_state(phase="starting", submission="1", time="2026-01-01T00:00:00+00:00", step=0)
        lost.write_state(phase="killed", submission="1", step=0)
    found = read_status(lost.path.parent.parent)
    pack = found.packs[lost.pack_id]
    assert pack.state == "lost"
    assert pack.note.endswith(": StepId=18.batch exceeded memory limit (32 > 27), being killed")
    (advice,) = found.advice
    assert advice.startswith("Set a larger `memory`")
    assert "scorer retry small --profile PROFILE" in advice, "no profile of this name can be found"


def test_status_says_what_it_means_that_a_lost_job_left_no_log(lost):
    (log,) = lost.path.parent.parent.glob("submissions/1/logs/18_0.log")
    log.unlink()
    found = read_status(lost.path.parent.parent)
    assert f"there is no {log.resolve()}: it was cancelled" in found.packs[lost.pack_id].note
    assert found.advice == []


def test_status_reads_the_logs_of_a_bounded_number_of_lost_packs(lost, monkeypatch):
    monkeypatch.setattr(losses, "MOST_LOGS", 0)
    assert "memory" not in read_status(lost.path.parent.parent).packs[lost.pack_id].note


def test_logs_show_the_job_s_own_log_next_to_the_attempt_s(lost, capsys):
    place = lost.new_attempt()
    (place / "stdout.log").write_text("importing torch\n")
    logs.print_logs(lost, None, follow=False)
    shown = capsys.readouterr().out
    assert "importing torch" in shown
    assert "exceeded memory limit" in shown
