"""Counter-based random numbers: a draw is a function of (seed, stream, step, index), never of what was drawn before.

So a run's numbers cannot depend on the runs beside it, a resumed run draws what it would have drawn, and there is no
generator state to save. The mixer is the finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014); `key` chains it over the coordinates, and index i of a key is the
i-th output of a splitmix64 generator started there. The torch and the numba form give the same bits.

A uniform has 24 random bits: float32 holds them all, and 1.0 cannot come out.
"""

import math
from enum import IntEnum

import numba
import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """What a draw is for. The numbers are part of every run's identity: append, never renumber."""

    INIT_PHI = 0
    INIT_THETA = 1
    EXPLORE = 2
    RANDOM_ACTION = 3
    FOLLOWER_BATCH = 4
    LEADER_BATCH = 5
    ENVIRONMENT = 6
    ENVIRONMENT_SEED = 7


GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def _signed(word: int) -> int:
    """The int64 with the same 64 bits, since torch has no uint64 arithmetic (its int64 wraps the same way)."""
    return word - (1 << 64) if word >= 1 << 63 else word


def _shifted(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _signed(MIX_1)
    z = (z ^ _shifted(z, 27)) * _signed(MIX_2)
    return z ^ _shifted(z, 31)


def key(seed: Tensor, step: Tensor | int, stream: int) -> Tensor:
    """The 64-bit key of one draw, as int64, in the shape `seed` and `step` broadcast to."""
    golden = _signed(GOLDEN)
    return _mix(_mix(_mix(seed + golden) + golden + int(stream)) + golden + step)


def uniform(seed: Tensor, step: Tensor | int, stream: int, shape: tuple[int, ...]) -> Tensor:
    """Uniforms in [0, 1) of `shape`, float32, for ONE run: `seed` and `step` are scalars."""
    index = torch.arange(1, math.prod(shape) + 1, device=seed.device)
    bits = _mix(key(seed, step, stream) + index * _signed(GOLDEN))
    return (_shifted(bits, 40).to(torch.float32) * 2.0**-24).reshape(shape)


def normal(seed: Tensor, step: Tensor | int, stream: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normals of `shape`, float32, for ONE run (Box and Muller 1958)."""
    radius, angle = uniform(seed, step, stream, (2, *shape))
    return torch.sqrt(-2 * torch.log(1 - radius)) * torch.cos(2 * math.pi * angle)


_GOLDEN, _MIX_1, _MIX_2 = np.uint64(GOLDEN), np.uint64(MIX_1), np.uint64(MIX_2)
_30, _27, _31, _40, _ONE = (np.uint64(n) for n in (30, 27, 31, 40, 1))


@numba.njit(inline="always")
def mix_scalar(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


@numba.njit(inline="always")
def key_scalar(seed: int, step: int, stream: int) -> np.uint64:
    """`key` for one environment, inside compiled code."""
    z = mix_scalar(np.uint64(seed) + _GOLDEN)
    z = mix_scalar(z + _GOLDEN + np.uint64(stream))
    return mix_scalar(z + _GOLDEN + np.uint64(step))


@numba.njit(inline="always")
def uniform_scalar(key: np.uint64, index: int) -> np.float32:
    """Draw `index` of `key`, inside compiled code."""
    bits = mix_scalar(key + (np.uint64(index) + _ONE) * _GOLDEN)
    return np.float32(bits >> _40) * np.float32(2.0**-24)
