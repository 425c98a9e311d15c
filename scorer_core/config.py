"""The configuration of one run: `RunConfig`, frozen and validated. No torch.

Every field is a LANE or a SHAPE field (fields.py): planning, packing and searching read this declaration. The settings
of single learners are declared in learners/settings.py.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, model_validator

from scorer_core import identity, plugins, registry
from scorer_core.envs.tasks import check_task
from scorer_core.fields import (
    Count,
    Fraction,
    Kind,
    Power,
    Rate,
    Seed,
    Size,
    Switch,
    Weight,
    Widths,
    lane,
    shape,
    significant,
)
from scorer_core.identity import digest
from scorer_core.learners.settings import LEARNERS, OF_LEARNERS, DQNSettings, PQNSettings
from scorer_core.registry import (
    ALGORITHMS,
    COUPLINGS,
    FOLLOWER_OBJECTIVES,
    LEADER_PENALTIES,
    NETWORKS,
    SCHEDULES,
    Algorithm,
    known,
)

PARTS = ("task", "learner", "coupling", "follower_objective", "leader_penalty", "schedule", "network")


def one_of(table: Mapping[str, Any], *besides: str) -> AfterValidator:
    """A name in `table` at the time of the check, one of `besides`, or a user's own part (`registry.known`)."""
    return AfterValidator(lambda name: name if name in besides else known(table, name))


