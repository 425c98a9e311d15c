"""Known scores of tasks: of a random policy, and a cited score that counts as good. No torch."""

# Mean return of uniformly random actions, by the action set. MinAtar: `minatar` 1.0.15, sticky actions 0.1, difficulty
# ramping, 3,000 episodes (freeway 400). gymnax: our own games under its rules, 3,000 episodes. CartPole and Acrobot:
# gymnasium 1.2, 20,000 and 600 episodes. Atari: the table that human-normalized scores are computed with (Mnih et al.
# 2015; Agarwal et al. 2021).
RANDOM: dict[str, dict[str, float]] = {
    "minatar/asterix": {"minimal": 0.51, "full": 0.52},
    "minatar/breakout": {"minimal": 0.38, "full": 0.51},
    "minatar/freeway": {"minimal": 0.37, "full": 0.13},
    "minatar/seaquest": {"minimal": 0.10, "full": 0.10},
    "minatar/space_invaders": {"minimal": 4.03, "full": 2.82},
    "gymnax/asterix": {"minimal": 0.50},
    "gymnax/breakout": {"minimal": 0.43},
    "gymnax/freeway": {"minimal": 0.41},
    "gymnax/space_invaders": {"minimal": 4.30},
    "CartPole-v1": {"minimal": 22.2},
    "Acrobot-v1": {"minimal": -498.7},
    "ALE/BattleZone-v5": {"minimal": 2360.0},
    "ALE/DoubleDunk-v5": {"minimal": -18.6},
    "ALE/NameThisGame-v5": {"minimal": 2292.3},
    "ALE/Phoenix-v5": {"minimal": 761.4},
    "ALE/Qbert-v5": {"minimal": 163.9},
}

# The other end of the scale. MinAtar: the DQN of the SCORER paper, Table 1 (its second DQN row; 1e8 frames, gymnax's
# games, which limit an episode to 1,000 steps: a unit, not a target). CartPole and Acrobot:
# gymnasium's own threshold for solved. Atari: the human scores of the same table.
REFERENCE: dict[str, tuple[float, str]] = {
    "minatar/asterix": (52.55, "the paper's DQN"),
    "minatar/breakout": (19.21, "the paper's DQN"),
    "minatar/freeway": (62.23, "the paper's DQN"),
    "minatar/space_invaders": (118.41, "the paper's DQN"),
    "gymnax/asterix": (52.55, "the paper's DQN"),
    "gymnax/breakout": (19.21, "the paper's DQN"),
    "gymnax/freeway": (62.23, "the paper's DQN"),
    "gymnax/space_invaders": (118.41, "the paper's DQN"),
    "CartPole-v1": (475.0, "gymnasium's threshold"),
    "Acrobot-v1": (-100.0, "gymnasium's threshold"),
    "ALE/BattleZone-v5": (37187.5, "a human"),
    "ALE/DoubleDunk-v5": (-16.4, "a human"),
    "ALE/NameThisGame-v5": (8049.0, "a human"),
    "ALE/Phoenix-v5": (7242.6, "a human"),
    "ALE/Qbert-v5": (13455.0, "a human"),
}


def random_return(task: str, action_set: str = "minimal") -> float | None:
    """Mean return of a uniformly random policy on `task`; None if it was not measured."""
    known = RANDOM.get(task, {})
    return known.get(action_set, known.get("minimal"))
