"""The command line, as a user meets it."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

SWEEP: dict[str, Any] = {
    "name": "mine",
    "question": "Does the tool work?",
    "tasks": ["minatar/breakout", "CartPole-v1"],
    "total_steps": 800,
    "seeds": 2,
    "base": {
        "num_envs": 8, "update_every": 8, "learning_starts": 100, "batch_size": 8, "replay_size": 400,
        "phi_widths": [8], "theta_widths": [8], "log_points": 10,
    },
    "baseline": "dqn",
    "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}, "same": {"ratio": 5}},
}  # fmt: skip


@pytest.fixture
def sweep_file(tmp_path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SWEEP))
    return path


def test_a_dry_run_says_of_each_pack_which_variants_and_seeds_it_has(call, tmp_path):
    sweep = {key: value for key, value in SWEEP.items() if key != "variants"}
    sweep |= {"tasks": ["minatar/breakout"], "axes": {"ratio": [1, 5, 7]}, "baseline": {"ratio": 1}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(sweep))
    words = "submit", tmp_path / "mine.yaml", "--profile", "local", "--outputs", tmp_path, "--dry-run", "--lanes"
    shown = [re.findall(r"^  \w+  (minatar/breakout: .*)$", call(*words, lanes)[1], re.MULTILINE) for lanes in (1, 6)]
    assert sorted(shown[0]) == [
        f"minatar/breakout: ratio={ratio}; seed {seed}; 1 lane, 800 steps" for ratio in (1, 5, 7) for seed in (0, 1)
    ]
    assert shown[1] == ["minatar/breakout: ratio=1, ratio=5, ratio=7; seeds 0, 1; 6 lanes, 800 steps"]


@pytest.mark.parametrize(
    "command",
    [
        "sweeps",
        "plan",
        "run",
        "report",
        "export",
        "import",
        "show",
        "submit",
        "status",
        "logs",
        "cancel",
        "retry",
        "resume",
        "throttle",
        "clean",
    ],
)
def test_every_command_explains_itself_with_an_example(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert f"Example: scorer {command}" in " ".join(out.split())


def test_sweeps_lists_the_shipped_definitions(call):
    code, out, _ = call("sweeps", "--json")
    assert code == 0
    assert "quickstart" in [entry["name"] for entry in json.loads(out)]
    assert "quickstart" in call("sweeps")[1]


def test_plan_counts_runs_and_packs_and_writes_nothing(call, sweep_file, tmp_path):
    code, out, _ = call("plan", sweep_file, "--outputs", tmp_path / "out", "--json")
    plan = json.loads(out)
    assert code == 0
    assert len(plan["runs"]) == 3 * 2 * 2
    assert len({run["run_id"] for run in plan["runs"]}) == 2 * 2 * 2, "scorer and same are one variant"
    assert [len(pack["run_ids"]) for pack in plan["packs"]] == [2, 2, 2, 2]
    text = call("plan", sweep_file, "--outputs", tmp_path / "out")[1]
    assert "12 grid cells, 8 distinct runs, 8 to train" in " ".join(text.split())
    assert not (tmp_path / "out").exists()


def test_plan_states_in_one_line_why_git_gives_no_commit(call, sweep_file, tmp_path, monkeypatch):
    arguments = ("plan", sweep_file, "--outputs", tmp_path / "out")
    assert "commit" not in call(*arguments)[1]
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    code, out, _ = call(*arguments)
    (note,) = [line for line in out.splitlines() if "commit" in line]
    assert code == 0
    assert note.startswith(
        "note: no git commit is recorded with the runs: fatal: detected dubious ownership in repository at "
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "note: no git commit is recorded with the runs: git is not installed\n" in call(*arguments)[1]
    assert json.loads(call(*arguments, "--json")[1])["git_error"] == "git is not installed"


def test_plan_names_the_price_on_a_cluster(call, sweep_file, tmp_path):
    profile = tmp_path / "lab.yaml"
    profile.write_text("scheduler: slurm\nlanes: 1\nthrottle: 3\n")
    code, out, _ = call("plan", sweep_file, "--outputs", tmp_path / "out", "--profile", profile)
    text = " ".join(out.split())
    assert code == 0
    assert "8 packs: 8 x 1 lane " in text
    assert "Estimated on lab: longest pack about" in text
    assert "with 3 packs at once" in text
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, str]:
    """A definition with one task, the outputs of running it, and what that printed."""
    folder = tmp_path_factory.mktemp("trained")
    path, outputs = folder / "mine.yaml", folder / "out"
    path.write_text(yaml.safe_dump(SWEEP | {"tasks": ["minatar/breakout"]}))
    command = [sys.executable, "-m", "cli.main", "run", str(path), "--outputs", str(outputs)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return path, outputs, done.stdout


def test_run_trains_and_reports(trained):
    _, outputs, printed = trained
    assert "4 of 4 lanes done" in printed
    report = outputs / "mine" / "report"
    assert str(report / "report.html") in printed
    assert {"table.csv", "table.tex", "report.html"} <= {path.name for path in report.iterdir()}
    assert len(list(report.glob("*.pdf"))) >= 3


def test_run_again_finds_nothing_missing_and_touches_no_pack(call, trained):
    path, outputs, _ = trained
    before = {path: path.stat().st_mtime_ns for path in (outputs / "mine" / "packs").rglob("*")}
    code, out, _ = call("run", path, "--outputs", outputs)
    assert code == 0
    assert "All runs are finished." in out
    assert {path: path.stat().st_mtime_ns for path in (outputs / "mine" / "packs").rglob("*")} == before
    assert [path.name for path in (outputs / "mine").glob("plan-*")] == ["plan-1.json"]
    code, out, _ = call("plan", path, "--outputs", outputs, "-s", "seeds=3", "--json")
    assert [len(pack["run_ids"]) for pack in json.loads(out)["packs"]] == [1, 1], "only the new seed is missing"


def test_a_report_can_have_another_baseline_than_the_sweep(call, trained, tmp_path):
    path, outputs, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(outputs, copy)

    def bases(folder: Path) -> set[str]:
        rows = csv.DictReader((folder / "mine" / "report" / "table.csv").read_text().splitlines())
        return {row["statistic"] for row in rows if row["statistic"].startswith("iqm_difference_to_")}

    assert call("report", path, "--outputs", copy, "-s", "baseline=scorer", "--format", "png")[0] == 0
    assert bases(copy) == {"iqm_difference_to_scorer"}
    assert bases(outputs) == {"iqm_difference_to_dqn"}


def test_status_knows_whether_the_report_has_all_that_is_done(call, trained):
    _, outputs, _ = trained
    page = outputs / "mine" / "report" / "report.html"
    assert "The report is up to date" in call("status", "mine", "--outputs", outputs)[1]
    os.utime(page, (0, 0))
    assert (
        f"The report does not have all finished runs. Draw it with: scorer report mine --outputs {outputs}"
        in call("status", "mine", "--outputs", outputs)[1]
    )
    os.utime(page)


def test_show_gives_a_run_s_configuration_provenance_state_and_last_metrics(call, trained):
    path, outputs, _ = trained
    run_id = json.loads(call("plan", path, "--outputs", outputs, "--json")[1])["runs"][0]["run_id"]
    code, out, _ = call("show", run_id[:8], "--outputs", outputs, "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["run_id"] == run_id
    assert shown["state"]["status"] == "done"
    assert shown["last_metrics"]["step"] == 800
    assert shown["configuration"]["coupling"] == "monolithic"
    assert shown["provenance"]["packages"]["torch"]
    assert run_id in call("show", run_id, "--outputs", outputs)[1]


def test_report_draws_one_figure_as_it_is_asked_to(call, trained):
    path, outputs, _ = trained
    figure = outputs / "mine" / "report" / "curves.pdf"
    figure.unlink()
    options = [
        "--figure",
        "curves",
        "--venue",
        "iclr",
        "--format",
        "pdf",
        "--score",
        "auc",
        "--curve-reps",
        "200",
    ]
    assert call("report", path, "--outputs", outputs, *options)[0] == 0
    assert figure.exists()


def test_report_takes_the_old_spelling_of_an_option_and_shows_the_new_one(call, trained):
    path, outputs, _ = trained
    old = ["--for", "iclr", "--seed", "1", "--replications=200", "--curve-replications", "100", "--no-correction"]
    old += ["--simultaneous", "--normalise", "none"]
    assert call("report", path, "--outputs", outputs, "--figure", "intervals", *old)[0] == 0
    made = json.loads((outputs / "mine" / "report" / "intervals.json").read_text())
    assert (made["bootstrap_seed"], made["reps"], made["curve_reps"]) == (1, 200, 100)
    assert (made["few_seeds_correction"], made["normalization"]) == (False, "none")
    shown = call("report", "--help")[1]
    assert "--venue" in shown
    assert not any(f"{word} " in shown for word in ("--for", "--seed", "--replications", "--correction", "--normalise"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--figure", "nosuch"], 1, "nosuch: not a figure of this sweep; choose from: intervals"),
        (["--format", "gif"], 2, "--format gif: not a format; choose from: pdf, svg, png"),
        (["--threshold", "high"], 2, "--threshold high: expected TASK=RETURN"),
        (["--strict"], 1, "Only 2 seeds"),
    ],
)
def test_report_says_in_one_line_what_it_will_not_do(call, trained, options, code, message):
    path, outputs, _ = trained
    refused = call("report", path, "--outputs", outputs, *options)
    assert (refused[0], refused[2].count("\n")) == (code, 1)
    assert message in refused[2]


def test_runs_go_out_to_a_notebook_and_come_in_from_elsewhere(call, trained, tmp_path):
    path, outputs, _ = trained
    assert call("export", path, "--outputs", outputs, "--folder", tmp_path)[0] == 0
    assert {"runs.csv", "curves.parquet", "scores.npz"} <= {path.name for path in tmp_path.iterdir()}
    lines = ["algo,env,seed,step,ret"]
    lines += [f"theirs,minatar/breakout,{seed},{step},{seed}" for seed in (0, 1) for step in (400, 800)]
    (tmp_path / "theirs.csv").write_text("\n".join(lines))
    columns = ["--variant", "algo", "--task", "env", "--return", "ret"]
    copy = tmp_path / "copy"
    shutil.copytree(outputs, copy)
    code, said, _ = call("import", path, tmp_path / "theirs.csv", "--outputs", copy, *columns)
    assert code == 0
    assert said.startswith(f"{tmp_path / 'theirs.csv'}: read as: long CSV")
    assert said.endswith("theirs: 2 runs\n")
    assert "theirs" in call("report", path, "--outputs", copy, "--figure", "intervals")[1]
    code, _, err = call("import", path, tmp_path / "theirs.csv", "--outputs", copy)
    assert (code, err.count("\n")) == (1, 1)


def test_an_interrupted_run_says_75_and_the_next_goes_on(sweep_file, tmp_path):
    command = [sys.executable, "-m", "cli.main", "run", str(sweep_file), "--outputs", str(tmp_path / "out")]
    command += [
        "--lanes",
        "16",
        "-s",
        "total_steps=80000",
        "-s",
        "variants={dqn: {coupling: monolithic}}",
        "-s",
        "tasks=[CartPole-v1]",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    packs = tmp_path / "out" / "mine" / "packs"
    end = time.monotonic() + 600
    while not any('"training"' in path.read_text() for path in packs.glob("*/state.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 75, err
    assert "Interrupted; checkpoints are saved" in err
    state = json.loads(next(packs.glob("*/state.json")).read_text())
    assert state["phase"] == "interrupted"
    assert list(packs.glob("*/checkpoint/*.ckpt"))
    shown = json.loads(subprocess.check_output([*command[:3], "plan", *command[4:], "--json"]))
    assert [pack["started"] for pack in shown["packs"]] == [True]


def test_a_pack_that_fails_is_named_with_its_reason_and_the_others_are_reported(call, sweep_file, tmp_path):
    outputs = tmp_path / "out"
    call("plan", sweep_file, "--outputs", outputs)
    overrides = ["-s", "tasks=[minatar/breakout]", "-s", "seeds=1"]
    plan = json.loads(call("plan", sweep_file, "--outputs", outputs, *overrides, "--json")[1])
    broken = outputs / "mine" / "packs" / plan["packs"][0]["pack_id"] / "metrics"
    broken.parent.mkdir(parents=True)
    broken.write_text("a file where the metrics should go")
    code, out, err = call("run", sweep_file, "--outputs", outputs, *overrides)
    assert code == 1
    assert re.search(rf"pack {broken.parent.name} failed:.*metrics", " ".join(err.split()))
    assert "Report:" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "sedes=3"], "mine.yaml: sedes: unknown key"),
        (["-s", "tasks=[minatar/pong]"], "mine.yaml: tasks.0: unknown game 'pong'"),
        (["-s", "base.ratio=0"], "ratio: 0 is not a finite number above 0"),
        (["-s", "base.ratio=.nan"], "ratio: nan is not a finite number above 0"),
        (["-s", "seeds=0"], "mine.yaml: seeds: at least one seed is needed, not 0"),
        (["-s", "exclude=[{task: [minatar/breakout, CartPole-v1]}]"], "mine.yaml: exclude: removes every run"),
        (["-s", "base.batch_size=401"], "batch_size (401) is larger than replay_size (400)"),
        (["--outputs", "/dev/null/outputs"], "/dev/null/outputs/mine/sweep.yaml: cannot be written"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_is_written(call, sweep_file, tmp_path, arguments, message):
    code, out, err = call("run", sweep_file, "--outputs", tmp_path / "out", *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == [sweep_file]


def test_duplicate_variant_names_are_refused(call, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SWEEP).replace("variants:\n", "variants:\n  scorer: {ratio: 2}\n"))
    code, _, err = call("plan", path)
    assert code == 2
    assert err.startswith(f"{path}: ")
    assert "duplicate key 'scorer'" in err


def test_what_is_not_there_is_said_in_one_line(call, sweep_file, tmp_path):
    assert call("plan", "nosuch")[0] == 2
    code, _, err = call("report", sweep_file, "--outputs", tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert "this sweep has not been trained" in err
    code, _, err = call("show", "abcd", "--outputs", tmp_path)
    assert (code, err) == (1, f"abcd: no such run in {tmp_path}\n")
    assert call("run", sweep_file, "--lanes", "0")[0] == 2
