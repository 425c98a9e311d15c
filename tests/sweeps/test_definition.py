"""A definition: what it expands to, and which mistakes are rejected."""

import pytest
import yaml

from sweeps.errors import DefinitionError
from sweeps.loading import dump, load, parse, shipped
from tests.sweeps.minimal import names, sweep


def test_axes_multiply_and_zipped_values_go_in_pairs():
    grid = sweep(axes={"gamma": [0.9, 0.99]}, zip={"leader_lr": [1e-3, 1e-4], "batch_size": [32, 64]})
    assert names(grid) == [
        "gamma=0.9 leader_lr=0.001 batch_size=32", "gamma=0.9 leader_lr=0.0001 batch_size=64",
        "gamma=0.99 leader_lr=0.001 batch_size=32", "gamma=0.99 leader_lr=0.0001 batch_size=64",
    ]  # fmt: skip
    assert len(grid.runs) == 8
    assert {(run.config.leader_lr, run.config.batch_size) for run in grid.runs} == {(1e-3, 32), (1e-4, 64)}


def test_an_axis_that_does_nothing_to_a_variant_does_not_multiply_it():
    grid = sweep(
        baseline="dqn", variants={"dqn": {"coupling": "monolithic"}, "scorer": None}, axes={"ratio": [0.5, 2, 5]}
    )
    assert names(grid) == ["dqn", "scorer ratio=0.5", "scorer ratio=2", "scorer ratio=5"]
    assert len({run.run_id for run in grid.runs}) == len(grid.runs) == 8


@pytest.mark.parametrize("tasks", [["gymnax/breakout", "minatar/breakout"], ["minatar/breakout", "gymnax/breakout"]])
def test_an_axis_that_matters_on_any_task_is_kept_whatever_the_order_of_tasks(tasks):
    grid = sweep(tasks=tasks, axes={"action_set": ["minimal", "full"], "lr_end": [0.1, 0.2]})
    assert len(grid.grid_variants) == 4
    assert {dict(variant.point)["action_set"] for variant in grid.grid_variants} == {"minimal", "full"}
    runs = {run.run_id for run in grid.runs}
    assert len(runs) == 2 * (1 + 2) * 2, "gymnax has one action set, and its runs are shared"


def test_an_axis_that_matters_on_no_task_is_left_out():
    assert names(sweep(tasks=["gymnax/breakout", "CartPole-v1"], axes={"action_set": ["minimal", "full"]})) == ["only"]


def test_a_preset_of_a_variant_does_not_change_the_budget():
    grid = sweep(baseline="a", variants={"a": {}, "b": {"preset": "paper_control"}, "c": {"preset": "paper_minatar"}})
    assert {run.config.total_steps for run in grid.runs} == {10_000}


def test_variants_that_resolve_to_the_same_run_share_it():
    grid = sweep(baseline="a", variants={"a": {"ratio": 5}, "b": {"leader_lr": 1e-4, "follower_lr": 5e-4}})
    assert names(grid) == ["a", "b"]
    assert len(grid.runs) == 4
    assert len({run.run_id for run in grid.runs}) == 2


def test_each_variant_is_compared_with_the_baseline_at_its_own_point():
    grid = sweep(
        baseline="dqn", variants={"dqn": {"coupling": "monolithic"}, "scorer": {}},
        axes={"gamma": [0.9, 0.99], "ratio": [1, 5]},
    )  # fmt: skip
    by_name = {variant.name: variant for variant in grid.grid_variants}
    assert grid.baseline_of(by_name["scorer gamma=0.9 ratio=5"]) == by_name["dqn gamma=0.9"]
    assert grid.baseline_of(by_name["scorer gamma=0.99 ratio=1"]) == by_name["dqn gamma=0.99"]
    assert sweep().baseline_of(sweep().grid_variants[0]) is None


VARIANTS = {"dqn": {"coupling": "monolithic"}, "best": {"coupling": "scorer", "gamma": 0.9}}
TOGGLES = [{"order": "leader_first"}, {"batches": "shared", "ratio": 1}]


def test_one_factor_at_a_time_makes_a_variant_of_each_toggle_against_the_same_baseline():
    grid = sweep(
        baseline="best", variants=VARIANTS, ablate={"from": "best", "toggle": TOGGLES}, axes={"batch_size": [8]}
    )
    by_name = {run.variant.name: run.config for run in grid.runs}
    assert list(by_name) == ["dqn", "best", "best order=leader_first", "best batches=shared, ratio=1"]
    toggled = by_name["best batches=shared, ratio=1"]
    assert (toggled.batches, toggled.ratio, toggled.gamma, toggled.order) == ("shared", 1.0, 0.9, "follower_first")
    best = next(variant for variant in grid.grid_variants if variant.name == "best")
    assert all(grid.baseline_of(variant) == best for variant in grid.grid_variants)
    again = parse(yaml.safe_load(dump(grid)), "again.yaml")
    assert [run.run_id for run in again.runs] == [run.run_id for run in grid.runs]


