"""From layers of settings to the settings of one run: presets, learning rates, `ratio`. No torch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scorer_core.config import DEFAULTS
from scorer_core.fields import not_boolean, significant
from scorer_core.registry import ALGORITHMS

# The settings of the paper's experiments (its appendix and the official code), where they differ from the defaults.
# PRESETS gives every preset the same fields, so that a later preset replaces an earlier one completely.
_SPECIAL: dict[str, dict[str, Any]] = {
    # The official code compares its periods of 4 and 1,000 with a counter that increases by 128. The effect is one
    # follower step and one leader step per vector step of 128 frames, and a target copy every lcm(1,000, 128) = 16,000
    # frames.
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
        "follower_lr": 3e-4,
        "max_grad_norm": 0.3,
    },
}
_PQN: dict[str, Any] = {
    "algorithm": "pqn",
    "layer_norm": "hidden_and_features",
    "initial_weights": "lecun",
    "normalise_input": False,
    "normalise_features": False,
    "optimizer": "radam",
    "leader_loss_weight": 0.5,
    "order": "leader_first",
    "batches": "shared",
    "lambda_start": "official",
}
# As in the official code. The paper's text has 2 epochs, and max_grad_norm 0.5 in Appendix C. purejaxql has
# network: cnn, layer_norm: hidden, initial_weights: he, epochs: 2 and max_grad_norm: 10.
_SPECIAL["paper_minatar_pqn"] = _PQN | {
    "phi_widths": (128,),
    "theta_widths": (64,),
    "leader_lr": 2.5e-4,
    "max_grad_norm": 5.0,
    "decay_steps": 50_000_000,
    "epsilon_steps": 0.8,
}
_SPECIAL["paper_control_pqn"] = _PQN | {
    "total_steps": 1_000_000,
    "num_envs": 10,
    "rollout_steps": 128,
    "minibatches": 4,
    "epochs": 2,
    "td_lambda": 0.95,
    "phi_widths": (64,),
    "theta_widths": (32,),
    "decay_steps": 500_000,
    "epsilon_end": 0.05,
    "epsilon_steps": 0.5,
}
PRESETS: dict[str, dict[str, Any]] = {
    name: {field: DEFAULTS[field] for other in _SPECIAL.values() for field in other} | special
    for name, special in _SPECIAL.items()
}


def resolve(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of all `layers`: a later layer wins, `preset` is expanded, and `ratio` becomes learning rates.

    A preset is a layer of its own, before the layer that names it; `paper_minatar` is that of the algorithm which the
    layers choose (`paper_minatar_pqn` for pqn). docs/learning-rates.md has the rule for `leader_lr`, `follower_lr`,
    `ratio` and `fixed_lr`, with examples.

    Raises:
        ValueError: if a layer has an unknown preset, a rate or ratio that is not positive, an inconsistent combination
            of all three, or a `fixed_lr` that is not leader or follower.
    """
    settings: dict[str, Any] = {}
    rates = _LearningRates()
    layers = list(layers)
    family = _family(layers)
    for layer in layers:
        layer = dict(layer)
        fixed_lr, preset = layer.pop("fixed_lr", rates.fixed_lr), layer.pop("preset", None)
        if preset is not None:
            if not isinstance(preset, str) or preset not in PRESETS:
                raise ValueError(f"preset: unknown preset '{preset}'; choose from: {', '.join(PRESETS)}")
            preset = f"{preset}_{family}" if f"{preset}_{family}" in PRESETS else preset
            rates.add(PRESETS[preset], rates.fixed_lr)
            settings |= PRESETS[preset]
        rates.add(layer, fixed_lr)
        settings |= layer
    settings.pop("ratio", None)
    return settings | rates.value


def _family(layers: Iterable[Mapping[str, Any]]) -> str:
    """The family of the algorithm that `layers` choose; "" if there is no such algorithm."""
    chosen = DEFAULTS["algorithm"]
    for layer in layers:
        preset = layer.get("preset")
        chosen = PRESETS.get(preset, {}).get("algorithm", chosen) if isinstance(preset, str) else chosen
        chosen = layer.get("algorithm", chosen)
    return ALGORITHMS[chosen].family if isinstance(chosen, str) and chosen in ALGORITHMS else ""


class _LearningRates:
    """`leader_lr`, `follower_lr` and `ratio` after some layers: the value of each, and the last layer that set it."""

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
            return  # no ratio applies
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
