"""The commands on the `local` profile, with real processes: the same as on a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from cli import resubmit
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder
from slurm.local import supervisor as local
from slurm.submissions.submission import submissions
from tests.slurm.test_job import wait_for

ROOT = Path(__file__).parent.parent.parent
SWEEP: dict[str, Any] = {
    "name": "mine", "question": "Does the tool work?", "tasks": ["CartPole-v1"], "total_steps": 800, "seeds": 2,
    "base": {"num_envs": 8, "update_every": 8, "learning_starts": 100, "batch_size": 8, "replay_size": 400,
             "phi_widths": [8], "theta_widths": [8], "log_points": 10},
    "baseline": "dqn", "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}},
}  # fmt: skip
LONG = ("-s", "total_steps=300000")


class Place:
    def __init__(self, folder: Path, **profile: Any):
        self.folder, self.outputs = folder, folder / "outputs"
        self.definition, self.profile = folder / "mine.yaml", folder / "here.yaml"
        self.definition.write_text(yaml.safe_dump(SWEEP))
        content = {"scheduler": "local", "processes": 2, "lanes": 2, "device": "cpu", "commit_seconds": 0.5, **profile}
        self.profile.write_text(yaml.safe_dump(content))

    def call(self, *words: object, code: int = 0) -> str:
        """What a command prints, errors included; it must end with `code` and never in a traceback."""
        command = [sys.executable, "-m", "cli.main", *map(str, words), "--outputs", str(self.outputs)]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, stdin=subprocess.DEVNULL)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def submit(self, *words: object, code: int = 0) -> str:
        return self.call("submit", self.definition, "--profile", self.profile, *words, code=code)

    def status(self, *words: object) -> dict[str, Any]:
        return json.loads(self.call("status", "mine", "--json", *words))

    @property
    def packs(self) -> list[PackFolder]:
        return pack_folders(self.outputs / "mine" / "packs")

    def training(self) -> int:
        return sum(pack.state().get("phase") == "training" for pack in self.packs)


@pytest.fixture
def place(tmp_path):
    """A folder to work in; whatever was started there ends with the test."""
    place = Place(tmp_path)
    yield place
    for sweep in place.outputs.glob("*/"):
        for submission in submissions(sweep):
            if local.alive(submission):
                os.kill(supervisor(place, submission.name, sweep.name), signal.SIGTERM)
                wait_for(lambda submission=submission: not local.alive(submission))


def supervisor(place: Place, submission: str, sweep: str = "mine") -> int:
    """The process that looks after a submission."""
    folder = str(place.outputs / sweep / "submissions" / submission)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "slurm.local.supervisor" in words and folder in words:
            return int(path.parent.name)
    raise AssertionError(f"nothing looks after {folder}")


class Ended(NamedTuple):
    """A place whose sweep has ended, and what `submit` said the first and the second time. Tests do not change it."""

    place: Place
    first: str
    second: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Ended:
    place = Place(tmp_path_factory.mktemp("ended"))
    said = place.submit(), place.submit()
    wait_for(lambda: (place.outputs / "mine" / "submissions" / "missing.json").exists())
    return Ended(place, *said)


def test_a_rehearsal_writes_nothing(place):
    assert "To submit: 2 packs, 4 runs." in place.submit("--dry-run")
    assert not place.outputs.exists()


def test_submit_returns_at_once_and_the_sweep_ends_in_a_report(ended):
    place = ended.place
    assert "2 packs submitted" in ended.first
    assert "Already running or pending: 2 packs." in ended.second
    assert len(submissions(place.outputs / "mine")) == 1
    assert place.status()["counts"] == {"done": 4}
    shown = place.call("status", "mine")
    assert "The report was drawn" in shown
    assert "with all runs" in shown
    assert (place.outputs / "mine" / "report" / "report.html").exists()
    assert "To submit: 0 packs, 0 runs." in place.submit()
    assert "To submit: 2 packs, 2 runs." in place.submit("-s", "seeds=3", "--dry-run"), "only the new seed is missing"
    assert "To submit: 1 pack, 1 run." in place.submit("-s", "seeds=3", "--dry-run", "--variant", "dqn")


@pytest.mark.slow
def test_cancel_stops_what_is_named_resume_goes_on_and_logs_tell(place):
    place.submit(*LONG)
    wait_for(lambda: place.training() == 2)
    assert place.status()["counts"] == {"running": 4}
    assert "1 pack with 2 runs" in place.call("cancel", "mine", "--variant", "scorer", code=2), "it asks"
    assert place.status()["counts"] == {"running": 4}
    assert "1 pack cancelled" in place.call("cancel", "mine", "--variant", "scorer", "-y")
    wait_for(lambda: place.status()["counts"] == {"running": 2, "cancelled": 2})
    assert place.status("--state", "cancelled")["runs"].keys() == place.status("--variant", "scorer")["runs"].keys()
    assert "cancelled pack. Resubmit with" in place.submit(*LONG)
    cancelled = next(pack for pack in place.packs if pack.cancelled)
    stopped_at = cancelled.committed_step()
    assert stopped_at > 0
    assert "1 pack submitted" in place.call("resume", "mine", "-y")
    wait_for(lambda: cancelled.state().get("attempt") == 2 and cancelled.state()["phase"] == "training")
    assert cancelled.state()["step"] >= stopped_at
    assert place.status()["counts"] == {"running": 4}
    cancelled.path.joinpath("attempts/2/stderr.log").write_text("a word\n")
    assert "a word" in place.call("logs", cancelled.pack_id[:6])
    assert "a word" in place.call("logs", f"mine/{cancelled.run_ids()[0]}", "--attempt", 2)
    assert "has no attempt 7" in place.call("logs", cancelled.pack_id, "--attempt", 7, code=1)
    assert "no such pack or run" in place.call("logs", "zzz", code=1)


def _go_on(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


@pytest.mark.slow
def test_resume_waits_until_a_cancelled_pack_has_stopped_and_then_submits_it(place, call, monkeypatch, request):
    place.submit(*LONG, "--variant", "scorer")
    wait_for(lambda: place.training() == 1)
    (pack,) = place.packs
    process = pack.state()["pid"]
    os.kill(process, signal.SIGSTOP)  # it takes long to stop
    request.addfinalizer(lambda: _go_on(process))
    place.call("cancel", "mine", "-y")
    assert place.status()["packs"][pack.pack_id]["state"] == "running"
    assert f"running pack {pack.pack_id} (2 runs): stopping: cancelled" in place.call("status", "mine")
    monkeypatch.setattr(resubmit, "STOP_PATIENCE_SECONDS", 0.1)
    for words in (("resume", "mine", "-y"), ("retry", "mine", "--state", "cancelled")):
        message = "Skipped 1 cancelled pack still stopping; run this command again later\n"
        code, _, complaint = call(*words, "--outputs", place.outputs)
        assert (code, complaint) == (1, message)
    command = [sys.executable, "-m", "cli.main", "resume", "mine", "-y", "--outputs", str(place.outputs)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as resume:
        assert resume.stderr
        line = resume.stderr.readline()
        os.kill(process, signal.SIGCONT)
        said, _ = resume.communicate()
    assert line.startswith("waiting for packs that were cancelled to stop")
    assert resume.returncode == 0, said
    assert "1 pack submitted" in said
    wait_for(lambda: pack.state().get("attempt") == 2 and pack.state()["phase"] == "training")


def test_a_pack_that_waits_for_a_process_leaves_the_queue_when_it_is_cancelled(place):
    place = Place(place.folder, processes=1)
    place.submit(*LONG)
    wait_for(lambda: place.training() == 1)
    assert place.status()["counts"] == {"running": 2, "pending": 2}
    assert "1 pack cancelled" in place.call("cancel", "mine", "--state", "pending", "-y")
    wait_for(lambda: "pending" not in place.status()["counts"])
    assert place.status()["counts"] == {"running": 2, "cancelled": 2}
    place.call("cancel", "mine", "-y")
    (submission,) = submissions(place.outputs / "mine")
    wait_for(lambda: not local.alive(submission))
    assert (submission.folder / "logs" / "supervisor.log").read_text() == "", "it draws no report of nothing"
    assert "report" not in place.call("status", "mine")


@pytest.mark.slow
def test_jobs_of_a_renamed_sweep_stop_and_make_no_new_folder_and_resume_goes_on_there(place):
    place = Place(place.folder, processes=1)
    place.submit(*LONG)
    wait_for(lambda: any(pack.committed_step() for pack in place.packs))
    (pack,) = (pack for pack in place.packs if pack.committed_step())
    process, watching = pack.state()["pid"], supervisor(place, "1")
    renamed = place.outputs / "renamed"
    (place.outputs / "mine").rename(renamed)
    moved = PackFolder(renamed / "packs" / pack.pack_id)
    committed = moved.committed_step()
    wait_for(lambda: not Path(f"/proc/{process}").exists() and not Path(f"/proc/{watching}").exists())
    assert not (place.outputs / "mine" / "packs").exists(), "numba may write its cache of compiled code there"
    assert moved.committed_step() >= committed > 0
    (line,) = (moved.attempts()[-1].joinpath("stderr.log")).read_text().splitlines()
    assert line.startswith(f"{pack.path}: this folder, or the lock in it, was moved or removed")
    log = (renamed / "submissions" / "1" / "logs" / "supervisor.log").read_text()
    assert "submissions/1: this folder, or the lock in it, was moved or removed" in log
    assert "Traceback" not in log
    wait_for(lambda: json.loads(place.call("status", "renamed", "--json"))["counts"] == {"lost": 4})
    assert "2 packs submitted" in place.call("resume", "renamed", "-y")
    wait_for(lambda: moved.state().get("attempt") == 2 and moved.state()["phase"] == "training")
    assert moved.state()["step"] >= committed


@pytest.mark.slow
def test_a_pack_that_is_killed_is_started_again_and_the_supervisor_s_death_loses_nothing(place):
    place.submit(*LONG)
    wait_for(lambda: place.training() == 2 and all(pack.committed_step() for pack in place.packs))
    pack = place.packs[0]
    os.kill(pack.state()["pid"], signal.SIGKILL)
    wait_for(lambda: pack.state().get("attempt") == 2 and pack.state()["phase"] == "training")
    os.kill(supervisor(place, "1"), signal.SIGKILL)
    wait_for(lambda: {pack.state()["phase"] for pack in place.packs} == {"interrupted"})
    committed = [pack.committed_step() for pack in place.packs]
    assert place.status()["counts"] == {"lost": 4}
    assert "stopped by a signal at step" in place.call("status", "mine")
    assert "2 packs submitted" in place.call("resume", "mine", "-y")
    wait_for(lambda: place.training() == 2)
    assert [pack.state()["starts"] for pack in place.packs] == [[step] for step in committed]


@pytest.mark.slow
def test_a_sweep_that_an_older_version_submitted_is_resumed_with_the_current_code(place):
    place.submit(*LONG, "--variant", "scorer")
    (pack,) = place.packs
    wait_for(lambda: pack.committed_step() > 0)
    place.call("cancel", "mine", "-y")
    (submission,) = submissions(place.outputs / "mine")
    wait_for(lambda: not local.alive(submission))
    submission.code = submission.code.rename(submission.code.with_name("0" * 16))
    shutil.rmtree(submission.code / "slurm" / "jobs")  # as in version 0.1
    (submission.code / "slurm" / "job.py").write_text("raise SystemExit('not of this version')")
    submission.write()
    committed = pack.committed_step()
    shown = place.call("resume", "mine", "-y")
    assert "1 pack continues with the current code: this version of scorer cannot start the older version" in shown
    assert "1 pack submitted" in shown
    wait_for(lambda: pack.state().get("attempt") == 2 and pack.state()["phase"] == "training")
    assert pack.state()["step"] >= committed > 0
    older, newer = submissions(place.outputs / "mine")
    assert older == submission
    assert (newer.code / "slurm" / "jobs" / "train_pack.py").exists()


@pytest.mark.slow
def test_what_failed_is_left_alone_until_it_is_retried(place):
    missing = place.outputs / "mine" / "submissions" / "missing.json"  # the last that a submission writes
    plan = json.loads(place.call("plan", place.definition, "--json"))
    broken = place.outputs / "mine" / "packs" / plan["packs"][0]["pack_id"] / "metrics"
    broken.parent.mkdir(parents=True)
    broken.write_text("a file where the metrics should go")
    place.submit()
    wait_for(missing.exists)
    assert place.status()["counts"] == {"failed": 2, "done": 2}
    assert {run["state"] for run in json.loads(missing.read_text())["runs"].values()} == {"failed"}
    shown = place.call("status", "mine")
    assert "metrics" in shown
    assert "without 2 unfinished runs" in shown
    assert "failed pack. Resubmit with" in place.submit()
    assert "To submit: 0 packs" in place.submit()
    broken.unlink()
    assert "1 pack submitted" in place.call("retry", "mine", "--failed")
    wait_for(lambda: place.status()["counts"] == {"done": 4})


def test_clean_removes_what_no_one_needs_and_with_a_filter_whole_packs(place, ended):
    shutil.copytree(ended.place.outputs, place.outputs)
    (submission,) = submissions(place.outputs / "mine")
    submission.code = place.outputs / "mine" / "code" / submission.code.name
    submission.write()
    pack = place.packs[0]
    old, stray, code = pack.path / "attempts" / "0", pack.path / ".state.json.1234.tmp", place.outputs / "mine/code/old"
    for folder in (old, code):
        folder.mkdir()
        (folder / "file").write_text("x")
    stray.write_text("x")
    table, kept = pack.parts(), submission.code
    place.call("clean", "mine", code=2)
    assert stray.exists(), "it asks"
    assert "3 files deleted" in place.call("clean", "mine", "-y")
    assert [path for path in (old, stray, code) if path.exists()] == []
    assert pack.parts() == table
    assert kept.exists()
    assert "Nothing to delete" in place.call("clean", "mine", "-y")
    place.call("clean", "mine", "--variant", "dqn", "-y")
    assert place.status()["counts"] == {"missing": 2, "done": 2}


@pytest.mark.slow
def test_jobs_run_the_code_that_was_submitted(place, tmp_path):
    """The same tool from a copy of its tree, edited after it was submitted from."""
    tree = tmp_path / "tree"
    for package in ("cli", "scorer_core", "sweeps", "slurm", "analysis"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "cli.main", "submit", str(place.definition), "--profile", str(place.profile)]
    subprocess.run([*command, "--outputs", str(place.outputs), "--dry-run"], cwd=tree, check=True, capture_output=True)
    subprocess.run([*command, "--outputs", str(place.outputs)], cwd=tree, check=True, capture_output=True)
    (tree / "scorer_core" / "train.py").write_text("raise SystemExit('edited after submission')")
    (tree / "slurm" / "jobs" / "train_pack.py").write_text("raise SystemExit('edited after submission')")
    wait_for(lambda: place.status()["counts"] == {"done": 4})
    argv = place.packs[0].provenance()["argv"]
    assert argv[0].startswith(str(place.outputs / "mine" / "code")), argv


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", "mine.yaml", "--profile", "nosuch"), "profile nosuch: not found; available: local, slurm-example"),
        (("submit", "mine.yaml", "--profile", "bad.yaml"), "bad.yaml: cpu: unknown key"),
        (("submit", "mine.yaml", "--profile", "here.yaml", "-s", "seeds=0"), "seeds: at least one seed is needed"),
        (("submit", "mine.yaml", "--profile", "here.yaml", "--seed", "few"), "--seed few: is neither a number nor a"),
        (("submit", "mine.yaml"), "Missing option '--profile'"),
        (
            ("status", "mine", "--state", "finished"),
            "--state finished: unknown state; choose from: done, diverged, running",
        ),
    ],
)
def test_a_mistake_is_said_and_nothing_is_submitted(place, words, message):
    (place.folder / "bad.yaml").write_text("scheduler: local\ncpu: 2\n")
    placed = [place.folder / word if word.endswith(".yaml") else word for word in words]
    (place.outputs / "mine").mkdir(parents=True)
    (place.outputs / "mine" / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    assert message in place.call(*placed, code=2)
    assert not (place.outputs / "mine" / "submissions").exists()


def test_a_sweep_that_was_never_submitted_is_said_to_be_so(place):
    assert "mine: not a file, not a built-in sweep, and not a sweep in" in place.call("status", "mine", code=2)
    assert "nothing was submitted here" in place.call("cancel", place.definition, "-y", code=1)


def test_a_setup_line_that_fails_is_said_at_once(place):
    content = yaml.safe_load(place.profile.read_text()) | {"setup": ["echo no such module >&2; exit 3"]}
    place.profile.write_text(yaml.safe_dump(content))
    assert "Nothing was submitted: the process that starts the packs did not start: no such module" in place.submit(
        code=1
    )
