"""What the players minimise: functions of the TD errors and features of one batch of ONE run (paper, eq. 1, 2, 7 to 9).

delta_j = Y_j - Q_theta(f_phi(s_j), a_j), with Y_j held constant; z = f_phi(s). The registry names what a definition may
choose.
"""

from torch import Tensor


def td_target(
    reward: Tensor, terminated: Tensor, next_values: Tensor, gamma: Tensor, chosen_by: Tensor | None = None
) -> Tensor:
    """Y = r + gamma (1 - d) Q_target(s', argmax_a chosen_by(s', a)): [B]; d says terminated, not truncated.

    `next_values` [B, A] are Q_target's. They choose too, unless others do (Double Q-learning, van Hasselt et al. 2016).
    """
    if chosen_by is None:
        best = next_values.max(-1).values
    else:
        best = next_values.gather(-1, chosen_by.argmax(-1, keepdim=True)).squeeze(-1)
    return reward + gamma * (1 - terminated) * best


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


def variance(delta: Tensor, z: Tensor) -> Tensor:  # noqa: ARG001
    """The paper's follower."""
    return be_variance(delta)


def norm_loss(delta: Tensor, z: Tensor) -> Tensor:  # noqa: ARG001
    """0.1 (1 - mean z^2)^2, of the paper's first version: nothing but the size of the features."""
    return 0.1 * (1 - (z * z).mean()) ** 2


def feature_norm(z: Tensor) -> Tensor:
    """Mean square of the features."""
    return (z * z).mean()


def feature_covariance(z: Tensor) -> Tensor:
    """Squared covariances between different features, summed, a feature (VICReg's term: Bardes et al. 2022)."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / z.shape[0]
    return ((covariance * covariance).sum() - (covariance.diagonal() ** 2).sum()) / z.shape[1]


def srank_surrogate(z: Tensor) -> Tensor:
    """1 / participation ratio of the features' squared singular values: from 1 / rank, all equal, to 1, only one.

    sum s^4 / (sum s^2)^2 = |Z Z^T|^2 / tr(Z Z^T)^2: smooth, and without a decomposition at every step.
    """
    gram = z @ z.T
    return (gram * gram).sum() / gram.diagonal().sum().clamp_min(1e-8) ** 2
