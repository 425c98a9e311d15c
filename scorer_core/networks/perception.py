"""Perception f_phi: the features z of observations. B: observations, D: features."""

import torch
from torch import Tensor

from scorer_core import registry
from scorer_core.config import RunConfig
from scorer_core.networks.layers import Net

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


def perception(net: Net, observation: Tensor, config: RunConfig) -> Tensor:
    """Features [B, D] of observations [B, *observation_shape], by the configured network, normalized as configured."""
    observation = observation.to(torch.float32)
    if config.normalise_input:
        observation = l1_normalise(observation.flatten(1)).view(observation.shape)
    z = registry.part(registry.NETWORKS, config.network)(net, observation, config)
    if config.layer_norm == "hidden_and_features":
        z = net.layer_norm(z)
    return l1_normalise(z) if config.normalise_features else z


def mlp(net: Net, observation: Tensor, config: RunConfig) -> Tensor:
    """The paper's network: hidden layers of `phi_widths` on the flat observation; z [B, D]."""
    z = observation.flatten(1)
    for width in config.phi_widths:
        z = activate(net, net.dense(z, width), config)
    return z


def cnn(net: Net, observation: Tensor, config: RunConfig) -> Tensor:
    """MinAtar's own (Young and Tian 2019): 16 filters of 3 x 3 on [B, height, width, channels], then `phi_widths`."""
    if observation.dim() != 4:
        raise ValueError(
            f"network: cnn needs observations [height, width, channels], not {list(observation.shape[1:])}"
        )
    z = activate(net, net.conv(observation, 16, 3), config).flatten(1)
    for width in config.phi_widths:
        z = activate(net, net.dense(z, width), config)
    return z


def activate(net: Net, x: Tensor, config: RunConfig) -> Tensor:
    """The activation of a hidden layer, after layer normalization if it is configured."""
    if config.layer_norm != "none":
        x = net.layer_norm(x)
    return ACTIVATIONS[config.activation](x)


def l1_normalise(x: Tensor) -> Tensor:
    """Each row divided by its mean absolute value (the official code's L1Norm; the paper says unit L1 norm)."""
    return x / x.abs().mean(-1, keepdim=True).clamp_min(1e-8)
