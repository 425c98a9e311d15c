"""What a run computes: `RunConfig`, frozen and validated, every field a LANE or a SHAPE, and its identity.

LANE fields are numbers that runs of one pack may mix; SHAPE fields decide array sizes or which code runs, so a pack
shares them. Planning, packing and searching read this declaration. No torch here: a login node plans in a second.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from scorer_core import identity
from scorer_core.identity import digest
from scorer_core.registry import (
    COUPLINGS,
    FOLLOWER_OBJECTIVES,
    LEADER_PENALTIES,
    NETWORKS,
    SCHEDULES,
    check_task,
    known,
)


class Kind(StrEnum):
    LANE = "lane"
    SHAPE = "shape"


def significant(value: float) -> float:
    """12 significant digits, so that 0.2 * 1e-4 and 2e-5 are one setting and hence one run."""
    return float(f"{value:.12g}")


def one_of(table: Mapping[str, Any], *besides: str) -> AfterValidator:
    """A name of one of the registry's tables, as it stands when asked, or one of `besides`."""
    return AfterValidator(lambda name: name if name in besides else known(table, name))


def not_boolean(value: Any) -> Any:
    """`value` itself. pydantic and Python take True for 1; a definition that says so has a mistake.

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
Count = Annotated[Whole, Field(ge=1, le=10**15)]  # more steps than any run trains; exact as a float
Size = Annotated[Whole, Field(ge=1, le=10**6)]  # of what takes memory
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

    Time is counted in environment steps, all environments of the run together ("frames" in the paper). A period fires
    when its boundary is crossed, once however many boundaries a vector step crosses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Annotated[str, AfterValidator(check_task)] = shape(
        description="minatar/<game>, gymnax/<game>, or a gymnasium id with a Box observation and a Discrete action"
    )
    action_set: Literal["minimal", "full"] = shape("minimal", "MinAtar only: the actions that act, or all six")
    total_steps: Count = shape(100_000_000, "environment steps of the whole run")
    num_envs: Size = shape(128, "environments stepped in lockstep")

    algorithm: Algorithm = shape("dqn", "Double takes another target, dueling another head")
    double_features: Literal["target", "online"] = shape(
        "target", "ddqn: whose features the online control chooses the next action on; target as in the official code"
    )
    dueling_head: Literal["streams", "shared"] = shape(
        "streams", "dueling: two hidden streams of half the widths, as in the official code, or the paper's shared one"
    )
    coupling: Annotated[str, one_of(COUPLINGS)] = shape("scorer", "who leads, who follows, or neither")
    order: Literal["follower_first", "leader_first"] = shape(
        "follower_first", "as in Algorithm 1, or as in the official code"
    )
    follower_steps: Size = shape(1, "follower steps for each leader step")
    batches: Literal["separate", "shared"] = shape(
        "separate", "every step draws its own batch, or all steps of an update learn from the leader's batch"
    )

    follower_objective: Annotated[str, one_of(FOLLOWER_OBJECTIVES)] = shape(
        "variance",
        "f of (1 - follower_weight) msbe + follower_weight f; may be written `msbe`, or as variance's weight",
    )
    leader_penalty: Annotated[str, one_of(LEADER_PENALTIES, "none")] = shape(
        "none", "of the features: what the leader pays for beside its msbe"
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

    replay_size: Count = shape(100_000, "transitions kept, all environments together")
    batch_size: Size = shape(64, "transitions a step learns from")
    learning_starts: Whole = shape(10_000, "environment steps before the first update", ge=0, le=10**15)
    update_every: Count = shape(128, "environment steps between updates")
    log_points: Size = shape(100, "rows of metrics, evenly spaced; at most one a vector step")
    return_before_first_episode: Literal["none", "zero"] = shape(
        "none",
        "what `return` counts for an environment before its first episode has ended; zero as in the official code",
    )

    seed: Seed = lane(0)
    leader_lr: Rate = lane(1e-4, "initial learning rate of the leader; of everything under `monolithic`")
    follower_lr: Rate = lane(5e-4, "initial learning rate of the follower")
    lr_end: Fraction = lane(0.0, "linear: learning rates at the end, as a fraction of the initial ones")
    leader_power: Power = lane(0.9, "polynomial: the leader's rate is its initial / (1 + rounds / decay_rounds)^power")
    follower_power: Power = lane(0.6, "polynomial: the follower's; the theorem asks for leader_power >= 1.5 times it")
    decay_rounds: Rate = lane(10_000.0, "polynomial: rounds until a rate has fallen by 2^power")
    follower_weight: Fraction = lane(1.0, "of follower_objective against msbe")
    leader_penalty_weight: Weight = lane(0.0, "coefficient of leader_penalty")
    max_grad_norm: Rate = lane(0.5, "global norm each player's gradient is clipped to")
    gamma: Fraction = lane(0.99, "discount")
    epsilon_start: Fraction = lane(1.0)
    epsilon_end: Fraction = lane(0.01)
    epsilon_steps: Count = lane(250_000, "environment steps from epsilon_start to epsilon_end")
    target_every: Count = lane(16_000, "environment steps between copies to the targets")

    @model_validator(mode="before")
    @classmethod
    def _objective_as_written(cls, values: Any) -> Any:
        return objective_settings(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _default_where_nothing_reads(self) -> Self:
        """Settings that nothing reads get one value, so that variants that compute the same are the same run.

        They were validated first: a setting that is wrong is an error even where nothing reads it.
        """
        now = vars(self)  # the model is frozen for everybody else

        def ignored(*names: str) -> None:
            for name in names:
                now[name] = DEFAULTS[name]

        coupling = COUPLINGS[self.coupling]
        now.update(coupling.fixed)
        if coupling.one_rate:
            now.update(follower_lr=self.leader_lr, follower_power=self.leader_power)
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
            ignored("action_set")  # gymnax has no other, and a gymnasium task has its own
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
        """Does the online control choose the next action?"""
        return self.algorithm in ("ddqn", "dueling_ddqn")

    @property
    def dueling(self) -> bool:
        return self.algorithm in ("dueling_dqn", "dueling_ddqn")

    @property
    def ratio(self) -> float | None:
        """follower_lr / leader_lr at the start; None under `monolithic`, which has one rate."""
        return None if COUPLINGS[self.coupling].one_rate else significant(self.follower_lr / self.leader_lr)

    @property
    def vector_steps(self) -> int:
        """Steps of all environments together; the last one may pass `total_steps`."""
        return math.ceil(self.total_steps / self.num_envs)

    @property
    def log_steps(self) -> list[int]:
        """The vector steps after which a row of metrics is logged."""
        return spread(range(1, self.vector_steps + 1), self.log_points)

    @property
    def rounds(self) -> float:
        """Rounds of a run that learns from its first step; one that waits plays fewer."""
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

# The settings of the paper's experiments (Tables 4 and 5, and the official code). Every preset sets the same fields, so
# that one preset after another leaves nothing of the first.
PRESETS: dict[str, dict[str, Any]] = {
    "paper_control": {
        "total_steps": 1_000_000,
        "num_envs": 10,
        "phi_widths": (64,),
        "theta_widths": (64,),
        "activation": "tanh",
        "normalise_input": False,
        "normalise_features": False,
        "replay_size": 50_000,
        "learning_starts": 1_000,
        "update_every": 10,
        "target_every": 1_000,
        "leader_lr": 1e-4,
        "follower_lr": 3e-4,
        "max_grad_norm": 0.3,
    },
}
# RunConfig's defaults. The official code tests its periods of 4 and 1,000 against a counter that advances by 128: in
# effect one follower and one leader step per vector step of 128 frames, and a target copy every lcm(1,000, 128) =
# 16,000 frames.
PRESETS["paper_minatar"] = {name: DEFAULTS[name] for name in PRESETS["paper_control"]}


def objective_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with a follower objective of `msbe`, or of the variance's weight, as function and weight.

    Raises:
        ValueError: if `follower_weight`, which such an objective replaces, is none.
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


def spread(places: Sequence[int], points: int) -> list[int]:
    """At most `points` of `places`, evenly spaced, the last among them."""
    points = min(points, len(places))
    return [places[-(-point * len(places) // points) - 1] for point in range(1, points + 1)]


def resolve(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Settings of `layers`, later ones winning, with `preset` unfolded and `ratio` turned into learning rates.

    A preset counts as a layer of its own before the layer that names it. docs/learning-rates.md has the rule for
    `leader_lr`, `follower_lr`, `ratio` and `fixed_lr`, with examples.

    Raises:
        ValueError: if a layer names an unknown preset, a rate or ratio that is not positive, all three inconsistently,
            or `fixed_lr` names no player.
    """
    settings: dict[str, Any] = {}
    rates = _LearningRates()
    for layer in layers:
        layer = dict(layer)
        fixed_lr, preset = layer.pop("fixed_lr", rates.fixed_lr), layer.pop("preset", None)
        if preset is not None:
            if not isinstance(preset, str) or preset not in PRESETS:
                raise ValueError(f"preset: unknown preset '{preset}'; there is {', '.join(PRESETS)}")
            rates.add(PRESETS[preset], rates.fixed_lr)
            settings |= PRESETS[preset]
        rates.add(layer, fixed_lr)
        settings |= layer
    settings.pop("ratio", None)
    return settings | rates.value


