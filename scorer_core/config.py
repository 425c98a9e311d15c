"""The configuration of one run: `RunConfig`, frozen and validated. Every field is a LANE or a SHAPE field. No torch.

LANE fields are numbers that may differ between the runs of a pack. SHAPE fields decide array sizes or which code runs:
all runs of a pack have the same. Planning, packing and searching read this declaration.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from scorer_core import identity
from scorer_core.envs.tasks import check_task
from scorer_core.identity import digest
from scorer_core.registry import COUPLINGS, FOLLOWER_OBJECTIVES, LEADER_PENALTIES, NETWORKS, SCHEDULES, known


class Kind(StrEnum):
    LANE = "lane"
    SHAPE = "shape"


def significant(value: float) -> float:
    """12 significant digits, so that 0.2 * 1e-4 and 2e-5 are one setting and hence one run."""
    return float(f"{value:.12g}")


def one_of(table: Mapping[str, Any], *besides: str) -> AfterValidator:
    """A name in `table` at the time of the check, or one of `besides`."""
    return AfterValidator(lambda name: name if name in besides else known(table, name))


def not_boolean(value: Any) -> Any:
    """`value` itself. pydantic and Python accept True as 1, but in a definition it is a mistake.

    Raises:
        ValueError: if it is True or False.
    """
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number")
    return value


Whole = Annotated[int, BeforeValidator(not_boolean)]
Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(significant), BeforeValidator(not_boolean)]
Rate = Annotated[Number, Field(gt=0)]
Weight = Annotated[Number, Field(ge=0)]
Power = Annotated[Number, Field(ge=0, le=4)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=1, le=10**15)]  # more steps than any run has; exact as a float
Size = Annotated[Whole, Field(ge=1, le=10**6)]  # of an array
Seed = Annotated[Whole, Field(ge=0, lt=2**62)]
Switch = Annotated[bool, Strict()]
Widths = tuple[Size, ...]
Algorithm = Literal["dqn", "ddqn", "dueling_dqn", "dueling_ddqn"]


def lane(default: Any = ..., description: str = "", **kwargs: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": Kind.LANE}, **kwargs)


def shape(default: Any = ..., description: str = "", **kwargs: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": Kind.SHAPE}, **kwargs)


class RunConfig(BaseModel):
    """One run: a variant on a task with a seed. The defaults are the paper's MinAtar setting (paper, Table 4).

    Time is in environment steps, all environments of the run together ("frames" in the paper). A vector step is one
    step of all environments. A period is due when a vector step crosses a multiple of it, and then once, however many
    multiples it crosses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    task: Annotated[str, AfterValidator(check_task)] = shape(
        description="minatar/<game>, gymnax/<game>, or a gymnasium id with a Box observation and a Discrete action"
    )
    action_set: Literal["minimal", "full"] = shape("minimal", "MinAtar only: actions with an effect, or all six")
    total_steps: Count = shape(100_000_000, "environment steps of the whole run")
    num_envs: Size = shape(128, "environments stepped in lockstep")

    algorithm: Algorithm = shape("dqn", "ddqn changes the target, dueling the head of the control network")
    double_features: Literal["target", "online"] = shape(
        "target",
        "ddqn: features on which the online control chooses the next action; target as in the official code",
    )
    dueling_head: Literal["streams", "shared"] = shape(
        "streams", "dueling: two hidden streams of half the widths, as in the official code, or the paper's shared one"
    )
    coupling: Annotated[str, one_of(COUPLINGS)] = shape("scorer", "which network leads and which follows, or neither")
    order: Literal["follower_first", "leader_first"] = shape(
        "follower_first", "as in Algorithm 1, or as in the official code"
    )
    follower_steps: Size = shape(1, "follower steps for each leader step")
    batches: Literal["separate", "shared"] = shape(
        "separate", "each step draws its own batch, or all steps of an update use the leader's batch"
    )

    follower_objective: Annotated[str, one_of(FOLLOWER_OBJECTIVES)] = shape(
        "variance",
        "f in (1 - follower_weight) msbe + follower_weight f; or `msbe`, or a number w: (1 - w) msbe + w be_variance",
    )
    leader_penalty: Annotated[str, one_of(LEADER_PENALTIES, "none")] = shape(
        "none", "penalty on the features, added to the leader's msbe"
    )
    schedule: Annotated[str, one_of(SCHEDULES)] = shape("linear", "how the learning rates fall")

    network: Annotated[str, one_of(NETWORKS)] = shape("mlp", "the kind of perception network")
    phi_widths: Widths = shape(
        (128, 128), "layers of the perception network; the last is the feature size", min_length=1
    )
    theta_widths: Widths = shape((128,), "hidden layers of the control network")
    activation: Literal["relu", "tanh"] = shape("relu", "after each hidden layer")
    normalise_input: Switch = shape(True, "divide the observation by its mean absolute value")
    normalise_features: Switch = shape(True, "divide the features by their mean absolute value")

    matmul: Literal["float32", "tf32"] = shape(
        "float32", "matrix products on a GPU; tf32 rounds their factors, as JAX and so the official code do there"
    )

    replay_size: Count = shape(100_000, "transitions in the replay, all environments together")
    batch_size: Size = shape(64, "transitions per gradient step")
    learning_starts: Whole = shape(10_000, "environment steps before the first update", ge=0, le=10**15)
    update_every: Count = shape(128, "environment steps between updates")
    log_points: Size = shape(100, "rows of metrics, evenly spaced; at most one per vector step")
    return_before_first_episode: Literal["none", "zero"] = shape(
        "none",
        "value in `return` of an environment before its first episode has ended; zero as in the official code",
    )

    seed: Seed = lane(0, "of all random numbers of the run; a definition sets `seeds`")
    leader_lr: Rate = lane(1e-4, "initial learning rate of the leader; under `monolithic` of both networks")
    follower_lr: Rate = lane(5e-4, "initial learning rate of the follower")
    lr_end: Fraction = lane(0.0, "linear: learning rates at the end, as a fraction of the initial ones")
    leader_power: Power = lane(0.9, "polynomial: the leader's rate is leader_lr / (1 + updates / decay_rounds)^power")
    follower_power: Power = lane(0.6, "polynomial: of the follower; the theorem requires leader_power >= 1.5 times it")
    decay_rounds: Rate = lane(10_000.0, "polynomial: updates after which a rate is 2^-power times the initial one")
    follower_weight: Fraction = lane(1.0, "weight of follower_objective; 1 - follower_weight is that of msbe")
    leader_penalty_weight: Weight = lane(0.0, "coefficient of leader_penalty")
    max_grad_norm: Rate = lane(0.5, "maximum global norm of each network's gradient")
    gamma: Fraction = lane(0.99, "discount")
    epsilon_start: Fraction = lane(1.0, "probability of a random action at the start")
    epsilon_end: Fraction = lane(0.01, "probability of a random action from epsilon_steps on")
    epsilon_steps: Count = lane(250_000, "environment steps from epsilon_start to epsilon_end")
    target_every: Count = lane(16_000, "environment steps between copies to the targets")

    @model_validator(mode="before")
    @classmethod
    def _objective_as_written(cls, values: Any) -> Any:
        return objective_settings(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _default_where_nothing_reads(self) -> Self:
        """Unused settings get their default, so that variants that compute the same are the same run.

        They were validated first: a wrong setting is an error even if it is not used.
        """
        values = vars(self)  # the model is frozen

        def ignored(*names: str) -> None:
            for name in names:
                values[name] = DEFAULTS[name]

        coupling = COUPLINGS[self.coupling]
        values.update(coupling.fixed)
        if coupling.one_rate:
            values.update(follower_lr=self.leader_lr, follower_power=self.leader_power)
        for name, schedule in SCHEDULES.items():
            if name != self.schedule:
                ignored(*schedule.settings)
        if self.leader_penalty == "none" or self.leader_penalty_weight == 0:
            ignored("leader_penalty", "leader_penalty_weight")
        if self.follower_weight == 0:
            ignored("follower_objective")
        if not self.double:
            ignored("double_features")
        if not self.dueling:
            ignored("dueling_head")
        if not self.task.startswith("minatar/"):
            ignored("action_set")  # gymnax has only one, and a gymnasium task has its own
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.replay_size < self.num_envs:
            raise ValueError(f"replay_size ({self.replay_size}) is smaller than num_envs ({self.num_envs})")
        if self.batch_size > self.replay_size:
            raise ValueError(f"batch_size ({self.batch_size}) is larger than replay_size ({self.replay_size})")
        if self.total_steps < self.num_envs:
            raise ValueError(f"total_steps ({self.total_steps}) is less than one step of num_envs ({self.num_envs})")
        if self.dueling and self.dueling_head == "streams" and any(width % 2 for width in self.theta_widths):
            raise ValueError(f"theta_widths {self.theta_widths} cannot be halved for dueling_head 'streams'")
        return self

    @property
    def double(self) -> bool:
        """Does the online control choose the next action (Double Q-learning)?"""
        return self.algorithm in ("ddqn", "dueling_ddqn")

    @property
    def dueling(self) -> bool:
        return self.algorithm in ("dueling_dqn", "dueling_ddqn")

    @property
    def ratio(self) -> float | None:
        """follower_lr / leader_lr at the start; None if the coupling has one rate (`monolithic`)."""
        return None if COUPLINGS[self.coupling].one_rate else significant(self.follower_lr / self.leader_lr)

    @property
    def vector_steps(self) -> int:
        """Number of vector steps; the last one may go beyond `total_steps`."""
        return math.ceil(self.total_steps / self.num_envs)

    @property
    def log_steps(self) -> list[int]:
        """The vector steps after which a row of metrics is logged."""
        return spread(range(1, self.vector_steps + 1), self.log_points)

    @property
    def num_updates(self) -> float:
        """Updates of a run with `learning_starts` 0; a larger value gives fewer."""
        return self.vector_steps * self.num_envs / max(self.update_every, self.num_envs)

    @cached_property
    def run_id(self) -> str:
        return identity.run_id(self)

    @cached_property
    def shape_id(self) -> str:
        """Equal for runs that one pack can train together."""
        return digest(self.model_dump(mode="json", include=set(SHAPE_FIELDS)))


DEFAULTS: dict[str, Any] = {name: field.default for name, field in RunConfig.model_fields.items()}
LANE_FIELDS: tuple[str, ...]
SHAPE_FIELDS: tuple[str, ...]
LANE_FIELDS, SHAPE_FIELDS = (
    tuple(name for name, field in RunConfig.model_fields.items() if field.json_schema_extra == {"kind": kind})
    for kind in (Kind.LANE, Kind.SHAPE)
)


def objective_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with a `follower_objective` of `msbe`, or of a number, replaced by a function and `follower_weight`.

    A number is the weight of the variance; `msbe` is a weight of 0.

    Raises:
        ValueError: if the `follower_weight` that is replaced is not a number from 0 to 1.
    """
    value = settings.get("follower_objective")
    weight = 0.0 if value == "msbe" else None if isinstance(value, bool) else value
    try:
        weight = float(weight)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return dict(settings)
    replaced = settings.get("follower_weight", 1.0)
    if isinstance(replaced, bool) or not isinstance(replaced, int | float) or not 0 <= replaced <= 1:
        raise ValueError(f"follower_weight: {replaced!r} is not a number from 0 to 1")
    return {**settings, "follower_objective": "variance", "follower_weight": weight}


def spread(values: Sequence[int], points: int) -> list[int]:
    """At most `points` of `values`, evenly spaced, including the last."""
    points = min(points, len(values))
    return [values[-(-point * len(values) // points) - 1] for point in range(1, points + 1)]
