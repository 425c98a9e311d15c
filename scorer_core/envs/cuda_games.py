"""The MinAtar games on CUDA, one thread per environment. The only file that imports numba's CUDA target."""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numba import config, cuda
from torch import Tensor

from scorer_core.envs.compiled import ENVIRONMENT, advance, meaning
from scorer_core.envs.rules import Rules, stuck_action
from scorer_core.noise import key_scalar

THREADS_PER_BLOCK = 128
# numba warns of launches under 128 blocks, which are 16,384 environments: a pack may be smaller.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # pyright: ignore[reportAttributeAccessIssue]


@cache
def kernels(module: ModuleType, rules: Rules) -> tuple[Any, Any]:
    """The kernels that reset and step one environment per thread."""
    reset, step, draws = module.reset, module.step, module.DRAWS

    @cuda.jit
    def reset_one(seeds, clock, states, pictures):
        thread: int = cuda.grid(1)  # pyright: ignore[reportCallIssue]
        if thread < states.shape[0] * states.shape[1]:
            lane, n = thread // states.shape[1], thread % states.shape[1]
            key = np.uint64(key_scalar(seeds[lane], clock[0], ENVIRONMENT))
            reset(states[lane, n], pictures[lane, n], key, n * draws, rules)

    @cuda.jit
    def step_one(seeds, clock, states, pictures, actions, meanings, taken, rewards, terminated):
        thread: int = cuda.grid(1)  # pyright: ignore[reportCallIssue]
        if thread < states.shape[0] * states.shape[1]:
            lane, n = thread // states.shape[1], thread % states.shape[1]
            key = np.uint64(key_scalar(seeds[lane], clock[0], ENVIRONMENT))
            chosen = meaning(meanings, actions[lane, n])
            taken[lane, n] = stuck_action(taken[lane, n], chosen, key, n * draws, rules)
            rewards[lane, n], terminated[lane, n] = advance(
                reset, step, states[lane, n], pictures[lane, n], taken[lane, n], key, n * draws, rules
            )

    return reset_one, step_one


def loops(module: ModuleType, rules: Rules, environments: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The kernels, queued without waiting on the stream torch is on, where a graph may be capturing."""
    blocks = -(-environments // THREADS_PER_BLOCK)

    def queued(kernel: Any) -> Callable[..., None]:
        def queue(*arguments: Any) -> None:
            stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
            kernel[blocks, THREADS_PER_BLOCK, stream](*arguments)

        return queue

    reset_one, step_one = kernels(module, rules)
    return queued(reset_one), queued(step_one)


def in_place(tensor: Tensor) -> Any:
    """The memory of a CUDA tensor as an array for the kernels."""
    return cuda.as_cuda_array(tensor)


def launch() -> None:
    """Compile a kernel and run it on torch's current device, as a test of the whole path from numba to the GPU.

    Raises:
        RuntimeError: if numba does not use numba-cuda, or the kernel did not do its work.
        Exception: whatever numba or the driver raises.
    """
    if cuda.implementation != "NVIDIA":
        raise RuntimeError(
            "numba uses its built-in CUDA target, not numba-cuda: Python has not read numba-cuda's .pth file, which "
            "happens with `python -S` and for packages that are only on PYTHONPATH"
        )

    def write_one(values):
        values[0] = 1

    values = torch.zeros(1, dtype=torch.int32, device="cuda")
    kernel: Any = cuda.jit(write_one)
    kernel[1, 1, cuda.external_stream(torch.cuda.current_stream().cuda_stream)](in_place(values))
    if int(values[0]) != 1:
        raise RuntimeError("a kernel ran without an error and wrote nothing")
