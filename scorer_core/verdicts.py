"""Verdicts on a run: what is wrong with it, from its metric rows and settings, by fixed thresholds. No torch.

"Late" is the last tenth of training, or the last row with a value. A run may have several verdicts. A run without a
verdict is not proven to be healthy. `python -m tools.verdict_rates` measures how often each verdict is wrong on
simulated runs of known type, and writes docs/verdicts.md.
"""

from collections.abc import Mapping

import numpy as np

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.references import REFERENCE, random_return

PROBE = 256  # transitions in the probe batch; no srank can exceed it
LATE = 0.1
# Rates in the comments: of simulated runs with 100 rows (docs/verdicts.md has all).
# Of the highest srank that the probe can show. Wrong on 0 % of the runs that use 20 % of the directions or more. Missed
# on 0 % of those that use 5 % or fewer, but on 24 to 33 % if the other directions have 0.01 % of the largest singular
# value.
COLLAPSED_RANK = 0.1
COLLAPSED_DORMANT = 0.5  # wrong on 0 % of the runs with 45 % dormant or fewer, missed on 0 % of those with 55 % or more
# Typical factor e^0.7 = 2. Wrong on at most 0.2 % (noise of 30 %, spikes, one jump); missed on 6.9 % of the runs that
# swing by a factor of 3, on 0 % by a factor of 4. Under 20 rows it is never given.
OSCILLATING_SWING = 0.7
# Times the largest return logged, at least 1. Wrong on 0 % of the runs whose values are up to three times too high;
# missed on 0 % of those whose values grow to 1e4 or more.
DIVERGED_VALUE = 10.0
CONTINUED_VALUE = 2.0  # times the value of such a return's rewards if they never ended; for gamma near 1
# Wrong on 0 to 7.4 % of the runs that learn (most where noise is a fifth of the rise), on at most 1.4 % of those that
# are good from the first row; missed on 0.2 % of the runs that do not learn and have independent rows, on 4.9 % of
# those with AR(1) 0.9.
STALLED_ERRORS = 2.5
TENTHS = 10
MOSTLY_RANDOM = 0.5  # epsilon from which on a policy's returns are about those of a random one

MEANINGS = {
    "diverged": "a parameter or loss became NaN or infinite, or late in training the largest action value is, in "
    f"absolute value, above {DIVERGED_VALUE:g} times the largest return logged (at least 1) and above "
    f"{CONTINUED_VALUE:g} times what the same reward per step would be worth without an end: reward per step / (1 - "
    "gamma)",
    "collapsed": f"late in training the srank is below {COLLAPSED_RANK:.0%} of min(features, {PROBE}), {PROBE} being "
    f"the size of the probe batch, or more than {COLLAPSED_DORMANT:.0%} of the hidden units are dormant",
    "oscillating": "in both the third and the fourth quarter of training the msbe oscillates about its own trend (the "
    f"standard deviation of its logarithm is above {OSCILLATING_SWING:g}: a factor of {np.exp(OSCILLATING_SWING):.1f} "
    "up and down)",
    "stalled": "the return did not rise: the mean of the last tenth of the rows is not above that of the first tenth "
    f"(only its part before the end of exploration) by more than {STALLED_ERRORS:g} standard errors, which account for "
    "correlated rows. A run that may have been good from the start, and did not get worse, is not stalled: it has the "
    "task's reference score or always the same positive return, or its first row comes after exploration and its "
    "return is above that of a random policy (or that is unknown)",
}
COLUMNS = ("step", "episodes", "return", "msbe", "srank", "dormant", "q_max", "diverged")


def verdicts(rows: Mapping[str, np.ndarray], config: RunConfig) -> list[str]:
    """The verdicts on one run from its `rows`: COLUMNS by name, ordered by step; empty without a row."""
    if not len(rows["step"]):
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "diverged": _diverged(rows, config),
            "collapsed": _late(rows, "srank") < COLLAPSED_RANK * min(config.phi_widths[-1], PROBE)
            or _late(rows, "dormant") > COLLAPSED_DORMANT,
            "oscillating": _swing(rows) > OSCILLATING_SWING,
            "stalled": _stalled(rows, config),
        }
    return [name for name in MEANINGS if found[name]]


