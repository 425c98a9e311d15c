"""Optimizers and clipping: pure functions for ONE run, on vectors of parameters.

Adam and RAdam differ in three numbers per step (`Factors`), so both are one pass over the same kernel.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor, library

BETA_1, BETA_2 = 0.9, 0.999  # the defaults of optax, which the paper uses, and of torch
RHO_INFINITY = 2 / (1 - BETA_2) - 1
RECTIFIED_ABOVE = 5.0  # the rho_t from which RAdam divides by the second moment


class Moments(NamedTuple):
    """Both moments of each parameter's gradient, and the steps taken."""

    mean: Tensor
    square: Tensor
    steps: Tensor


class Factors(NamedTuple):
    """The scalars of one step: parameters - step_size * mean / (adaptive * sqrt(square) + epsilon)."""

    step_size: Tensor
    epsilon: Tensor
    adaptive: Tensor


def adam(steps: Tensor, lr: Tensor, epsilon: Tensor) -> Factors:
    """Step number `steps` of Adam (Kingma and Ba 2015, Algorithm 1, in the order its section 2 ends with)."""
    root_correction = torch.sqrt(_correction(steps, BETA_2))
    return Factors(
        lr * root_correction / _correction(steps, BETA_1), epsilon * root_correction, torch.ones_like(root_correction)
    )


def radam(steps: Tensor, lr: Tensor, epsilon: Tensor) -> Factors:
    """Step number `steps` of RAdam (Liu et al. 2020, Algorithm 2): Adam, but the first steps ignore the second moment.

    Epsilon is added after the bias correction, as in optax and in Adam above; torch.optim.RAdam adds it before.
    """
    exact = steps.to(torch.float64)  # rho is a small difference of large numbers
    rho = RHO_INFINITY - 2 * exact * BETA_2**exact / _correction(exact, BETA_2)
    factor = (rho - 4) * (rho - 2) * RHO_INFINITY / ((RHO_INFINITY - 4) * (RHO_INFINITY - 2) * rho)
    rectification = torch.sqrt(factor.clamp_min(0)).to(lr.dtype)
    step_size, epsilon, adaptive = adam(steps, lr, epsilon)
    rectified = rho > RECTIFIED_ABOVE
    return Factors(
        torch.where(rectified, step_size * rectification, lr / _correction(steps, BETA_1)),
        torch.where(rectified, epsilon, 1.0),
        torch.where(rectified, adaptive, 0.0),
    )


def _correction(steps: Tensor, beta: float) -> Tensor:
    """1 - beta^steps; computed directly in float32, the first steps would lose digits by cancellation."""
    return -torch.expm1(steps * math.log(beta))


OPTIMIZERS: dict[str, Callable[[Tensor, Tensor, Tensor], Factors]] = {"adam": adam, "radam": radam}


def init(parameters: Tensor) -> Moments:
    return Moments(torch.zeros_like(parameters), torch.zeros_like(parameters), torch.zeros_like(parameters[0]))


def step(
    name: str, parameters: Tensor, gradient: Tensor, state: Moments, lr: Tensor, scale: Tensor, epsilon: Tensor
) -> tuple[Tensor, Moments]:
    """Parameters and state after one step of the optimizer `name`.

    The step uses `scale` times the gradient (from `clip`): applied here, the scale costs no pass over memory.
    """
    steps = state.steps + 1
    factors = OPTIMIZERS[name](steps, lr, epsilon)
    update = moment_update if parameters.is_cpu else moment_formula  # on a GPU the compiler makes one pass of it
    parameters, mean, square = update(parameters, gradient, state.mean, state.square, scale, *factors)
    return parameters, Moments(mean, square, steps)


def last_step(name: str, state: Moments, lr: Tensor, epsilon: Tensor) -> Tensor:
    """The last step [parameters]: what it subtracted, with its learning rate `lr`; NaN before the first step."""
    step_size, epsilon, adaptive = OPTIMIZERS[name](state.steps, lr, epsilon)
    return step_size * state.mean / (adaptive * torch.sqrt(state.square) + epsilon)


def moment_formula(
    parameters: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    scale: Tensor,
    step_size: Tensor,
    epsilon: Tensor,
    adaptive: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters and both moments after one step with these `Factors`."""
    gradient = scale * gradient
    mean = BETA_1 * mean + (1 - BETA_1) * gradient
    square = BETA_2 * square + (1 - BETA_2) * gradient * gradient
    return parameters - step_size * mean / (adaptive * torch.sqrt(square) + epsilon), mean, square


@library.custom_op("scorer::moment_update", mutates_args=())
def moment_update(
    parameters: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    scale: Tensor,
    step_size: Tensor,
    epsilon: Tensor,
    adaptive: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`moment_formula` on a CPU, for one run or with lanes first, in one pass over memory instead of ten."""
    width = parameters.shape[-1]
    new_parameters, new_mean, new_square = (torch.empty(parameters.shape) for _ in range(3))
    vectors = (parameters, gradient, mean, square, new_parameters, new_mean, new_square)
    arrays = [vector.contiguous().view(-1, width).numpy() for vector in vectors]
    scalars = [scalar.reshape(-1).numpy() for scalar in (scale, step_size, epsilon, adaptive)]
    _moment_pass(*arrays, *scalars)  # pyright: ignore[reportCallIssue]
    return new_parameters, new_mean, new_square


@moment_update.register_fake
def _(parameters: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(parameters), torch.empty_like(parameters), torch.empty_like(parameters)


@moment_update.register_vmap
def _(info, in_dims, *tensors: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
    """Moves the lanes to the first axis, where the kernel expects them."""
    lanes = [
        tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=True)
    ]
    return moment_update(*lanes), (0, 0, 0)


@numba.njit(cache=True, error_model="numpy")
def _moment_pass(
    parameters, gradient, mean, square, new_parameters, new_mean, new_square, scale, step_size, epsilon, adaptive
):
    b1, c1, b2, c2 = np.float32(BETA_1), np.float32(1 - BETA_1), np.float32(BETA_2), np.float32(1 - BETA_2)
    for lane in range(parameters.shape[0]):
        factor, size, small, adapt = scale[lane], step_size[lane], epsilon[lane], adaptive[lane]
        for i in range(parameters.shape[1]):
            g = factor * gradient[lane, i]
            m = b1 * mean[lane, i] + c1 * g
            v = b2 * square[lane, i] + c2 * g * g
            new_mean[lane, i], new_square[lane, i] = m, v
            new_parameters[lane, i] = parameters[lane, i] - size * m / (adapt * np.sqrt(v) + small)


def clip(gradient: Tensor, max_norm: Tensor) -> tuple[Tensor, Tensor]:
    """The scale that brings `gradient` to a norm of at most `max_norm` (as clip_grad_norm_), and its norm before."""
    norm = torch.sqrt((gradient * gradient).sum())
    return (max_norm / (norm + 1e-6)).clamp_max(1.0), norm
