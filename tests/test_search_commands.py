"""scorer search, as a user meets it: a search of real trainings, small."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scorer_core.config import RunConfig
from scorer_core.pack_folders import pack_folders
from scorer_core.support.files import write_json
from slurm.jobs.search_worker import Worker
from sweeps import search
from sweeps.study import Study
from tests.search_synthetic import SyntheticTrainer, without_returns

SEARCH: dict[str, Any] = {
    "name": "mine",
    "question": "Does searching work?",
    "tasks": ["minatar/breakout"],
    "total_steps": 800,
    "seeds": 2,
    "trials": 5,
    "base": {
        "num_envs": 8, "update_every": 8, "learning_starts": 100, "batch_size": 8, "replay_size": 400,
        "phi_widths": [8], "theta_widths": [8], "log_points": 10,
    },
    "space": {"ratio": {"log": [0.1, 10]}, "gamma": {"uniform": [0.9, 0.99]}},
    "pruner": "halving",
    "rungs": [0.5],
}  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, Path, str]:
    """A definition, the outputs of searching it with two workers, and what that printed."""
    folder = tmp_path_factory.mktemp("searched")
    path, outputs = folder / "mine.yaml", folder / "out"
    path.write_text(yaml.safe_dump(SEARCH))
    command = [sys.executable, "-m", "cli.main", "search", str(path), "--trials", "6", "--outputs", str(outputs)]
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), [p.read_text() for p in outputs.glob("*/workers/*.log")]
    return path, outputs, done.stdout


@pytest.mark.parametrize("command", ["run", "show", "confirm"])
def test_every_command_explains_itself_with_an_example(call, command):
    code, out, _ = call("search", command, "--help")
    assert code == 0
    assert "Example: scorer search" in " ".join(out.split())


def test_a_search_runs_to_its_end_and_says_how_to_see_it(searched):
    _, outputs, printed = searched
    assert "6 of 6 trials" in printed
    assert "scorer search show mine" in printed
    logs = "".join(path.read_text() for path in (outputs / "mine" / "workers").iterdir())
    assert "Traceback" not in logs


@pytest.mark.parametrize("form", ["name", "folder", "YAML file"])
def test_a_search_is_named_by_its_name_its_folder_or_its_file(call, searched, form):
    path, outputs, _ = searched
    search = {"name": "mine", "folder": outputs / "mine", "YAML file": path}[form]
    assert call("search", search, "--trials", "6", "--outputs", outputs)[1].count("All trials are finished") == 1
    assert call("search", "show", search, "--outputs", outputs, "--no-figures")[0] == 0
    code, out, _ = call("search", "confirm", search, "--outputs", outputs, "--top", "1", "--seeds", "2", "--dry-run")
    assert (code, "2 variants" in out) == (0, True)
    code, _, err = call("cancel", search, "--outputs", outputs, "--variant", "x", "-y")
    assert (code, "filters are not used with a search" in err) == (2, True)


def test_begun_again_nothing_is_left_and_no_pack_is_touched(call, searched):
    path, outputs, _ = searched
    packs = outputs / "mine" / "packs"
    before = {path: path.stat().st_mtime_ns for path in packs.rglob("*")}
    code, out, err = call("search", path, "--trials", "6", "--outputs", outputs)
    assert (code, err) == (0, "")
    assert "All trials are finished" in out
    assert {path: path.stat().st_mtime_ns for path in packs.rglob("*")} == before


def test_show_gives_trials_slices_and_figures_without_being_told_which_search(call, searched):
    _, outputs, _ = searched
    code, out, err = call("search", "show", "--outputs", outputs)
    assert (code, err) == (0, "")
    for said in (
        "6 of 6 trials",
        "steps saved by pruning",
        "mean of trials by ratio",
        "mean of trials by gamma",
        "scorer search confirm mine",
    ):
        assert said in " ".join(out.split())
    report = outputs / "mine" / "report"
    wanted = {"slice-ratio.pdf", "slice-gamma.pdf", "optuna-history.pdf", "optuna-rungs.pdf", "trials.csv"}
    assert wanted <= {path.name for path in report.iterdir()}
    assert len((report / "trials.csv").read_text().splitlines()) == 7
    shown = json.loads(call("search", "show", "mine", "--outputs", outputs, "--json")[1])
    assert [trial["number"] for trial in shown["trials"]] == list(range(6))
    complete = [trial for trial in shown["trials"] if trial["state"] == "complete"]
    assert max(trial["values"][0][0] for trial in complete) == shown["trials"][shown["best"][0]]["values"][0][0]


@pytest.mark.slow
def test_confirm_trains_winners_and_default_on_fresh_seeds_and_show_compares(call, searched, tmp_path):
    outputs = tmp_path / "out"
    shutil.copytree(searched[1], outputs)
    code, _, err = call("search", "confirm", "--top", "1", "--seeds", "2", "--outputs", outputs)
    assert (code, err) == (0, "")
    sweep = yaml.safe_load((outputs / "mine" / "confirm.yaml").read_text())
    assert sweep["seeds"] == [2, 3], "the search used 0 and 1"
    assert next(iter(sweep["variants"])) == sweep["baseline"] == "default"
    assert (outputs / "mine-confirm" / "report" / "report.html").exists()
    shown = json.loads(call("search", "show", "--outputs", outputs, "--json")[1])
    default, winner = shown["confirmed"]
    assert default["searched"] == [[]]
    assert winner["name"] == f"trial-{shown['best'][0]}"
    assert winner["point"] == shown["trials"][shown["best"][0]]["point"]
    assert [len(row["confirmed"][0]) for row in (default, winner)] == [2, 2]
    out = " ".join(call("search", "show", "--outputs", outputs)[1].split())
    assert "on new seeds" in out
    assert "2 of 2" in out
    assert (outputs / "mine" / "report" / "confirmed.pdf").exists()
    laid = call("search", "show", "--outputs", outputs, "--against", "nosuch")
    assert (laid[0], laid[2].count("\n")) == (2, 1)


@pytest.mark.slow
def test_a_sweep_laid_beside_has_at_a_trial_s_point_what_the_trial_has(call, searched, tmp_path):
    outputs, beside = tmp_path / "out", tmp_path / "beside.yaml"
    shutil.copytree(searched[1], outputs)
    show = ["search", "show", "mine", "--outputs", outputs]
    trial = next(t for t in json.loads(call(*show, "--json")[1])["trials"] if t["state"] == "complete")
    sweep = {key: SEARCH[key] for key in ("question", "tasks", "total_steps", "seeds")} | {"name": "beside"}
    sweep |= {
        "base": SEARCH["base"] | {"gamma": trial["point"]["gamma"]},
        "axes": {"ratio": [trial["point"]["ratio"], 3]},
    }
    beside.write_text(yaml.safe_dump(sweep))
    assert call("run", beside, "--outputs", outputs)[0] == 0
    laid = json.loads(call(*show, "--against", "beside", "--json")[1])["against"]
    assert laid.keys() == {"ratio"}
    for form in (beside, outputs / "beside"):
        assert json.loads(call(*show, "--against", form, "--json")[1])["against"] == laid
    here, other = laid["ratio"]
    assert [here["at"], other["at"]] == pytest.approx([trial["point"]["ratio"], 3])
    assert here["value"] == trial["values"][0]
    code, out, err = call(*show, "--against", "beside")
    assert (code, err) == (0, "")
    assert "sweep beside by ratio" in out
    (outputs / "longer").mkdir()
    (outputs / "longer" / "sweep.yaml").write_text(yaml.safe_dump(sweep | {"name": "longer", "total_steps": 1_600}))
    refused = call(*show, "--against", "longer")
    assert (refused[0], refused[2].count("\n")) == (2, 1)
    assert "total_steps is 1600 in the sweep and 800 in the search" in refused[2]


@pytest.mark.slow
def test_an_interrupted_search_says_75_and_the_next_goes_on(tmp_path):
    path, outputs = tmp_path / "mine.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(SEARCH | {"total_steps": 6_000, "trials": 2, "pruner": "none"}))
    command = [sys.executable, "-m", "cli.main", "search", str(path), "--outputs", str(outputs), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    packs, end = outputs / "mine" / "packs", time.monotonic() + 600
    while not any('"training"' in path.read_text() for path in packs.glob("*/state.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 75, err
    assert "Interrupted; checkpoints are saved" in err
    assert list(packs.glob("*/checkpoint/*.ckpt"))
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(list(packs.glob("*/attempts/2"))) == 1, "the pack that was cut off went on"
    states = {path.parent.name: json.loads(path.read_text())["phase"] for path in packs.glob("*/state.json")}
    assert set(states.values()) == {"done"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "nosuch"], 2, "nosuch: not a file and not a built-in sweep or search"),
        (["search", "quickstart"], 2, "has no `space`, so it is a sweep. Run it with: scorer run quickstart"),
        (
            ["search", "ratio_search", "-s", "space.ratio.log=[0,1]"],
            2,
            "space.ratio: log: low (0) must be greater than 0",
        ),
        (
            ["search", "ratio_search", "-s", "scale={minatar/breakout: [5, 5]}"],
            2,
            "scale.minatar/breakout: [zero, one]",
        ),
        (["search", "ratio_search", "-s", "trials=true"], 2, "trials: true is not a number"),
        (
            ["search", "ratio_search", "-s", "pruner=halving", "-s", "rungs=[0.001]"],
            2,
            "rungs.0: 0.001 of total_steps is",
        ),
        (["search", "show"], 2, "no search has been started here"),
        (["search", "show", "nosuch"], 2, "nosuch: no search has been started here"),
        (["search", "confirm"], 2, "no search has been started here"),
        (["run", "ratio_search"], 2, "has a `space`, so it is a search. Run it with: scorer search ratio_search"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(call, tmp_path, arguments, code, message):
    refused = call(*arguments, "--outputs", tmp_path / "out")
    assert (refused[0], refused[2].count("\n")) == (code, 1)
    assert message in refused[2]
    assert not (tmp_path / "out").exists()


def test_another_definition_under_the_same_name_is_refused(call, searched):
    path, outputs, _ = searched
    refused = call("search", path, "--outputs", outputs, "-s", "seeds=3")
    assert (refused[0], refused[2].count("\n")) == (2, 1)
    assert "(seeds: [0, 1], now [0, 1, 2])" in refused[2]


def test_the_shipped_search_is_listed_and_fits_its_promise(call):
    assert "ratio_search" in call("sweeps")[1]
    shipped = search.load("ratio_search")
    assert shipped.trials >= 24
    assert len(shipped.seeds) >= 3


def test_a_search_of_which_every_trial_failed_says_why_and_exits_with_1(call, tmp_path):
    path, outputs = tmp_path / "mine.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(SEARCH | {"trials": 2, "pruner": "none"}))
    study = Study(search.load(str(path)), outputs / "mine")
    assert Worker(study, SyntheticTrainer(curve=lambda config: without_returns(config, 9999)), 2).work() == 0
    reason = "has no return in 800 steps: no episode ended (raise total_steps), or a reward was not finite"
    code, out, err = call("search", "show", "mine", "--outputs", outputs)
    assert code == 1
    assert "2 fail" in out
    assert err.count(reason) == 2
    code, out, _ = call("search", "show", "mine", "--outputs", outputs, "--json")
    assert code == 1
    assert [trial["note"].endswith(reason) for trial in json.loads(out)["trials"]] == [True, True]
    code, out, err = call("search", path, "--outputs", outputs)
    assert code == 1
    assert reason in err
    assert err.splitlines()[-1] == (
        "every trial of mine failed. Fix the cause, then search again with --trials 4 to replace them"
    )


def test_a_search_with_one_failed_trial_names_it_and_exits_with_0(call, tmp_path):
    outputs = tmp_path / "out"
    definition = search.parse(SEARCH | {"space": {"ratio": [1, 4]}, "sampler": "grid", "pruner": "none"}, "mine.yaml")
    study = Study(definition, outputs / "mine")

    def curve(config: RunConfig) -> np.ndarray:
        return without_returns(config, 9999 if config.ratio == 4 else 0)

    assert Worker(study, SyntheticTrainer(curve=curve), 2).work() == 0
    code, out, err = call("search", "show", "mine", "--outputs", outputs, "--no-figures")
    assert code == 0
    assert "1 complete, 0 pruned, 1 fail" in out
    assert "has no return in 800 steps" in err
    assert err.count("\n") == 1


def test_show_says_of_how_many_packs_no_git_commit_is_recorded_and_why(call, searched, tmp_path):
    outputs = tmp_path / "out"
    shutil.copytree(searched[1], outputs)
    packs = pack_folders(outputs / "mine" / "packs")
    for pack in packs[:2]:
        write_json(pack.attempts()[-1] / "provenance.json", {"git_commit": None, "git_error": "git is not installed"})
    note = "No git commit is recorded for 2 packs: git is not installed."
    code, out, _ = call("search", "show", "mine", "--outputs", outputs, "--no-figures")
    assert (code, f"note: {note}\n" in out) == (0, True)
    assert note in json.loads(call("search", "show", "mine", "--outputs", outputs, "--json")[1])["notes"]


def test_a_search_of_version_0_1_is_still_shown_and_gone_on_with(call, tmp_path):
    outputs = tmp_path / "out"
    shutil.copytree(Path(__file__).parent / "data" / "outputs-0.1", outputs)
    code, out, err = call("search", "show", "oldsearch", "--outputs", outputs, "--no-figures")
    assert (code, err) == (0, "")
    assert "3 of 3 trials (3 complete" in out
    more = search.load(str(outputs / "oldsearch" / "search.yaml"), ["trials=4"])
    assert Worker(Study(more, outputs / "oldsearch"), SyntheticTrainer(), 1).work() == 0
    assert "4 of 4 trials (4 complete" in call("search", "show", "oldsearch", "--outputs", outputs, "--no-figures")[1]