def test_names_are_written_as_yaml_writes_them():
    toggles = [{"normalise_features": False, "phi_widths": [64, 32], "gamma": 0.5}]
    grid = sweep(baseline="best", variants=VARIANTS, ablate={"from": "best", "toggle": toggles})
    assert "best normalise_features=false, phi_widths=64x32, gamma=0.5" in {run.variant.name for run in grid.runs}


def test_leave_one_out_starts_from_all_toggles():
    ablate = {"from": "best", "toggle": TOGGLES, "how": "leave_one_out"}
    by_name = {run.variant.name: run.config for run in sweep(baseline="best", variants=VARIANTS, ablate=ablate).runs}
    whole, one = by_name["best all"], by_name["best all but order=leader_first"]
    assert (whole.order, whole.batches, whole.ratio) == ("leader_first", "shared", 1.0)
    assert (one.order, one.batches, one.ratio) == ("follower_first", "shared", 1.0)
    assert "best all but batches=shared, ratio=1" in by_name


@pytest.mark.parametrize(
    ("ablate", "message"),
    [
        ({"from": "worst", "toggle": TOGGLES}, "ablate.from: unknown variant 'worst'; choose from: dqn, best"),
        ({"from": "best", "toggle": [{"odrer": 1}]}, "ablate.toggle.0.odrer: unknown setting"),
        ({"from": "best", "toggle": [{"gamma": 0.9}]}, "ablate.toggle: 'best gamma=0.9' computes the same as best"),
        ({"from": "best", "toggle": []}, "ablate.toggle: List should have at least 1 item"),
    ],
)
def test_a_mistake_in_ablate_is_named(ablate, message):
    with pytest.raises(DefinitionError) as error:
        sweep(baseline="best", variants=VARIANTS, ablate=ablate)
    assert str(error.value).startswith(f"mine.yaml: {message}")


def test_a_reported_number_of_no_cell_is_rejected():
    reported = {"Table 1": {"worst": {"minatar/breakout": [1.0, 0.1]}}}
    with pytest.raises(
        DefinitionError, match=r"reported.Table 1: this sweep has no run of 'worst' on minatar/breakout"
    ):
        sweep(baseline="best", variants=VARIANTS, reported=reported)


def test_later_layers_win_base_then_variant_then_axes():
    grid = sweep(
        base={"preset": "paper_control", "gamma": 0.5, "batch_size": 8},
        baseline="v", variants={"v": {"gamma": 0.6}}, axes={"batch_size": [16]},
    )  # fmt: skip
    config = grid.runs[0].config
    assert (config.gamma, config.batch_size, config.activation, config.num_envs) == (0.6, 16, "tanh", 10)
    assert config.total_steps == 10_000


def test_seeds_are_a_number_or_a_list():
    assert [run.config.seed for run in sweep(seeds=3).runs] == [0, 1, 2]
    assert [run.config.seed for run in sweep(seeds=[7, 5]).runs] == [7, 5]


def test_what_is_dumped_is_the_same_sweep():
    grid = sweep(baseline="a", variants={"a": {"phi_widths": [8, 8]}}, axes={"ratio": [0.2, 5]}, exclude=[{"ratio": 5}])
    again = parse(yaml.safe_load(dump(grid)), "again.yaml")
    assert [run.run_id for run in again.runs] == [run.run_id for run in grid.runs]


def test_every_shipped_sweep_expands_and_has_a_baseline():
    for name in shipped():
        grid = load(name)
        assert grid.name == name
        assert grid.baseline_of(grid.grid_variants[-1])


