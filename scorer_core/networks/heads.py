"""Control Q_theta: the action values of features z, by a plain or a dueling head. B: observations, A: actions."""

from torch import Tensor

from scorer_core.config import RunConfig
from scorer_core.networks.layers import Net
from scorer_core.networks.perception import activate


def control(net: Net, z: Tensor, config: RunConfig, num_actions: int) -> Tensor:
    """Action values [B, A] of features [B, D]."""
    return (dueling if config.dueling else plain)(net, z, config, num_actions)


def plain(net: Net, z: Tensor, config: RunConfig, num_actions: int) -> Tensor:
    """Hidden layers of `theta_widths`, then one output per action."""
    return net.dense(_hidden(net, z, config), num_actions, is_output=True)


def dueling(net: Net, z: Tensor, config: RunConfig, num_actions: int) -> Tensor:
    """A value plus an advantage per action, whose mean is 0 (Wang et al. 2016, eq. 9)."""
    if config.dueling_head == "shared":
        z = _hidden(net, z, config)
        value = net.dense(z, 1, is_output=True)
        advantage = net.dense(z, num_actions, is_output=True)
    else:
        value = net.dense(_hidden(net, z, config, share=2), 1, is_output=True)
        advantage = net.dense(_hidden(net, z, config, share=2), num_actions, is_output=True)
    return value + advantage - advantage.mean(-1, keepdim=True)


def _hidden(net: Net, z: Tensor, config: RunConfig, share: int = 1) -> Tensor:
    """The hidden layers of `theta_widths`, each divided by `share`."""
    for width in config.theta_widths:
        z = activate(net, net.dense(z, width // share), config)
    return z
