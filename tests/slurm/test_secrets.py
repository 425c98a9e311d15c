"""The values of a profile never become code, and its secrets stand only in files that their user alone can read."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import main
from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from slurm import submit
from slurm.backend import SchedulerError
from slurm.cluster import script
from slurm.local.supervisor import alive
from slurm.profile import STORAGE_VARIABLE, Profile
from slurm.submissions.submission import JobArray, Submission, new, read, setup
from slurm.submit import submit_workers
from tests.fake_secrets import fake

NAME = fake("MY¦_TOKEN")
VALUE = 'it\'s a "secret"\n$(touch PWNED)`touch PWNED`\\;touch PWNED'
PRINT = [sys.executable, "-c", "import os; print(ascii(os.environ['MY_TOKEN']))"]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def submission(folder: Path, **profile: object) -> Submission:
    """A submission of one worker that prints the variable MY_TOKEN."""
    folder.mkdir(parents=True)
    loaded = Profile.model_validate({"name": "x", "scheduler": "slurm", "environment": {NAME: VALUE}, **profile})
    made = new(folder, loaded, folder, [1], command=PRINT, workers=1)
    (made.folder / "logs").mkdir(parents=True)
    return made


def text(made: Submission) -> str:
    request = made.arrays[0]
    return script.executor(made, request).text(script.array_body(made, request))


def test_the_script_of_a_job_runs_no_value_as_code_and_gets_every_variable(tmp_path):
    evil = "a'b\"c $(touch PWNED) `touch PWNED`; touch PWNED #"
    made = submission(tmp_path / "a b'c;%j", sbatch={"comment": evil, "exclude": evil}, partition=evil, account=evil)
    made.arrays[0].name = f"{evil}%"
    made.write()
    written = tmp_path / "script.sh"
    written.write_text(text(made))
    subprocess.run(["bash", "-n", written], check=True)
    job = {"SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "0", "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", written], cwd=tmp_path, env=job, capture_output=True, text=True)
    assert done.stdout == f"{VALUE!a}\n", done.stderr
    assert not list(tmp_path.rglob("PWNED"))
    assert "a b'\"'\"'c;%%j/submissions/1/logs/%A_%a.log" in written.read_text()


def test_a_path_with_a_line_break_is_refused_because_its_second_line_would_be_a_command(tmp_path):
    made = submission(tmp_path / "a\ntouch PWNED\n#")
    with pytest.raises(SchedulerError, match=r"sbatch accepts no path with a line break") as refused:
        text(made)
    assert "\n" not in str(refused.value)


def test_a_record_has_the_names_of_variables_and_a_file_of_mode_600_the_values(tmp_path):
    made = submission(tmp_path / "sweep")
    made.write()
    assert "secret" not in text(made)
    record = made.folder / "submission.json"
    assert "secret" not in record.read_text()
    assert json.loads(record.read_text())["environment"] == ["MY_TOKEN"]
    assert [mode(record), mode(made.folder / "environment.sh")] == [0o600, 0o600]
    again = read(made.folder)
    assert again.whole_profile() == made.profile
    assert setup(again) == setup(made)
    again.write()
    assert read(made.folder).whole_profile() == made.profile
    (made.folder / "environment.sh").unlink()
    with pytest.raises(RecordError, match=r"environment.sh: .*it has the values of MY_TOKEN; use --profile$"):
        read(made.folder).whole_profile()


def test_a_record_of_an_older_version_is_read_and_becomes_private_when_it_is_written(tmp_path):
    made = submission(tmp_path / "sweep")
    old = json.loads(made.model_dump_json())
    old["profile"]["environment"][STORAGE_VARIABLE] = "x"
    del old["environment"]
    (made.folder / "submission.json").write_text(json.dumps(old))
    again = read(made.folder)
    assert again.whole_profile().environment == {NAME: VALUE, STORAGE_VARIABLE: "x"}
    again.write()
    assert "secret" not in (made.folder / "submission.json").read_text()
    assert mode(made.folder / "submission.json") == 0o600
    assert read(made.folder).whole_profile() == again.profile


def test_a_secret_of_a_local_profile_reaches_the_processes_but_no_argument_and_no_readable_file(tmp_path):
    words = [sys.executable, "-c", "import os, time; print(ascii(os.environ['MY_TOKEN'])); time.sleep(1)"]
    line = fake("export WANDB¦_API_KEY=S3CRET")
    profile = Profile(name="here", scheduler="local", environment={NAME: VALUE}, setup=[f"sleep 0.3; {line}"])
    seen = ""
    submitting = threading.Thread(target=submit_workers, args=(profile, words, 1, tmp_path / "search"))
    submitting.start()
    folder = tmp_path / "search" / "submissions" / "1"
    while submitting.is_alive() or alive(read(folder)):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen += path.read_text(errors="replace")
            except OSError:
                continue
        time.sleep(0.02)
    assert (folder / "logs" / "worker-0.log").read_text() == f"{VALUE!a}\n"
    assert str(folder) in seen
    assert "it's a" not in seen
    assert "S3CRET" not in seen
    readable = [path for path in folder.iterdir() if path.is_file() and mode(path) != 0o600]
    assert not any(word in path.read_text() for path in readable for word in ("it's a", "S3CRET"))
    assert mode(folder / "logs") == 0o700


def test_jobs_that_would_not_get_the_storage_are_not_submitted(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORER_STORAGE", fake("postgresql¦://me:S3CRET@h/db"))
    profile = Profile(name="site", scheduler="slurm", sbatch={"export": "NONE"})
    with pytest.raises(
        SchedulerError, match=r"^profile site: sbatch.export: with NONE, jobs do not get SCORER_STORAGE"
    ):
        submit_workers(profile, ["true"], 1, tmp_path / "search")


def test_the_script_that_sbatch_gets_is_private(tmp_path, monkeypatch):
    made = submission(tmp_path / "sweep", setup=[fake("export WANDB¦_API_KEY=S3CRET")])
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(f'#!/bin/sh\nstat -c %a "$2" > {tmp_path}/mode\necho 7\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    made.arrays[0].job = script.executor(made, JobArray(name="x")).send("true")
    assert (tmp_path / "mode").read_text() == "600\n"
    assert not any(mode(path) & 0o077 for path in made.folder.glob("*.sh"))


def test_the_key_of_wandb_reaches_jobs_only_if_the_profile_sets_it(tmp_path, monkeypatch):
    made = submission(tmp_path / "sweep")
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\necho 7\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    key = fake("WANDB¦_API_KEY")
    monkeypatch.setenv(key, "S3CRET")
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    made.write()
    made.arrays[0].job = script.executor(made, JobArray(name="x")).send("true")
    environment = (tmp_path / "environment").read_text()
    assert "WANDB_ENTITY=lab" in environment
    assert "S3CRET" not in environment
    assert not any("S3CRET" in path.read_text() for path in made.folder.rglob("*") if path.is_file())
    mine = submission(tmp_path / "mine", environment={key: "other"})
    mine.write()
    assert f"export {key}=other" in (mine.folder / "environment.sh").read_text()


def test_resume_takes_the_values_from_the_private_file(tmp_path):
    made = submission(tmp_path / "sweep")
    made.write()
    again = new(tmp_path / "sweep", read(made.folder).whole_profile(), tmp_path, [1], command=PRINT, workers=1)
    assert again.folder.name == "2"
    again.write()
    assert read(again.folder).whole_profile().environment == {NAME: VALUE}
    assert submit.submissions(tmp_path / "sweep")[1].environment == ["MY_TOKEN"]


def call(*words: object) -> str:
    """What a command prints."""
    done = CliRunner().invoke(main.make_app(), [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_dry_run_shows_no_secret_and_names_the_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nosuch")  # where there is no Slurm
    profile, definition = tmp_path / "site.yaml", tmp_path / "mine.yaml"
    profile.write_text(
        fake(
            "scheduler: slurm\n"
            "environment: {MY¦_TOKEN: S3CRET}\n"
            "setup: ['export WANDB¦_API_KEY=S3CRET', module load cuda]\n"
            "sbatch: {export: 'ALL,HF¦_TOKEN=S3CRET', comment: 'postgresql¦://me:S3CRET@host/db'}\n"
        )
    )
    definition.write_text("name: mine\nquestion: '?'\ntasks: [CartPole-v1]\ntotal_steps: 800\nseeds: 1\n")
    shown = call("submit", definition, "--profile", profile, "--outputs", tmp_path / "outputs", "--dry-run")
    assert "S3CRET" not in shown
    assert "module load cuda" in shown
    assert "environment.sh, which only you can read, sets MY_TOKEN." in shown


def test_logs_shows_no_secret(tmp_path):
    pack = PackFolder.create(tmp_path / "mine" / "packs", [RunConfig(task="CartPole-v1", total_steps=800)])
    (pack.new_attempt() / "stdout.log").write_text(fake("step 1\nlogin with HF¦_TOKEN=S3CRET\n"))
    shown = call("logs", pack.pack_id, "--outputs", tmp_path)
    assert "step 1" in shown
    assert "login with HF_TOKEN=***" in shown
