"""The compiled games against the package: same actions, same chances, every observation, reward and end."""

import numpy as np
import pytest
import torch

from scorer_core.envs.compiled import GAMES, CompiledEnvironments
from tests.scorer_core.envs.original import Original, uniforms_of
from tests.scorer_core.envs.players import scripted_actions

SEED = 20


def compare(game: str, environments: int, steps: int, scripted: bool) -> dict[str, int]:
    """Play `environments` games for `steps` steps on both sides; returns what was met on the way."""
    module = GAMES[game]
    ours = CompiledEnvironments(game, "minatar", torch.tensor([SEED]), environments, action_set="full")
    originals = [Original(game) for _ in range(environments)]
    random = np.random.default_rng(SEED)
    uniforms = uniforms_of(module, SEED, 0, environments)
    expected = np.stack([original.reset(u) for original, u in zip(originals, uniforms, strict=True)])
    np.testing.assert_array_equal(ours.reset()[0].numpy(), expected)
    episodes, total_reward = 0, 0
    for step in range(1, steps + 1):
        if scripted:
            actions = scripted_actions(game, ours.state()["states"][0].numpy(), random)
        else:
            actions = random.integers(0, 6, environments)
        uniforms = uniforms_of(module, SEED, step, environments)
        result = ours.step(torch.from_numpy(actions)[None])
        outcomes = [o.step(a, u) for o, a, u in zip(originals, actions.tolist(), uniforms, strict=True)]
        expected, rewards, ends = (np.array(part) for part in zip(*outcomes, strict=True))
        at = f"{game}, step {step}"
        np.testing.assert_array_equal(result.observation[0].numpy(), expected, err_msg=at)
        np.testing.assert_array_equal(result.reward[0].numpy(), rewards, err_msg=at)
        np.testing.assert_array_equal(result.terminated[0].numpy(), ends, err_msg=at)
        episodes += int(ends.sum())
        total_reward += int(rewards.sum())
    return {"compared": environments * steps, "episodes": episodes, "reward": total_reward}


@pytest.mark.parametrize("game", GAMES)
def test_every_step_of_random_play_is_the_packages(game: str) -> None:
    assert compare(game, environments=20, steps=1000, scripted=False)["compared"] == 20_000


@pytest.mark.parametrize("game", GAMES)
def test_every_step_of_good_play_is_the_packages(game: str) -> None:
    assert compare(game, environments=4, steps=2500, scripted=True)["compared"] == 10_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("game", GAMES)
def test_a_million_steps_of_random_play_and_200_000_of_good_play_are_the_packages(game: str) -> None:
    random = compare(game, environments=200, steps=5000, scripted=False)
    good = compare(game, environments=20, steps=10_000, scripted=True)
    print(f"{game}: random {random}, good {good}")
    assert random["compared"] >= 1_000_000
    assert good["compared"] >= 200_000
