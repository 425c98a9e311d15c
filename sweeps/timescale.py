"""The conditions of two-timescale stochastic approximation on the learning rates of a sweep's variants.

a: leader learning rate, b: follower learning rate, k: updates. If both sums are infinite, both sums of squares are
finite and a / b goes to 0, then the slow player is constant for the fast one in the limit (Borkar 2008, chapter 6).
The paper's theorem requires a <= c b^(3/2).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scorer_core import registry
from scorer_core.config import RunConfig
from scorer_core.fields import significant
from scorer_core.support.errors import user_code
from sweeps.definition import Sweep
from sweeps.expansion import Variant


@dataclass(frozen=True)
class Condition:
    """One condition, whether it holds, and the reason in words."""

    name: str
    holds: bool
    why: str


@dataclass(frozen=True)
class Timescales:
    """The conditions of the variants with the same schedule."""

    variants: tuple[str, ...]
    schedule: str  # in words
    conditions: tuple[Condition, ...]  # empty for a coupling with one rate


def timescales(sweep: Sweep) -> list[Timescales]:
    """The conditions of all variants of `sweep`; variants with equal results are one entry."""
    found: dict[tuple[str, tuple[Condition, ...]], list[str]] = {}
    first: dict[Variant, RunConfig] = {}
    for run in sweep.first_runs:
        first.setdefault(run.variant, run.config)
    for variant, config in first.items():
        found.setdefault((_schedule(config), tuple(conditions(config))), []).append(variant.name)
    return [Timescales(tuple(names), schedule, held) for (schedule, held), names in found.items()]


def conditions(config: RunConfig) -> Iterable[Condition]:
    """The conditions on a run's schedules, continued forever; none for a coupling with one rate, or an unknown tail."""
    if registry.coupling(config.coupling).one_rate or registry.schedule(config.schedule).tail is None:
        return
    a, b = tails(config)
    decay = _decay("each", a) if a == b else f"{_decay('a', a)}, {_decay('b', b)}"
    yield Condition("the sums of a and of b are infinite", max(a, b) <= 1, decay)
    yield Condition("the sums of their squares are finite", min(a, b) > 0.5, decay)
    if a > b:
        ratio = f"a / b decays as k^-{a - b:.3g}"
    else:
        ratio = "a / b is constant" if a == b else f"a / b grows as k^{b - a:.3g}"
    yield Condition("a / b goes to 0", a > b, ratio)
    # At the end of a linear decay, a is proportional to x and b^(3/2) to x^(3/2), where x is the rest of the run.
    theorem = a >= significant(1.5 * b) and not math.isinf(a)  # 1.5 * 0.2 is not 0.3 in floating point
    yield Condition("a <= c b^(3/2) (the paper's theorem)", theorem, f"{_decay('a', a)}, {_decay('b^(3/2)', 1.5 * b)}")


def tails(config: RunConfig) -> tuple[float, float]:
    """The exponents p of the decay k^-p of the leader's and the follower's rate; infinite for a rate that ends at 0.

    Raises:
        UserCodeError: if the tail of a registered schedule raises an exception.
        ValueError: if the schedule has no known tail.
    """
    place = registry.schedule(config.schedule).tail
    if place is None:
        raise ValueError(f"schedule {config.schedule}: how its rates fall is not known")
    tail = registry.function(place)
    with user_code(f"schedule {config.schedule}: its tail raises"):
        return tail(config.leader_power, config.lr_end), tail(config.follower_power, config.lr_end)


def rates(config: RunConfig, updates: float) -> tuple[float, float]:
    """The leader's and the follower's learning rate after `updates` updates, by the functions that training uses.

    Raises:
        UserCodeError: if the rate of a registered schedule raises an exception.
    """
    rate = registry.function(registry.schedule(config.schedule).rate)
    progress = min(1.0, updates / config.num_updates)
    with user_code(f"schedule {config.schedule}: its rate raises"):
        leader = rate(config.leader_lr, config.leader_power, config, updates, progress)
        return leader, rate(config.follower_lr, config.follower_power, config, updates, progress)


def _schedule(config: RunConfig) -> str:
    if registry.coupling(config.coupling).one_rate:
        return f"{config.schedule}, one learning rate: no conditions"
    if registry.schedule(config.schedule).tail is None:
        return f"{config.schedule}, of which the decay is not known: no conditions"
    leader, follower = rates(config, 0.99 * config.num_updates)
    growth = follower / leader / (config.follower_lr / config.leader_lr)
    change = "is constant" if math.isclose(growth, 1, rel_tol=1e-6) else f"changes by a factor of {growth:.3g}"
    return f"{config.schedule}; b / a {change}"


def _decay(name: str, p: float) -> str:
    if p == 0:
        return f"{name} does not go to 0"
    return f"{name} is 0 at the end of the run" if math.isinf(p) else f"{name} decays as k^-{p:.3g}"
