"""Two commands on one sweep at once, and a sweep whose definition changes between two commands."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from scorer_core.records import PackFolder
from slurm.jobs.launcher import Launcher, Slot
from sweeps.loading import parse
from sweeps.plan import make_plan

# Axes alone, with one of their points as the baseline: the simplest sweep with a comparison.
SWEEP = {
    "name": "mine",
    "question": "Does the ratio matter?",
    "tasks": ["minatar/breakout"],
    "total_steps": 800,
    "seeds": 2,
    "base": {
        "num_envs": 8, "update_every": 8, "learning_starts": 100, "batch_size": 8, "replay_size": 400,
        "phi_widths": [8], "theta_widths": [8], "log_points": 10,
    },
    "baseline": {"ratio": 1},
    "axes": {"ratio": [1, 5]},
}  # fmt: skip


@pytest.fixture
def said(call):
    """Run the command line; its exit code, and all that it prints, with single spaces."""

    def said(*arguments: object) -> tuple[int, str]:
        code, out, err = call(*arguments)
        return code, " ".join((out + err).split())

    return said


@pytest.fixture(scope="module")
def at_once(tmp_path_factory) -> tuple[Path, list[tuple[int, str]]]:
    """The folder of a sweep that two processes ran at once; the exit code of each and what it printed."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "mine.yaml").write_text(yaml.safe_dump(SWEEP))
    command = [sys.executable, "-m", "cli.main", "run", str(folder / "mine.yaml"), "--outputs", str(folder / "out")]
    command += ["--lanes", "4", "--processes", "1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    return folder, [(process.returncode, text) for process, text in zip(both, printed, strict=True)]


def test_two_runs_of_one_sweep_at_once_both_end_well_and_train_nothing_twice(at_once):
    folder, ended = at_once
    for code, printed in ended:
        assert code == 0, printed
        assert "Report: " in printed
        assert "failed" not in printed
    packs = sorted((folder / "out" / "mine" / "packs").iterdir())
    assert sum(len(PackFolder(pack).done()) for pack in packs) == 4
    for pack in packs:
        assert [attempt.name for attempt in (pack / "attempts").iterdir()] == ["1"]
        rows = [row for part in (pack / "metrics").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
        places = [(row["run_id"], row["step"]) for row in rows]
        assert len(set(places)) == len(places) == 10 * len(PackFolder(pack).done())


def test_a_grid_of_axes_alone_is_compared_with_the_point_named_as_the_baseline(at_once):
    with (at_once[0] / "out" / "mine" / "report" / "table.csv").open() as file:
        compared = {(row["variant"], row["statistic"]) for row in csv.DictReader(file)}
    differences = {place for place in compared if place[1].startswith("iqm_difference_to")}
    assert differences == {("ratio=5", "iqm_difference_to_ratio=1")}


def test_a_pack_of_a_process_that_stops_early_is_taken_over(tmp_path):
    short = SWEEP | {"total_steps": 80}  # it ends before the first update, which takes seconds to trace
    make_plan(parse(short, "mine.yaml"), tmp_path, processes=1).write()
    pack = PackFolder(min((tmp_path / "mine" / "packs").iterdir()))
    with ExitStack() as stack:
        assert stack.enter_context(pack.lock())

        def look(outcome):
            if outcome.elsewhere:
                stack.close()  # the lock, as at the end of a process
            else:
                pack.write_state(phase="training")

        outcome = Launcher([Slot()], ["--device", "cpu"]).run([pack], look)
    assert outcome.elsewhere == {pack: f"process {os.getpid()} on {socket.gethostname()}"}
    assert outcome.finished == [pack]


def test_a_command_that_waits_can_be_interrupted(tmp_path):
    make_plan(parse(SWEEP, "mine.yaml"), tmp_path, processes=1).write()
    pack = PackFolder(min((tmp_path / "mine" / "packs").iterdir()))
    with pack.lock():
        ticks = iter(range(100))
        outcome = Launcher([Slot()], ["--device", "cpu"]).run(
            [pack], lambda _: signal.raise_signal(signal.SIGINT) if next(ticks) == 8 else None
        )
    assert outcome.interrupted == [pack]


def test_every_command_names_the_runs_that_an_edited_definition_no_longer_has(at_once, tmp_path, said):
    outputs, edited = tmp_path / "out", tmp_path / "edited.yaml"
    shutil.copytree(at_once[0] / "out", outputs)
    edited.write_text(yaml.safe_dump(SWEEP | {"axes": {"ratio": [1, 7]}}))
    gone = "2 finished runs on disk are not in the definition {}: {} on minatar/breakout (seeds 0, 1)"
    by_name, by_setting = gone.format(edited, "ratio=5"), gone.format(outputs / "mine" / "sweep.yaml", "scorer ratio=5")
    reported = f"{edited} differs from {outputs / 'mine' / 'sweep.yaml'}, which this command uses, in: axes.ratio. "
    code, printed = said("plan", edited, "--outputs", outputs)
    assert (code, by_name in printed) == (0, True)
    code, printed = said("plan", "mine", "-s", "axes.ratio=[1,7]", "--outputs", outputs, "--json")
    (line,) = json.loads(printed)["left_out"]
    assert line.startswith(f"2 finished runs on disk are not in the definition {outputs / 'mine' / 'sweep.yaml'} -s ")
    code, printed = said("submit", edited, "--profile", "local", "--outputs", outputs, "--dry-run")
    assert (code, by_name in printed) == (0, True)
    code, printed = said("report", edited, "--outputs", outputs, "--figure", "intervals", "--format", "png")
    assert (code, by_name in printed, reported in printed) == (0, True, True)
    code, printed = said("status", edited, "--outputs", outputs)
    assert (code, "finished runs" in printed, reported in printed) == (0, False, True), (
        "status is about the definition run last"
    )

    planned = make_plan(parse(SWEEP | {"axes": {"ratio": [1, 7]}}, "edited.yaml"), outputs)
    planned.write()
    new = min(pack.folder.path for pack in planned.packs)
    code, printed = said("status", edited, "--outputs", outputs)
    assert (code, by_setting in printed, reported in printed) == (0, True, False)
    assert by_setting in json.loads(said("status", edited, "--outputs", outputs, "--json")[1])["left_out"]
    code, printed = said("plan", at_once[0] / "mine.yaml", "--outputs", outputs)
    kept = f"2 unfinished runs on disk are not in the definition {at_once[0] / 'mine.yaml'} and will not be trained: "
    assert f"{kept}ratio=7 on minatar/breakout (seeds 0, 1)" in printed
    assert f"To discard them, delete {new}" in printed
    code, printed = said("plan", at_once[0] / "mine.yaml", "--outputs", at_once[0] / "out")
    assert "on disk" not in printed


def test_status_watch_lists_the_runs_that_the_definition_no_longer_has(tmp_path, said):
    make_plan(parse(SWEEP, "mine.yaml"), tmp_path, 2).write()
    make_plan(parse(SWEEP | {"axes": {"ratio": [1, 7]}}, "mine.yaml"), tmp_path, 2).write()
    code, printed = said("status", "mine", "--outputs", tmp_path, "--watch")
    kept = f"2 unfinished runs on disk are not in the definition {tmp_path / 'mine' / 'sweep.yaml'}"
    assert code == 0
    printed = printed.replace(" ", "")  # long lines are folded at any character
    assert kept.replace(" ", "") in printed
    assert "scorerratio=5onminatar/breakout(seeds0,1)" in printed
