"""The names that a definition may use, each with the function behind it, which is imported where it runs. No torch.

Besides the names in a table, a definition may use `package.module:name` of the user's own function, or a short name
that a distribution registers for one (plugins.py). docs/extending.md has an example of each kind.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from scorer_core import plugins
from scorer_core.support.errors import user_code

if TYPE_CHECKING:
    from scorer_core.config import RunConfig

# (delta [B], z [B, D], weight [B] or None) -> f []; the follower minimizes (1 - w) msbe + w f, w = follower_weight.
FOLLOWER_OBJECTIVES = {
    "variance": "scorer_core.objectives:variance",
    "norm": "scorer_core.objectives:norm_loss",
}

# z [B, D] -> P []; leader_penalty_weight times P is added to the leader's loss.
LEADER_PENALTIES = {
    "feature_norm": "scorer_core.objectives:feature_norm",
    "feature_covariance": "scorer_core.objectives:feature_covariance",
    "srank": "scorer_core.objectives:srank_surrogate",
}


@dataclass(frozen=True)
class Algorithm:
    """A deep Q-learning algorithm.

    Attributes:
        learner: "module:name" of the class (learners.learner.Learner).
        family: the settings that it reads besides the common ones, a key of learners.settings.LEARNERS.
        double: the online control chooses the next action (Double Q-learning).
        dueling: the control network has a dueling head.
    """

    learner: str
    family: str = "dqn"
    double: bool = False
    dueling: bool = False


ALGORITHMS = {
    "dqn": Algorithm("scorer_core.learners.dqn:DQN"),
    "ddqn": Algorithm("scorer_core.learners.dqn:DQN", double=True),
    "dueling_dqn": Algorithm("scorer_core.learners.dqn:DQN", dueling=True),
    "dueling_ddqn": Algorithm("scorer_core.learners.dqn:DQN", double=True, dueling=True),
    "pqn": Algorithm("scorer_core.learners.pqn:PQN", "pqn"),
}


@dataclass(frozen=True)
class Coupling:
    """How both networks are updated.

    Attributes:
        update: "module:name" of the update function (game.UpdateFn).
        fixed: the value of each setting that it does not read.
        one_rate: both networks have the leader's learning rate.
        leader: the network whose learning rate is `leader_lr`, "theta" or "phi".
    """

    update: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    one_rate: bool = False
    leader: str = "theta"


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
    """How a learning rate falls with the number of updates k.

    Attributes:
        rate: "module:name" of (start, power, lane, updates, progress) -> rate; numbers or tensors.
        tail: "module:name" of (power, lr_end) -> p such that the rate falls as k^-p; infinite if the rate ends at 0.
            None if it is not known.
        settings: those that not every schedule reads.
    """

    rate: str
    tail: str | None
    settings: tuple[str, ...] = ()


SCHEDULES = {
    "linear": Schedule("scorer_core.schedules:linear", "scorer_core.schedules:linear_tail", ("lr_end", "decay_steps")),
    "constant": Schedule("scorer_core.schedules:constant", "scorer_core.schedules:constant_tail"),
    "polynomial": Schedule(
        "scorer_core.schedules:polynomial",
        "scorer_core.schedules:polynomial_tail",
        ("leader_power", "follower_power", "decay_rounds"),
    ),
}

# (net, observation [B, *observation_shape], config) -> z [B, D]; networks.layers.Net says what `net` does.
NETWORKS = {
    "mlp": "scorer_core.networks.perception:mlp",
    "cnn": "scorer_core.networks.perception:cnn",
}

MINATAR_GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
# Our own environments: the games of each protocol. gymnax, which the paper uses, has no seaquest.
SUITES = {"minatar": MINATAR_GAMES, "gymnax": tuple(game for game in MINATAR_GAMES if game != "seaquest")}
FULL_ACTION_GAMES = ("seaquest",)  # their minimal action set is the full one

# Environments of gymnasium's interface that no package registers: the task's name and "module:class".
TASKS: dict[str, str] = {}


@cache
def function(place: str) -> Callable[..., Any]:
    """The object at `place`, "module:name".

    Raises:
        UserCodeError: if it cannot be imported.
    """
    module, _, name = place.partition(":")
    with user_code(f"{place} cannot be imported"):
        return getattr(importlib.import_module(module), name)


def part(table: Mapping[str, str], name: str) -> Callable[..., Any]:
    """The function that `name` means: a name in `table`, or the place of the user's own.

    Raises:
        UserCodeError: if it cannot be imported.
    """
    return function(table.get(name, name))


def learner(config: "RunConfig") -> Callable[..., Any]:
    """The class of the learner of a run: the user's own, or that of its algorithm.

    Raises:
        UserCodeError: if it cannot be imported.
    """
    return function(ALGORITHMS[config.algorithm].learner if config.learner == "default" else config.learner)


def coupling(name: str) -> Coupling:
    """The coupling in the table, or the user's update function `name`, which reads every setting."""
    return COUPLINGS.get(name) or Coupling(name)


def schedule(name: str) -> Schedule:
    """The schedule in the table, or the user's function `name`, which may read the settings of all schedules."""
    if name in SCHEDULES:
        return SCHEDULES[name]
    every = dict.fromkeys(setting for known in SCHEDULES.values() for setting in known.settings)
    return Schedule(name, None, tuple(every))


def known(table: Mapping[str, Any], name: str, own: bool = True) -> str:
    """`name` itself if `table` has it or it is the place of the user's own part; of a short name, its place.

    The place of a function in `table` becomes its name there: both are the same run.

    Raises:
        ValueError: if it is none of these, or the user's own although it may not be (`own`).
    """
    if name in table:
        return name
    if not own:
        raise ValueError(f"unknown name '{name}'; choose from: {', '.join(table)}; your own class is a `learner`")
    place = plugins.short_names().get(name, name)
    if place != name and not plugins.is_place(place):
        raise ValueError(
            f"'{name}' is registered as '{place}' in the group {plugins.GROUP}, not as package.module:name"
        )
    if plugins.is_place(place):
        return next((known for known, there in table.items() if there == place), place)
    names = ", ".join([*table, *plugins.short_names()])
    raise ValueError(f"unknown name '{name}'; choose from: {names}; or give your own, package.module:name")
