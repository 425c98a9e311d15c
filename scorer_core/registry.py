"""The names a definition may use, and where the function behind each lives: a new one is a function and a line here.

No torch: a name is checked on a login node, its function is imported where it runs. docs/extending.md has an example of
each kind.
"""

import importlib
import importlib.machinery
import io
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from scorer_core.support.errors import reason, user_code

log = logging.getLogger("scorer")

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

    play: str
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


@cache
def check_task(task: str) -> str:
    """`task` itself. Before a module is imported that `task` names ("module:id"), a line on stderr says so.

    Raises:
        ValueError: if no such task exists, its environment cannot be made, or its spaces are not Box and Discrete.
    """
    family, _, game = task.partition("/")
    if family not in SUITES:
        module, colon, _ = task.partition(":")
        if colon and module not in sys.modules:
            log.warning("task %s: imports the module %s (%s)", task, module, _place(module))
        observation_space(task)
    elif game not in SUITES[family]:
        raise ValueError(f"unknown game '{game}'; {family} has {', '.join(SUITES[family])}")
    return task


@cache
def observation_space(task: str) -> Any:
    """The Box of a task of gymnasium's interface. What its environment prints meanwhile is not shown.

    Raises:
        ValueError: if no such task exists, its environment cannot be made, or its spaces are not Box and Discrete.
    """
    with user_code("gymnasium cannot be imported"):  # it imports other packages' environments
        import gymnasium  # 0.2 s that a MinAtar plan does not pay

    family, _, _ = task.partition("/")
    if family == "MinAtar" and task not in gymnasium.registry:  # the package registers its games only on request
        import minatar.gym

        minatar.gym.register_envs()
    try:
        with redirect_stdout(io.StringIO()):  # the output may be JSON
            if task in TASKS and task not in gymnasium.registry:
                gymnasium.register(task, entry_point=TASKS[task])
            environment = gymnasium.make(task)
            spaces = environment.observation_space, environment.action_space
            environment.close()
        fit = isinstance(spaces[0], gymnasium.spaces.Box) and isinstance(spaces[1], gymnasium.spaces.Discrete)
        found = "" if fit else f"{spaces[0]} and {spaces[1]}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the environment raises, sys.exit() included
        if isinstance(error, gymnasium.error.Error | ModuleNotFoundError) and _id(task) not in gymnasium.registry:
            families = ", ".join(f"{family}/<game>" for family in SUITES)
            raise ValueError(
                f"unknown task '{task}': neither {families} nor a gymnasium id ({reason(error)})"
            ) from None
        raise ValueError(f"the environment of '{task}' cannot be made: {reason(error)}") from None
    if not fit:
        raise ValueError(f"'{task}' needs a Box observation and a Discrete action, it has {found}")
    return spaces[0]


def _place(module: str) -> str:
    """The file or folder that an import of `module` would read; nothing is imported to find it."""
    top = module.partition(".")[0]
    spec = importlib.machinery.PathFinder.find_spec(top)
    return "not found" if spec is None else spec.origin or ", ".join(spec.submodule_search_locations or ["built in"])


def _id(task: str) -> str:
    """A gymnasium id without the module that registers it, `module:id`."""
    return task.rpartition(":")[2]
