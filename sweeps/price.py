"""The cost of training: operations of a run, and seconds estimated from the times in measured.json (`make bench`).

A vector step of a pack takes, on one core, a fixed time (calls, and what does not depend on the lanes) plus a time per
lane, which is proportional to its operations. Both were measured with the paper's MinAtar setting of each family of
learners, averaged over the vector steps between which PQN does not learn.
"""

import itertools
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scorer_core.config import RunConfig
from scorer_core.envs.tasks import observation_space
from scorer_core.learners.settings import LEARNERS
from scorer_core.registry import SUITES
from scorer_core.settings import resolve

PRESETS_MEASURED = {"dqn": "paper_minatar", "pqn": "paper_minatar_pqn"}
MEASURED = Path(__file__).parent / "measured.json"
CHANNELS = {"asterix": 4, "breakout": 4, "freeway": 7, "seaquest": 10, "space_invaders": 6}
ACTION_BYTES, REWARD_BYTES, FLAG_BYTES = 8, 4, 1  # flags: terminated, truncated
ACTING_FRACTION = 0.2  # of the fixed time; the rest is the update's
SECONDS_PER_GYMNASIUM_STEP = 2.5e-5  # per step of one environment in Python


@dataclass(frozen=True)
class Speed:
    """Seconds of one process on one core, with the paper's MinAtar setting of a family of learners."""

    start: float  # until the first vector step: imports, and code from the cache
    fixed: float  # per vector step, for any number of lanes
    lane: float  # per vector step and lane


@cache
def measured() -> dict[str, dict[str, Speed]]:
    """The speed of packs, by kind of device (`cpu`) and family of learners (`dqn`)."""
    kept = json.loads(MEASURED.read_text(encoding="utf-8"))["speed"]
    return {device: {name: Speed(**speed) for name, speed in families.items()} for device, families in kept.items()}


@cache
def reference(family: str) -> RunConfig:
    """The setting with which a family of learners was measured."""
    return RunConfig(**resolve([{"preset": PRESETS_MEASURED[family], "task": "minatar/breakout"}]))


def device_like(device: str) -> str:
    """`device` (`cpu`, `cuda`, `cuda:N`) as a kind of device that was measured: `cpu` if it was not."""
    kind = device.partition(":")[0]
    return kind if kind in measured() else "cpu"


def observation_size(task: str) -> int:
    """The number of values in an observation of `task`."""
    return _observation(task)[0]


def transition_bytes(task: str) -> int:
    """Bytes of one transition of `task` in the replay."""
    size, bytes_each, truncates = _observation(task)
    observations = 2 if truncates else 1  # the last one before a reset is kept, too
    return ACTION_BYTES + REWARD_BYTES + FLAG_BYTES * observations + size * bytes_each * observations


@cache
def _observation(task: str) -> tuple[int, int, bool]:
    """Values in an observation of `task`, bytes of each in the replay, and whether the task truncates episodes."""
    family, _, game = task.partition("/")
    if family in SUITES:
        return 100 * CHANNELS[game], 1, False
    space = observation_space(task)
    return math.prod(space.shape or (1,)), 1 if space.dtype.name in ("bool", "uint8") else 4, True


def flop(config: RunConfig) -> tuple[float, float]:
    """Floating-point operations of one lane: of acting for one vector step, and of one update.

    A forward pass costs 2 operations per weight and observation. An update has a forward pass of the next states where
    a learner has target networks, a forward pass of the states per gradient step, and a backward pass that costs as
    much as the forward pass, twice as much in layers below the first trained one. The output layers, of a few actions,
    are left out.
    """
    phi = (observation_size(config.task), *config.phi_widths)
    theta = (config.phi_widths[-1], *config.theta_widths)
    first, *deeper = (a * b for a, b in itertools.pairwise(phi))
    control = sum(a * b for a, b in itertools.pairwise(theta))
    forward = first + sum(deeper) + control
    passes = 2 if config.has_targets else 1
    backward_phi, backward_theta = first + 2 * sum(deeper) + control, control
    if config.coupling in ("monolithic", "monolithic_two_rates"):
        sample = passes * forward + backward_phi + backward_theta
    else:
        sample = config.follower_steps * (passes * forward + backward_phi) + passes * forward + backward_theta
    return 2.0 * config.num_envs * forward, 2.0 * config.batch_transitions * sample


def updates_per_vector_step(config: RunConfig) -> float:
    return config.num_updates / config.vector_steps


def flop_per_vector_step(config: RunConfig) -> float:
    """Floating-point operations of one lane in a vector step, on average."""
    acting, learning = flop(config)
    return acting + updates_per_vector_step(config) * learning


@dataclass(frozen=True)
class Cost:
    """Estimated seconds of the training of a pack, in one process on one core, by the figures of measured.json."""

    start: float  # until the first update, without the vector steps before it
    acting: float  # of a vector step before learning starts
    learning: float  # of a vector step from then on, on average
    acting_steps: int
    learning_steps: int

    @property
    def steps(self) -> float:
        """Seconds of all vector steps."""
        return self.acting_steps * self.acting + self.learning_steps * self.learning

    @property
    def seconds(self) -> float:
        return self.start + self.steps


def cost(config: RunConfig, lanes: int, device: str = "cpu") -> Cost:
    """The cost of a pack of `lanes` runs like `config` on `device`, a kind of device that was measured."""
    families = measured()[device]
    family = config.family if config.family in families else "dqn"
    speed, like = families[family], reference(family)
    updates = updates_per_vector_step(config) / updates_per_vector_step(like)
    of_update = speed.fixed * (1 - ACTING_FRACTION) * updates * (1 + config.follower_steps) / 2
    per_flop = lanes * speed.lane / flop_per_vector_step(like)
    acting = speed.fixed * ACTING_FRACTION + per_flop * flop(config)[0]
    if config.task.partition("/")[0] not in SUITES:
        acting += lanes * config.num_envs * SECONDS_PER_GYMNASIUM_STEP
    learning = acting + of_update + per_flop * updates_per_vector_step(config) * flop(config)[1]
    waits = "learning_starts" in LEARNERS[config.family].model_fields
    first = min(config.vector_steps, config.learning_starts // config.num_envs) if waits else 0
    return Cost(speed.start, acting, learning, first, config.vector_steps - first)
