"""What training costs: the arithmetic of a run, and seconds from measurements that `make bench` keeps in measured.json.

A process on one core takes, for a vector step of a pack: a fixed time, which PyTorch needs to call the step's
operations, and each lane's time, which grows with its arithmetic. Both were measured at the paper's MinAtar setting.
"""

import itertools
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from scorer_core.config import RunConfig
from scorer_core.envs.tasks import observation_space
from scorer_core.registry import SUITES

MEASURED = Path(__file__).parent / "measured.json"
CHANNELS = {"asterix": 4, "breakout": 4, "freeway": 7, "seaquest": 10, "space_invaders": 6}
ACTION_BYTES, REWARD_BYTES, FLAG_BYTES = 8, 4, 1  # terminated and truncated are flags
ACTING_SHARE = 0.2  # of the fixed time; the rest is a round's
SECONDS_PER_GYMNASIUM_STEP = 2.5e-5  # of environments that step in Python


@dataclass(frozen=True)
class Speed:
    """Seconds of one process on one core, at the paper's MinAtar setting."""

    start: float  # until the first vector step: imports, recording, compiling
    fixed: float  # of a vector step, whatever the lanes
    lane: float  # of a vector step, for each lane


@cache
def measured() -> dict[str, dict[str, Speed]]:
    """For each kind of device that was measured, the speed of eager and of compiled packs."""
    kept = json.loads(MEASURED.read_text(encoding="utf-8"))
    return {device: {form: Speed(**speed) for form, speed in forms.items()} for device, forms in kept["speed"].items()}


def observation_size(task: str) -> int:
    """Numbers in an observation of `task`."""
    return _observation(task)[0]


def transition_bytes(task: str) -> int:
    """Memory of one transition of `task` in the replay."""
    size, bytes_each, truncates = _observation(task)
    observations = 2 if truncates else 1  # the one before a reset is kept, too
    return ACTION_BYTES + REWARD_BYTES + FLAG_BYTES * observations + size * bytes_each * observations


@cache
def _observation(task: str) -> tuple[int, int, bool]:
    """Numbers in an observation of `task`, bytes of each in the replay, and whether the task truncates episodes."""
    family, _, game = task.partition("/")
    if family in SUITES:
        return 100 * CHANNELS[game], 1, False
    space = observation_space(task)
    return int(np.prod(space.shape or (1,))), 1 if space.dtype in (np.bool_, np.uint8) else 4, True


def flop(config: RunConfig) -> tuple[float, float]:
    """Floating-point operations of one lane's vector step of acting, and of its round of learning.

    A pass forward costs two operations a weight and observation. A round looks at the next states (two networks' pass
    forward) and at the states for each step of either player, and its gradients cost as much again as what they are of,
    twice for layers that pass a gradient on; the heads, of a few actions, are left out.
    """
    phi = (observation_size(config.task), *config.phi_widths)
    theta = (config.phi_widths[-1], *config.theta_widths)
    first, *deeper = (a * b for a, b in itertools.pairwise(phi))
    control = sum(a * b for a, b in itertools.pairwise(theta))
    forward = first + sum(deeper) + control
    backward_phi, backward_theta = first + 2 * sum(deeper) + control, control
    if config.coupling in ("monolithic", "monolithic_two_rates"):
        sample = 2 * forward + backward_phi + backward_theta
    else:
        sample = config.follower_steps * (2 * forward + backward_phi) + 2 * forward + backward_theta
    return 2.0 * config.num_envs * forward, 2.0 * config.batch_size * sample


def seconds(config: RunConfig, lanes: int, compiled: bool, device: str = "cpu") -> float:
    """Estimated for a pack of `lanes` runs like `config`, from its beginning, in one process on one core."""
    speed = measured()[device]["compiled" if compiled else "eager"]
    acting, learning = flop(config)
    reference = sum(flop(RunConfig(task="minatar/breakout")))
    rounds = config.num_updates / config.vector_steps  # a vector step
    fixed = speed.fixed * (ACTING_SHARE + (1 - ACTING_SHARE) * rounds * (1 + config.follower_steps) / 2)
    lane = speed.lane * (acting + rounds * learning) / reference
    if config.task.partition("/")[0] not in SUITES:
        lane += config.num_envs * SECONDS_PER_GYMNASIUM_STEP
    return speed.start + config.vector_steps * (fixed + lanes * lane)
