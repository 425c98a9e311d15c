"""A search as written: what is valid, what is not and why, and which runs a trial is."""

from typing import Any

import optuna
import pytest
import yaml

from sweeps import definition, search
from sweeps.definition import DefinitionError
from tests.search_synthetic import search_of

SHAPES = {
    "ratio": {"log": [0.1, 100]},
    "gamma": {"uniform": [0.9, 0.99]},
    "target_every": {"log_integer": [10, 1000]},
    "follower_steps": {"integer": [1, 4]},
    "coupling": ["scorer", "monolithic"],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"ratoi": {"log": [1, 2]}}}, "space.ratoi: no such setting"),
        ({"space": {"seed": {"integer": [1, 2]}}}, "space.seed: no such setting"),
        ({"space": {"ratio": {"log": [0, 1]}}}, "space.ratio: log: 0 is not above 0"),
        ({"space": {"ratio": {"log": [3, 1]}}}, "space.ratio: log: 3 is not below 1"),
        ({"space": {"ratio": {"lgo": [1, 3]}}}, "space.ratio: give a list of choices, or one of uniform"),
        ({"space": {"ratio": [1]}}, "space.ratio: at least two choices are needed"),
        ({"space": {"follower_steps": {"integer": [1, 2.5]}}}, "integer takes [low, high], two whole numbers"),
        ({"space": {"gamma": {"uniform": [0.9, 1.5]}}}, "gamma: Input should be less than or equal to 1"),
        ({"space": {}}, "space: Dictionary should have at least 1 item"),
        (
            {"space": {"ratio": {"log": [1, 2], "when": {"coupling": "scorer"}}}},
            "space.ratio.when.coupling: not an earlier field of `space` with choices",
        ),
        (
            {"space": {"coupling": ["scorer", "inverted"], "ratio": {"log": [1, 2], "when": {"coupling": "dqn"}}}},
            "space.ratio.when.coupling: 'dqn' is none of its choices",
        ),
        ({"sampler": "cmaes"}, "sampler: cmaes needs at least two unconditional numeric fields"),
        ({"sampler": "grid"}, "space.ratio: sampler grid takes lists of choices alone"),
        ({"sampler": "bayes"}, "sampler: Input should be 'tpe'"),
        ({"objective": "time_to_threshold"}, "a threshold belongs to time_to_threshold"),
        ({"objective": ["auc", "auc"]}, "objective: one stands twice"),
        ({"direction": ["maximize", "minimize"]}, "direction: 1 needed, one an objective, not 2"),
        ({"pruner": "halving", "objective": ["auc", "iqm_final"]}, "pruner: halving takes one objective"),
        ({"pruner": "wilcoxon"}, "pruner_p: 0.1 is out of reach of 3 tasks x seeds, of which the smallest p is 0.125"),
        ({"pruner": "halving", "rungs": [0.5, 0.25]}, "rungs: shares of the budget, each larger than the one before"),
        ({"tasks": ["minatar/breakout", "minatar/asterix"]}, "scale.minatar/breakout: [zero, one] is needed"),
        ({"scale": {"minatar/asterix": [0, 1]}}, "scale.minatar/asterix: not one of `tasks`"),
        ({"seeds": 0}, "seeds: at least one seed is needed"),
        ({"trials": 0}, "trials: Input should be greater than or equal to 1"),
        ({"tasks": ["minatar/pong"]}, "tasks.0: unknown game 'pong'"),
        ({"base": {"ratoi": 1}}, "base.ratoi: no such setting here"),
        ({"axes": {"ratio": [1]}}, "axes: unknown key"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_field(changes, message):
    with pytest.raises(DefinitionError) as refused:
        search_of(**changes)
    assert str(refused.value).startswith("syn.yaml: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_definition_written_out_reads_back_as_itself():
    conditional = {"coupling": ["scorer", "monolithic"], "ratio": {"log": [1, 9], "when": {"coupling": "scorer"}}}
    whole = search_of(space=SHAPES | {"ratio": {"log": [0.1, 100]}}, objective=["auc", {"time_to_threshold": 3.0}])
    for one in (whole, search_of(space=conditional, pruner="halving", seeds=[4, 7], direction="minimize")):
        assert search.parse(yaml.safe_load(search.dump(one)), "again") == one


def test_every_form_is_drawn_from_its_own_range_and_a_condition_is_kept():
    space = SHAPES | {"ratio": {"log": [0.1, 100], "when": {"coupling": "scorer"}}}
    space = {"coupling": space.pop("coupling"), **space}
    one, study = search_of(space=space), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, list[Any]] = {}
    for _ in range(60):
        trial, point = study.ask(), {}
        for name, dimension in one.space.items():
            if dimension.exists(point):
                point[name] = dimension.suggest(trial, name)
        assert ("ratio" in point) == (point["coupling"] == "scorer")
        assert len(one.runs(point)) == 3
        for name, value in point.items():
            seen.setdefault(name, []).append(value)
    assert min(seen["ratio"]) < 1 < 10 < max(seen["ratio"])
    assert {type(value) for value in seen["follower_steps"] + seen["target_every"]} == {int}
    assert set(seen["follower_steps"]) == {1, 2, 3, 4}
    assert 0.9 <= min(seen["gamma"]) < max(seen["gamma"]) <= 0.99


def test_a_trial_is_its_point_on_every_task_with_every_seed_and_otherwise_the_base():
    one = search_of(
        tasks=["minatar/breakout", "minatar/asterix"],
        scale={"minatar/breakout": [0, 10], "minatar/asterix": [0, 5]},
        seeds=2,
        base={"leader_lr": 1e-3, "ratio": 5, "num_envs": 8, "replay_size": 400, "batch_size": 8},
    )
    runs = one.runs({"ratio": 2.0})
    assert [(run.task, run.seed) for run in runs] == [(task, seed) for task in one.tasks for seed in (0, 1)]
    assert {(run.leader_lr, run.follower_lr, run.num_envs) for run in runs} == {(1e-3, 2e-3, 8)}
    assert {run.ratio for run in one.default} == {5.0}


def test_what_a_study_is_bound_to_is_all_but_the_question_and_the_number_of_trials():
    one = search_of()
    assert search_of(question="another", trials=99).identity == one.identity
    assert search_of(seeds=[0, 1, 2]).identity == one.identity
    for changes in ({"seeds": 4}, {"sampler_seed": 1}, {"base": {"gamma": 0.9}}, {"total_steps": 4001}):
        assert search_of(**changes).identity != one.identity


def test_sweeps_and_searches_are_not_taken_for_each_other():
    assert "ratio_search" in definition.shipped_searches()
    assert "ratio_search" not in definition.shipped()
    with pytest.raises(DefinitionError, match="is a search, for it has a `space`: scorer search ratio_search"):
        definition.load("ratio_search")
    with pytest.raises(DefinitionError, match="space: missing, so this is no search but a sweep: scorer run quickst"):
        search.load("quickstart")
    with pytest.raises(DefinitionError, match=r"no shipped sweep or search; there is .*ratio_search"):
        search.load("nosuch")