def of_pack(folder: PackFolder) -> dict[str, list[str]]:
    """The verdicts on each run of a pack from the rows logged so far; none on a run without rows.

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
    """Mean of the late values; NaN if the column has no value."""
    there = np.isfinite(rows[column])
    if not there.any():
        return float("nan")
    steps, values = rows["step"][there], rows[column][there]
    return float(values[steps >= min((1 - LATE) * rows["step"][-1], steps[-1])].mean())


def _diverged(rows: Mapping[str, np.ndarray], config: RunConfig) -> bool:
    """Without a finished episode the size of rewards is unknown, so no action value is too large."""
    if rows["diverged"].any():
        return True
    returns = np.abs(rows["return"][np.isfinite(rows["return"]) & (rows["episodes"] > 0)])
    if not len(returns):
        return False
    largest = float(returns.max())
    per_step = largest * rows["episodes"][-1] / rows["step"][-1]  # an episode has step / episodes steps on average
    horizon = 1 / max(1 - config.gamma, 1 / config.total_steps)
    limit = max(DIVERGED_VALUE * max(largest, 1.0), CONTINUED_VALUE * per_step * horizon)
    return abs(_late(rows, "q_max")) > limit


def _swing(rows: Mapping[str, np.ndarray]) -> float:
    """Standard deviation of log msbe about its linear trend, in the quieter of the last two quarters of training.

    One jump to another level is in one quarter only. NaN with under 5 rows in a quarter.
    """
    time = rows["step"] / rows["step"][-1]
    there = (rows["msbe"] > 0) & np.isfinite(rows["msbe"])
    swings = []
    for begin, end in ((0.5, 0.75), (0.75, 1.0)):
        quarter = there & (time > begin) & (time <= end)
        if quarter.sum() < 5:
            return float("nan")
        logarithm = np.log(rows["msbe"][quarter])
        trend = np.polynomial.Polynomial.fit(time[quarter], logarithm, 1)
        swings.append(float((logarithm - trend(time[quarter])).std()))
    return min(swings)


def _stalled(rows: Mapping[str, np.ndarray], config: RunConfig) -> bool:
    """Rows before every environment has finished an episode are left out."""
    there = (rows["episodes"] >= config.num_envs) & np.isfinite(rows["return"])
    steps, returns = rows["step"][there], rows["return"][there].astype(float)
    if len(returns) < TENTHS or steps[-1] < config.total_steps / 2:  # too early to say
        return False
    tenths = np.array_split(returns, TENTHS)
    means = np.array([tenth.mean() for tenth in tenths])
    error = _error_of_a_tenth(returns, means)
    early, late = means[0], means[-1]
    reference = REFERENCE[config.task][0] if config.task in REFERENCE else np.inf
    if early >= reference and late >= reference - STALLED_ERRORS * error:
        return False
    if early - late > STALLED_ERRORS * np.sqrt(2) * error:
        return True
    if returns[0] > 0 and (returns == returns[0]).all():
        return False
    first = len(tenths[0])
    exploring = returns[:first][_explores(config, steps[:first])]
    if len(exploring):
        error_of_both = error * np.sqrt(1 + first / len(exploring))
        return bool(late - exploring.mean() <= STALLED_ERRORS * error_of_both)
    random = random_return(config.task, config.action_set)  # the policy of the first row may have learned already
    return random is not None and bool(late - random <= STALLED_ERRORS * error)


def _error_of_a_tenth(returns: np.ndarray, tenths: np.ndarray) -> float:
    """The standard error of a tenth's mean, from differences, so that a steady rise adds nothing.

    Differences of neighboring tenths show it also where rows are correlated. Differences of neighboring rows show it
    more exactly where rows are independent, because there are more of them. The larger error counts. If a run rises
    once, suddenly, the difference of its last and first tenth is 3 standard errors; STALLED_ERRORS must be below that.
    """
    of_rows = np.diff(returns).std() / np.sqrt(len(returns) / TENTHS)
    return float(max(np.diff(tenths).std(ddof=1), of_rows) / np.sqrt(2))


def _explores(config: RunConfig, steps: np.ndarray) -> np.ndarray:
    """At which of these steps does the run still act like a random policy?"""
    done = np.minimum(1.0, steps / config.epsilon_steps)
    epsilon = config.epsilon_start + (config.epsilon_end - config.epsilon_start) * done
    return (steps <= config.learning_starts) | (epsilon >= MOSTLY_RANDOM)
