"""The two players' networks: perception f_phi, which makes features z, and control Q_theta, which values actions.

A player's parameters are ONE vector, so that its optimiser, its clipping and its target copy are each one operation;
`layers` shows it as (weight [inputs, outputs], bias [outputs]) a layer. All functions are for ONE run.
"""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from scorer_core import noise
from scorer_core.config import RunConfig

Sizes = tuple[tuple[int, int], ...]  # (inputs, outputs) of each layer
Layers = tuple[tuple[Tensor, Tensor], ...]

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class Shape(NamedTuple):
    """What all runs of a pack have in common: any one's configuration, and the sizes of the players' networks."""

    config: RunConfig
    phi: Sizes
    theta: Sizes


def shape_of(config: RunConfig, inputs: int, num_actions: int) -> Shape:
    """The shape of runs like `config` on a task with observations of `inputs` numbers."""
    phi = tuple(itertools.pairwise((inputs, *config.phi_widths)))
    theta = tuple(itertools.pairwise((config.phi_widths[-1], *config.theta_widths, num_actions)))
    return Shape(config, phi, theta)


def perception(phi: Layers, observation: Tensor, config: RunConfig) -> Tensor:
    """f_phi: features z [B, phi_widths[-1]] of observations [B, *observation_shape]."""
    z = observation.flatten(1).to(torch.float32)
    if config.normalise_input:
        z = l1_normalise(z)
    for weight, bias in phi:
        z = ACTIVATIONS[config.activation](z @ weight + bias)
    return l1_normalise(z) if config.normalise_features else z


def control(theta: Layers, z: Tensor, config: RunConfig) -> Tensor:
    """Q_theta: action values [B, A] of features z [B, phi_widths[-1]]."""
    *hidden, (weight, bias) = theta
    for hidden_weight, hidden_bias in hidden:
        z = ACTIVATIONS[config.activation](z @ hidden_weight + hidden_bias)
    return z @ weight + bias


def action_values(phi: Tensor, theta: Tensor, observation: Tensor, shape: Shape) -> Tensor:
    """Q_theta(f_phi(s), .): [B, A], from the players' parameter vectors."""
    z = perception(layers(phi, shape.phi), observation, shape.config)
    return control(layers(theta, shape.theta), z, shape.config)


def l1_normalise(x: Tensor) -> Tensor:
    """Each row divided by its mean absolute value (the official code's L1Norm; the paper says unit L1 norm)."""
    return x / x.abs().mean(-1, keepdim=True).clamp_min(1e-8)


def layers(parameters: Tensor, sizes: Sizes) -> Layers:
    """Views of a parameter vector."""
    lengths = [length for inputs, outputs in sizes for length in (inputs * outputs, outputs)]
    parts = parameters.split(lengths)
    return tuple((w.view(size), b) for w, b, size in zip(parts[::2], parts[1::2], sizes, strict=True))


def flatten(layers: Layers) -> Tensor:
    """The parameter vector that `layers` shows."""
    return torch.cat([part.reshape(-1) for layer in layers for part in layer])


def init(seed: Tensor, stream: noise.Stream, sizes: Sizes, last_gain: float) -> Tensor:
    """Parameters at the start: orthogonal weights of gain sqrt(2), the last layer's of `last_gain`, and zero biases."""

    def layer(index: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(noise.normal(seed, index, stream, (max(inputs, outputs), min(inputs, outputs))))
        q = q * torch.sign(torch.diagonal(r))  # without it QR favours some rotations
        gain = last_gain if index == len(sizes) - 1 else math.sqrt(2)
        return gain * (q if inputs >= outputs else q.T), torch.zeros(outputs, device=seed.device)

    return flatten(tuple(layer(index, *size) for index, size in enumerate(sizes)))
