"""Who steps when, on which loss: each a game.Play, one round for ONE run, found by its name in the registry."""

from collections.abc import Callable

from scorer_core.game import (
    Batch,
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
from scorer_core.networks import Shape

Updated = tuple[Players, StepInfo, StepInfo]


def scorer(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Updated:
    """The paper's: the control leads, slowly, on its mean square; the perception follows, fast, on the variance."""

    def lead(now: Players) -> tuple[Players, StepInfo]:
        return descend("theta", leading_control_loss, now, batches.leader, rates.leader, lane, shape)

    def follow(now: Players, batch: Batch) -> tuple[Players, StepInfo]:
        return descend("phi", follower_loss, now, batch, rates.follower, lane, shape)

    return _in_turn(players, batches, shape, lead, follow)


def inverted(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Updated:
    """The perception leads, slowly, on the mean square; the control follows, fast, on the variance."""

    def lead(now: Players) -> tuple[Players, StepInfo]:
        return descend("phi", msbe_loss, now, batches.leader, rates.leader, lane, shape)

    def follow(now: Players, batch: Batch) -> tuple[Players, StepInfo]:
        return descend("theta", follower_loss, now, batch, rates.follower, lane, shape)

    return _in_turn(players, batches, shape, lead, follow)


def synchronous(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Updated:
    """Nobody leads: both minimise the mean square, each against the other as it was."""
    led, leader = descend("theta", leading_control_loss, players, batches.leader, rates.leader, lane, shape)
    followed, follower = descend("phi", follower_loss, players, batches.followers[0], rates.follower, lane, shape)
    return led._replace(phi=followed.phi, phi_adam=followed.phi_adam), leader, follower


def monolithic(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Updated:
    """Ordinary deep Q-learning: one loss, one gradient; a rate for each network, which may be one for both."""
    players, outcome = descend_together(msbe_loss, players, batches.leader, rates.leader, rates.follower, lane, shape)
    return players, outcome, outcome


def _in_turn(
    players: Players,
    batches: Batches,
    shape: Shape,
    lead: Callable[[Players], tuple[Players, StepInfo]],
    follow: Callable[[Players, Batch], tuple[Players, StepInfo]],
) -> Updated:
    """One step of the leader and all of the follower's, each meeting what the other has just become."""

    def follow_all(now: Players) -> tuple[Players, StepInfo]:
        now, first = follow(now, batches.followers[0])
        for batch in batches.followers[1:]:
            now, _ = follow(now, batch)
        return now, first

    if shape.config.order == "follower_first":
        players, follower = follow_all(players)
        players, leader = lead(players)
    else:
        players, leader = lead(players)
        players, follower = follow_all(players)
    return players, leader, follower