class RunConfig(DQNSettings, PQNSettings):
    """One run: a variant on a task with a seed. The defaults are the paper's MinAtar setting (paper, Table 4).

    Time is in environment steps, all environments of the run together ("frames" in the paper). A vector step is one
    step of all environments. A period is due when a vector step crosses a multiple of it, and then once, however many
    multiples it crosses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    task: str = shape(
        description="minatar/<game>, gymnax/<game>, or a gymnasium id with a Box observation and a Discrete action"
    )
    action_set: Literal["minimal", "full"] = shape("minimal", "MinAtar only: actions with an effect, or all six")
    total_steps: Count = shape(100_000_000, "environment steps of the whole run")
    num_envs: Size = shape(128, "environments stepped in lockstep")

    algorithm: Annotated[str, AfterValidator(lambda name: known(ALGORITHMS, name, own=False))] = shape(
        "dqn", "ddqn changes the target of dqn, dueling the head of the control network; pqn has no replay"
    )
    learner: Annotated[str, one_of({}, "default")] = shape(
        "default", "your own class in place of the algorithm's, which reads the same settings: package.module:name"
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
        "separate", "each step of an update has its own batch, or all steps use the leader's batch"
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
    layer_norm: Literal["none", "hidden", "hidden_and_features"] = shape(
        "none", "layer normalization before each activation, or also of the features"
    )
    initial_weights: Literal["orthogonal", "lecun", "he"] = shape(
        "orthogonal", "orthogonal with gain sqrt(2), 0.01 in the output layer; lecun is the default of Flax"
    )
    normalise_input: Switch = shape(True, "divide the observation by its mean absolute value")
    normalise_features: Switch = shape(True, "divide the features by their mean absolute value")

    matmul: Literal["float32", "tf32"] = shape(
        "float32", "matrix products on a GPU; tf32 rounds their factors, as JAX and so the official code do there"
    )

    optimizer: Literal["adam", "radam"] = shape("adam", "of both networks")
    log_points: Size = shape(100, "rows of metrics, evenly spaced; at most one per vector step")
    return_before_first_episode: Literal["none", "zero"] = shape(
        "none",
        "value in `return` of an environment before its first episode has ended; zero as in the official code",
    )
    sources: dict[str, str] = shape({}, "written by scorer: the hash of the file of each part that is your own")

    seed: Seed = lane(0, "of all random numbers of the run; a definition sets `seeds`")
    leader_lr: Rate = lane(1e-4, "initial learning rate of the leader; under `monolithic` of both networks")
    follower_lr: Rate = lane(5e-4, "initial learning rate of the follower")
    lr_end: Fraction = lane(0.0, "linear: learning rates at the end, as a fraction of the initial ones")
    decay_steps: Count | None = lane(
        None, "linear: environment steps until the learning rates are at their end; default: the run's length"
    )
    leader_power: Power = lane(0.9, "polynomial: the leader's rate is leader_lr / (1 + updates / decay_rounds)^power")
    follower_power: Power = lane(0.6, "polynomial: of the follower; the theorem requires leader_power >= 1.5 times it")
    decay_rounds: Rate = lane(10_000.0, "polynomial: updates after which a rate is 2^-power times the initial one")
    follower_weight: Fraction = lane(1.0, "weight of follower_objective; 1 - follower_weight is that of msbe")
    leader_penalty_weight: Weight = lane(0.0, "coefficient of leader_penalty")
    leader_loss_weight: Rate = lane(1.0, "coefficient of the leader's msbe; 0.5 in the official PQN")
    optimizer_epsilon: Rate = lane(1e-8, "epsilon of Adam and RAdam")
    max_grad_norm: Rate = lane(0.5, "maximum global norm of each network's gradient")
    gamma: Fraction = lane(0.99, "discount")
    epsilon_start: Fraction = lane(1.0, "probability of a random action at the start")
    epsilon_end: Fraction = lane(0.01, "probability of a random action from epsilon_steps on")
    epsilon_steps: Count = lane(
        250_000,
        "environment steps from epsilon_start to epsilon_end; or, below 1, a fraction of decay_steps",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        sources = values.get("sources")
        return _epsilon_settings(objective_settings(_with_places(values, sources if isinstance(sources, dict) else {})))

    @model_validator(mode="after")
    def _default_where_nothing_reads(self) -> Self:
        """Unused settings get their default, so that variants that compute the same are the same run.

        They were validated first: a wrong setting is an error even if it is not used.
        """
        values = vars(self)  # the model is frozen
        if self.task not in self.sources:  # otherwise it is recorded, and may be missing here
            try:
                values["task"] = check_task(self.task)
            except ValueError as error:
                raise ValueError(f"task: {error}") from None

        def ignored(*names: str) -> None:
            for name in names:
                values[name] = DEFAULTS[name]

        coupling = registry.coupling(self.coupling)
        values.update(coupling.fixed)
        if coupling.one_rate:
            values.update(follower_lr=self.leader_lr, follower_power=self.leader_power)
        read = registry.schedule(self.schedule).settings
        for schedule in SCHEDULES.values():
            ignored(*(name for name in schedule.settings if name not in read))
        if self.leader_penalty == "none" or self.leader_penalty_weight == 0:
            ignored("leader_penalty", "leader_penalty_weight")
        if self.follower_weight == 0:
            ignored("follower_objective")
        ignored(*unread_settings(self.algorithm))
        if self.decay_steps == self.total_steps:
            ignored("decay_steps")
        if not self.task.startswith("minatar/"):
            ignored("action_set")  # gymnax has only one, and a gymnasium task has its own
        values["sources"] = self._read_sources()
        return self

    def _read_sources(self) -> dict[str, str]:
        """The hash of each file of the user's that defines a part of this run: as given, or else of the file today."""
        read = {}
        for field in PARTS:
            if digest := plugins.source_of(field, place := getattr(self, field), self.sources):
                read[place] = digest
        return dict(sorted(read.items()))

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.total_steps < self.num_envs:
            raise ValueError(f"total_steps ({self.total_steps}) is less than one step of num_envs ({self.num_envs})")
        if self.dueling and self.dueling_head == "streams" and any(width % 2 for width in self.theta_widths):
            raise ValueError(f"theta_widths {self.theta_widths} cannot be halved for dueling_head 'streams'")
        if self.layer_norm == "hidden_and_features" and self.normalise_features:
            raise ValueError("layer_norm: hidden_and_features normalizes the features; set normalise_features: false")
        self._learner.check_sizes(self)
        return self

    @property
    def _learner(self) -> type[DQNSettings] | type[PQNSettings]:
        return LEARNERS[self.family]

    @property
    def double(self) -> bool:
        """Does the online control choose the next action (Double Q-learning)?"""
        return ALGORITHMS[self.algorithm].double

    @property
    def family(self) -> str:
        """`dqn` or `pqn`: of the learners that read the same settings."""
        return ALGORITHMS[self.algorithm].family

    @property
    def has_targets(self) -> bool:
        """Are there target networks?"""
        return self._learner.HAS_TARGETS

    @property
    def dueling(self) -> bool:
        return ALGORITHMS[self.algorithm].dueling

    @property
    def ratio(self) -> float | None:
        """follower_lr / leader_lr at the start; None if the coupling has one rate (`monolithic`)."""
        return None if registry.coupling(self.coupling).one_rate else significant(self.follower_lr / self.leader_lr)

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
        """Updates of a run that learns from its first step; `learning_starts` gives fewer."""
        return self._learner.updates_in(self, self.vector_steps * self.num_envs)

    @property
    def decay_updates(self) -> float:
        """Updates until a linear schedule is at its end, of a run that learns from its first step."""
        steps = self.total_steps if self.decay_steps is None else self.decay_steps
        return self._learner.updates_in(self, math.ceil(steps / self.num_envs) * self.num_envs)

    @property
    def batch_transitions(self) -> int:
        """Transitions in the batch of one gradient step."""
        return self._learner.transitions_per_step(self)

    @property
    def memory_transitions(self) -> int:
        """Transitions for which the memory has room."""
        return self._learner.transitions_in_memory(self)

    @cached_property
    def run_id(self) -> str:
        return identity.run_id(self)

    @cached_property
    def changed_settings(self) -> dict[str, Any]:
        """The settings in `run_id`, except the seed."""
        return identity.changed_settings(self)

    @cached_property
    def shape_id(self) -> str:
        """Equal for runs that one pack can train together."""
        return digest(self.model_dump(mode="json", include=set(SHAPE_FIELDS)))

    def with_seed(self, seed: int) -> Self:
        """The same run with another seed, which is not validated: no other setting depends on the seed.

        It takes a tenth of the time of a new configuration, because the work that ignores the seed is done once.
        """
        _ = self.changed_settings, self.shape_id  # computed once for all seeds
        other = self.model_copy(update={"seed": seed})
        vars(other).pop("run_id", None)
        # The names of the fields that were given: a copy of this set for each run would double the memory.
        object.__setattr__(other, "__pydantic_fields_set__", self.model_fields_set)
        return other


