"""What a pack applies to all its lanes, for ONE run: an update, the copy to the targets, the returns of its episodes.

N: environments of the run.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorer_core import diagnostics, game, objectives
from scorer_core.game import Lane, Players
from scorer_core.learners.learner import Draws, Learner

LEARNED = ("td_error", "msbe", "be_variance", "leader_loss", "follower_loss", "leader_grad_norm", "follower_grad_norm")


class Returns(NamedTuple):
    """The returns of one run's environments."""

    episode_return: Tensor  # [N] of the episode so far
    last_return: Tensor  # [N] of the last finished episode
    counted: Tensor  # [N] bool: does the logged return average it?
    episodes: Tensor  # [] int64 finished episodes


def update(
    coupling: game.UpdateFn,
    learner: Learner,
    players: Players,
    memory: Any,
    vector_step: Tensor,
    draws: Draws,
    lane: Lane,
) -> tuple[Players, Tensor]:
    """One update of ONE run.

    Args:
        coupling: of the run.
        learner: of the run.
        players: before the update.
        memory: from which the batches are taken.
        vector_step: [] int64.
        draws: the transitions of the batches.
        lane: the LANE settings.

    Returns:
        The players after the update, and the values [len(LEARNED)] that are logged of it.
    """
    batches = learner.batches(memory, vector_step, draws)
    players, led, followed = game.update(coupling, players, batches, lane, learner)
    measured = {
        "td_error": objectives.mean(led.delta, led.weight),
        "msbe": objectives.msbe(led.delta, led.weight),
        "be_variance": objectives.be_variance(led.delta, led.weight),
        "leader_loss": led.loss,
        "follower_loss": followed.loss,
        "leader_grad_norm": led.grad_norm,
        "follower_grad_norm": followed.grad_norm,
    }
    return players, torch.stack([measured[name] for name in LEARNED])


def count_returns(returns: Returns, reward: Tensor, terminated: Tensor, truncated: Tensor) -> tuple[Returns, tuple[()]]:
    """The returns of ONE run after a step with these rewards and ends of episodes [N]."""
    ended, total = terminated | truncated, returns.episode_return + reward
    last = torch.where(ended, total, returns.last_return)
    counted, episodes = returns.counted | ended, returns.episodes + ended.sum()
    return Returns(torch.where(ended, 0.0, total), last, counted, episodes), ()


def copy_to_targets(learner: Learner, players: Players, due: Tensor) -> tuple[Players, Tensor]:
    """The copy of ONE run's players to its targets, if it is `due` ([] bool), and the drift before it."""
    return learner.sync_targets(players, due), diagnostics.drift(players, due)
