"""The names a definition may use, and where the function behind each lives: a new one is a function and a line here.

No torch: a name is checked on a login node, its function is imported where it runs. docs/extending.md has an example of
each kind.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from scorer_core.support.errors import user_code

# (delta [B], z [B, D]) -> what the follower minimises, to be weighed against msbe by `follower_weight`.
FOLLOWER_OBJECTIVES = {
    "variance": "scorer_core.objectives:variance",
    "norm": "scorer_core.objectives:norm_loss",
}

# z [B, D] -> what the leader pays for, `leader_penalty_weight` times.
LEADER_PENALTIES = {
    "feature_norm": "scorer_core.objectives:feature_norm",
    "feature_covariance": "scorer_core.objectives:feature_covariance",
    "srank": "scorer_core.objectives:srank_surrogate",
}


@dataclass(frozen=True)
class Coupling:
    """Who steps when, on what (game.Play), and the value of every setting it has no use for."""

    update: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    one_rate: bool = False  # of everything: the leader's
    leader: str = "theta"  # or "phi": whose rate is the leader's


NO_FOLLOWER = {
    "follower_objective": "variance", "follower_weight": 0.0, "order": "follower_first", "follower_steps": 1,
}  # fmt: skip
COUPLINGS = {
    "monolithic": Coupling("scorer_core.couplings:monolithic", NO_FOLLOWER | {"batches": "shared"}, one_rate=True),
    "monolithic_two_rates": Coupling("scorer_core.couplings:monolithic", NO_FOLLOWER | {"batches": "shared"}),
    "synchronous": Coupling("scorer_core.couplings:synchronous", NO_FOLLOWER),
    "scorer": Coupling("scorer_core.couplings:scorer"),
    "inverted": Coupling("scorer_core.couplings:inverted", leader="phi"),
}


@dataclass(frozen=True)
class Schedule:
    """A learning rate over the rounds, the settings only it reads, and how it falls in the long run."""

    rate: str  # (start, power, lane, rounds, progress) -> rate; numbers or tensors
    tail: str  # (power, lr_end) -> p such that the rate falls as rounds^-p; infinite where it ends
    settings: tuple[str, ...] = ()


SCHEDULES = {
    "linear": Schedule("scorer_core.schedules:linear", "scorer_core.schedules:linear_tail", ("lr_end",)),
    "constant": Schedule("scorer_core.schedules:constant", "scorer_core.schedules:constant_tail"),
    "polynomial": Schedule(
        "scorer_core.schedules:polynomial",
        "scorer_core.schedules:polynomial_tail",
        ("leader_power", "follower_power", "decay_rounds"),
    ),
}

# (dense, observation [B, *observation_shape], config) -> z [B, D]; networks.Dense says what `dense` does.
NETWORKS = {
    "mlp": "scorer_core.networks:mlp",
    "cnn": "scorer_core.networks:cnn",
}

MINATAR_GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
# Our own environments: each protocol with its games. gymnax, which the paper's results are on, has no seaquest.
SUITES = {"minatar": MINATAR_GAMES, "gymnax": tuple(game for game in MINATAR_GAMES if game != "seaquest")}
FULL_ACTION_GAMES = ("seaquest",)  # their minimal action set has all six actions

# Environments of gymnasium's interface that no package registers: the task's name and "module:class".
TASKS: dict[str, str] = {}


@cache
def function(place: str) -> Callable[..., Any]:
    """What stands at `place`, "module:name".

    Raises:
        UserCodeError: if it cannot be imported.
    """
    module, _, name = place.partition(":")
    with user_code(f"{place} cannot be imported"):
        return getattr(importlib.import_module(module), name)


def known(table: Mapping[str, Any], name: str) -> str:
    """`name` itself.

    Raises:
        ValueError: if `table` does not have it.
    """
    if name not in table:
        raise ValueError(f"unknown name '{name}'; there is {', '.join(table)}")
    return name