DEFAULTS: dict[str, Any] = {name: field.default for name, field in RunConfig.model_fields.items()}
LANE_FIELDS: tuple[str, ...]
SHAPE_FIELDS: tuple[str, ...]
LANE_FIELDS, SHAPE_FIELDS = (
    tuple(name for name, field in RunConfig.model_fields.items() if field.json_schema_extra == {"kind": kind})
    for kind in (Kind.LANE, Kind.SHAPE)
)


def _with_places(settings: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with each short name that `sources` records replaced by the place of the part that it was then."""
    names = {name: place for name, place in sources.items() if isinstance(place, str) and plugins.is_place(place)}
    written = {field: settings[field] for field in PARTS if isinstance(settings.get(field), str)}
    return {**settings, **{field: names.get(name, name) for field, name in written.items()}}


def unread_settings(algorithm: str) -> list[str]:
    """The settings that other algorithms read, but not this one."""
    chosen: Algorithm = ALGORITHMS[algorithm]
    unread = OF_LEARNERS - LEARNERS[chosen.family].model_fields.keys()
    unread |= set() if chosen.double else {"double_features"}
    unread |= set() if chosen.dueling else {"dueling_head"}
    return sorted(unread)


def _epsilon_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with an `epsilon_steps` between 0 and 1 replaced by this fraction of the decay horizon."""
    fraction = settings.get("epsilon_steps")
    steps = settings.get("decay_steps") or settings.get("total_steps") or DEFAULTS["total_steps"]
    if not (isinstance(fraction, float) and 0 < fraction < 1 and isinstance(steps, int | float) and 0 < steps <= 1e15):
        return dict(settings)
    return {**settings, "epsilon_steps": max(1, round(significant(fraction * steps)))}


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
