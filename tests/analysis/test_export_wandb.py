"""Export to W&B with its real client: offline records, and a server on this machine (wandb_stub.py)."""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from analysis.exporters.marks import FOLDER
from scorer_core.support.locks import locked
from tests.analysis import wandb_records
from tests.analysis.exporting import (
    environment,
    export,
    files,
    half_trained,
    stored_rows,
    train_on,
    without_own,
)
from tests.analysis.synthetic import make_sweep
from tests.analysis.wandb_stub import KEY, Stub

WANDB = ("--to", "wandb")
SHORT = "between finish and mark"  # the others are slow
KILLED_AT = {
    "in the second run": ("analysis.exporters.wandb_runs", "_row", 15),
    SHORT: ("analysis.exporters.marks", "Marks.write", 2),
    "while a file is written": ("scorer_core.support.files", "os.replace", 3),
    "between two runs": ("analysis.exporters.wandb_runs", "WandbWriter.write", 3),
}


def sync(offline: Path, env: dict[str, str]) -> None:
    program = "from wandb.cli.cli import cli; cli()"
    command = [sys.executable, "-c", program, "sync", str(offline / "wandb")]
    done = subprocess.run(command, env=env, cwd=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_same(stub: Stub, folder: Path) -> None:
    """The server has each row of Parquet once."""
    stored = stored_rows(folder)
    assert stub.runs.keys() == stored.keys()
    for run_id, run in stub.runs.items():
        assert [row["_step"] for row in run.rows] == list(range(len(stored[run_id])))
        assert [without_own(row) for row in run.rows] == stored[run_id]


def test_an_offline_run_has_the_rows_of_parquet_and_is_described_as_cleanrl_describes_it(tmp_path):
    folder, offline = half_trained(tmp_path / "outputs"), tmp_path / "offline"
    train_on(folder, diverged=lambda run: run.variant.name == "scorer" and run.config.seed == 1)
    printed = export(folder, *WANDB, "--offline", offline, env=environment(tmp_path / "home"))
    assert "Exported 80 new rows of 4 runs." in printed
    assert f"wandb sync {offline / 'wandb'}" in printed
    assert not (folder.parent / "wandb").exists()
    stored, seen = stored_rows(folder), {}
    for part in (offline / "wandb").iterdir():
        assert sorted(path.name for path in part.iterdir()) == [f"run-{part.name[-16:]}.wandb", "scorer.json"]
        rows = wandb_records.history(part)
        assert [without_own(row) for row in rows] == stored[part.name[-16:]]
        assert "charts/episodic_return" not in rows[1]
        assert {"charts/episodic_return", "global_step", "losses/msbe", "diagnostics/srank"} <= rows[2].keys()
        seen[part.name[-16:]] = wandb_records.records(part)
    assert seen.keys() == stored.keys()
    for run_id, records in seen.items():
        (run,) = [record.run for record in records if record.HasField("run")]
        config = wandb_records.values(run.config.update)
        variant, seed = config["exp_name"], config["seed"]
        assert (config["env_id"], config["run_id"], config["sweep"]) == ("minatar/breakout", run_id, "synthetic")
        assert (run.run_id, run.project, run.resume) == (run_id, "synthetic", True)
        assert (run.run_group, run.job_type) == (f"synthetic/{variant}", "minatar/breakout")
        assert run.display_name == f"{variant}/minatar/breakout/{seed}"
        bad = (variant, seed) == ("scorer", 1)
        assert set(run.tags) == {"synthetic", "dqn", "c0ffee0123", "diverged" if bad else "done"}
        assert [record.exit.exit_code for record in records if record.HasField("exit")] == [int(bad)]
        summary = {}
        for record in records:
            summary |= wandb_records.values(record.summary.update)
        assert summary["status"] == ("diverged" if bad else "done")
        assert summary["verdicts"] == "none"
        assert {"final_score", "best_score", "auc_score"} <= summary.keys()


@pytest.mark.parametrize(
    "place",
    [pytest.param(place, marks=[pytest.mark.slow] if place != SHORT else []) for place in KILLED_AT],
)
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_killed_export_is_run_again_and_no_row_is_missing_or_doubled(tmp_path, mode, place):
    folder, offline = half_trained(tmp_path / "outputs"), tmp_path / "offline"
    with Stub() as stub:
        env = environment(tmp_path / "home", **stub.variables)
        words = (*WANDB, "--offline", offline) if mode == "offline" else WANDB
        export(folder, *words, env=env, killed=KILLED_AT[place])
        if mode == "offline":
            sync(offline, env)  # uploads what is whole
        export(folder, *words, env=env)
        train_on(folder)
        export(folder, *words, env=env)
        again = export(folder, *words, env=env)
        if mode == "offline":
            sync(offline, env)
            sync(offline, env)
        assert "Exported 0 new rows of 0 runs." in again
        assert_same(stub, folder)
        assert {run.exit_code for run in stub.runs.values()} == {0}
        assert all("done" in run.properties["tags"] for run in stub.runs.values())
        assert all(json.loads(run.summary)["status"] == "done" for run in stub.runs.values())


def test_a_server_that_refuses_at_first_gets_every_row_once(tmp_path):
    folder = half_trained(tmp_path / "outputs")
    with Stub() as stub:
        stub.failures = {"graphql": [500], "stream": [429, 500]}
        env = environment(tmp_path / "home", **stub.variables)
        export(folder, *WANDB, "--project", "mine", env=env)
        assert stub.failures == {"graphql": [], "stream": []}
        assert_same(stub, folder)
        assert {run.properties["project"] for run in stub.runs.values()} == {"mine"}
        assert {run.config["env_id"] for run in stub.runs.values()} == {"minatar/breakout"}


def test_the_api_key_is_in_nothing_that_is_written_or_printed(tmp_path):
    folder = half_trained(tmp_path / "outputs")
    with Stub() as stub:
        env = environment(tmp_path / "home", **stub.variables)
        printed = export(folder, *WANDB, env=env)
        printed += export(folder, *WANDB, "--project", "b", "--offline", tmp_path / "offline", env=env)
        assert stub.keys == {KEY}
    written = list(files(tmp_path))
    assert len(written) > 10
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in printed


def test_without_a_key_one_line_says_how_to_log_in(tmp_path):
    folder = half_trained(tmp_path / "outputs")
    command = [sys.executable, "-m", "cli.main", "export", str(folder), *WANDB]
    done = subprocess.run(command, env=environment(tmp_path / "home"), capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "W&B: no API key; log in once with: wandb login\n")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (PackageNotFoundError, "wandb is not installed. Install it with: pip install 'wandb>=0.31'\n"),
        ("0.30.2", "wandb 0.30.2 is too old: it doubles rows. Install a newer one with: pip install 'wandb>=0.31'\n"),
    ],
)
def test_a_missing_or_old_package_is_one_line_that_says_what_to_install(tmp_path, call, monkeypatch, found, message):
    def version(_: str) -> str:
        if isinstance(found, str):
            return found
        raise found

    monkeypatch.setattr("analysis.exporters.wandb_runs.version", version)
    folder = half_trained(tmp_path)
    assert call("export", folder, *WANDB, "--offline", tmp_path / "x") == (1, "", message)


