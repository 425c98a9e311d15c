"""How learning rates fall: formulas for numbers and for tensors alike, and what they come to in the long run. No torch.

A rate's tail is the p of rounds^-p. The sum of rates is infinite where p <= 1, that of their squares finite where
p > 1/2, and one rate vanishes beside another where its p is larger (Borkar 2008, sections 2.1 and 6.1).
"""

import math
from typing import Any


def linear(start: Any, power: Any, lane: Any, rounds: Any, progress: Any) -> Any:  # noqa: ARG001, one signature
    """From `start` to `lane.lr_end` of it as `progress`, the share of all rounds, goes from 0 to 1."""
    return start + (lane.lr_end * start - start) * progress


def linear_tail(power: float, lr_end: float) -> float:  # noqa: ARG001
    """Zero, or what is left, from the end of the run on."""
    return 0.0 if lr_end > 0 else math.inf


def constant(start: Any, power: Any, lane: Any, rounds: Any, progress: Any) -> Any:  # noqa: ARG001
    return start


def constant_tail(power: float, lr_end: float) -> float:  # noqa: ARG001
    return 0.0


def polynomial(start: Any, power: Any, lane: Any, rounds: Any, progress: Any) -> Any:  # noqa: ARG001
    """The rate `start` / (1 + rounds / decay_rounds)^power, whatever the length of the run."""
    return start * (1 + rounds / lane.decay_rounds) ** -power


def polynomial_tail(power: float, lr_end: float) -> float:  # noqa: ARG001
    return power
