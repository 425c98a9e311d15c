"""Scores of a run: from the steps and returns that it logged to one number. Reports and searches share them.

`steps` are environment steps in increasing order, `returns` has one value per step. A return that is not finite is no
value, and every score leaves its row out: it is NaN before the run's first finished episode, and may be infinite or NaN
if a reward was not finite.
"""

import numpy as np

FINAL_WINDOW = 0.1  # the last fraction of training that a final score averages


def final(steps: np.ndarray, returns: np.ndarray, total_steps: int) -> float:
    """Mean return over the last 10 % of `total_steps`; NaN if no row there has a value."""
    late = returns[(steps > (1 - FINAL_WINDOW) * total_steps) & np.isfinite(returns)]
    return float(late.mean()) if late.size else float("nan")


def auc(steps: np.ndarray, returns: np.ndarray) -> float:
    """Area under the curve from the first row with a value to the last, divided by its length; NaN without a value."""
    valid = np.isfinite(returns)
    steps, returns = steps[valid], returns[valid]
    if not steps.size:
        return float("nan")
    length = steps[-1] - steps[0]
    return float(np.trapezoid(returns, steps) / length) if length else float(returns[0])


def best(returns: np.ndarray) -> float:
    """Highest return; NaN without a value."""
    valid = returns[np.isfinite(returns)]
    return float(valid.max()) if valid.size else float("nan")


def steps_to_threshold(steps: np.ndarray, returns: np.ndarray, threshold: float) -> float:
    """The first logged step with a return of at least `threshold`; NaN if there is none."""
    reached = np.flatnonzero(np.isfinite(returns) & (returns >= threshold))
    return float(steps[reached[0]]) if reached.size else float("nan")
