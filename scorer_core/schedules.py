"""Learning-rate schedules: a rate after k updates, for numbers and for tensors, and how it falls for large k. No torch.

A tail is the p of k^-p. The sum of the rates is infinite if p <= 1, the sum of their squares is finite if p > 1/2, and
the ratio of two rates goes to 0 if the first has the larger p (Borkar 2008, sections 2.1 and 6.1).

Each schedule has the signature (start, power, lane, updates, progress): the initial rate, the exponent of this network,
the LANE settings, the updates so far, and their fraction of all updates, from 0 to 1.
"""

import math
from typing import Any


def linear(start: Any, power: Any, lane: Any, updates: Any, progress: Any) -> Any:  # noqa: ARG001, one signature
    """From `start` to `lane.lr_end` times `start`."""
    return start + (lane.lr_end * start - start) * progress


def linear_tail(power: float, lr_end: float) -> float:  # noqa: ARG001
    """Infinite if the rate ends at 0; otherwise 0, because the rate stays at its end value."""
    return 0.0 if lr_end > 0 else math.inf


def constant(start: Any, power: Any, lane: Any, updates: Any, progress: Any) -> Any:  # noqa: ARG001
    return start


def constant_tail(power: float, lr_end: float) -> float:  # noqa: ARG001
    return 0.0


def polynomial(start: Any, power: Any, lane: Any, updates: Any, progress: Any) -> Any:  # noqa: ARG001
    """`start` / (1 + updates / decay_rounds)^power, whatever the length of the run."""
    return start * (1 + updates / lane.decay_rounds) ** -power


def polynomial_tail(power: float, lr_end: float) -> float:  # noqa: ARG001
    return power