def test_quickstart_has_the_variants_that_its_question_compares():
    grid = load("quickstart")
    assert len(grid.tasks) >= 2
    assert len(grid.seeds) >= 3
    couplings = [(run.config.coupling, run.config.ratio, run.config.follower_weight) for run in grid.runs]
    assert {("monolithic", None, 0.0), ("scorer", 5.0, 1.0), ("inverted", 5.0, 1.0), ("scorer", 1.0, 1.0)} <= set(
        couplings
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": 3}, "mine.yaml: sedes: unknown key"),
        ({"gamma": 0.9}, "mine.yaml: gamma: unknown key; did you mean base.gamma?"),
        ({"base": {"gama": 1}}, "mine.yaml: base.gama: unknown setting"),
        ({"base": {"seed": 1}}, "mine.yaml: base.seed: unknown setting; set `seeds` at the top level"),
        ({"tasks": ["minatar/pong"]}, "mine.yaml: tasks.0: unknown game 'pong'"),
        ({"tasks": ["minatar/breakout"] * 2}, "mine.yaml: tasks: duplicate value minatar/breakout"),
        ({"base": {"ratio": 0}}, "mine.yaml: ratio: 0 is not a finite number above 0"),
        ({"base": {"ratio": float("nan")}}, "mine.yaml: ratio: nan is not a finite number above 0"),
        ({"axes": {"ratio": [1, -2]}}, "mine.yaml: variant 'ratio=-2': ratio: -2 is not a finite number above 0"),
        ({"seeds": 0}, "mine.yaml: seeds: at least one seed is needed, not 0"),
        ({"seeds": []}, "mine.yaml: seeds: List should have at least 1 item"),
        ({"seeds": [3, 3]}, "mine.yaml: seeds: duplicate value 3"),
        ({"seeds": True}, "mine.yaml: seeds: true is neither a number of seeds nor a list"),
        ({"seeds": [True, 2]}, "mine.yaml: seeds.0: true is not a number"),
        ({"total_steps": True}, "mine.yaml: total_steps: true is not a number"),
        ({"base": {"batch_size": True}}, "mine.yaml: batch_size: true is not a number"),
        ({"base": {"ratio": True}}, "mine.yaml: ratio: True is not a number"),
        ({"axes": {"gamma": [0.9, True]}}, "mine.yaml: variant 'gamma=true': gamma: true is not a number"),
        ({"base": {"normalise_input": 1}}, "mine.yaml: normalise_input: Input should be a valid boolean, not 1"),
        ({"base": {"leader_power": 99}}, "mine.yaml: leader_power: Input should be less than or equal to 4, not 99"),
        ({"base": {"leader_penalty_weight": -1}}, "mine.yaml: leader_penalty_weight: Input should be greater"),
        ({"exclude": [{"task": "minatar/breakout"}]}, "mine.yaml: exclude: removes every run"),
        (
            {"exclude": [{"gamma": {"a": 1}}]},
            "mine.yaml: exclude.0.gamma: {'a': 1} is neither a value nor a list of values",
        ),
        ({"exclude": [{"variant": [{"a": 1}]}]}, "mine.yaml: exclude.0.variant: [{'a': 1}] is neither a value"),
        ({"base": {"batch_size": 10**6}}, "mine.yaml: batch_size (1000000) is larger than replay_size (100000)"),
        ({"variants": {"a": {}, "b": {}}}, "mine.yaml: baseline: is missing; choose from: a, b"),
        (
            {"variants": {"a": {}}, "baseline": "b"},
            "mine.yaml: baseline: 'b' is not a variant and matches no point; choose from: a",
        ),
        ({"zip": {"gamma": [0.1, 0.2], "batch_size": [1]}}, "mine.yaml: zip: all lists must have the same length"),
        ({"axes": {"gamma": [0.9]}, "zip": {"gamma": [0.9]}}, "mine.yaml: zip.gamma: is already an axis"),
        ({"axes": {"gamma": []}}, "mine.yaml: axes.gamma: at least one value is needed"),
        ({"name": "../up"}, "mine.yaml: name: '../up' cannot be a folder's name"),
        ({"base": {"leader_lr": "fast"}}, "mine.yaml: leader_lr: Input should be a valid number"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_the_field(changes, message):
    with pytest.raises(DefinitionError) as error:
        sweep(**changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants: {a: {}, a: {}}", "duplicate key 'a'"),
        ("name: [", "while parsing"),
        ("- a list", "not a mapping"),
    ],
)
def test_a_file_that_is_not_a_definition_is_rejected(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=message) as error:
        load(str(path))
    assert str(error.value).startswith(str(path))


def test_a_folder_with_the_name_of_a_shipped_sweep_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "ratio").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("ratio").name == "ratio"


def test_a_sweep_that_is_neither_shipped_nor_a_file_is_rejected():
    with pytest.raises(
        DefinitionError, match=r"nosuch: not a file and not a built-in sweep or search; built-in: .*quickstart"
    ):
        load("nosuch")
    with pytest.raises(DefinitionError, match=r"no/such\.yaml: cannot be read"):
        load("no/such.yaml")


def test_overrides_reach_any_field_by_its_dotted_name():
    grid = load("quickstart", ["seeds=[4]", "variants.scorer.ratio=7", "base.leader_lr=1e-5", "axes.gamma=[0.9]"])
    assert {run.config.seed for run in grid.runs} == {4}
    scorer = next(run.config for run in grid.runs if run.variant.base_name == "scorer")
    assert (scorer.ratio, scorer.leader_lr, scorer.gamma) == (7.0, 1e-5, 0.9)


@pytest.mark.parametrize("override", ["seeds", "seeds.x=1", "seeds=[", "surprise=1"])
def test_an_override_that_cannot_be_is_rejected(override):
    with pytest.raises(DefinitionError):
        load("quickstart", [override])


