"""`exclude`: which cells of the grid it removes, and which entries are mistakes."""

import pytest
import yaml

from sweeps.errors import DefinitionError
from sweeps.loading import load, load_submitted
from tests.sweeps.minimal import MINIMAL, names, sweep


def test_exclude_drops_the_points_that_match_every_condition_of_one_entry():
    grid = sweep(
        tasks=["minatar/breakout", "minatar/asterix"],
        axes={"ratio": [1, 5], "gamma": [0.9, 0.99]},
        exclude=[{"ratio": 1, "gamma": 0.9}, {"task": "minatar/asterix", "ratio": [5, 7]}],
    )
    cells = {(run.config.task, run.config.ratio, run.config.gamma) for run in grid.runs}
    assert cells == {
        ("minatar/breakout", 1.0, 0.99), ("minatar/breakout", 5.0, 0.9), ("minatar/breakout", 5.0, 0.99),
        ("minatar/asterix", 1.0, 0.99),
    }  # fmt: skip


@pytest.mark.parametrize("written", ["msbe", 0.25, "norm", ["variance", "norm"]])
def test_exclude_knows_a_follower_s_objective_however_it_is_written(written):
    values = ["variance", "msbe", 0.25, "norm"]
    gone = written if isinstance(written, list) else [written]
    kept = sweep(axes={"follower_objective": values}, exclude=[{"follower_objective": written}])
    names = [dict(variant.point)["follower_objective"] for variant in kept.grid_variants]
    assert names == [value for value in values if value not in gone]


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ([{"ratio": 1}, {"ratio": 3}], "exclude.1: matches no run; remove or correct {'ratio': 3}"),
        ([{"gamma": 0.5}], "exclude.0: matches no run"),
        (
            [{"ratio": 1, "task": "minatar/asterix"}],
            "exclude.0.task: unknown task 'minatar/asterix'; choose from: ",
        ),
        ([{"variant": "scorrer"}], "exclude.0.variant: unknown variant 'scorrer'; choose from: ratio=1, ratio=5"),
        ([{"variant": ["ratio=1", "ratio=7"]}], "exclude.0.variant: unknown variant 'ratio=7'"),
    ],
)
def test_an_exclusion_that_removes_nothing_is_rejected(tmp_path, exclude, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | {"axes": {"ratio": [1, 5]}, "exclude": exclude}))
    with pytest.raises(DefinitionError) as error:
        load(str(path))
    assert str(error.value).startswith(f"{path}: {message}")
    submitted = tmp_path / "sweep.yaml"
    path.rename(submitted)
    assert load_submitted(tmp_path).runs, "version 0.1 accepted it, and its results stay readable"


def test_points_that_compute_the_same_are_excluded_as_they_were_written():
    """At 128 environments, updates every 1, 4 and 128 steps are the same runs."""
    axes = {"update_every": [1, 4, 128, 256]}

    def kept(*values: int) -> list[int]:
        grid = sweep(axes=axes, exclude=[{"update_every": value} for value in values])
        grid.check_exclusions()
        return [run.config.update_every for run in grid.runs if run.config.seed == 0]

    assert kept() == [1, 256]
    assert kept(4) == [1, 256]
    assert kept(1) == [4, 256]
    assert kept(1, 4, 128) == [256]
    assert kept(256) == [1]


def test_exclusions_may_overlap():
    kept = sweep(axes={"ratio": [1, 5]}, exclude=[{"ratio": 1}, {"variant": "ratio=1"}])
    kept.check_exclusions()
    assert names(kept) == ["ratio=5"]
