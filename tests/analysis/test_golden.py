"""A small stored experiment and the numbers it gave: a change of any of them is a change of every report."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from rliable import metrics

from analysis.load import load_results
from analysis.sentences import answer
from analysis.summary import Settings, summarize
from scorer_core.references import RANDOM, REFERENCE
from tests.analysis.synthetic import make_sweep

HERE = Path(__file__).parent


def stored():
    """(variant, task, seed) -> returns, by step."""
    found = defaultdict(list)
    with (HERE / "golden.csv").open() as file:
        for row in csv.DictReader(file):
            found[row["variant"], row["task"], int(row["seed"])].append(float(row["return"]))
    return found


def numbers(summary):
    """Everything that a table or an interval figure shows."""
    shown = {f"{name} {task} iqm": list(map(float, found)) for (name, task), found in summary.per_task.items()}
    for name, aggregates in summary.aggregates.items():
        shown |= {f"{name} {aggregate}": list(map(float, found)) for aggregate, found in aggregates.items()}
    for one in summary.comparisons:
        estimates = {"difference": one.difference, "family": one.simultaneous, "improvement": one.improvement}
        for kind, found in estimates.items():
            shown[f"{one.variant} - {one.baseline} {kind}"] = list(map(float, found))
    for (name, task), times in summary.times.items():
        shown |= {f"{name} {task} time to {time.threshold:g}": list(map(float, time.steps)) for time in times}
    return shown


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    returns = stored()
    folder = make_sweep(
        tmp_path_factory.mktemp("outputs"),
        {"seeds": 6, "base": {"log_points": 10}},
        curve=lambda run, _: np.array(returns[run.variant.name, run.config.task, run.config.seed]),
    )
    return summarize(load_results(folder), Settings(reps=5000, curve_reps=1000))


def test_the_numbers_are_the_stored_ones(summary):
    golden = json.loads((HERE / "golden.json").read_text())
    found = numbers(summary)
    assert found.keys() == golden["numbers"].keys()
    for name, values in golden["numbers"].items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)
    assert answer(summary) == golden["answer"]


def test_rliable_finds_the_same_in_the_stored_experiment(summary):
    tasks = ["minatar/breakout", "minatar/asterix"]
    for variant in ("dqn", "scorer", "inverted"):
        final = np.array([[stored()[variant, task, seed][-1] for task in tasks] for seed in range(6)])
        zero, one = ([RANDOM[task]["minimal"] for task in tasks], [REFERENCE[task][0] for task in tasks])
        scaled = (final - zero) / np.subtract(one, zero)
        assert summary.aggregates[variant]["iqm"].value == pytest.approx(metrics.aggregate_iqm(scaled), rel=1e-6)
        for column, task in enumerate(tasks):
            iqm = metrics.aggregate_iqm(final[:, [column]])
            assert summary.per_task[variant, task].value == pytest.approx(iqm, rel=1e-6)