class _LearningRates:
    """`leader_lr`, `follower_lr` and `ratio` after some layers: the value of each, and the layer that set it last."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}  # the rates that differ from the defaults
        self.ratio = 1.0
        self.layer = {"leader_lr": 0, "follower_lr": 0, "ratio": -1}  # 0: the defaults; -1: no layer
        self.layers = 0
        self.fixed_lr = "leader"

    def add(self, layer: Mapping[str, Any], fixed_lr: Any) -> None:
        if fixed_lr not in ("leader", "follower"):
            raise ValueError(f"fixed_lr: {fixed_lr!r} is not leader or follower")
        self.fixed_lr = fixed_lr
        self.layers += 1
        named = [name for name in self.layer if name in layer]
        for name in named:
            self.layer[name] = self.layers
        self.value |= {name: layer[name] for name in named if name != "ratio"}
        if "ratio" in named:
            self.ratio = _positive("ratio", layer["ratio"])
        held, other = ("leader_lr", "follower_lr") if fixed_lr == "leader" else ("follower_lr", "leader_lr")
        if not named or self.layer[other] > self.layer["ratio"]:
            return  # no ratio is in force
        if len(named) == 3:
            self._check(layer)
        if other in named and held not in named:
            held, other = other, held
        rate = _positive(held, self.value.get(held, DEFAULTS[held]))
        self.value[held] = rate
        self.value[other] = rate * self.ratio if held == "leader_lr" else rate / self.ratio

    def _check(self, layer: Mapping[str, Any]) -> None:
        leader, follower = (_positive(name, layer[name]) for name in ("leader_lr", "follower_lr"))
        if significant(leader * self.ratio) != significant(follower):
            raise ValueError(
                f"ratio: {self.ratio:g} is not follower_lr / leader_lr = {follower:g} / {leader:g}; "
                "leave one of the three out"
            )


def _positive(name: str, value: Any) -> float:
    try:
        number = float(not_boolean(value))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is not a number") from None
    except OverflowError:
        raise ValueError(f"{name}: the number is too large") from None
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name}: {value} is not a finite number above 0")
    return number
