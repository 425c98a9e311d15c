"""Adam, clipping and the learning-rate schedule: pure functions for ONE run, on vectors of parameters."""

import math
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor, library

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # the defaults of optax, which the paper uses, and of torch


class Adam(NamedTuple):
    """State of Adam: both moments of each parameter, and the steps taken."""

    mean: Tensor
    square: Tensor
    steps: Tensor


def adam_init(parameters: Tensor) -> Adam:
    return Adam(torch.zeros_like(parameters), torch.zeros_like(parameters), torch.zeros_like(parameters[0]))


def adam_step(parameters: Tensor, gradient: Tensor, state: Adam, lr: Tensor, scale: Tensor) -> tuple[Tensor, Adam]:
    """Parameters and state after one step (Kingma and Ba 2015, Algorithm 1, in the order its section 2 ends with).

    The step uses `scale` times the gradient (from `clip`): applied here, the scale costs no pass over memory.
    """
    steps = state.steps + 1
    step_size, epsilon = _corrected(steps, lr)
    update = adam_update if parameters.is_cpu else adam_formula  # on a GPU the compiler makes one pass of it
    parameters, mean, square = update(parameters, gradient, state.mean, state.square, scale, step_size, epsilon)
    return parameters, Adam(mean, square, steps)


def _corrected(steps: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
    """The step size and the epsilon that carry the bias corrections of step number `steps`."""
    # 1 - beta^steps; in float32 the first steps would lose digits by cancellation
    root_correction = torch.sqrt(-torch.expm1(steps * math.log(BETA_2)))
    return lr * root_correction / -torch.expm1(steps * math.log(BETA_1)), EPSILON * root_correction


def last_step(state: Adam, lr: Tensor) -> Tensor:
    """The last step [parameters]: what it subtracted, with its learning rate `lr`; NaN before the first step."""
    step_size, epsilon = _corrected(state.steps, lr)
    return step_size * state.mean / (torch.sqrt(state.square) + epsilon)


def adam_formula(
    parameters: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    scale: Tensor,
    step_size: Tensor,
    epsilon: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters and both moments after one step; `step_size` and `epsilon` carry the bias corrections."""
    gradient = scale * gradient
    mean = BETA_1 * mean + (1 - BETA_1) * gradient
    square = BETA_2 * square + (1 - BETA_2) * gradient * gradient
    return parameters - step_size * mean / (torch.sqrt(square) + epsilon), mean, square


@library.custom_op("scorer::adam_update", mutates_args=())
def adam_update(
    parameters: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    scale: Tensor,
    step_size: Tensor,
    epsilon: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`adam_formula` on a CPU, for one run or with lanes first, in one pass over memory instead of ten."""
    width = parameters.shape[-1]
    new_parameters, new_mean, new_square = (torch.empty(parameters.shape) for _ in range(3))
    vectors = (parameters, gradient, mean, square, new_parameters, new_mean, new_square)
    arrays = [vector.contiguous().view(-1, width).numpy() for vector in vectors]
    scalars = [scalar.reshape(-1).numpy() for scalar in (scale, step_size, epsilon)]
    _adam_pass(*arrays, *scalars)  # pyright: ignore[reportCallIssue]
    return new_parameters, new_mean, new_square


@adam_update.register_fake
def _(parameters: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(parameters), torch.empty_like(parameters), torch.empty_like(parameters)


@adam_update.register_vmap
def _(info, in_dims, *tensors: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
    """Moves the lanes to the first axis, where the kernel expects them."""
    lanes = [
        tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=True)
    ]
    return adam_update(*lanes), (0, 0, 0)


@numba.njit(cache=True, error_model="numpy")
def _adam_pass(parameters, gradient, mean, square, new_parameters, new_mean, new_square, scale, step_size, epsilon):
    b1, c1, b2, c2 = np.float32(BETA_1), np.float32(1 - BETA_1), np.float32(BETA_2), np.float32(1 - BETA_2)
    for lane in range(parameters.shape[0]):
        factor, size, small = scale[lane], step_size[lane], epsilon[lane]
        for i in range(parameters.shape[1]):
            g = factor * gradient[lane, i]
            m = b1 * mean[lane, i] + c1 * g
            v = b2 * square[lane, i] + c2 * g * g
            new_mean[lane, i], new_square[lane, i] = m, v
            new_parameters[lane, i] = parameters[lane, i] - size * m / (np.sqrt(v) + small)


def clip(gradient: Tensor, max_norm: Tensor) -> tuple[Tensor, Tensor]:
    """The scale that brings `gradient` to a norm of at most `max_norm` (as clip_grad_norm_), and its norm before."""
    norm = torch.sqrt((gradient * gradient).sum())
    return (max_norm / (norm + 1e-6)).clamp_max(1.0), norm


def linear(start: Tensor, end: Tensor, progress: Tensor) -> Tensor:
    """Linear from `start` to `end` as `progress` increases from 0 to 1, then `end`."""
    return start + (end - start) * progress.clamp(0, 1)
