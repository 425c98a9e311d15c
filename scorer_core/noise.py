"""Counter-based random numbers: a draw is a function of (seed, stream, step, index), not of earlier draws.

So a run's numbers do not depend on other runs, a resumed run draws the same numbers as an uninterrupted one, and there
is no generator state to save. The mixer is the finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014); a key chains it over seed, stream and step, and index i of a key is the
i-th output of a splitmix64 generator started there. numba draws on a CPU, torch elsewhere: the bits are the same.

A uniform has 24 random bits: float32 holds them all, and 1.0 cannot come out.
"""

import math
from enum import IntEnum

import numba
import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """The purpose of a draw. The results of all runs depend on these numbers: append, never renumber."""

    INIT_PHI = 0
    INIT_THETA = 1
    EXPLORE = 2
    RANDOM_ACTION = 3
    FOLLOWER_BATCH = 4
    LEADER_BATCH = 5
    ENVIRONMENT = 6
    ENVIRONMENT_SEED = 7
    PROBE = 8


GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def bits(seed: Tensor, step: Tensor | int, stream: int, shape: tuple[int, ...]) -> Tensor:
    """24 random bits per draw: int64 [*seed.shape, *shape], for one seed or many."""
    count = math.prod(shape)
    if seed.is_cpu and not isinstance(step, Tensor):
        drawn = np.empty((seed.numel(), count), np.int64)
        _fill(drawn, seed.reshape(-1).numpy(), int(step), int(stream))
        flat = torch.from_numpy(drawn)
    else:
        flat = torch_bits(seed.reshape(-1, 1), step, stream, count)
    return flat.reshape(*seed.shape, *shape)


def uniform(seed: Tensor, step: Tensor | int, stream: int, shape: tuple[int, ...]) -> Tensor:
    """Uniforms in [0, 1): float32 [*seed.shape, *shape]."""
    return bits(seed, step, stream, shape).to(torch.float32) * 2.0**-24


def integers(seed: Tensor, step: Tensor | int, stream: int, shape: tuple[int, ...], below: Tensor | int) -> Tensor:
    """Integers uniform in [0, below): int64 [*seed.shape, *shape].

    They have 24 random bits, or 48 if `below` is above 2^24: 24 bits would miss some integers. `below` is at most 2^38;
    as a tensor, at most 2^24.
    """
    if isinstance(below, Tensor) or below <= 2**24:
        return (bits(seed, step, stream, shape) * below) >> 24
    high, low = bits(seed, step, stream, (*shape, 2)).unbind(-1)
    return (high * below + (low * below >> 24)) >> 24


def normal(seed: Tensor, step: Tensor | int, stream: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normals, float32 of `shape`, for one `seed` (Box and Muller 1958)."""
    radius, angle = uniform(seed, step, stream, (2, *shape))
    return torch.sqrt(-2 * torch.log(1 - radius)) * torch.cos(2 * math.pi * angle)


def torch_bits(seed: Tensor, step: Tensor | int, stream: int, count: int) -> Tensor:
    """`bits` in torch operations alone: int64 [..., count] for seeds [..., 1], on any device."""
    golden = _signed(GOLDEN)
    key = _mix(_mix(_mix(seed + golden) + golden + int(stream)) + golden + step)
    index = torch.arange(1, count + 1, device=seed.device)
    return _shifted(_mix(key + index * golden), 40)


def _signed(word: int) -> int:
    """The int64 with the same 64 bits, since torch has no uint64 arithmetic (its int64 wraps the same way)."""
    return word - (1 << 64) if word >= 1 << 63 else word


def _shifted(z: Tensor, places: int) -> Tensor:
    return (z >> places) & ((1 << (64 - places)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _signed(MIX_1)
    z = (z ^ _shifted(z, 27)) * _signed(MIX_2)
    return z ^ _shifted(z, 31)


_GOLDEN, _MIX_1, _MIX_2 = np.uint64(GOLDEN), np.uint64(MIX_1), np.uint64(MIX_2)
_30, _27, _31, _40, _ONE = (np.uint64(n) for n in (30, 27, 31, 40, 1))


@numba.njit(inline="always")
def mix_scalar(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


@numba.njit(inline="always")
def key_scalar(seed: int, step: int, stream: int) -> np.uint64:
    """The key of one environment's draws, inside compiled code."""
    z = mix_scalar(np.uint64(seed) + _GOLDEN)
    z = mix_scalar(z + _GOLDEN + np.uint64(stream))
    return mix_scalar(z + _GOLDEN + np.uint64(step))


@numba.njit(inline="always")
def bits_scalar(key: np.uint64, index: int) -> int:
    """The 24 random bits of draw `index` of `key`, inside compiled code."""
    return int(np.int64(mix_scalar(key + (np.uint64(index) + _ONE) * _GOLDEN) >> _40))


@numba.njit(cache=True)
def _fill(drawn: np.ndarray, seeds: np.ndarray, step: int, stream: int) -> None:
    for lane in range(drawn.shape[0]):
        key = key_scalar(seeds[lane], step, stream)
        for index in range(drawn.shape[1]):
            drawn[lane, index] = bits_scalar(key, index)