def test_rows_of_one_project_go_offline_or_online_but_not_both_ways(tmp_path, call):
    folder, env = half_trained(tmp_path / "outputs"), environment(tmp_path / "home")
    export(folder, *WANDB, "--offline", tmp_path / "x", env=env)
    code, _, told = call("export", folder, *WANDB)
    assert code == 1
    assert re.fullmatch(r"\S+wandb-synthetic-\w+.json: earlier rows went to the offline folder .*\n", told)
    assert f"folder {tmp_path}/x " in told


def test_a_second_export_to_one_destination_at_the_same_time_is_refused(tmp_path, call):
    folder, env = half_trained(tmp_path / "outputs"), environment(tmp_path / "home")
    export(folder, *WANDB, "--offline", tmp_path / "x", env=env)
    (lock,) = (folder / FOLDER).glob("wandb-*.lock")
    with locked(lock):
        code, _, told = call("export", folder, *WANDB, "--offline", tmp_path / "x")
    assert (code, told.count("\n")) == (1, 1)
    assert "another export to this destination is running" in told


def test_two_sweeps_that_share_runs_can_be_exported_to_one_folder(tmp_path):
    env, offline = environment(tmp_path / "home"), tmp_path / "offline"
    for name in ("one", "two"):
        folder = make_sweep(tmp_path / "outputs", {"name": name, "tasks": ["minatar/breakout"], "seeds": 1})
        assert "Exported 60 new rows of 3 runs." in export(folder, *WANDB, "--offline", offline, env=env)
    assert len(list((offline / "wandb").iterdir())) == 6


def test_a_run_that_was_trained_anew_with_another_result_is_one_line(tmp_path, call):
    env, words = environment(tmp_path / "home"), (*WANDB, "--offline", tmp_path / "offline")
    folder = make_sweep(tmp_path / "outputs", {"tasks": ["minatar/breakout"], "seeds": 1}, unfinished=lambda _: True)
    export(folder, *words, env=env)
    folder.rename(tmp_path / "before")
    folder = make_sweep(tmp_path / "outputs", {"tasks": ["minatar/breakout"], "seeds": 1}, curve=lambda _, steps: steps)
    (tmp_path / "before" / FOLDER).rename(folder / FOLDER)
    code, _, told = call("export", folder, *words)
    assert (code, told.count("\n")) == (1, 1)
    assert "was trained anew since it was exported, and W&B has its old rows" in told


def test_the_report_is_sent_once_as_an_artifact_of_its_own_run(tmp_path):
    env, offline = environment(tmp_path / "home"), tmp_path / "offline"
    folder = make_sweep(tmp_path / "outputs", {"tasks": ["minatar/breakout"], "seeds": 1})
    (folder / "report" / "export").mkdir(parents=True)
    (folder / "report" / "export" / "runs.csv").write_text("")
    (folder / "report" / "report.html").write_text("<p>")
    for _ in range(2):
        export(folder, *WANDB, "--offline", offline, "--artifact", env=env)
    (part,) = (offline / "wandb").glob("*-synthetic-report")
    (artifact,) = [record.artifact for record in wandb_records.records(part) if record.HasField("artifact")]
    assert artifact.type == "report"
    assert sorted(entry.path for entry in artifact.manifest.contents) == ["report/report.html", "sweep.yaml"]