AXES = {"axes": {"ratio": [1, 5], "gamma": [0.9, 0.99]}}


@pytest.mark.parametrize("baseline", [{"ratio": 1, "gamma": 0.9}, {"ratio": 1.0, "gamma": 0.9}, "ratio=1 gamma=0.9"])
def test_a_point_of_the_axes_can_be_the_baseline_of_all_others(baseline):
    grid = sweep(baseline=baseline, **AXES)
    first, *others = grid.grid_variants
    assert first.name == "ratio=1 gamma=0.9"
    assert grid.baseline_points == [first]
    assert {grid.baseline_of(variant) for variant in others} == {first}
    again = parse(yaml.safe_load(dump(grid)), "again.yaml")
    assert again.baseline_points == [first]


def test_a_point_of_a_variant_can_be_the_baseline():
    variants = {"dqn": {"coupling": "monolithic"}, "scorer": {}}
    for baseline in ({"variant": "scorer", "ratio": 1}, {"ratio": 1}, "scorer ratio=1"):
        grid = sweep(baseline=baseline, variants=variants, axes={"ratio": [1, 5]})
        assert [variant.name for variant in grid.baseline_points] == ["scorer ratio=1"]
    assert sweep(baseline={"variant": "dqn"}, variants=variants).baseline_points[0].name == "dqn"
    pairs = {"zip": {"phi_widths": [[8], [8, 16]], "gamma": [0.9, 0.99]}}
    assert sweep(baseline={"phi_widths": [8, 16]}, **pairs).baseline_points[0].name == "phi_widths=8x16 gamma=0.99"


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (
            {"ratio": 1},
            "baseline: {'ratio': 1} matches 2 points; choose one of them: ratio=1 gamma=0.9, ratio=1 gamma=0.99",
        ),
        (
            {"ratio": 7},
            "baseline: {'ratio': 7} is not a variant and matches no point; choose from: ratio=1 gamma=0.9, ",
        ),
        ("ratio=7", "baseline: 'ratio=7' is not a variant and matches no point; choose from: ratio=1 gamma=0.9, "),
        ({"lr_end": 0}, "baseline.lr_end: is not an axis; choose from: variant, ratio, gamma"),
        ({}, "baseline: {} matches 4 points; choose one of them: "),
        (5, "baseline: 5 is neither the name of a variant nor a point such as {ratio: 1}"),
        ([1], "baseline: [1] is neither the name of a variant nor a point such as {ratio: 1}"),
    ],
)
def test_a_baseline_that_is_not_one_point_is_answered_with_the_candidates(baseline, message):
    with pytest.raises(DefinitionError) as error:
        sweep(baseline=baseline, **AXES)
    assert str(error.value).startswith(f"mine.yaml: {message}")


def test_a_single_variant_needs_no_baseline():
    alone = sweep(variants={"dqn": {"coupling": "monolithic"}})
    assert names(alone) == ["dqn"]
    assert alone.baseline_points == alone.grid_variants, "figures show it as the baseline"
    assert sweep(variants={"scorer": {}}, axes={"ratio": [1, 5]}).baseline_points == []


def test_a_setting_of_a_variant_that_its_algorithm_does_not_read_is_rejected_by_name():
    pqn = {"algorithm": "pqn", "replay_size": 500}
    with pytest.raises(DefinitionError, match=r"variants\.b\.replay_size: has no effect, because pqn does not read it"):
        _ = sweep(baseline="a", variants={"a": {}, "b": pqn}).runs
    with pytest.raises(DefinitionError, match=r"variants\.a\.dueling_head: .* dqn does not read it"):
        _ = sweep(variants={"a": {"dueling_head": "shared"}}).runs


def test_base_and_axes_may_have_settings_that_only_some_algorithms_read():
    both = {"axes": {"algorithm": ["dqn", "pqn"]}, "baseline": "a"}
    runs = sweep(base={"replay_size": 500}, variants={"a": {}}, **both).runs
    assert {run.config.algorithm: run.config.replay_size for run in runs} == {"dqn": 500, "pqn": 100_000}
    assert sweep(variants={"a": {"replay_size": 500}}, **both).runs, "dqn reads it at one point of the axis"


def test_on_an_axis_of_algorithms_a_preset_is_that_of_each_algorithm():
    axes = {"algorithm": ["ddqn", "pqn"]}
    runs = sweep(base={"preset": "paper_minatar"}, axes=axes, variants={"a": {}}, seeds=1).runs
    of = {run.config.algorithm: run.config for run in runs}
    explicit = sweep(variants={"a": {"preset": "paper_minatar_pqn"}}).runs[0].config
    assert of["pqn"] == explicit
    assert (of["pqn"].optimizer, of["ddqn"].optimizer) == ("radam", "adam")
