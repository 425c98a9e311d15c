"""What the players minimise, as functions of the TD errors of one batch of ONE run (paper, eq. 1, 2, 7 to 9).

delta_j = Y_j - Q_theta(f_phi(s_j), a_j), with Y_j held constant.
"""

from torch import Tensor


def td_target(reward: Tensor, terminated: Tensor, next_values: Tensor, gamma: Tensor) -> Tensor:
    """Y = r + gamma (1 - d) max_a Q_target(s', a): [B], from next_values [B, A]; d says terminated, not truncated."""
    return reward + gamma * (1 - terminated) * next_values.max(-1).values


def td_error(target: Tensor, values: Tensor, action: Tensor) -> Tensor:
    """delta: [B], from targets [B], action values [B, A] and the actions taken [B]."""
    return target - values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def msbe(delta: Tensor) -> Tensor:
    """Mean squared Bellman error, the leader's objective (eq. 1)."""
    return (delta * delta).mean()


def be_variance(delta: Tensor) -> Tensor:
    """Variance of the Bellman error over the batch, biased (1/N), the follower's objective (eq. 2)."""
    centred = delta - delta.mean()
    return (centred * centred).mean()


def weighted(delta: Tensor, w: Tensor) -> Tensor:
    """(1 - w) msbe + w be_variance: the follower's objective between its ablation (eq. 8) and the paper's (eq. 9)."""
    return (1 - w) * msbe(delta) + w * be_variance(delta)
