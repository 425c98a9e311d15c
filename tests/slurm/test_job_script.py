"""The environment of a job, and the lines of `setup`, in real shells."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm.backend import SchedulerError
from slurm.cluster.script import LISTEN, array_body, job_command
from slurm.local import supervisor as local
from slurm.profile import Profile
from slurm.submissions import snapshot
from slurm.submissions.submission import JobArray, Submission, setup


def submission_of(code: Path, **profile: Any) -> Submission:
    return Submission(folder=code, profile=Profile(name="p", scheduler="slurm", **profile), code=code)


def in_job(submission: Submission, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`body` after the lines that come before it in each job."""
    lines = "\n".join([*setup(submission), body])
    variables = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        ["bash", "-c", lines], capture_output=True, text=True, env=variables, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> Path:
    """A snapshot that shows that it runs, in a folder that needs quotes."""
    kept = snapshot.save_snapshot(tmp_path_factory.mktemp("home of ann's 100%"))
    with (kept / "slurm" / "jobs" / "train_pack.py").open("a") as file:
        file.write("\nprint('SNAPSHOT')\n")
    text = (kept / "slurm" / "jobs" / "train_pack.py").read_text()
    (kept / "slurm" / "jobs" / "train_pack.py").write_text(
        text.replace("FINISHED, FAILED", "print('SNAPSHOT')\nFINISHED, FAILED", 1)
    )
    return kept


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONSAFEPATH": "1"},
        {"PYTHONPATH": str(snapshot.CODE_ROOT)},
        {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(snapshot.CODE_ROOT), "PYTHONHOME": "/nosuch", "PYTHONINSPECT": "1"},
    ],
)
def test_a_job_runs_the_snapshot_whatever_the_environment_says(code, environment):
    done = in_job(submission_of(code), f"{sys.executable} -m slurm.jobs.train_pack --help", **environment)
    assert (done.returncode, done.stdout[:8]) == (0, "SNAPSHOT"), done.stderr


def test_a_job_that_imports_other_code_than_was_submitted_ends_with_one_line(code, tmp_path):
    done = in_job(
        submission_of(code),
        f"cd {snapshot.CODE_ROOT}; export PYTHONPATH=; "
        f"exec {sys.executable} -m slurm.jobs.train_pack {tmp_path / 'pack'}",
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"this job runs the code in {snapshot.CODE_ROOT}, and {code} was submitted")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["echo SETUP; module load cuda/12.8"],
            "setup line 1 failed with exit code 127: echo SETUP; module load cuda/12.8",
        ),
        (["true", "source /nosuch"], "setup line 2 failed with exit code 1: source /nosuch"),
        (["for x in 1; do", "ls /nosuch", "done"], "setup line 2 failed with exit code 2: ls /nosuch"),
    ],
)
def test_a_setup_line_that_fails_ends_the_job(tmp_path, lines, message):
    done = in_job(submission_of(tmp_path, setup=lines), "echo TRAINS")
    assert done.returncode == 1
    assert "TRAINS" not in done.stdout
    assert done.stderr.splitlines()[-1] == message


def test_lines_of_setup_that_do_not_fail_do_not_end_the_job(tmp_path):
    (tmp_path / "activate").write_text("export ACTIVE=yes\n")
    lines = [
        "# a remark", "false || true", "if true; then", "  export X='a b'", "fi", f"source {tmp_path}/activate",
        "module() { export MODULE=$2; }", "module load cuda", "set -u",
    ]  # fmt: skip
    done = in_job(submission_of(tmp_path, setup=lines), 'echo "$X,$ACTIVE,$MODULE"')
    assert (done.returncode, done.stdout) == (0, "a b,yes,cuda\n"), done.stderr


def test_the_jobs_of_a_sweep_share_compiled_code(tmp_path):
    folder = tmp_path / "mine" / "submissions" / "1"
    submission = Submission(folder=folder, profile=Profile(name="p", scheduler="slurm"), code=tmp_path)
    command = job_command(submission)
    assert command[command.index("--compile-cache") + 1] == str(tmp_path / "mine" / "compiled")


def test_a_setup_line_that_fails_here_is_named_by_submit(tmp_path):
    submission = Submission(
        folder=tmp_path / "submissions" / "1", code=tmp_path,
        profile=Profile(name="here", scheduler="local", setup=["module load cuda"]),
    )  # fmt: skip
    submission.folder.mkdir(parents=True)
    with pytest.raises(SchedulerError, match="setup line 1 failed with exit code 127: module load cuda"):
        local.start(submission)


@pytest.mark.parametrize(
    ("scontrol", "calls"),
    [
        ("exit 0", ["requeue 7_2"]),
        ('[ "$(wc -l < calls)" -ge 2 ]', ["requeue 7_2"] * 2),
        ("kill -s TERM $PPID; exit 1", ["requeue 7_2"]),  # it was requeued: Slurm ends the job before it answers
    ],
)
def test_an_interrupted_job_requeues_itself_by_its_index_until_slurm_has_accepted(tmp_path, scontrol, calls):
    """The number alone, for the last task of an array, would requeue all its tasks."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> calls\n{scontrol}\n')
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    submission = Submission(
        folder=tmp_path, profile=Profile(name="p", scheduler="slurm"), code=tmp_path, command=["sh", "-c", "exit 75"]
    )
    body = "\n".join([LISTEN, array_body(submission, JobArray(name="a", first=0, count=3))])
    job = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(
        ["bash", "-c", body], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **job},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (75, "")
    assert (tmp_path / "calls").read_text().splitlines() == calls
