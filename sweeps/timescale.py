"""The conditions of two-timescale stochastic approximation, on the learning rates that a sweep's variants have.

a: the leader's rate, b: the follower's, k: rounds. With both sums infinite, both sums of squares finite and a / b to 0,
the fast player sees a slow one that stands still (Borkar 2008, chapter 6); the paper's theorem asks a <= c b^(3/2).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scorer_core import registry
from scorer_core.config import RunConfig, significant
from scorer_core.support.errors import user_code
from sweeps.definition import Sweep


@dataclass(frozen=True)
class Condition:
    name: str
    holds: bool
    why: str


@dataclass(frozen=True)
class Timescales:
    """What holds for some variants of a sweep, all with the same schedule."""

    variants: tuple[str, ...]
    schedule: str  # in words
    conditions: tuple[Condition, ...]  # none where there is one rate


def timescales(sweep: Sweep) -> list[Timescales]:
    """The conditions for every variant of `sweep`, variants they come out equal for together."""
    found: dict[tuple[str, tuple[Condition, ...]], list[str]] = {}
    for variant in sweep.grid_variants:
        config = next(run.config for run in sweep.runs if run.variant == variant)
        found.setdefault((_schedule(config), tuple(conditions(config))), []).append(variant.name)
    return [Timescales(tuple(names), schedule, held) for (schedule, held), names in found.items()]


def conditions(config: RunConfig) -> Iterable[Condition]:
    """Which hold of a run's schedules continued for ever, and why; none for a coupling with one rate."""
    if registry.COUPLINGS[config.coupling].one_rate:
        return
    a, b = tails(config)
    falls = _falls("each", a) if a == b else f"{_falls('a', a)}, {_falls('b', b)}"
    yield Condition("the sums of a and of b are infinite", max(a, b) <= 1, falls)
    yield Condition("the sums of their squares are finite", min(a, b) > 0.5, falls)
    if a > b:
        ratio = f"a / b falls as k^-{a - b:.3g}"
    else:
        ratio = "a / b stays what it is" if a == b else f"a / b grows as k^{b - a:.3g}"
    yield Condition("a / b goes to 0", a > b, ratio)
    # At the end of a linear fall a goes as x and b^(3/2) as x^(3/2), x being what is left of the run.
    theorem = a >= significant(1.5 * b) and not math.isinf(a)  # 1.5 * 0.2 is not 0.3 in floating point
    yield Condition("a <= c b^(3/2), the paper's theorem", theorem, f"{_falls('a', a)}, {_falls('b^(3/2)', 1.5 * b)}")


def tails(config: RunConfig) -> tuple[float, float]:
    """The p of k^-p for the leader's rate and the follower's in the long run; infinite where a rate ends at 0."""
    tail = registry.function(registry.SCHEDULES[config.schedule].tail)
    with user_code(f"schedule {config.schedule}: its tail raises"):
        return tail(config.leader_power, config.lr_end), tail(config.follower_power, config.lr_end)


def rates(config: RunConfig, rounds: float) -> tuple[float, float]:
    """The leader's and the follower's learning rate after `rounds` rounds, by the formulas that training uses."""
    rate = registry.function(registry.SCHEDULES[config.schedule].rate)
    progress = min(1.0, rounds / config.num_updates)
    with user_code(f"schedule {config.schedule}: its rate raises"):
        leader = rate(config.leader_lr, config.leader_power, config, rounds, progress)
        return leader, rate(config.follower_lr, config.follower_power, config, rounds, progress)


def _schedule(config: RunConfig) -> str:
    if registry.COUPLINGS[config.coupling].one_rate:
        return f"{config.schedule}, one rate: nothing to compare"
    leader, follower = rates(config, 0.99 * config.num_updates)
    growth = follower / leader / (config.follower_lr / config.leader_lr)
    told = "stays the same" if math.isclose(growth, 1, rel_tol=1e-6) else f"grows {growth:.3g} times by the end"
    return f"{config.schedule}; b / a {told}"


def _falls(name: str, p: float) -> str:
    if p == 0:
        return f"{name} does not fall in the long run"
    return f"{name} is 0 from the end of the run on" if math.isinf(p) else f"{name} falls as k^-{p:.3g}"
