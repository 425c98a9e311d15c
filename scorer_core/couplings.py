"""Who steps when, on which loss: each a game.Play, one round for ONE run, found by its name in the registry."""

from collections.abc import Callable

from scorer_core.game import (
    Batch,
    Batches,
    Lane,
    Outcome,
    Players,
    Rates,
    control_s_loss,
    descend,
    descend_together,
    follower_loss,
    mean_square,
)
from scorer_core.networks import Shape

Played = tuple[Players, Outcome, Outcome]


def scorer(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Played:
    """The paper's: the control leads, slowly, on its mean square; the perception follows, fast, on the variance."""

    def lead(now: Players) -> tuple[Players, Outcome]:
        return descend("theta", control_s_loss, now, batches.leader, rates.leader, lane, shape)

    def follow(now: Players, batch: Batch) -> tuple[Players, Outcome]:
        return descend("phi", follower_loss, now, batch, rates.follower, lane, shape)

    return _in_turn(players, batches, shape, lead, follow)


def inverted(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Played:
    """The perception leads, slowly, on the mean square; the control follows, fast, on the variance."""

    def lead(now: Players) -> tuple[Players, Outcome]:
        return descend("phi", mean_square, now, batches.leader, rates.leader, lane, shape)

    def follow(now: Players, batch: Batch) -> tuple[Players, Outcome]:
        return descend("theta", follower_loss, now, batch, rates.follower, lane, shape)

    return _in_turn(players, batches, shape, lead, follow)


def synchronous(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Played:
    """Nobody leads: both minimise the mean square, each against the other as it was."""
    led, leader = descend("theta", control_s_loss, players, batches.leader, rates.leader, lane, shape)
    followed, follower = descend("phi", follower_loss, players, batches.followers[0], rates.follower, lane, shape)
    return led._replace(phi=followed.phi, phi_adam=followed.phi_adam), leader, follower


def monolithic(players: Players, batches: Batches, rates: Rates, lane: Lane, shape: Shape) -> Played:
    """Ordinary deep Q-learning: one loss, one gradient; a rate for each network, which may be one for both."""
    players, outcome = descend_together(mean_square, players, batches.leader, rates.leader, rates.follower, lane, shape)
    return players, outcome, outcome


def _in_turn(
    players: Players,
    batches: Batches,
    shape: Shape,
    lead: Callable[[Players], tuple[Players, Outcome]],
    follow: Callable[[Players, Batch], tuple[Players, Outcome]],
) -> Played:
    """One step of the leader and all of the follower's, each meeting what the other has just become."""

    def follow_all(now: Players) -> tuple[Players, Outcome]:
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
