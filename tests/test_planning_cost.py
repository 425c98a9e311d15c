"""Planning and watching a sweep: the work grows in proportion to its runs, and the screen does not grow at all."""

import re
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import FrozenTrial

from scorer_core.records import PackFolder
from sweeps import trials
from sweeps.loading import parse
from sweeps.plan import make_plan
from sweeps.search import Search
from tests.analysis.synthetic import make_sweep
from tests.search_synthetic import search_of
from tests.searches import searched

SIZES = 60, 120, 240
SEEDS = 5
# Twice as many runs: each shape grows in another direction.
SHAPES: dict[str, Any] = {
    "points of one axis": lambda n: {"axes": {"gamma": [0.9 + 0.0001 * i for i in range(n)]}},
    "points of two axes": lambda n: {"axes": {"gamma": [0.9, 0.99], "leader_lr": [1e-5 * (i + 1) for i in range(n)]}},
    "variants": lambda n: {"baseline": "v0", "variants": {f"v{i}": {"gamma": 0.9 + 0.0001 * i} for i in range(n)}},
    "variants of different shape and schedule": lambda n: {
        "base": {"schedule": "polynomial"},
        "axes": {"batch_size": [i + 1 for i in range(n)]}, "zip": {"decay_rounds": [1e3, 1e4]},
    },
    "seeds": lambda n: {"seeds": SEEDS * n},
}  # fmt: skip
COMMANDS = {
    "plan": ["--lanes", SEEDS],
    "submit": ["--profile", "local", "--dry-run", "--lanes", SEEDS],
    "status": [],
}


def definition(**changes: Any) -> dict[str, Any]:
    return {
        "name": "mine", "question": "?", "tasks": ["minatar/breakout"], "total_steps": 10_000, "seeds": SEEDS,
    } | changes  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    (folder / "mine.yaml").write_text(yaml.safe_dump(definition(**changes), sort_keys=False))
    return folder / "mine.yaml"


def calls(action: Any) -> int:
    """How many functions, of Python and of C, are called by `action`."""
    number = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return number


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_is_in_proportion_to_the_runs(call, tmp_path, command, shape):
    outputs = tmp_path / "outputs"

    def work(size: int) -> int:
        sweep = written(tmp_path, **SHAPES[shape](size))
        if command == "status":
            make_plan(parse(yaml.safe_load(sweep.read_text()), ""), outputs, SEEDS).write()
        words = command, sweep, "--outputs", outputs, *COMMANDS[command]
        if command == "status":
            call(*words)  # writes the index
        code: list[int] = []
        number = calls(lambda: code.append(call(*words)[0]))
        assert code == [0]
        return number

    work(10)  # imports
    small, medium, large = map(work, SIZES)
    # What is proportional needs twice as many calls for the step that is twice as large, what is quadratic four times.
    assert (large - medium) / (medium - small) < 2.1


def test_a_run_of_another_seed_takes_little_memory():
    def bytes_of(seeds: int) -> int:
        tracemalloc.start()
        try:
            runs = parse(definition(seeds=seeds), "").runs
            assert len({run.run_id for run in runs}) == seeds
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    bytes_of(10)  # imports
    assert (bytes_of(600) - bytes_of(300)) / 300 < 2_500, "a configuration of its own has 4,200"


@pytest.mark.parametrize("command", ["plan", "status"])
def test_a_screen_of_many_variants_has_the_ends_and_what_is_unfinished(call, tmp_path, command):
    outputs = tmp_path / "outputs"
    sweep = written(tmp_path, **SHAPES["variants"](100))
    planned = make_plan(parse(yaml.safe_load(sweep.read_text()), ""), outputs, SEEDS)
    planned.write()
    lost = {run.run_id for run in planned.sweep.runs if run.variant.name == "v50"}
    for pack in planned.packs:
        if not lost & set(pack.folder.run_ids()):
            finish(pack.folder)

    def shown(*words: str) -> tuple[list[str], str]:
        code, out, _ = call(command, sweep, "--outputs", outputs, *words)
        assert code == 0
        return re.findall(r"^│ (v[0-9]+)", out, re.MULTILINE), " ".join(out.split())

    names, text = shown()
    assert names == [f"v{i}" for i in (0, 1, 2, 3, 4, 50, 95, 96, 97, 98, 99)]
    assert "and 89 more variants" in text
    assert {"plan": "445/445 done", "status": "445 done"}[command] in text
    assert f"`scorer {command} --all` shows every variant" in text
    names, text = shown("--all")
    assert names == [f"v{i}" for i in range(100)]
    assert "more variants;" not in text


def test_the_table_of_a_report_on_many_variants_has_the_ends_and_what_has_no_result(call, tmp_path):
    tasks = ["minatar/breakout", "minatar/asterix"]
    changes = {"tasks": tasks, "seeds": 1, "base": {"log_points": 2}} | SHAPES["variants"](60)
    make_sweep(tmp_path, changes, parts=1, absent=lambda run: run.variant.name == "v30" and run.config.task == tasks[1])
    words = "report", "synthetic", "--outputs", tmp_path, "--figure", "intervals", "--format", "png", "--reps", 100

    def shown(*more: str) -> tuple[list[str], str]:
        code, out, err = call(*words, *more)
        assert code == 0, err
        return re.findall(r"^ *(v[0-9]+) ", out, re.MULTILINE), out

    names, text = shown()
    assert list(dict.fromkeys(names)) == [f"v{i}" for i in (0, 1, 2, 3, 4, 30, 55, 56, 57, 58, 59)]
    assert "and 49 more variants; `scorer report --all` shows every variant." in text
    names, text = shown("--all")
    assert list(dict.fromkeys(names)) == [f"v{i}" for i in range(60)]


def finish(folder: PackFolder) -> None:
    folder.finish({run_id: {"status": "done"} for run_id in folder.run_ids()})


def test_a_finished_trial_is_checked_once_in_a_search(tmp_path, monkeypatch):
    checked: Counter[int] = Counter()
    fault = trials.fault

    def counted(trial: FrozenTrial, search: Search) -> str:
        checked.update([trial.number] if trial.state.is_finished() else [])
        return fault(trial, search)

    monkeypatch.setattr(trials, "fault", counted)
    study, _ = searched(search_of(trials=12, sampler="random", pruner="halving"), tmp_path, together=2)
    assert study.trials_left() == 0
    assert checked == dict.fromkeys(range(12), 1)
