"""The user's own parts in definitions: what is frozen, and what a process that trains would find."""

import importlib
import shutil

import pytest

from scorer_core import plugins
from sweeps import search
from sweeps.errors import DefinitionError
from sweeps.loading import load_submitted
from sweeps.plan import make_plan
from sweeps.user_parts import check_imports
from tests.sweeps.minimal import sweep

TASK = """\
import gymnasium
import numpy as np


class Corridor(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package `yours`, whose function `below` has a short name."""
    folder = tmp_path / "site" / "yours"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    for name in ("objective", "other"):
        (folder / f"{name}.py").write_text("def below(delta, z, weight):\n    return delta.sum()\n")
    (folder / "task.py").write_text(TASK)
    info = folder.parent / "yours-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: yours\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scorer.plugins]\nbelow = yours.objective:below\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.invalidate_caches()
    plugins.short_names.cache_clear()
    yield folder
    plugins.short_names.cache_clear()


def remove(package):
    shutil.rmtree(package.parent)
    importlib.invalidate_caches()
    plugins.short_names.cache_clear()


def test_a_frozen_sweep_with_a_short_name_has_the_same_runs_when_the_package_is_gone(package, tmp_path):
    defined = sweep(variants={"a": {"follower_objective": "below"}, "b": {}}, baseline="b")
    make_plan(defined, tmp_path, only=set()).write()
    remove(package)
    frozen = load_submitted(tmp_path / "mine")
    assert [run.run_id for run in frozen.runs] == [run.run_id for run in defined.runs]
    assert [variant.name for variant in frozen.grid_variants] == ["a", "b"]


def test_a_frozen_short_name_means_the_part_that_it_meant(package, tmp_path):
    defined = sweep(variants={"a": {"follower_objective": "below"}})
    make_plan(defined, tmp_path, only=set()).write()
    points = package.parent / "yours-1.0.dist-info" / "entry_points.txt"
    points.write_text("[scorer.plugins]\nbelow = yours.other:below\n")
    importlib.invalidate_caches()
    plugins.short_names.cache_clear()
    assert load_submitted(tmp_path / "mine").runs[0].run_id == defined.runs[0].run_id
    assert sweep(variants={"a": {"follower_objective": "below"}}).runs[0].run_id != defined.runs[0].run_id


def test_a_frozen_sweep_on_a_task_of_the_user_s_is_read_when_the_package_is_gone(package, tmp_path):
    defined = sweep(tasks=["yours.task:Corridor"])
    make_plan(defined, tmp_path, only=set()).write()
    remove(package)
    assert [run.run_id for run in load_submitted(tmp_path / "mine").runs] == [run.run_id for run in defined.runs]


@pytest.mark.usefixtures("package")
def test_a_search_records_every_part_that_a_trial_may_have():
    raw = {
        "name": "s", "question": "?", "tasks": ["minatar/breakout"], "total_steps": 1_000, "seeds": 1, "trials": 2,
        "base": {"follower_objective": "below", "follower_weight": 0},
        "space": {"leader_penalty": ["yours.other:below", "none"], "leader_penalty_weight": {"log": [0.1, 1]}},
    }  # fmt: skip
    found = search.parse(raw, "s.yaml")
    assert found.sources.keys() == {"below", "yours.objective:below", "yours.other:below"}
    (trial,) = found.runs({"leader_penalty": "yours.other:below", "leader_penalty_weight": 0.5})
    assert trial.sources == {"yours.other:below": found.sources["yours.other:below"]}


def test_a_part_that_the_training_process_cannot_import_is_one_line(package, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    check_imports(["yours.objective:below", "below"])
    (package / "other.py").write_text("import nothing_here\n\n\ndef below():\n    pass\n")
    with pytest.raises(DefinitionError) as fault:
        check_imports(["yours.objective:below", "yours.other:below"])
    assert str(fault.value) == (
        "yours.other:below cannot be imported: ModuleNotFoundError: No module named 'nothing_here'"
    )


def test_the_current_folder_does_not_hide_an_installed_module(package, tmp_path, monkeypatch):
    (tmp_path / "here" / "yours").mkdir(parents=True)
    (tmp_path / "here" / "yours" / "__init__.py").write_text("raise RuntimeError('the current folder was imported')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    check_imports(["yours.objective:below"])
