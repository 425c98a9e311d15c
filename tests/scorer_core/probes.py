"""Small tasks with known answers, registered with gymnasium."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

STATES, SUCCESS, REWARD_LEFT = 4, 0.8, 0.2


def register() -> None:
    for name, limit in (("Probe/Chain-v0", None), ("Probe/Cut-v0", 5), ("Probe/Short-v0", 2)):
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=f"{__name__}:Chain", max_episode_steps=limit)


class Chain(gymnasium.Env):
    """Four states in a row, one-hot. Right succeeds with 0.8 and ends with reward 1; left ends it with 0.2."""

    observation_space = Box(0.0, 1.0, (STATES,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(STATES))
        return self._one_hot(), {}

    def step(self, action):
        if action == 0:
            return self._one_hot(), REWARD_LEFT, True, False, {}
        if self.np_random.random() < SUCCESS:
            self.state += 1
        ended = self.state == STATES
        if ended:
            self.state = STATES - 1
        return self._one_hot(), float(ended), ended, False, {}

    def _one_hot(self):
        return np.eye(STATES, dtype=np.float32)[self.state]


def optimal_values(gamma: float) -> np.ndarray:
    """Q* of the chain, [state, action], by value iteration."""
    q = np.zeros((STATES, 2))
    for _ in range(10_000):
        best = q.max(1)
        onwards = np.append(gamma * best[1:], 1.0)
        q = np.stack([np.full(STATES, REWARD_LEFT), SUCCESS * onwards + (1 - SUCCESS) * gamma * best], 1)
    return q
