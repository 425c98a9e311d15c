"""The table of logged quantities: the Parquet schema, figures and docs/metrics.md come from it. No torch, no pyarrow.

`TABLE["msbe"].label` is an axis label, `.unit` and `.meaning` are for captions and pages.
`python -m tools.metrics_page` writes docs/metrics.md. The names are columns on disk: if one changes, the old name must
still be read.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    LOGGED = "logged"  # at every log point
    DIAGNOSTIC = "diagnostic"  # at some of the log points (`diagnostics.points`), NaN at the others
    CLOCK = "clock"  # measured by the clock: the only column that a resumed run does not repeat


@dataclass(frozen=True)
class Metric:
    """One logged quantity; a float32 column of the metrics parts.

    Attributes:
        name: of the column.
        label: short, for an axis or a column head; without the unit.
        unit: "1" for a number without unit.
        meaning: one sentence without a full stop.
        kind: when it is logged.
    """

    name: str
    label: str
    unit: str
    meaning: str
    kind: Kind


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


_LOGGED = (
    (
        "return", "return", "reward per episode",
        "mean over environments of the last finished episode's return at this step, with exploration; NaN before the "
        "first episode has ended",
    ),
    ("episodes", "episodes", "episodes", "finished episodes so far, all environments together"),
    ("td_error", "TD error", "reward", "mean TD error of the leader's batches since the last log point"),
    ("msbe", "MSBE", "reward^2", "mean squared Bellman error of the leader's batches since the last log point"),
    (
        "be_variance", "BE variance", "reward^2",
        "variance of the Bellman error over a batch of the leader, mean since the last log point",
    ),
    ("leader_loss", "leader loss", "reward^2", "loss that the leader minimizes, mean since the last log point"),
    ("follower_loss", "follower loss", "reward^2", "loss of the follower's first step, mean since the last log point"),
    (
        "leader_grad_norm", "leader gradient norm", "loss per parameter",
        "norm of the leader's gradient before clipping, mean since the last log point",
    ),
    (
        "follower_grad_norm", "follower gradient norm", "loss per parameter",
        "norm of the gradient of the follower's first step before clipping, mean since the last log point",
    ),
    ("leader_lr", "leader learning rate", "1", "learning rate of the leader at this step"),
    ("follower_lr", "follower learning rate", "1", "learning rate of the follower at this step"),
    ("epsilon", "epsilon", "probability", "probability of a random action at this step"),
    (
        "target_drift", "target drift", "1",
        "distance between online and target parameters before each copy to the targets, divided by the norm of the "
        "target parameters; mean since the last log point, NaN without a copy (pqn has no target networks)",
    ),
)  # fmt: skip
_DIAGNOSTICS = (
    (
        "probe_msbe", "probe MSBE", "reward^2",
        "mean squared Bellman error on the probe batch; under pqn with one-step targets of the online networks",
    ),
    ("probe_be_variance", "probe BE variance", "reward^2", "variance of the Bellman error over the probe batch"),
    (
        "srank", "srank", "singular values",
        "smallest number of singular values of the features that hold 99 % of their sum (Kumar et al. 2021)",
    ),
    (
        "effective_rank", "effective rank", "singular values",
        "exp of the entropy of the features' normalized singular values (Roy and Vetterli 2007)",
    ),
    (
        "dormant", "dormant fraction", "fraction of units",
        "hidden units with at most 2.5 % of their layer's mean activity on the probe batch (Sokar et al. 2023)",
    ),
    ("feature_norm", "feature norm", "1", "mean norm of the features of the probe batch"),
    ("feature_cosine", "feature cosine", "1", "mean cosine between the features of two states of the probe batch"),
    ("phi_norm", "norm of phi", "1", "norm of the perception parameters"),
    ("theta_norm", "norm of theta", "1", "norm of the control parameters"),
    ("phi_distance", "distance of phi", "1", "distance of the perception parameters from their initial values"),
    ("theta_distance", "distance of theta", "1", "distance of the control parameters from their initial values"),
    (
        "gradient_cosine", "gradient cosine", "1",
        "cosine between the gradients of msbe and of the follower's objective with respect to phi, on the probe batch",
    ),
    ("q_max", "max Q", "reward", "largest action value on the probe batch"),
    (
        "q_bias", "Q bias", "reward",
        "mean of Q(s, a) minus the discounted return that followed, over recent transitions of the replay or the "
        "rollout; the largest action value stands for what follows them: for much of a return, if a rollout is short",
    ),
    ("effective_ratio", "update norm ratio", "1", "norm of the follower's last step divided by that of the leader's"),
)  # fmt: skip
_CLOCK = (("steps_per_second", "steps per second", "environment steps per second", "speed of the whole pack"),)

TABLE: dict[str, Metric] = _table(
    *(Metric(*row, kind=Kind.LOGGED) for row in _LOGGED),
    *(Metric(*row, kind=Kind.DIAGNOSTIC) for row in _DIAGNOSTICS),
    *(Metric(*row, kind=Kind.CLOCK) for row in _CLOCK),
)


def _names(*kinds: Kind) -> tuple[str, ...]:
    return tuple(metric.name for metric in TABLE.values() if metric.kind in kinds)


METRICS = _names(Kind.LOGGED, Kind.DIAGNOSTIC)  # what a resumed run repeats bit for bit
DIAGNOSTICS = _names(Kind.DIAGNOSTIC)
MEASURED = _names(Kind.CLOCK)
