"""Under its own random numbers each game's first episodes last as long, and bring as much, as the package's."""

import numpy as np
import pytest
import torch
from minatar import Environment
from scipy.stats import ks_2samp, mannwhitneyu

from scorer_core.envs.compiled import GAMES, CompiledEnvironments

EPISODES = 5000
# No action but up takes the chicken anywhere: uniform play would compare zeros.
WEIGHTS = {"freeway": np.array([0.05, 0.05, 0.7, 0.05, 0.1, 0.05])}
UNIFORM = np.full(6, 1 / 6)


def our_episodes(game: str) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    environments = CompiledEnvironments(game, "minatar", torch.tensor([2]), EPISODES, action_set="full")
    environments.reset()
    returns, lengths, playing = np.zeros(EPISODES), np.zeros(EPISODES), np.ones(EPISODES, dtype=bool)
    while playing.any():
        actions = random.choice(6, (1, EPISODES), p=WEIGHTS.get(game, UNIFORM))
        step = environments.step(torch.from_numpy(actions))
        returns += step.reward[0].numpy() * playing
        lengths += playing
        playing &= ~step.terminated[0].numpy()
    return returns, lengths


def their_episodes(game: str) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    environment = Environment(game)
    environment.seed(4)
    returns, lengths = np.zeros(EPISODES), np.zeros(EPISODES)
    for episode in range(EPISODES):
        environment.reset()
        environment.last_action = 0
        over, actions = False, []
        while not over:
            length = int(lengths[episode])
            if length % 500 == 0:
                actions = random.choice(6, 500, p=WEIGHTS.get(game, UNIFORM)).tolist()
            reward, over = environment.act(actions[length % 500])
            returns[episode] += reward
            lengths[episode] += 1
    return returns, lengths


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("game", GAMES)
def test_returns_and_lengths_of_5000_episodes_are_distributed_as_the_packages(game: str) -> None:
    for what, ours, theirs in zip(("return", "length"), our_episodes(game), their_episodes(game), strict=True):
        p_shape = float(np.asarray(ks_2samp(ours, theirs))[1])
        p_location = 1.0 if np.ptp(ours) == np.ptp(theirs) == 0 else mannwhitneyu(ours, theirs).pvalue
        print(
            f"{game} {what}: ours {ours.mean():.3f}, theirs {theirs.mean():.3f}, "
            f"Kolmogorov-Smirnov p {p_shape:.3f}, Mann-Whitney p {p_location:.3f}"
        )
        assert p_shape > 0.01
        assert p_location > 0.01
