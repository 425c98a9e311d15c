"""What is wrong with a run, said from its metric rows alone, by stated thresholds. No torch: every room may ask.

"Late" is the last tenth of training, or its last row; instruments count where they were read. A run may earn several
verdicts, or none, which is no proof of health.
"""

from collections.abc import Mapping

import numpy as np

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder

LATE = 0.1
COLLAPSED_RANK = 0.1  # of the feature size
COLLAPSED_DORMANT = 0.5
OSCILLATING_SWING = 0.7  # typical factor e^0.7 = 2
DIVERGED_VALUE = 10.0  # times the highest return logged, at least 1
STALLED_ERRORS = 2.0

MEANINGS = {
    "diverged": "something of it is not finite any more, or late in training its highest action value lies above "
    f"{DIVERGED_VALUE:g} times the highest return it has logged (at least 1)",
    "collapsed": f"late in training the srank of its features is below {COLLAPSED_RANK:.0%} of their number, or more "
    f"than {COLLAPSED_DORMANT:.0%} of its hidden units are dormant",
    "oscillating": "in the second half of training its msbe swings about its own trend (standard deviation of the "
    f"logarithm above {OSCILLATING_SWING:g}: a factor of {np.exp(OSCILLATING_SWING):.1f} either way)",
    "stalled": "its late return is not above that of the first tenth by more than "
    f"{STALLED_ERRORS:g} standard errors of the difference (as the rows scatter)",
}
COLUMNS = ("step", "episodes", "return", "msbe", "srank", "dormant", "q_max", "diverged")


def verdicts(rows: Mapping[str, np.ndarray], config: RunConfig) -> list[str]:
    """The verdicts on one run with these rows, COLUMNS by name in the order of their steps; empty without a row."""
    if not len(rows["step"]):
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "diverged": _diverged(rows),
            "collapsed": _late(rows, "srank") < COLLAPSED_RANK * config.phi_widths[-1]
            or _late(rows, "dormant") > COLLAPSED_DORMANT,
            "oscillating": _swing(rows) > OSCILLATING_SWING,
            "stalled": _stalled(rows, config),
        }
    return [name for name in MEANINGS if found[name]]


def of_pack(folder: PackFolder) -> dict[str, list[str]]:
    """Verdicts on each run of a pack from what it has logged so far; on a run that has logged nothing, none.

    Raises:
        RecordError: if its records cannot be read.
    """
    table = folder.rows(COLUMNS)
    run_ids = np.array(table["run_id"].to_pylist())
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    logged: dict[str, dict[str, np.ndarray]] = {}
    for run_id in dict.fromkeys(run_ids.tolist()):
        logged[run_id] = {name: column[run_ids == run_id] for name, column in columns.items()}
    configs = zip(folder.run_ids(), folder.configs(), strict=True)
    return {run_id: verdicts(logged[run_id], config) if run_id in logged else [] for run_id, config in configs}


def _late(rows: Mapping[str, np.ndarray], column: str) -> float:
    """Mean of the late values that were read; NaN if none ever was."""
    there = np.isfinite(rows[column])
    if not there.any():
        return float("nan")
    steps, values = rows["step"][there], rows[column][there]
    return float(values[steps >= min((1 - LATE) * rows["step"][-1], steps[-1])].mean())


def _diverged(rows: Mapping[str, np.ndarray]) -> bool:
    highest = np.abs(rows["return"][np.isfinite(rows["return"])]).max(initial=1.0)
    return bool(rows["diverged"].any()) or _late(rows, "q_max") > DIVERGED_VALUE * highest


def _swing(rows: Mapping[str, np.ndarray]) -> float:
    """Standard deviation of log msbe about its linear trend, in the second half of training; NaN of under 5 rows."""
    late = (rows["step"] > rows["step"][-1] / 2) & (rows["msbe"] > 0) & np.isfinite(rows["msbe"])
    if late.sum() < 5:
        return float("nan")
    steps, logarithm = rows["step"][late] / rows["step"][-1], np.log(rows["msbe"][late])
    return float((logarithm - np.polynomial.Polynomial.fit(steps, logarithm, 1)(steps)).std())


def _stalled(rows: Mapping[str, np.ndarray], config: RunConfig) -> bool:
    """Rows from before every environment has ended an episode say nothing of the return, and are left out."""
    there = (rows["episodes"] >= config.num_envs) & np.isfinite(rows["return"])
    steps, returns = rows["step"][there], rows["return"][there].astype(float)
    if len(returns) < 5 or steps[-1] < config.total_steps / 2:  # too early to say
        return False
    span = steps[-1] - steps[0]
    early, late = returns[steps <= steps[0] + LATE * span], returns[steps >= steps[-1] - LATE * span]
    scatter = np.diff(returns).std() / np.sqrt(2)
    error = scatter * np.sqrt(1 / len(early) + 1 / len(late))
    return bool(late.mean() - early.mean() <= STALLED_ERRORS * error)
