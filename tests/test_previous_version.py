"""The outputs that version 0.1 wrote (tests/data/outputs-0.1) stay readable, and its interrupted runs resume."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from analysis.load import load_results
from cli.status_view import status_notes
from scorer_core.metric_rows import SCHEMA
from scorer_core.metrics import MEASURED, METRICS
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder
from scorer_core.train import train
from slurm.status import read_status
from sweeps.loading import load_submitted
from sweeps.plan import find_run, make_plan
from sweeps.studies import study_in

DATA = Path(__file__).parent / "data" / "outputs-0.1"

# Scores as version 0.1 exported them, but for `best` and `auc`: it logged 0 before the first episode ended.
FINAL = {
    ("dqn", "minatar/breakout"): [0.0, 1.25],
    ("dqn", "CartPole-v1"): [9.25, 9.25],
    ("scorer", "minatar/breakout"): [0.0, 0.75],
    ("scorer", "CartPole-v1"): [9.5, 10.0],
}


@pytest.fixture
def outputs(tmp_path) -> Path:
    shutil.copytree(DATA, tmp_path / "outputs")
    return tmp_path / "outputs"


def test_no_finished_run_is_planned_again_and_an_interrupted_one_is_continued(outputs):
    planned = make_plan(load_submitted(outputs / "old"), outputs)
    assert len(planned.done) == 8
    assert planned.packs == []
    planned = make_plan(load_submitted(outputs / "cut"), outputs)
    assert {pack.folder.path.name for pack in planned.packs if pack.started} == {"358b588d006097e8", "4be0387bc5fe9ef0"}
    assert planned.missing == 8
    assert sum(len(pack.configs) for pack in planned.packs) == 8


def test_the_report_has_the_scores_of_version_0_1(outputs):
    results = load_results(outputs / "old")
    assert results.count() == {"done": 8}
    assert results.problems == ()
    for (variant, task), scores in FINAL.items():
        assert results.scores()[variant][:, results.tasks.index(task)].tolist() == scores


def test_a_return_of_0_before_the_first_episode_is_not_taken_for_a_return(outputs):
    """Version 0.1 logged 0, too, while some of the 4 environments had finished no episode."""
    folder = pack_folders(outputs / "old" / "packs")[0]
    (part,) = folder.parts()
    table = pq.read_table(part, schema=SCHEMA)
    episodes = table["episodes"].to_numpy().copy()
    episodes[:4] = [0, 3, 4, 5]
    place = table.column_names.index("episodes")
    pq.write_table(table.set_column(place, SCHEMA.field("episodes"), pa.array(episodes)), part)
    read = {(row["run_id"], row["step"]): row["return"] for row in folder.rows(["return"]).to_pylist()}
    new_ids = dict(zip(table["run_id"].chunk(0).dictionary.to_pylist(), folder.run_ids(), strict=True))
    for row, some in enumerate(table.to_pylist()):
        expected = math.nan if row < 2 else some["return"]
        assert read[new_ids[some["run_id"]], some["step"]] == pytest.approx(expected, nan_ok=True)


def test_status_finds_every_run(outputs):
    assert {cell.state for cell in read_status(outputs / "old").cells} == {"done"}
    cut = read_status(outputs / "cut")
    assert {cell.state for cell in cut.cells} == {"lost", "missing"}
    command = f"Continue with: scorer run {outputs / 'cut'}"
    assert any(command in line for line in status_notes(cut)), "it was never submitted, so `scorer resume` would refuse"


def test_a_run_is_found_by_its_new_id(outputs):
    for run in load_submitted(outputs / "old").runs:
        folder, config = find_run(outputs, run.run_id[:10])
        assert config.run_id == run.run_id
        assert folder.last_row(run.run_id)["step"] == 4_000


def numbers(rows: pa.Table) -> np.ndarray:
    """`num_rows x num_metrics`."""
    return np.column_stack([rows[name].to_numpy() for name in METRICS])


def test_an_interrupted_pack_resumes_to_the_metrics_of_an_uninterrupted_one(outputs):
    """To rounding at the next row: this version adds in another order. Later rows differ, as small runs are chaotic."""
    for folder in pack_folders(outputs / "cut" / "packs"):
        assert folder.committed_step() == 2_000
        assert train(folder, torch.device("cpu"), 60.0, lambda: False)
        whole = PackFolder(outputs / "old" / "packs" / folder.pack_id)
        assert folder.done().keys() == whole.done().keys() == set(folder.run_ids())
        resumed, uninterrupted = (some.rows(["step", *METRICS, "diverged"]) for some in (folder, whole))
        assert resumed.num_rows == 20
        assert resumed.column_names == uninterrupted.column_names
        assert not set(MEASURED) & set(resumed.column_names)
        assert resumed["step"] == uninterrupted["step"]
        next_row = pa.array(resumed["step"].to_numpy() == 2_400)
        first, expected = numbers(resumed.filter(next_row)), numbers(uninterrupted.filter(next_row))
        np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-6)


def test_an_interrupted_pack_that_computed_something_else_is_not_gone_on_with(outputs):
    """Version 0.1 shared only the first of several follower steps' batches: its runs have no place in this version."""
    (place,) = (outputs / "cut" / "packs").glob("4be0*/pack.json")
    record = json.loads(place.read_text())
    for settings in record["runs"].values():
        settings |= {"batches": "shared", "follower_steps": 3}
    place.write_text(json.dumps(record))
    folder = PackFolder(place.parent)
    changed = folder.configs()[0]
    base = {"batches": "shared", "follower_steps": 3, "ratio": 5}
    sweep = load_submitted(outputs / "cut", [f"variants.scorer={json.dumps(base)}", f"tasks=[{changed.task}]"])
    assert changed.run_id in {run.run_id for run in sweep.runs}
    planned = make_plan(sweep, outputs, 2)
    assert folder.pack_id not in {pack.folder.pack_id for pack in planned.packs}
    assert changed.run_id in {config.run_id for pack in planned.packs for config in pack.configs}


def test_a_search_keeps_its_trials(outputs):
    study = study_in(outputs / "oldsearch")
    assert [trial.value for trial in study.trials()] == [0.25, 0.625, 0.25]
    assert study.trials_left() == 0
    wanted = {config.run_id for trial in study.trials() for config in study.search.runs(trial.params)}
    (folder,) = pack_folders(study.folder / "packs")
    assert folder.done().keys() == wanted
