"""Objectives: functions of the TD errors and features of one batch of ONE run (paper, eq. 1, 2, 7 to 9).

delta_j = Y_j - Q_theta(f_phi(s_j), a_j), with Y_j constant, and z = f_phi(s). B: transitions, D: features, A: actions.
"""

from torch import Tensor


def td_target(
    reward: Tensor, terminated: Tensor, next_values: Tensor, gamma: Tensor, chosen_by: Tensor | None = None
) -> Tensor:
    """Y [B] = r + gamma (1 - terminated) Q_target(s', argmax_a chosen_by(s', a)); truncation is not termination.

    `next_values` [B, A] are Q_target(s', .); they also choose the action, unless `chosen_by` [B, A] is given (Double
    Q-learning, van Hasselt et al. 2016).
    """
    if chosen_by is None:
        best = next_values.max(-1).values
    else:
        best = next_values.gather(-1, chosen_by.argmax(-1, keepdim=True)).squeeze(-1)
    return reward + gamma * (1 - terminated) * best


def td_error(target: Tensor, values: Tensor, action: Tensor) -> Tensor:
    """Delta [B], from targets [B], action values [B, A] and actions [B]."""
    return target - values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of x [B], each value with its `weight` [B]; None: all are equal."""
    return x.mean() if weight is None else (weight * x).sum() / weight.sum()


def msbe(delta: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared Bellman error, the leader's objective (eq. 1)."""
    return mean(delta * delta, weight)


def be_variance(delta: Tensor, weight: Tensor | None = None) -> Tensor:
    """Variance of the Bellman error over the batch, biased (1/N), the follower's objective (eq. 2)."""
    centred = delta - mean(delta, weight)
    return mean(centred * centred, weight)


def variance(delta: Tensor, z: Tensor, weight: Tensor | None) -> Tensor:  # noqa: ARG001
    """The follower's objective in the paper (eq. 2)."""
    return be_variance(delta, weight)


def norm_loss(delta: Tensor, z: Tensor, weight: Tensor | None) -> Tensor:  # noqa: ARG001
    """0.1 (1 - mean z^2)^2, from the first version of the paper: depends on the features only."""
    return 0.1 * (1 - (z * z).mean()) ** 2


def feature_norm(z: Tensor) -> Tensor:
    """Mean square of the features."""
    return (z * z).mean()


def feature_covariance(z: Tensor) -> Tensor:
    """Sum of squared covariances between different features, per feature (VICReg, Bardes et al. 2022)."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / z.shape[0]
    return ((covariance * covariance).sum() - (covariance.diagonal() ** 2).sum()) / z.shape[1]


def srank_surrogate(z: Tensor) -> Tensor:
    """1 / participation ratio of the features' squared singular values: 1 / rank if all are equal, 1 for only one.

    sum s^4 / (sum s^2)^2 = |Z Z^T|^2 / tr(Z Z^T)^2: smooth, and it needs no singular value decomposition.
    """
    gram = z @ z.T
    return (gram * gram).sum() / gram.diagonal().sum().clamp_min(1e-8) ** 2
