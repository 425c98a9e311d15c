"""The networks of ONE run: perception f_phi computes features z, control Q_theta computes action values.

perception.py and heads.py are the networks, layers.py the layers that they are made of. B: observations, D: features,
A: actions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from scorer_core.config import RunConfig
from scorer_core.networks import heads
from scorer_core.networks import perception as perceptions
from scorer_core.networks.layers import Layers, Pieces, Recorder, Using, flatten, init, layers

__all__ = ["Layers", "Pieces", "Shape", "flatten", "init", "layers"]


class Shape(NamedTuple):
    """What all runs of a pack share: the SHAPE settings (of any run's configuration), and the networks' layers."""

    config: RunConfig
    phi: Pieces
    theta: Pieces
    num_actions: int


def shape_of(config: RunConfig, observation_shape: tuple[int, ...], num_actions: int) -> Shape:
    """The shape of runs like `config` on a task with these observations and actions.

    Raises:
        ValueError: if the network does not fit the observations.
    """
    phi, theta = Recorder(config), Recorder(config)
    z = perceptions.perception(phi, torch.zeros(1, *observation_shape), config)
    heads.control(theta, z, config, num_actions)
    return Shape(config, tuple(phi.pieces), tuple(theta.pieces), num_actions)


def perception(phi: Layers, observation: Tensor, shape: Shape) -> Tensor:
    """f_phi: features z [B, D] of observations [B, *observation_shape]."""
    return perceptions.perception(Using(phi), observation, shape.config)


def control(theta: Layers, z: Tensor, shape: Shape) -> Tensor:
    """Q_theta: action values [B, A] of features z [B, D]."""
    return heads.control(Using(theta), z, shape.config, shape.num_actions)


def action_values(phi: Tensor, theta: Tensor, observation: Tensor, shape: Shape) -> Tensor:
    """Q_theta(f_phi(s), .) [B, A] from the parameter vectors."""
    return control(layers(theta, shape.theta), perception(layers(phi, shape.phi), observation, shape), shape)


def forward_with_activations(
    phi: Layers, theta: Layers, observation: Tensor, shape: Shape
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Features z [B, D], action values [B, A], and the activations [B, units] of every hidden layer, z included."""
    net = Using((*phi, *theta))
    z = perceptions.perception(net, observation, shape.config)
    values = heads.control(net, z, shape.config, shape.num_actions)
    hidden = [x for i, x in enumerate(net.hidden) if i > 0 and not any(x is other for other in net.hidden[:i])]
    return z, values, hidden
