"""The networks of ONE run: perception f_phi computes features z, control Q_theta computes action values.

A network is one function that calls `dense` once per layer; a call with zeros gives the sizes of its layers. The
parameters of a network are ONE vector, so that its optimizer, clipping and target copy are one operation each; `layers`
gives it as (weight [inputs, outputs], bias [outputs]) per layer. B: observations, D: features, A: actions.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from scorer_core import noise, registry
from scorer_core.config import RunConfig

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}
HIDDEN_GAIN, OUTPUT_GAIN = math.sqrt(2), 0.01


class Size(NamedTuple):
    """Sizes of one layer; `gain` is the scale of its initial orthogonal weights."""

    inputs: int
    outputs: int
    gain: float = HIDDEN_GAIN


Sizes = tuple[Size, ...]
Layers = tuple[tuple[Tensor, Tensor], ...]


class Dense(Protocol):
    def __call__(self, x: Tensor, outputs: int, gain: float = HIDDEN_GAIN) -> Tensor:
        """The next layer of the network: x @ weight + bias, [..., outputs]."""
        ...


class Shape(NamedTuple):
    """What all runs of a pack share: the SHAPE settings (of any run's configuration), and the sizes of the networks."""

    config: RunConfig
    phi: Sizes
    theta: Sizes
    num_actions: int


def shape_of(config: RunConfig, observation_shape: tuple[int, ...], num_actions: int) -> Shape:
    """The shape of runs like `config` on a task with these observations and actions.

    Raises:
        ValueError: if the network does not fit the observations.
    """
    phi, theta = [], []

    def record(sizes: list[Size]) -> Dense:
        def dense(x: Tensor, outputs: int, gain: float = HIDDEN_GAIN) -> Tensor:
            sizes.append(Size(x.shape[-1], outputs, gain))
            return x.new_zeros(*x.shape[:-1], outputs)

        return dense

    z = _perception(record(phi), torch.zeros(1, *observation_shape), config)
    _control(record(theta), z, config, num_actions)
    return Shape(config, tuple(phi), tuple(theta), num_actions)


def perception(phi: Layers, observation: Tensor, config: RunConfig) -> Tensor:
    """f_phi: features z [B, D] of observations [B, *observation_shape]."""
    return _perception(_using(phi), observation, config)


def control(theta: Layers, z: Tensor, config: RunConfig, num_actions: int) -> Tensor:
    """Q_theta: action values [B, A] of features z [B, D]."""
    return _control(_using(theta), z, config, num_actions)


def forward_with_activations(
    phi: Layers, theta: Layers, observation: Tensor, shape: Shape
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Features z [B, D], action values [B, A], and the activations [B, units] of every hidden layer, z included."""
    taken: list[Tensor] = []
    z = _perception(_using(phi, taken), observation, shape.config)
    values = _control(_using(theta, taken), z, shape.config, shape.num_actions)
    hidden = [x for i, x in enumerate(taken) if i > 0 and not any(x is other for other in taken[:i])]
    return z, values, hidden


def _using(layers: Layers, taken: list[Tensor] | None = None) -> Dense:
    """The `layers`, one per call; the input of each is appended to `taken`."""
    rest = iter(layers)

    def dense(x: Tensor, outputs: int, gain: float = HIDDEN_GAIN) -> Tensor:  # noqa: ARG001, given with the weights
        weight, bias = next(rest)
        if taken is not None:
            taken.append(x)
        return x @ weight + bias

    return dense


def _perception(dense: Dense, observation: Tensor, config: RunConfig) -> Tensor:
    observation = observation.to(torch.float32)
    if config.normalise_input:
        observation = l1_normalise(observation.flatten(1)).view(observation.shape)
    z = registry.function(registry.NETWORKS[config.network])(dense, observation, config)
    return l1_normalise(z) if config.normalise_features else z


def mlp(dense: Dense, observation: Tensor, config: RunConfig) -> Tensor:
    """The paper's network: hidden layers of `phi_widths` on the flat observation; z [B, D]."""
    z = observation.flatten(1)
    for width in config.phi_widths:
        z = ACTIVATIONS[config.activation](dense(z, width))
    return z


def cnn(dense: Dense, observation: Tensor, config: RunConfig) -> Tensor:
    """MinAtar's own (Young and Tian 2019): 16 filters of 3 x 3 on [B, height, width, channels], then `phi_widths`."""
    activation = ACTIVATIONS[config.activation]
    if observation.dim() != 4:
        raise ValueError(
            f"network: cnn needs observations [height, width, channels], not {list(observation.shape[1:])}"
        )
    patches = observation.unfold(1, 3, 1).unfold(2, 3, 1)  # [B, height - 2, width - 2, channels, 3, 3]
    z = activation(dense(patches.flatten(3), 16)).flatten(1)
    for width in config.phi_widths:
        z = activation(dense(z, width))
    return z


def _control(dense: Dense, z: Tensor, config: RunConfig, num_actions: int) -> Tensor:
    activation = ACTIVATIONS[config.activation]

    def hidden(z: Tensor, share: int) -> Tensor:
        for width in config.theta_widths:
            z = activation(dense(z, width // share))
        return z

    if not config.dueling:
        return dense(hidden(z, 1), num_actions, OUTPUT_GAIN)
    if config.dueling_head == "shared":
        z = hidden(z, 1)
        value, advantage = dense(z, 1, OUTPUT_GAIN), dense(z, num_actions, OUTPUT_GAIN)
    else:
        value = dense(hidden(z, 2), 1, OUTPUT_GAIN)
        advantage = dense(hidden(z, 2), num_actions, OUTPUT_GAIN)
    return value + advantage - advantage.mean(-1, keepdim=True)  # Wang et al. 2016, eq. 9


def action_values(phi: Tensor, theta: Tensor, observation: Tensor, shape: Shape) -> Tensor:
    """Q_theta(f_phi(s), .) [B, A] from the parameter vectors."""
    z = perception(layers(phi, shape.phi), observation, shape.config)
    return control(layers(theta, shape.theta), z, shape.config, shape.num_actions)


def l1_normalise(x: Tensor) -> Tensor:
    """Each row divided by its mean absolute value (the official code's L1Norm; the paper says unit L1 norm)."""
    return x / x.abs().mean(-1, keepdim=True).clamp_min(1e-8)


def layers(parameters: Tensor, sizes: Sizes) -> Layers:
    """Views of a parameter vector [parameters] as weight and bias per layer."""
    lengths = [length for inputs, outputs, _ in sizes for length in (inputs * outputs, outputs)]
    parts = parameters.split(lengths)
    return tuple((w.view(size[:2]), b) for w, b, size in zip(parts[::2], parts[1::2], sizes, strict=True))


def flatten(layers: Layers) -> Tensor:
    """The parameter vector of `layers` (the inverse of `layers`)."""
    return torch.cat([part.reshape(-1) for layer in layers for part in layer])


def init(seed: Tensor, stream: noise.Stream, sizes: Sizes) -> Tensor:
    """Initial parameters: orthogonal weights scaled by each layer's gain, and zero biases."""

    def layer(index: int, inputs: int, outputs: int, gain: float) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(noise.normal(seed, index, stream, (max(inputs, outputs), min(inputs, outputs))))
        q = q * torch.sign(torch.diagonal(r))  # otherwise some rotations are more probable
        return gain * (q if inputs >= outputs else q.T), torch.zeros(outputs, device=seed.device)

    return flatten(tuple(layer(index, *size) for index, size in enumerate(sizes)))
