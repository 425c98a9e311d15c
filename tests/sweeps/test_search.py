"""A search as written: what is valid, what is not and why, and which runs a trial is."""

from typing import Any

import optuna
import pytest
import yaml

from sweeps import loading, search
from sweeps.errors import DefinitionError
from tests.search_synthetic import search_of

TASK, INF, NAN = "minatar/breakout", float("inf"), float("nan")
SMALL = {"num_envs": 8, "replay_size": 400, "batch_size": 8}
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
        ({"space": {"ratoi": {"log": [1, 2]}}}, "space.ratoi: unknown setting"),
        ({"space": {"seed": {"integer": [1, 2]}}}, "space.seed: unknown setting"),
        ({"space": {"ratio": {"log": [0, 1]}}}, "space.ratio: log: low (0) must be greater than 0"),
        ({"space": {"ratio": {"log": [3, 1]}}}, "space.ratio: log: low (3) must be less than high (1)"),
        ({"space": {"ratio": {"lgo": [1, 3]}}}, "space.ratio: give a list of choices, or one of uniform"),
        ({"space": {"ratio": [1]}}, "space.ratio: at least two different choices are needed"),
        ({"space": {"follower_steps": {"integer": [1, 2.5]}}}, "integer needs [low, high], two whole numbers"),
        ({"space": {"gamma": {"uniform": [0.9, 1.5]}}}, "gamma: Input should be less than or equal to 1"),
        ({"space": {}}, "space: Dictionary should have at least 1 item"),
        (
            {"space": {"ratio": {"log": [1, 2], "when": {"coupling": "scorer"}}}},
            "space.ratio.when.coupling: is not an earlier field of `space` with choices",
        ),
        (
            {"space": {"coupling": ["scorer", "inverted"], "ratio": {"log": [1, 2], "when": {"coupling": "dqn"}}}},
            "space.ratio.when.coupling: 'dqn' is not one of its choices",
        ),
        ({"sampler": "cmaes"}, "sampler: cmaes needs at least two numeric fields without `when`"),
        ({"sampler": "grid"}, "space.ratio: sampler grid accepts only lists of choices"),
        ({"sampler": "bayes"}, "sampler: Input should be 'tpe'"),
        ({"objective": "time_to_threshold"}, "only time_to_threshold has a threshold, and needs one"),
        ({"objective": ["auc", "auc"]}, "objective: duplicate value"),
        ({"direction": ["maximize", "minimize"]}, "direction: give one per objective (1), not 2"),
        ({"pruner": "halving", "objective": ["auc", "iqm_final"]}, "pruner: halving accepts only one objective"),
        ({"pruner": "wilcoxon"}, "p_threshold: with 3 tasks x seeds the smallest possible p is 0.125"),
        ({"pruner": "halving", "rungs": [0.5, 0.25]}, "rungs: must be fractions of total_steps in increasing order"),
        (
            {"tasks": ["minatar/breakout", "minatar/asterix"]},
            "scale.minatar/breakout: is missing; with several tasks, give [zero, one]",
        ),
        ({"scale": {"minatar/asterix": [0, 1]}}, "scale.minatar/asterix: is not in `tasks`"),
        ({"seeds": 0}, "seeds: at least one seed is needed"),
        ({"trials": 0}, "trials: Input should be greater than or equal to 1"),
        ({"tasks": ["minatar/pong"]}, "tasks.0: unknown game 'pong'"),
        ({"base": {"ratoi": 1}}, "base.ratoi: unknown setting"),
        ({"axes": {"ratio": [1]}}, "axes: unknown key"),
        ({"scale": {TASK: [5, 5]}}, f"scale.{TASK}: [zero, one]: zero must be less than one, not [5, 5]"),
        ({"scale": {TASK: [10, 5]}}, f"scale.{TASK}: [zero, one]: zero must be less than one, not [10, 5]"),
        ({"scale": {TASK: [1, INF]}}, f"scale.{TASK}.1: Input should be a finite number, not inf"),
        ({"scale": {TASK: [NAN, 1]}}, f"scale.{TASK}.0: Input should be a finite number, not nan"),
        ({"scale": {TASK: [False, 1]}}, f"scale.{TASK}.0: false is not a number"),
        ({"objective": {"time_to_threshold": NAN}}, "objective.0.threshold: Input should be a finite number, not nan"),
        (
            {"objective": {"time_to_threshold": -INF}},
            "objective.0.threshold: Input should be a finite number",
        ),
        ({"objective": {"time_to_threshold": True}}, "objective.0.threshold: true is not a number"),
        ({"trials": True}, "trials: true is not a number"),
        ({"total_steps": True}, "total_steps: true is not a number"),
        ({"sampler_seed": True}, "sampler_seed: Input should be a valid integer, not True"),
        ({"rungs": [True]}, "rungs.0: true is not a number"),
        ({"p_threshold": True}, "p_threshold: true is not a number"),
        ({"keep_fraction": NAN}, "keep_fraction: Input should be a finite number, not nan"),
        ({"seeds": None, "pruner": "wilcoxon"}, "seeds: Input should be a valid list, not None"),
        ({"seeds": None, "pruner": "halving"}, "seeds: Input should be a valid list, not None"),
        ({"space": {"ratio": {"uniform": [True, 2]}}}, "space.ratio: uniform needs [low, high], two numbers"),
        ({"space": {"ratio": {"uniform": [1, INF]}}}, "space.ratio: uniform: inf is not a finite number"),
        ({"space": {"ratio": {"log": [NAN, 1]}}}, "space.ratio: log: nan is not a finite number"),
        ({"space": {"target_every": {"integer": [1, 10**5000]}}}, "integer: a number of hundreds of digits is not"),
        ({"space": {"ratio": [1, 1.0]}}, "space.ratio: at least two different choices are needed"),
        ({"space": {"ratio": [True, 2]}}, "space.ratio: do not mix true or false with other choices"),
        ({"space": {"ratio": [1, NAN]}}, "space.ratio: choice: nan is not a finite number"),
        (
            {"space": {"ratio": {"log": [1, 2], "when": None}}},
            "space.ratio: when: must be a mapping",
        ),
        (
            {"space": {"follower_steps": [1, 2], "ratio": {"log": [1, 2], "when": {"follower_steps": []}}}},
            "space.ratio: when.follower_steps: at least one value is needed",
        ),
        (
            {"space": {"follower_steps": [1, 2], "ratio": {"log": [1, 2], "when": {"follower_steps": True}}}},
            "space.ratio.when.follower_steps: True is not one of its choices",
        ),
        ({"tasks": [TASK, TASK]}, f"tasks: duplicate value {TASK}"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_field(changes, message):
    with pytest.raises(DefinitionError) as refused:
        search_of(**changes)
    assert str(refused.value).startswith("syn.yaml: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (  # 500 steps of 8 environments, of which every 167th is logged
            {"rungs": [0.3, 0.5], "base": SMALL | {"log_points": 3}},
            "rungs.0: 0.3 of total_steps is step 1,200, before the first logged step 1,336 "
            "(total_steps 4,000, num_envs 8, log_points 3); use a later rung or more log_points",
        ),
        (
            {"rungs": [0.02], "space": {"num_envs": [8, 100]}},
            "rungs.0: 0.02 of total_steps is step 80, before the first logged step 100 "
            "(total_steps 4,000, num_envs 100, log_points 100)",
        ),
        (
            {"rungs": [0.1], "space": {"log_points": {"log_integer": [4, 100]}}},
            "rungs.0: 0.1 of total_steps is step 400, before the first logged step 1,000",
        ),
        ({"rungs": [0.9999]}, "rungs.0: 0.9999 of total_steps is step 4,000, the end of training"),
        ({"rungs": [0.9989]}, "rungs.0: 0.9989 of total_steps is step 3,996, the end of training"),
        ({"rungs": [0.5, 0.50001]}, "rungs.1: 0.50001 of total_steps is step 2,000, in the same vector step"),
        ({"rungs": [0.5004, 0.5009]}, "rungs.1: 0.5009 of total_steps is step 2,004, in the same vector step"),
    ],
)
def test_a_rung_where_nothing_can_be_compared_is_rejected_with_the_step_and_the_reason(changes, message):
    with pytest.raises(DefinitionError) as refused:
        search_of(pruner="halving", **changes)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert search_of(**changes), "without a pruner nothing looks at the rungs"


def test_a_rung_at_the_first_logged_step_is_accepted():
    accepted = search_of(pruner="halving", rungs=[0.334, 0.5], base=SMALL | {"log_points": 3})
    assert accepted.rung_steps() == [1336, 2000]
    assert [step * 8 for step in accepted.default[0].log_steps] == [1336, 2672, 4000]


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
    assert "ratio_search" in loading.shipped_searches()
    assert "ratio_search" not in loading.shipped()
    with pytest.raises(
        DefinitionError, match=r"has a `space`, so it is a search\. Run it with: scorer search ratio_search"
    ):
        loading.load("ratio_search")
    with pytest.raises(DefinitionError, match=r"has no `space`, so it is a sweep\. Run it with: scorer run quickst"):
        search.load("quickstart")
    with pytest.raises(DefinitionError, match=r"not a built-in sweep or search; built-in: .*ratio_search"):
        search.load("nosuch")
