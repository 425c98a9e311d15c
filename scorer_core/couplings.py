"""The couplings: which network updates when, and on which loss. Each is a game.UpdateFn, named in registry.py.

coupling               theta (control)                phi (perception)                  learning rates
scorer                 leads: msbe                    follows: follower_objective       leader_lr, follower_lr
inverted               follows: follower_objective    leads: msbe                       follower_lr, leader_lr
synchronous            msbe                           msbe                              leader_lr, follower_lr
monolithic             one msbe for both              one msbe for both                 leader_lr, leader_lr
monolithic_two_rates   one msbe for both              one msbe for both                 leader_lr, follower_lr
"""

from collections.abc import Callable
from typing import Any

from scorer_core.game import (
    Batches,
    Lane,
    Players,
    Rates,
    StepInfo,
    descend,
    descend_together,
    follower_loss,
    leading_control_loss,
    msbe_loss,
)
from scorer_core.learners.learner import Learner

Updated = tuple[Players, StepInfo, StepInfo]


def scorer(players: Players, batches: Batches, rates: Rates, lane: Lane, learner: Learner) -> Updated:
    """The paper's: the control leads (small learning rate) on msbe, the perception follows on the variance (eq. 7)."""

    def lead(now: Players) -> tuple[Players, StepInfo]:
        return descend("theta", leading_control_loss, now, batches.leader, rates.leader, lane, learner)

    def follow(now: Players, batch: Any) -> tuple[Players, StepInfo]:
        return descend("phi", follower_loss, now, batch, rates.follower, lane, learner)

    return _in_turn(players, batches, learner, lead, follow)


def inverted(players: Players, batches: Batches, rates: Rates, lane: Lane, learner: Learner) -> Updated:
    """The roles are swapped: the perception leads on msbe, the control follows on the variance."""

    def lead(now: Players) -> tuple[Players, StepInfo]:
        return descend("phi", msbe_loss, now, batches.leader, rates.leader, lane, learner)

    def follow(now: Players, batch: Any) -> tuple[Players, StepInfo]:
        return descend("theta", follower_loss, now, batch, rates.follower, lane, learner)

    return _in_turn(players, batches, learner, lead, follow)


def synchronous(players: Players, batches: Batches, rates: Rates, lane: Lane, learner: Learner) -> Updated:
    """No leader: both minimize msbe, each with the other network as it was before the update."""
    led, leader = descend("theta", leading_control_loss, players, batches.leader, rates.leader, lane, learner)
    followed, follower = descend("phi", follower_loss, players, batches.followers[0], rates.follower, lane, learner)
    return led._replace(phi=followed.phi, phi_optimizer=followed.phi_optimizer), leader, follower


def monolithic(players: Players, batches: Batches, rates: Rates, lane: Lane, learner: Learner) -> Updated:
    """Deep Q-learning: one loss and one gradient for both networks; their learning rates may differ."""
    players, step = descend_together(msbe_loss, players, batches.leader, rates.leader, rates.follower, lane, learner)
    return players, step, step


def _in_turn(
    players: Players,
    batches: Batches,
    learner: Learner,
    lead: Callable[[Players], tuple[Players, StepInfo]],
    follow: Callable[[Players, Any], tuple[Players, StepInfo]],
) -> Updated:
    """One step of the leader and all steps of the follower, in the configured `order`; each uses the other's last."""

    def follow_all(now: Players) -> tuple[Players, StepInfo]:
        now, first = follow(now, batches.followers[0])
        for batch in batches.followers[1:]:
            now, _ = follow(now, batch)
        return now, first

    if learner.config.order == "follower_first":
        players, follower = follow_all(players)
        players, leader = lead(players)
    else:
        players, leader = lead(players)
        players, follower = follow_all(players)
    return players, leader, follower
