"""The Python API: its examples run, and its numbers and figures are those of the report."""

import doctest
import inspect
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import api as scorer
from analysis.importers.import_csv import import_runs
from analysis.load import ReportError
from analysis.report_figures import ReportFigure, figure_builders
from analysis.summary import LEGIBLE
from tests.analysis.synthetic import make_sweep

TASKS = ["minatar/breakout", "minatar/asterix"]
FUNCTIONS = [name for name in scorer.__all__ if inspect.isfunction(getattr(scorer, name))]
FAST = scorer.Settings(reps=300, curve_reps=60)


def crossed(outputs, **changes):
    """A sweep with two crossed axes, as in the examples."""
    variants = {"dqn": {"coupling": "monolithic"}, "scorer": {}}
    axes = {"ratio": [1, 5], "gamma": [0.9, 0.99]}
    return make_sweep(outputs, {"name": "my-sweep", "seeds": 10, "variants": variants, "axes": axes, **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with outputs/my-sweep."""
    folder = tmp_path_factory.mktemp("home")
    crossed(folder / "outputs")
    return folder


@pytest.fixture(scope="module")
def results(home):
    return scorer.load(home / "outputs" / "my-sweep")


@pytest.fixture(scope="module")
def summary(results):
    return scorer.summarize(results, FAST)


@pytest.fixture
def ax():
    with scorer.style():
        figure, ax = plt.subplots()
        yield ax
    plt.close(figure)


def rows(table: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """The rows with these values."""
    for column, value in wanted.items():
        table = pd.DataFrame(table[table[column] == value])
    return table


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_each_function_runs(name, home, results, summary, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setattr(plt, "subplots", lambda: (figure := Figure(), figure.subplots()))
    function = getattr(scorer, name)
    known = {"scorer": scorer, "results": results, "summary": summary, "np": np, "plt": plt}
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=known)
    assert test.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    printed: list[str] = []
    assert runner.run(test, out=printed.append).failed == 0, "".join(printed)


def test_functions_of_scores_give_their_shapes_in_the_terms_of_rliable():
    for name in FUNCTIONS:
        parameters = inspect.signature(getattr(scorer, name)).parameters
        if "scores" in parameters or name in ("scores", "summarize"):
            assert "num_runs x" in (getattr(scorer, name).__doc__ or ""), name


def test_the_intervals_and_comparisons_of_the_report_are_those_of_its_matrices(results, summary):
    matrices = scorer.scores(results)
    bootstrap = scorer.Bootstrap(reps=FAST.reps)
    for aggregate in ("iqm", "mean", "median", "optimality_gap"):
        table = scorer.intervals(matrices, aggregate, bootstrap)
        assert list(table.index) == list(summary.aggregates)
        for name, found in summary.aggregates.items():
            assert tuple(table.loc[name]) == tuple(map(float, found[aggregate]))
            if aggregate == "iqm":
                assert scorer.iqm(matrices[name]) == found["iqm"].value
    compared = scorer.compare(matrices, scorer.baselines(results), bootstrap=bootstrap)
    assert list(compared.index) == [comparison.variant for comparison in summary.comparisons]
    for found in summary.comparisons:
        row = compared.loc[found.variant]
        assert (row["difference"], row["low"], row["high"]) == tuple(map(float, found.simultaneous))
        assert (row["unadjusted_low"], row["unadjusted_high"]) == tuple(map(float, found.difference[1:]))
        assert (row["improvement"], row["improvement_low"]) == tuple(map(float, found.improvement[:2]))
        assert (row["baseline"], row["result"], row["seeds"]) == (found.baseline, found.result, 10)


def test_the_profiles_and_curves_of_the_report_are_the_tables(results, summary):
    bootstrap = scorer.Bootstrap(reps=FAST.curve_reps)
    table = scorer.performance_profiles(scorer.scores(results), bootstrap=bootstrap)
    for name, found in summary.profiles.items():
        here = rows(table, variant=name)
        np.testing.assert_array_equal([here["value"], here["low"], here["high"]], np.array(found))
        np.testing.assert_array_equal(here["threshold"], summary.thresholds)
    curves = scorer.iqm_curves(summary)
    for (name, task), found in summary.curves.items():
        here = rows(curves, variant=name, task=task or "all")
        np.testing.assert_array_equal([here["value"], here["low"], here["high"]], np.array(found))
        np.testing.assert_array_equal(here["step"], results.steps)
    assert set(curves["task"]) == {*TASKS, "all"}


def test_one_variant_can_be_the_baseline_of_all_others(results):
    matrices = scorer.scores(results)
    table = scorer.compare(matrices, "dqn gamma=0.99", bootstrap=scorer.Bootstrap(reps=100))
    assert set(table.index) == matrices.keys() - {"dqn gamma=0.99"}
    with pytest.raises(ValueError, match=r"^baseline ppo: has no scores; choose from: dqn gamma=0.9, "):
        scorer.compare(matrices, "ppo")


def test_rliable_takes_complete_matrices_and_finds_the_same_iqm(tmp_path):
    from rliable import library, metrics

    gone = lambda run: run.variant.base_name == "scorer" and run.config.seed == 1  # noqa: E731
    folder = make_sweep(tmp_path, {"seeds": 4}, absent=lambda run: gone(run) and run.config.task == TASKS[0])
    results = scorer.load(folder)
    matrices = scorer.scores(results)
    assert matrices["scorer"].shape == (4, 2)
    assert np.isnan(matrices["scorer"]).sum() == 1
    whole = scorer.scores(results, complete=True)
    assert whole["scorer"].shape == (3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of arch
        points, _ = library.get_interval_estimates(whole, lambda m: np.array([metrics.aggregate_iqm(m)]), reps=10)
    assert points["scorer"][0] == pytest.approx(scorer.iqm(whole["scorer"]))


def test_scores_are_normalized_as_in_the_report_and_raw_on_request(results, summary):
    for name, matrix in scorer.scores(results).items():
        np.testing.assert_array_equal(matrix, summary.normalized[name])
    for name, matrix in scorer.scores(results, "auc", "none").items():
        np.testing.assert_array_equal(matrix, results.scores("auc")[name])


def test_every_planned_run_has_a_row_with_its_settings(tmp_path):
    folder = make_sweep(
        tmp_path, absent=lambda run: run.config.seed == 3, diverged=lambda run: run.config.seed == 4,
        unfinished=lambda run: run.config.seed == 2, verdicts=lambda _: ["stalled", "collapsed"],
    )  # fmt: skip
    results = scorer.load(folder)
    table = scorer.runs(results)
    assert len(table) == len(results.runs) == 30
    assert table["status"].value_counts().to_dict() == {"done": 12, "missing": 6, "partial": 6, "diverged": 6}
    assert rows(table, status="missing")["final"].count() == 0
    assert set(rows(table, status="diverged")["diverged_at"]) == {55_000}
    assert table.loc[0, "verdicts"] == "stalled, collapsed"
    assert table.groupby("variant")["ratio"].first().dropna().to_dict() == {"scorer": 5.0, "inverted": 5.0}
    assert table.columns.is_unique
    assert repr(results) == "<Results of synthetic: 30 runs (12 done, 6 partial, 6 missing, 6 diverged)>"


def test_curves_have_a_row_per_finished_run_and_step_with_all_loaded_metrics(tmp_path):
    folder = make_sweep(tmp_path, unfinished=lambda run: run.config.seed == 2)
    table = scorer.curves(scorer.load(folder, ["return", "msbe"]))
    assert list(table.columns) == ["variant", "task", "seed", "step", "return", "msbe"]
    assert len(table) == 24 * 20
    assert set(table["seed"]) == {0, 1, 3, 4}
    one = rows(table, variant="dqn", task=TASKS[0], seed=0)
    np.testing.assert_array_equal(one["step"], np.arange(5_000, 100_001, 5_000))


def test_tables_of_a_sweep_without_a_finished_run_are_empty(tmp_path):
    results = scorer.load(make_sweep(tmp_path, unfinished=lambda _: True))
    assert len(scorer.runs(results)) == 30
    assert scorer.runs(results)["final"].count() == 0
    assert len(scorer.curves(results)) == 0
    assert scorer.scores(results) == {}


def test_imported_runs_are_in_the_tables(tmp_path):
    folder = make_sweep(tmp_path, {"tasks": TASKS[:1]})
    lines = [f"ppo,{TASKS[0]},{seed},{step},{seed}" for seed in (0, 1) for step in (50_000, 100_000)]
    (tmp_path / "ppo.csv").write_text("\n".join(["variant,task,seed,step,return", *lines]) + "\n")
    import_runs(folder, [tmp_path / "ppo.csv"])
    results = scorer.load(folder)
    table = scorer.runs(results)
    assert list(rows(table, variant="ppo")["final"]) == [0, 1]
    assert rows(table, variant="ppo")["coupling"].count() == 0
    curves = rows(scorer.curves(results), variant="ppo")
    assert len(curves) == curves["return"].count() == 4
    assert curves["msbe"].count() == 0


# --- figures ---


def contents(ax: Axes) -> tuple[object, ...]:
    """What is on the axes: texts, ends of the axes, lines, and the size of bars."""
    lines = [(*np.asarray(line.get_xydata()).ravel(), line.get_color()) for line in ax.get_lines()]
    bars = [np.round(patch.get_path().get_extents(patch.get_patch_transform()).bounds, 9) for patch in ax.patches]
    ends = np.round([*ax.get_xlim(), *ax.get_ylim()], 9)
    return ax.get_title(), ax.get_xlabel(), repr(ends), repr(lines), repr(bars), len(ax.collections), len(ax.images)


def report_panels(summary, name) -> list[Axes]:
    with scorer.style():
        drawn = figure_builders(summary)[name](summary, "page")
    assert isinstance(drawn, ReportFigure)
    return drawn.figure.axes


@pytest.mark.parametrize(
    ("name", "panel", "draw"),
    [
        ("intervals", 0, lambda s, ax: scorer.plot_intervals(s, ax, task=TASKS[0])),
        ("intervals", 2, scorer.plot_intervals),
        ("profiles", 0, scorer.plot_profiles),
        ("curves", 1, lambda s, ax: scorer.plot_curves(s, ax, task=TASKS[1])),
        ("curves", 2, scorer.plot_curves),
        ("improvement", 0, scorer.plot_differences),
        ("improvement", 1, scorer.plot_improvements),
        ("ratio", 0, lambda s, ax: scorer.plot_along(s, ax, "ratio", task=TASKS[0])),
        ("ratio-gamma", 2, lambda s, ax: scorer.plot_heat_map(s, ax, ("ratio", "gamma"))),
        ("losses", 2, lambda s, ax: scorer.plot_metric(s, ax, "msbe", task=TASKS[0])),
    ],
)
def test_each_panel_of_the_report_can_be_drawn_on_any_axes(name, panel, draw, summary, ax):
    shown = report_panels(summary, name)[panel]
    assert draw(summary, ax) is ax
    if name == "losses":  # the report writes titles and labels once per row and column
        ax.set_title("")
        ax.set_xlabel("")
    assert contents(ax) == contents(shown)
    assert ax.has_data()


def test_every_figure_of_the_report_has_its_function(summary):
    drawn = {"intervals", "profiles", "curves", "improvement", "ratio", "gamma", "ratio-gamma", "losses", "diagnostics"}
    assert set(figure_builders(summary)) == drawn


def test_chosen_variants_keep_their_order_and_look(summary, ax):
    names = ["scorer ratio=5 gamma=0.9", "dqn gamma=0.9"]
    scorer.plot_intervals(summary, ax, variants=names)
    assert [text.get_text() for text in ax.get_yticklabels()] == names
    colors = [line.get_color() for line in ax.get_lines()]
    scorer.plot_intervals(summary, ax.get_figure(root=True).subplots())
    (whole,) = [other for other in ax.get_figure(root=True).axes if other is not ax]
    rows = [text.get_text() for text in whole.get_yticklabels()]
    assert colors == [whole.get_lines()[rows.index(name)].get_color() for name in names]


def test_a_variant_of_a_large_sweep_is_drawn_if_it_is_chosen(tmp_path, ax):
    variants = {f"v{i}": {"ratio": 1.0 + i} for i in range(LEGIBLE + 2)}
    folder = make_sweep(
        tmp_path,
        {"variants": variants, "baseline": "v0", "tasks": TASKS[:1], "seeds": 2},
        curve=lambda run, steps: np.full(len(steps), -float(run.variant.base_name[1:])),
    )
    results = scorer.load(folder)
    last = list(variants)[-1]
    assert last not in scorer.summarize(results, FAST).drawn
    summary = scorer.summarize(results, FAST, variants=["v0", last])
    scorer.plot_curves(summary, ax)
    assert [text.get_text() for text in scorer.add_legend(summary, ax).get_texts()] == ["v0", last]
    assert len(summary.comparisons) == LEGIBLE + 1
    with pytest.raises(ReportError, match=r"^ppo: not a variant with a score; choose from: v0, v1, "):
        scorer.summarize(results, FAST, variants=["ppo"])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda s, ax: scorer.plot_curves(s, ax, task="pong"), "pong: not a task of this sweep; choose from: minatar/"),
        (lambda s, ax: scorer.plot_profiles(s, ax, variants=["ppo"]), "ppo: not a variant; choose from: dqn gamma=0.9"),
        (
            lambda s, ax: scorer.plot_along(s, ax, "order"),
            "order: not an axis of this sweep; its axes .*: gamma, ratio",
        ),
        (lambda s, ax: scorer.plot_heat_map(s, ax, ("gamma", "ratio")), "gamma and ratio: this sweep has no variants"),
        (lambda s, ax: scorer.plot_heat_map(s, ax, ("ratio", "gamma"), variant="x"), "x: not a variant on both"),
        (lambda s, ax: scorer.plot_metric(s, ax, "loss"), "loss: not loaded; choose from: return, td_error"),
        (lambda s, ax: scorer.plot_metric(s, ax, "msbe"), "task: is missing; choose from: minatar/breakout"),
    ],
)
def test_a_panel_that_does_not_exist_is_named(draw, message, summary, ax):
    with pytest.raises(ValueError, match=f"^{message}"):
        draw(summary, ax)


def test_the_only_task_need_not_be_named(tmp_path, ax):
    summary = scorer.summarize(scorer.load(make_sweep(tmp_path, {"tasks": TASKS[:1]})), FAST)
    assert scorer.plot_curves(summary, ax).get_title() == "breakout"
    assert isinstance(scorer.iqm_curves(summary), pd.DataFrame)


def test_an_unknown_name_and_the_list_of_names():
    with pytest.raises(AttributeError, match="has no attribute 'plot_everything'"):
        _ = scorer.plot_everything  # pyright: ignore[reportAttributeAccessIssue]
    assert dir(scorer) == sorted(scorer.__all__)
