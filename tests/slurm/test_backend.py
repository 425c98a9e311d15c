"""The protocol for where packs run: who implements it, who chooses, and records of earlier versions."""

import ast
import inspect
import json
import re
from pathlib import Path

import pytest

from scorer_core.records import PackFolder
from slurm.backend import Backend, Limits, backend_of, by_backend
from slurm.cluster.backend import SlurmBackend
from slurm.jobs import COMMAND_VERSION
from slurm.local.backend import LocalBackend
from slurm.profile import Profile
from slurm.submissions.submission import new, read

ROOT = Path(__file__).parent.parent.parent
PROFILES = {
    scheduler: Profile.model_validate({"name": "mine", "scheduler": scheduler}) for scheduler in ("slurm", "local")
}
BACKENDS = {"slurm": SlurmBackend, "local": LocalBackend}


@pytest.mark.parametrize("scheduler", BACKENDS)
def test_each_backend_has_the_attributes_and_the_signatures_of_the_protocol(scheduler):
    backend = backend_of(PROFILES[scheduler])
    assert isinstance(backend, BACKENDS[scheduler])
    assert backend_of(PROFILES[scheduler]) is backend
    for name in ("on_this_machine", "has_job_ids"):
        assert isinstance(getattr(backend, name), bool)
    for name, method in vars(Backend).items():
        if not name.startswith("_") and inspect.isfunction(method):
            assert inspect.signature(getattr(type(backend), name)) == inspect.signature(method), name


def test_no_file_but_the_one_that_chooses_the_backend_compares_the_scheduler_of_a_profile():
    for package in ("cli", "sweeps", "slurm", "analysis", "scorer_core", "tools"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Compare | ast.Match):
                    found = [part for part in ast.walk(node) if isinstance(part, ast.Attribute)]
                    assert not [part for part in found if part.attr == "scheduler"] or _is_table(node), path


def _is_table(node: ast.AST) -> bool:
    """Is it `name != self.scheduler`, by which a profile looks up the fields that it does not use?"""
    return ast.unparse(node) == "name != self.scheduler"


def test_submissions_are_grouped_by_where_they_run(tmp_path):
    sent = [new(tmp_path, PROFILES[name], tmp_path, [1]) for name in ("slurm", "local", "slurm")]
    groups = by_backend(sent)
    assert list(groups.values()) == [[sent[0], sent[2]], [sent[1]]]


def test_this_machine_accepts_any_number_of_packs_in_one_submission():
    limits = backend_of(PROFILES["local"]).limits(PROFILES["local"])
    assert limits.max_array_size > 10**6
    assert backend_of(PROFILES["local"]).free_slots(PROFILES["local"], Limits(1, 1)) is None


# --- earlier versions ---


def test_a_record_has_the_names_of_version_0_1_in_its_file_and_both_names_are_read(tmp_path):
    profile = Profile.model_validate({"name": "mine", "scheduler": "slurm", "report_job": {"partition": "cpu"}})
    submission = new(tmp_path, profile, tmp_path, [1], packs=["a"])
    submission.write()
    path = submission.folder / "submission.json"
    content = json.loads(path.read_text())
    assert content["requests"][0]["name"] == submission.arrays[0].name
    assert submission.report_job
    assert content["last"]["name"] == submission.report_job.name
    assert content["profile"]["finaliser"] == {"partition": "cpu"}
    assert read(submission.folder) == submission
    content["arrays"], content["report_job"] = content.pop("requests"), content.pop("last")
    content["profile"]["report_job"] = content["profile"].pop("finaliser")
    path.write_text(json.dumps(content))
    assert read(submission.folder) == submission


def test_the_state_of_an_attempt_of_version_0_1_belongs_to_its_submission(tmp_path):
    folder = PackFolder(tmp_path / "a")
    folder.path.mkdir()
    folder.write_state(series="2", starts=[0, 40])
    assert (folder.state()["submission"], folder.state()["starts"]) == ("2", [0, 40])


COMMANDS = {
    "slurm/jobs/train_pack.py": {
        "--device", "--commit-seconds", "--heartbeat-seconds", "--parent", "--submission", "--max-attempts", "--wait",
        "--record-kill", "--compile-cache", "--core-share",
    },
    "slurm/jobs/train_packs.py": {"--at-once", "--submission"},
    "slurm/jobs/draw_report.py": set(),
    "slurm/local/supervisor.py": set(),
}  # fmt: skip


def test_the_modules_and_options_that_jobs_are_started_with_are_those_of_the_command_version():
    """If this fails, increase COMMAND_VERSION, so that older snapshots are not started with the new options."""
    assert COMMAND_VERSION == 4
    for path, options in COMMANDS.items():
        source = (ROOT / path).read_text(encoding="utf-8")
        assert set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source)) == options
