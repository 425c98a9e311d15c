"""Which tasks exist: the check of a task's name, and the spaces of gymnasium's environments. No torch, no numba."""

import importlib.machinery
import io
import logging
import sys
from contextlib import redirect_stdout
from functools import cache
from typing import Any

from scorer_core import plugins
from scorer_core.registry import SUITES, TASKS
from scorer_core.support.errors import reason, user_code

log = logging.getLogger("scorer")


@cache
def check_task(task: str) -> str:
    """`task` itself; of a short name that a distribution registers, the place of its class.

    If `task` names a module ("module:id"), a warning names the module before it is imported.

    Raises:
        ValueError: if no such task exists, its environment cannot be made, or its spaces are not Box and Discrete.
    """
    task = plugins.short_names().get(task, task)
    family, _, game = task.partition("/")
    if family not in SUITES:
        module, colon, _ = task.partition(":")
        if colon and module not in sys.modules:
            log.warning("task %s: imports the module %s (%s)", task, module, _place(module))
        observation_space(task)
    elif game not in SUITES[family]:
        raise ValueError(f"unknown game '{game}'; choose from: {', '.join(SUITES[family])}")
    return task


@cache
def observation_space(task: str) -> Any:
    """The observation space (a Box) of a gymnasium task. Output of its environment is not shown.

    Raises:
        ValueError: if no such task exists, its environment cannot be made, or its spaces are not Box and Discrete.
    """
    with user_code("gymnasium cannot be imported"):  # it imports other packages' environments
        import gymnasium  # 0.2 s that a MinAtar plan does not pay

    try:
        with redirect_stdout(io.StringIO()):  # the output may be JSON
            environment = make(task)
            spaces = environment.observation_space, environment.action_space
            environment.close()
        fit = isinstance(spaces[0], gymnasium.spaces.Box) and isinstance(spaces[1], gymnasium.spaces.Discrete)
        found = "" if fit else f"{spaces[0]} and {spaces[1]}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the environment raises, sys.exit() included
        unknown = _id(task) not in gymnasium.registry and not _is_users(task)
        if isinstance(error, gymnasium.error.Error | ModuleNotFoundError) and unknown:
            families = ", ".join(f"{family}/<game>" for family in SUITES)
            raise ValueError(
                f"unknown task '{task}': neither {families} nor a gymnasium id ({reason(error)})"
            ) from None
        raise ValueError(f"the environment of '{task}' cannot be made: {reason(error)}") from None
    if not fit:
        raise ValueError(f"'{task}' needs a Box observation and a Discrete action, it has {found}")
    return spaces[0]


def make(task: str) -> Any:
    """A new environment (gymnasium.Env) of a gymnasium id, or of the user's own class at a place."""
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

    if _is_users(task):
        return gymnasium.make(EnvSpec(_id(task), entry_point=task))
    if task.partition("/")[0] == "MinAtar" and task not in gymnasium.registry:  # it registers its games on request
        import minatar.gym

        minatar.gym.register_envs()
    if task in TASKS and task not in gymnasium.registry:
        gymnasium.register(task, entry_point=TASKS[task])
    return gymnasium.make(task)


def _is_users(task: str) -> bool:
    """Is it the place of the user's own class? Otherwise "module:Name" is an id without a version."""
    return plugins.is_place(task) and plugins.is_defined(task)


def _place(module: str) -> str:
    """The file or folder that an import of `module` would read; nothing is imported to find it."""
    top = module.partition(".")[0]
    spec = importlib.machinery.PathFinder.find_spec(top)
    return "not found" if spec is None else spec.origin or ", ".join(spec.submodule_search_locations or ["built in"])


def _id(task: str) -> str:
    """A gymnasium id without the module that registers it, `module:id`."""
    return task.rpartition(":")[2]
