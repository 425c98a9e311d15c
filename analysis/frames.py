"""Runs and numbers of a sweep as DataFrames; analysis/api.py has these functions too.

Scores are matrices as in rliable: by variant, `num_runs x num_tasks`, a row per seed, NaN for a missing run.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis import comparisons, statistics
from analysis.choices import CURVE_REPS
from analysis.load import Results
from analysis.statistics import Aggregate, Bootstrap
from analysis.summary import Summary, profile_thresholds


def runs(results: Results) -> pd.DataFrame:
    """One row per planned run: variant, task, seed, status, scores, and all settings.

    `final`, `best` and `auc` are the scores, NaN for a run that is not finished. `ratio` is follower_lr / leader_lr.
    An imported run has no settings.

    Example:
        >>> table = scorer.runs(results)
        >>> table.groupby("variant")["final"].agg(["count", "mean"]).round(1).head(2)
                        count  mean
        variant
        dqn gamma=0.9      20   3.8
        dqn gamma=0.99     20   3.8
        >>> table.loc[0, ["seed", "status", "coupling", "gamma"]].to_dict()
        {'seed': 0, 'status': 'done', 'coupling': 'monolithic', 'gamma': 0.9}
    """
    rows = []
    for run in results.runs:
        settings = run.config.model_dump() | {"ratio": run.config.ratio} if run.config else {}
        rows.append(
            {
                "variant": run.variant,
                "task": run.task,
                "seed": run.seed,
                "run_id": run.run_id,
                "status": run.status,
                **run.scores,
                "diverged_at": run.diverged_at,
                "verdicts": ", ".join(run.verdicts),
                "code_version": run.code_version,
                "folder": str(run.folder or ""),
                **{name: value for name, value in settings.items() if name not in ("task", "seed")},
            }
        )
    return pd.DataFrame(rows).astype({"diverged_at": "Int64"})


def curves(results: Results) -> pd.DataFrame:
    """One row per finished run and logged step, with all loaded metrics; NaN where a metric was not measured.

    `step` is in environment steps. A run without any return, and a run that is not finished, has no rows.

    Example:
        >>> table = scorer.curves(results)
        >>> list(table.columns)[:6]
        ['variant', 'task', 'seed', 'step', 'return', 'td_error']
        >>> len(table)  # 120 runs with 20 rows each
        2400
    """
    tables = []
    for (variant, task, seed), series in results.series.items():
        values = dict(zip(results.metrics, series.values, strict=False))  # an imported run has returns only
        tables.append(pd.DataFrame({"variant": variant, "task": task, "seed": seed, "step": series.steps, **values}))
    columns = ["variant", "task", "seed", "step", *results.metrics]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({name: [] for name in columns})


def intervals(
    scores: Mapping[str, np.ndarray], aggregate: Aggregate = "iqm", bootstrap: Bootstrap | None = None
) -> pd.DataFrame:
    """An aggregate of each variant with its confidence interval: a row per variant; columns value, low and high.

    Args:
        scores: by variant, `num_runs x num_tasks`, NaN for a missing run.
        aggregate: iqm, mean, median or optimality_gap.
        bootstrap: repetitions, seed and level; the default is the report's.

    Raises:
        ValueError: as `iqm`.

    Example:
        >>> matrices = scorer.scores(results)
        >>> one_task = {name: matrix[:, [0]] for name, matrix in matrices.items()}  # num_runs x 1
        >>> table = scorer.intervals(one_task, bootstrap=scorer.Bootstrap(reps=2000, seed=0))
        >>> bool((table["low"] < table["value"]).all())
        True
    """
    bootstrap = bootstrap or Bootstrap()
    found = {name: statistics.estimate(matrix, bootstrap, aggregate) for name, matrix in scores.items()}
    rows = {name: {part: float(value) for part, value in one._asdict().items()} for name, one in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def compare(
    scores: Mapping[str, np.ndarray],
    baseline: str | Mapping[str, str | None],
    aggregate: Aggregate = "iqm",
    bootstrap: Bootstrap | None = None,
) -> pd.DataFrame:
    """Every variant against its baseline over the seeds that both have: a row per comparison.

    Columns: `difference` of the aggregates, variant minus baseline, paired by seed; `low` and `high`, its simultaneous
    interval over all rows (max-t), which decides the `result`; `unadjusted_low` and `unadjusted_high`; the probability
    of `improvement`, its interval, and the numbers of seeds and of pairs of runs.

    Args:
        scores: by variant, `num_runs x num_tasks` of one shape, NaN for a missing run; a row is one seed.
        baseline: a variant; or by variant its baseline, such as `baselines(results)`.
        aggregate: iqm, mean, median or optimality_gap.
        bootstrap: repetitions, seed and level; the default is the report's.

    Raises:
        ValueError: if the baseline is not in `scores`.

    Example:
        >>> table = scorer.compare(scorer.scores(results), scorer.baselines(results))
        >>> table.loc["scorer ratio=5 gamma=0.9", ["baseline", "result"]].to_list()
        ['dqn gamma=0.9', 'better']
    """
    if isinstance(baseline, str):
        if baseline not in scores:
            raise ValueError(f"baseline {baseline}: has no scores; choose from: {', '.join(scores)}")
        baseline = {name: baseline for name in scores if name != baseline}
    of = {name: baseline.get(name) for name in scores}
    rows = {
        found.variant: {
            "baseline": found.baseline,
            "difference": float(found.difference.value),
            "low": float(found.simultaneous.low),
            "high": float(found.simultaneous.high),
            "unadjusted_low": float(found.difference.low),
            "unadjusted_high": float(found.difference.high),
            "improvement": float(found.improvement.value),
            "improvement_low": float(found.improvement.low),
            "improvement_high": float(found.improvement.high),
            "seeds": found.seeds,
            "pairs": found.pairs,
            "result": found.result,
        }
        for found in comparisons.compare(scores, of, bootstrap or Bootstrap(), aggregate)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def performance_profiles(
    scores: Mapping[str, np.ndarray],
    thresholds: np.ndarray | None = None,
    bootstrap: Bootstrap | None = None,
    of_averages: bool = False,
) -> pd.DataFrame:
    """The fraction of runs with score > tau: a row per variant and threshold, with pointwise bands.

    Args:
        scores: by variant, `num_runs x num_tasks`, NaN for a missing run.
        thresholds: num_thresholds; default: 101 over the range of all scores.
        bootstrap: repetitions, seed and level; the default is the report's for profiles.
        of_averages: the fraction of tasks whose mean score is > tau, instead of the fraction of runs.

    Example:
        >>> table = scorer.performance_profiles(scorer.scores(results), thresholds=np.array([0.0, 0.1]))
        >>> table.columns.to_list()
        ['variant', 'threshold', 'value', 'low', 'high']
        >>> len(table)  # 6 variants and 2 thresholds
        12
    """
    if thresholds is None:
        thresholds = profile_thresholds(scores)
    fast = bootstrap or Bootstrap(CURVE_REPS)
    found = {name: statistics.profile(matrix, thresholds, fast, of_averages) for name, matrix in scores.items()}
    tables = [pd.DataFrame()] + [
        pd.DataFrame({"variant": name, "threshold": thresholds, **one._asdict()}) for name, one in found.items()
    ]
    return pd.concat(tables, ignore_index=True)


def iqm_curves(summary: Summary) -> pd.DataFrame:
    """The IQM of the return at each logged step, with its confidence band: a row per variant, task and step.

    Task "all" is the IQM of normalized scores over all tasks, of a sweep with several tasks.

    Example:
        >>> table = scorer.iqm_curves(summary)
        >>> table.columns.to_list()
        ['variant', 'task', 'step', 'value', 'low', 'high']
        >>> int(table.query("variant == 'dqn gamma=0.9' and task == 'all'")["step"].max())
        100000
    """
    steps = summary.results.steps
    tables = [pd.DataFrame()]
    for (name, task), found in summary.curves.items():
        if task or len(summary.tasks) > 1:
            here = np.isfinite(found.value)
            columns = {"step": steps, **found._asdict()}
            known = {column: values[here] for column, values in columns.items()}
            tables.append(pd.DataFrame({"variant": name, "task": task or "all", **known}))
    return pd.concat(tables, ignore_index=True)
