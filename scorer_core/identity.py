"""The identity of a run: a hash of what it computes, and of nothing else (no host, no other runs). No torch.

The hash covers the canonical settings that differ from the defaults. So a new field with a default renames no run, and
a default must never change: add a field or a preset instead. `tests/scorer_core/test_identity.py` pins both.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from scorer_core import registry
from scorer_core.registry import COUPLINGS, FULL_ACTION_GAMES

if TYPE_CHECKING:
    from scorer_core.config import RunConfig

# 1: version 0.1, all settings hashed. 2: canonical settings that differ from the defaults.
# Increase it only if every run computes something different from before.
SCHEMA_VERSION = 2


def digest(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def run_id(config: "RunConfig") -> str:
    """Equal for configurations that compute the same run."""
    seed = {} if config.seed == _defaults(type(config))["seed"] else {"seed": config.seed}
    return digest({"schema": SCHEMA_VERSION, "settings": config.changed_settings | seed})


def changed_settings(config: "RunConfig") -> dict[str, Any]:
    """The canonical settings that differ from the defaults, without the seed."""
    defaults = _defaults(type(config))
    return {name: value for name, value in canonical(config).items() if value != defaults[name] and name != "seed"}


def pack_id(run_ids: Sequence[str]) -> str:
    """The id of the pack of these runs; their order does not matter."""
    return digest(sorted(run_ids))


def canonical(config: "RunConfig") -> dict[str, Any]:
    """The settings of `config` as JSON values, in one form for all settings that compute the same run.

    All environments of a run step together, so sizes and times count in whole vector steps. `RunConfig` itself already
    gives settings that nothing reads their default.
    """
    settings = config.model_dump(mode="json")
    num_envs, all_steps = config.num_envs, config.vector_steps * config.num_envs
    settings["total_steps"] = all_steps
    if config.family == "dqn":
        settings["replay_size"] = min(config.replay_size // num_envs * num_envs, all_steps)
        settings["learning_starts"] = config.learning_starts // num_envs * num_envs
        settings["update_every"] = max(config.update_every, num_envs)
        settings["target_every"] = min(max(config.target_every, num_envs), all_steps + 1)  # never, if after the end
    decay_steps = -(-(config.decay_steps or all_steps) // num_envs) * num_envs
    settings["decay_steps"] = None if decay_steps == all_steps else decay_steps
    if config.rollout_steps == 1:
        settings["td_lambda"] = _defaults(type(config))["td_lambda"]
    if config.rollout_steps == 1 or config.td_lambda == 1:
        settings["lambda_start"] = "exact"
    settings["log_points"] = min(config.log_points, config.vector_steps)
    if config.epsilon_start == config.epsilon_end:
        settings["epsilon_steps"] = _defaults(type(config))["epsilon_steps"]
    if config.task.removeprefix("minatar/") in FULL_ACTION_GAMES:
        settings["action_set"] = "minimal"
    reads_powers = "follower_power" in registry.schedule(config.schedule).settings
    same_power = config.follower_power == config.leader_power or not reads_powers
    if config.follower_lr == config.leader_lr and same_power:
        settings |= _with_one_rate(config)
    return settings


def _with_one_rate(config: "RunConfig") -> dict[str, Any]:
    """The settings of the coupling that computes the same as this one if both rates are equal."""
    ours = registry.coupling(config.coupling)
    for name, other in COUPLINGS.items():
        if other.one_rate and (other.update, other.fixed) == (ours.update, ours.fixed):
            return {"coupling": name, "follower_power": config.leader_power}
    return {}


def computes_otherwise_since_version_1(config: "RunConfig") -> bool:
    """Did version 0.1 have another result for these settings?

    With `batches: shared`, only the follower's first step learned from the leader's batch. A replay of more than 2^24
    transitions was sampled at even places only.
    """
    shared = config.batches == "shared" and config.follower_steps > 1
    return shared or canonical(config)["replay_size"] > 2**24


@cache
def _defaults(kind: "type[RunConfig]") -> dict[str, Any]:
    """The default of each field as a JSON value."""
    defaults = {name: field.default for name, field in kind.model_fields.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
