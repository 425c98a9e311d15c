"""Run as a program under numba's CUDA simulator: the kernels against the CPU loops, for every game and protocol."""

import numpy as np
import torch

from scorer_core.envs.compiled import GAMES, CompiledEnvironments, meanings_of
from scorer_core.envs.cuda_games import kernels
from scorer_core.envs.rules import PROTOCOLS, rules_of

LANES, ENVIRONMENTS, STEPS = 2, 2, 60


def compare(game: str, protocol: str) -> int:
    module, rules = GAMES[game], rules_of(game, protocol)
    seeds = torch.arange(LANES) + 3
    environments = CompiledEnvironments(game, protocol, seeds, ENVIRONMENTS)
    shape = (LANES, ENVIRONMENTS)
    clock = np.zeros(1, dtype=np.int64)
    states = np.zeros((*shape, module.STATE_SIZE), dtype=np.int16)
    pictures = np.zeros((*shape, 100 * module.CHANNELS), dtype=np.uint8)
    meanings, taken = meanings_of(module.ACTIONS), np.zeros(shape, dtype=np.int64)
    rewards, terminated = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
    place = (seeds.numpy(), clock, states, pictures)
    reset_one, step_one = kernels(module, rules)
    reset_one[1, LANES * ENVIRONMENTS + 1](*place)
    np.testing.assert_array_equal(pictures, environments.reset().flatten(start_dim=2).numpy())
    random = np.random.default_rng(1)
    for _ in range(STEPS):
        actions = random.integers(0, environments.num_actions, shape)
        clock += 1
        step_one[1, LANES * ENVIRONMENTS + 1](*place, actions, meanings, taken, rewards, terminated)
        expected = environments.step(torch.from_numpy(actions))
        np.testing.assert_array_equal(pictures, expected.observation.flatten(start_dim=2).numpy())
        np.testing.assert_array_equal(rewards, expected.reward.numpy())
        np.testing.assert_array_equal(terminated, expected.terminated.numpy())
    return STEPS


if __name__ == "__main__":
    for protocol in PROTOCOLS:
        for game in GAMES:
            if (game, protocol) != ("seaquest", "gymnax"):
                print(game, protocol, compare(game, protocol))
