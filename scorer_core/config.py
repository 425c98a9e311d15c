"""What a run computes: `RunConfig`, frozen and validated, every field a LANE or a SHAPE, and its identity.

LANE fields are numbers that runs of one pack may mix; SHAPE fields decide array sizes or which code runs, so a pack
shares them. Planning, packing and searching read this declaration. No torch here: a login node plans in a second.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache, cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Kind(StrEnum):
    LANE = "lane"
    SHAPE = "shape"


def significant(value: float) -> float:
    """12 significant digits, so that 0.2 * 1e-4 and 2e-5 are one setting and hence one run."""
    return float(f"{value:.12g}")


def objective_weight(value: Any) -> Any:
    return {"variance": 1.0, "msbe": 0.0}.get(value, value) if isinstance(value, str) else value


Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(significant)]
Rate = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Widths = tuple[Count, ...]

Coupling = Literal["monolithic", "monolithic_two_rates", "synchronous", "scorer", "inverted"]

MINATAR_GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
# Our own environments: each protocol with its games. gymnax, which the paper's results are on, has no seaquest.
FAMILIES = {"minatar": MINATAR_GAMES, "gymnax": tuple(game for game in MINATAR_GAMES if game != "seaquest")}


def lane(default: Any = ..., description: str = "", **kwargs: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": Kind.LANE}, **kwargs)


def shape(default: Any = ..., description: str = "", **kwargs: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": Kind.SHAPE}, **kwargs)


@cache
def check_task(task: str) -> str:
    """`task` itself.

    Raises:
        ValueError: if no such task exists, or its spaces are not Box and Discrete.
    """
    family, _, game = task.partition("/")
    if family in FAMILIES:
        if game not in FAMILIES[family]:
            raise ValueError(f"unknown game '{game}'; {family} has {', '.join(FAMILIES[family])}")
        return task
    import gymnasium  # 0.2 s that a MinAtar plan does not pay

    if family == "MinAtar":  # the package itself, which registers its games only when told to
        import minatar.gym

        minatar.gym.register_envs()
    try:
        environment = gymnasium.make(task)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        families = ", ".join(f"{family}/<game>" for family in FAMILIES)
        raise ValueError(f"unknown task '{task}': neither {families} nor a gymnasium id ({error})") from None
    spaces = environment.observation_space, environment.action_space
    environment.close()
    if not (isinstance(spaces[0], gymnasium.spaces.Box) and isinstance(spaces[1], gymnasium.spaces.Discrete)):
        raise ValueError(f"'{task}' needs a Box observation and a Discrete action, it has {spaces[0]} and {spaces[1]}")
    return task


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
    num_envs: Count = shape(128, "environments stepped in lockstep")

    coupling: Coupling = shape("scorer", "who leads, who follows, or neither")
    order: Literal["follower_first", "leader_first"] = shape(
        "follower_first", "as in Algorithm 1, or as in the official code"
    )
    follower_steps: Count = shape(1, "follower steps for each leader step")
    batches: Literal["separate", "shared"] = shape("separate", "does every step draw its own batch?")

    phi_widths: Widths = shape(
        (128, 128), "layers of the perception network; the last is the feature size", min_length=1
    )
    theta_widths: Widths = shape((128,), "hidden layers of the control network")
    activation: Literal["relu", "tanh"] = shape("relu", "after each hidden layer")
    normalise_input: bool = shape(True, "divide the observation by its mean absolute value")
    normalise_features: bool = shape(True, "divide the features by their mean absolute value")

    replay_size: Count = shape(100_000, "transitions kept, all environments together")
    batch_size: Count = shape(64, "transitions a step learns from")
    learning_starts: int = shape(10_000, "environment steps before the first update", ge=0)
    update_every: Count = shape(128, "environment steps between updates")
    log_points: Count = shape(100, "rows of metrics, evenly spaced; at most one a vector step")

    seed: Annotated[int, Field(ge=0, lt=2**62)] = lane(0)
    leader_lr: Rate = lane(1e-4, "initial learning rate of the leader; of everything under `monolithic`")
    follower_lr: Rate = lane(5e-4, "initial learning rate of the follower")
    lr_end: Fraction = lane(0.0, "learning rates at the end, as a fraction of the initial ones; linear in between")
    follower_objective: Annotated[Fraction, BeforeValidator(objective_weight)] = lane(
        1.0, "weight w of (1 - w) msbe + w be_variance; `variance` is 1, `msbe` is 0"
    )
    max_grad_norm: Rate = lane(0.5, "global norm each player's gradient is clipped to")
    gamma: Fraction = lane(0.99, "discount")
    epsilon_start: Fraction = lane(1.0)
    epsilon_end: Fraction = lane(0.01)
    epsilon_steps: Count = lane(250_000, "environment steps from epsilon_start to epsilon_end")
    target_every: Count = lane(16_000, "environment steps between copies to the targets")

    @model_validator(mode="before")
    @classmethod
    def _what_the_coupling_ignores(cls, values: Any) -> Any:
        """Settings a coupling has no use for get one value, so that variants that compute the same are the same run."""
        values = dict(values)
        coupling = values.get("coupling", cls.model_fields["coupling"].default)
        if coupling not in ("scorer", "inverted"):
            values |= {"follower_objective": 0.0, "order": "follower_first", "follower_steps": 1}
        if coupling in ("monolithic", "monolithic_two_rates"):
            values["batches"] = "shared"
        if coupling == "monolithic":
            values["follower_lr"] = values.get("leader_lr", cls.model_fields["leader_lr"].default)
        if not str(values.get("task", "")).startswith("minatar/"):
            values["action_set"] = "minimal"  # gymnax has no other, and a gymnasium task has its own
        return values

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.replay_size < self.num_envs:
            raise ValueError(f"replay_size ({self.replay_size}) is smaller than num_envs ({self.num_envs})")
        if self.batch_size > self.replay_size:
            raise ValueError(f"batch_size ({self.batch_size}) is larger than replay_size ({self.replay_size})")
        if self.total_steps < self.num_envs:
            raise ValueError(f"total_steps ({self.total_steps}) is less than one step of num_envs ({self.num_envs})")
        return self

    @property
    def ratio(self) -> float | None:
        """follower_lr / leader_lr; None under `monolithic`, which has one rate."""
        return None if self.coupling == "monolithic" else significant(self.follower_lr / self.leader_lr)

    @property
    def vector_steps(self) -> int:
        """Steps of all environments together; the last one may pass `total_steps`."""
        return math.ceil(self.total_steps / self.num_envs)

    @cached_property
    def run_id(self) -> str:
        return digest(self.model_dump(mode="json"))

    @cached_property
    def shape_id(self) -> str:
        """Equal for runs that one pack can train together."""
        return digest(self.model_dump(mode="json", include=set(SHAPE_FIELDS)))


LANE_FIELDS: tuple[str, ...]
SHAPE_FIELDS: tuple[str, ...]
LANE_FIELDS, SHAPE_FIELDS = (
    tuple(name for name, field in RunConfig.model_fields.items() if field.json_schema_extra == {"kind": kind})
    for kind in (Kind.LANE, Kind.SHAPE)
)

# What each preset changes of RunConfig's defaults (facts of the paper's Tables 4 and 5 and of the official code).
PRESETS: dict[str, dict[str, Any]] = {
    # The official code tests its periods of 4 and 1,000 against a counter that advances by 128: in effect one follower
    # and one leader step per vector step of 128 frames, and a target copy every lcm(1,000, 128) = 16,000 frames.
    "paper_minatar": {},
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


def digest(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def resolve(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Settings of `layers`, later ones winning, with `preset` unfolded and `ratio` turned into learning rates.

    A layer that names `ratio` alone keeps the leader's rate and moves the follower's; with `follower_lr` beside it, it
    moves the leader's. A ratio holds until a later layer names a follower's rate.

    Raises:
        ValueError: if a layer names an unknown preset, a ratio that is not positive, or all three inconsistently.
    """
    settings: dict[str, Any] = {}
    for layer in layers:
        layer = dict(layer)
        if "preset" in layer:
            name = layer.pop("preset")
            if name not in PRESETS:
                raise ValueError(f"preset: unknown preset '{name}'; there is {', '.join(PRESETS)}")
            settings |= PRESETS[name]
        if "ratio" in layer:
            layer["ratio"] = _positive("ratio", layer["ratio"])
            if "follower_lr" in layer:
                leader_lr = significant(_positive("follower_lr", layer["follower_lr"]) / layer["ratio"])
                stated = _positive("leader_lr", layer.setdefault("leader_lr", leader_lr))
                if significant(stated) != leader_lr:
                    raise ValueError(
                        f"ratio: {layer['ratio']:g} is not follower_lr / leader_lr = "
                        f"{layer['follower_lr']} / {layer['leader_lr']}; leave one of the three out"
                    )
                del layer["ratio"]
                settings.pop("ratio", None)
            else:
                settings.pop("follower_lr", None)
        elif "follower_lr" in layer:
            settings.pop("ratio", None)
        settings |= layer
    if "ratio" in settings:
        leader_lr = settings.get("leader_lr", RunConfig.model_fields["leader_lr"].default)
        settings["follower_lr"] = settings.pop("ratio") * _positive("leader_lr", leader_lr)
    return settings


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is not a number") from None
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name}: {value} is not a finite number above 0")
    return number
