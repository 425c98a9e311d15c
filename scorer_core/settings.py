"""From layers of settings to the settings of one run: presets, learning rates, `ratio`. No torch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scorer_core.config import DEFAULTS, not_boolean, significant

# The settings of the paper's experiments (Tables 4 and 5, and the official code). All presets set the same fields, so a
# later preset replaces an earlier one completely.
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
# RunConfig's defaults. The official code compares its periods of 4 and 1,000 with a counter that increases by 128. The
# effect is one follower step and one leader step per vector step of 128 frames, and a target copy every lcm(1,000, 128)
# = 16,000 frames.
PRESETS["paper_minatar"] = {name: DEFAULTS[name] for name in PRESETS["paper_control"]}


def resolve(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of all `layers`: a later layer wins, `preset` is expanded, and `ratio` becomes learning rates.

    A preset is a layer of its own, before the layer that names it. docs/learning-rates.md has the rule for
    `leader_lr`, `follower_lr`, `ratio` and `fixed_lr`, with examples.

    Raises:
        ValueError: if a layer has an unknown preset, a rate or ratio that is not positive, an inconsistent combination
            of all three, or a `fixed_lr` that is not leader or follower.
    """
    settings: dict[str, Any] = {}
    rates = _LearningRates()
    for layer in layers:
        layer = dict(layer)
        fixed_lr, preset = layer.pop("fixed_lr", rates.fixed_lr), layer.pop("preset", None)
        if preset is not None:
            if not isinstance(preset, str) or preset not in PRESETS:
                raise ValueError(f"preset: unknown preset '{preset}'; choose from: {', '.join(PRESETS)}")
            rates.add(PRESETS[preset], rates.fixed_lr)
            settings |= PRESETS[preset]
        rates.add(layer, fixed_lr)
        settings |= layer
    settings.pop("ratio", None)
    return settings | rates.value


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
