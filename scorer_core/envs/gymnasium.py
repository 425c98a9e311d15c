"""Any gymnasium id as a pack's environments, through gymnasium's own vector interface."""

import copy
import functools
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from scorer_core import noise
from scorer_core.checkpoint import bytes_tensor, check_keys
from scorer_core.envs import saving, tasks
from scorer_core.envs.interface import Step
from scorer_core.support.errors import RecordError, user_code


class GymnasiumEnvironments:
    """P x N environments of `task`, a gymnasium id, one after the other in this process.

    Environment n of a lane is seeded once from (lane seed, n), at `reset`; after that its own generator continues.

    Raises:
        RecordError: if an environment of `task` cannot be saved and restored exactly.
        UserCodeError: here and in the methods, if an environment raises an exception.
    """

    sparse = False

    def __init__(self, task: str, seeds: Sequence[int], num_envs: int):
        self.pickled = saving.format_of(task) == "pickle"
        self._task, self._shape = task, (len(seeds), num_envs)
        high, low = noise.bits(torch.tensor(seeds), 0, noise.Stream.ENVIRONMENT_SEED, (num_envs, 2)).unbind(-1)
        self._seeds = ((high << 7) | (low >> 17)).flatten()  # 31 bits each
        make = functools.partial(tasks.make, task)
        with user_code(f"{task}: the constructor of the environment raises"):
            self._envs = SyncVectorEnv([make] * (len(seeds) * num_envs), autoreset_mode=AutoresetMode.SAME_STEP)
        box, actions = self._envs.single_observation_space, self._envs.single_action_space
        assert isinstance(box, Box)
        assert isinstance(actions, Discrete)
        self._first_action = int(actions.start)
        self.observation_shape = box.shape
        self.observation_dtype = torch.uint8 if box.dtype in (np.bool_, np.uint8) else torch.float32
        self.num_actions = int(actions.n)
        self.truncates = True  # any gymnasium environment may

    def reset(self) -> Tensor:
        with user_code(f"{self._task}: the environment raises in reset"):
            observation, _ = self._envs.reset(seed=self._seeds.tolist())
            return self._observations(observation)

    def step(self, actions: Tensor) -> Step:
        with user_code(f"{self._task}: the environment raises in step"):
            return self._step(actions)

    def _step(self, actions: Tensor) -> Step:
        observation, reward, terminated, truncated, info = self._envs.step(
            actions.flatten().cpu().numpy() + self._first_action
        )
        final = observation.copy()
        for index in np.flatnonzero(terminated | truncated):
            final[index] = info["final_obs"][index]
        return Step(
            observation=self._observations(observation),
            reward=torch.from_numpy(reward.astype(np.float32)).view(self._shape),
            terminated=torch.from_numpy(terminated.copy()).view(self._shape),
            truncated=torch.from_numpy(truncated.copy()).view(self._shape),
            final_observation=self._observations(final),
        )

    def state(self) -> dict[str, Any]:
        with user_code(f"{self._task}: the environment raises while it is saved"):
            return self._state()

    def _state(self) -> dict[str, Any]:
        try:
            if not self.pickled:
                return {"format": "values", "states": [saving.save(environment) for environment in self._envs.envs]}
            return {"format": "pickle", "pickle": bytes_tensor(pickle.dumps(self._envs))}
        except (pickle.PicklingError, saving.NotPlainError, AttributeError, TypeError) as error:
            raise RecordError(
                f"{self._task}: its environments cannot be saved, so no run could resume: {error}"
            ) from error

    def restore(self, state: dict[str, Any], lanes: Sequence[int] | None = None) -> None:
        saved, num_envs = _saved_environments(state), self._shape[1]
        places = range(len(self._envs.envs))
        if lanes is not None:
            places = [lane * num_envs + n for lane in lanes for n in range(num_envs)]
        elif len(saved) != len(places):
            raise ValueError(f"'environments' holds {len(saved)} environments, not {len(places)}")
        if state["format"] == "pickle":
            self._envs.envs = [copy.deepcopy(saved[place]) for place in places]
            return
        for environment, place in zip(self._envs.envs, places, strict=True):
            try:
                saving.restore(environment, saved[place])
            except Exception as error:
                raise ValueError(f"'environments.states[{place}]': {type(error).__name__}: {error}") from error

    def _observations(self, observation: np.ndarray) -> Tensor:
        return (
            torch.from_numpy(observation.copy()).to(self.observation_dtype).view(*self._shape, *self.observation_shape)
        )


def _saved_environments(state: dict[str, Any]) -> list[Any]:
    """The environments in `state`, or what `saving.save` returned of each."""
    if state.get("format") == "pickle":
        check_keys(state, ("format", "pickle"), "environments")
        try:  # all that a vector environment keeps from step to step are its environments
            return pickle.loads(state["pickle"].numpy().tobytes()).envs
        except Exception as error:
            raise ValueError(f"'environments.pickle': {type(error).__name__}: {error}") from error
    check_keys(state, ("format", "states"), "environments")
    if state["format"] != "values":
        raise ValueError(f"'environments.format' is {state['format']!r}, not 'values' or 'pickle'")
    if type(state["states"]) is not list:
        raise ValueError(f"'environments.states' is of type {type(state['states']).__name__}, not list")
    return state["states"]
