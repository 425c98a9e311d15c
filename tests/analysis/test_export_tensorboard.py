"""Export to TensorBoard, read back with its own reader."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.exporters.names import NAMES
from analysis.exporters.tensorboard_files import EVENTS, TensorboardTracker
from analysis.exporters.trackers import export_runs
from scorer_core.support.errors import RecordError
from tests.analysis.exporting import environment, export, half_trained, stored_rows, train_on
from tests.analysis.synthetic import make_sweep

TENSORBOARD = ("--to", "tensorboard")


def read(place: Path) -> dict[str, list[dict[str, float]]]:
    """The rows of each run, by run id, as TensorBoard reads them; each step of a metric must be there once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in place.iterdir():
        assert [path.name for path in folder.iterdir()] == [EVENTS]
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        rows: dict[int, dict[str, float]] = {}
        for name in events.Tags()["scalars"]:
            scalars = events.Scalars(name)
            assert len({scalar.step for scalar in scalars}) == len(scalars)
            for scalar in scalars:
                rows.setdefault(scalar.step, {"global_step": scalar.step})[name] = scalar.value
        found[folder.name.rpartition("__")[2]] = [rows[step] for step in sorted(rows)]
    return found


@pytest.fixture(autouse=True)
def _numpy_may_warn():
    """TensorBoard's reader uses names of NumPy that are going to be removed."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def test_each_run_has_a_folder_with_its_rows_as_in_parquet_its_settings_and_its_scores(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = half_trained(tmp_path)
    train_on(folder, diverged=lambda run: run.config.seed == 1)
    assert export_runs(folder, TensorboardTracker()).rows == 80
    place = folder / "report" / "tensorboard"
    assert read(place) == stored_rows(folder)
    (one,) = place.glob("minatar_breakout__scorer__1__*")
    events = EventAccumulator(str(one))
    events.Reload()
    texts = {name: events.Tensors(name)[0] for name in events.Tags()["tensors"]}
    config = texts["config"].tensor_proto.string_val[0].decode()
    assert '|env_id|"minatar/breakout"|' in config
    assert '|exp_name|"scorer"|' in config
    assert '|status|"diverged"|' in texts["summary"].tensor_proto.string_val[0].decode()
    times = [scalar.wall_time for scalar in events.Scalars(NAMES["msbe"])]
    assert times == sorted(times)


def test_new_rows_are_appended_to_what_is_there_and_nothing_is_written_without_any(tmp_path):
    folder, to = half_trained(tmp_path / "outputs"), tmp_path / "to"
    export_runs(folder, TensorboardTracker(to))
    before = {path: path.read_bytes() for path in to.rglob("events*")}
    assert read(to) == stored_rows(folder)
    train_on(folder)
    assert export_runs(folder, TensorboardTracker(to)).rows == 40
    assert read(to) == stored_rows(folder)
    assert all(path.read_bytes().startswith(content) for path, content in before.items())
    after = {path: path.stat().st_mtime_ns for path in to.rglob("events*")}
    assert export_runs(folder, TensorboardTracker(to)).runs == 0
    assert {path: path.stat().st_mtime_ns for path in to.rglob("events*")} == after


@pytest.mark.parametrize(
    "place",
    [
        ("analysis.exporters.marks", "Marks.write", 2),
        ("analysis.exporters.tensorboard_files", "_append", 2),
        ("os", "fsync", 5),
    ],
)
def test_a_killed_export_is_run_again_and_no_row_is_missing_or_doubled(tmp_path, place):
    folder, env = half_trained(tmp_path / "outputs"), environment(tmp_path / "home")
    export(folder, *TENSORBOARD, env=env)
    train_on(folder)
    export(folder, *TENSORBOARD, env=env, killed=place)
    export(folder, *TENSORBOARD, env=env)
    assert read(folder / "report" / "tensorboard") == stored_rows(folder)


def test_a_file_that_was_removed_or_cut_is_written_anew(tmp_path):
    folder, to = half_trained(tmp_path / "outputs"), tmp_path / "to"
    export_runs(folder, TensorboardTracker(to))
    removed, cut, *_ = sorted(to.rglob("events*"))
    removed.unlink()
    os.truncate(cut, 100)
    train_on(folder)
    export_runs(folder, TensorboardTracker(to))
    assert read(to) == stored_rows(folder)
    removed.unlink()  # of a finished run, too
    assert export_runs(folder, TensorboardTracker(to)).runs == 1
    assert read(to) == stored_rows(folder)


def test_a_run_that_was_trained_anew_with_another_result_is_written_anew(tmp_path):
    small, to = {"tasks": ["minatar/breakout"], "seeds": 1}, tmp_path / "to"
    folder = make_sweep(tmp_path / "outputs", small, unfinished=lambda _: True)
    export_runs(folder, TensorboardTracker(to))
    folder.rename(tmp_path / "before")
    folder = make_sweep(tmp_path / "outputs", small, curve=lambda _, steps: np.sqrt(steps))
    (tmp_path / "before" / "exports").rename(folder / "exports")
    export_runs(folder, TensorboardTracker(to))
    assert read(to) == stored_rows(folder)


def test_a_run_that_two_variants_share_has_a_folder_for_each(tmp_path):
    variants = {"a": {"coupling": "scorer"}, "b": {"coupling": "scorer", "order": "follower_first"}}
    changes = {"tasks": ["minatar/breakout"], "seeds": 1, "baseline": "a", "variants": variants}
    folder = make_sweep(tmp_path / "outputs", changes)
    export_runs(folder, TensorboardTracker(tmp_path / "to"))
    (a,), (b,) = ((tmp_path / "to").glob(f"minatar_breakout__{name}__0__*") for name in "ab")
    assert b.name[-18:] == a.name[-16:] + "-2"


def test_a_link_in_place_of_an_event_file_is_refused(tmp_path):
    folder, to = half_trained(tmp_path / "outputs"), tmp_path / "to"
    export_runs(folder, TensorboardTracker(to))
    path = next(to.rglob("events*"))
    path.rename(tmp_path / "mine")
    path.symlink_to(tmp_path / "mine")
    before = (tmp_path / "mine").read_bytes()
    train_on(folder)
    with pytest.raises(RecordError, match="is a link; remove it"):
        export_runs(folder, TensorboardTracker(to))
    assert (tmp_path / "mine").read_bytes() == before


def test_torch_tensorflow_and_wandb_are_not_loaded(tmp_path):
    folder = half_trained(tmp_path / "outputs")
    code = (
        "import sys; from pathlib import Path; from analysis.exporters.trackers import export_runs\n"
        "from analysis.exporters.tensorboard_files import TensorboardTracker\n"
        "assert export_runs(Path(sys.argv[1]), TensorboardTracker()).rows == 40\n"
        "print(*({'torch', 'tensorflow', 'wandb', 'rich', 'typer'} & {*sys.modules}))"
    )
    env = environment(tmp_path / "home")
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_missing_package_is_one_line_that_says_what_to_install(tmp_path, call, monkeypatch):
    monkeypatch.setattr("analysis.exporters.tensorboard_files.find_spec", lambda _: None)
    message = "tensorboard is not installed. Install it with: pip install tensorboard\n"
    assert call("export", half_trained(tmp_path), *TENSORBOARD) == (1, "", message)
