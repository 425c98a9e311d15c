"""The layers of a network of ONE run, over ONE vector of parameters.

A network is a function that calls a `Net` once per layer. `recorder` is a Net that lists the layers, and `using` one
that applies them with their parameters. The parameters are one vector, so that the optimizer, clipping and target copy
of a network are one operation each; `layers` gives it as (weight, bias) per layer.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from scorer_core import noise
from scorer_core.config import RunConfig

LAYER_NORM_EPSILON = 1e-6  # as in Flax
TRUNCATED_AT = 2.0  # standard deviations, of the initial weights `lecun` and `he`
OUTPUT_GAIN = 0.01


class Piece(NamedTuple):
    """A layer's part of the parameter vector: its weight, then its bias."""

    name: str  # dense, conv or layer_norm, and the layer's number in its network
    weight: tuple[int, ...]  # [inputs, outputs], or [width] of a layer norm; the bias has as many values as outputs
    initial: str  # a name in INITIAL
    gain: float = 1.0  # scale of the initial weights


Pieces = tuple[Piece, ...]
Layers = tuple[tuple[Tensor, Tensor], ...]


class Net(Protocol):
    """What a network function is written with. Each call is the next layer of the network."""

    def dense(self, x: Tensor, outputs: int, is_output: bool = False) -> Tensor:
        """`x @ weight + bias`: [..., inputs] -> [..., outputs]; `is_output` for the layer of the action values."""
        ...

    def conv(self, x: Tensor, filters: int, size: int, stride: int = 1) -> Tensor:
        """A convolution without padding: [B, height, width, channels] -> [B, height', width', filters]."""
        ...

    def layer_norm(self, x: Tensor) -> Tensor:
        """`x` with mean 0 and variance 1 over its last dimension, times weight, plus bias (Ba et al. 2016)."""
        ...


class Recorder:
    """A Net that computes zeros and lists the pieces of its layers."""

    def __init__(self, config: RunConfig):
        self._config = config
        self.pieces: list[Piece] = []

    def dense(self, x: Tensor, outputs: int, is_output: bool = False) -> Tensor:
        return self._weights("dense", x, outputs, is_output)

    def conv(self, x: Tensor, filters: int, size: int, stride: int = 1) -> Tensor:
        return self._weights("conv", patches(x, size, stride), filters)

    def layer_norm(self, x: Tensor) -> Tensor:
        self.pieces.append(Piece(f"layer_norm{len(self.pieces)}", (x.shape[-1],), "ones"))
        return torch.zeros_like(x)

    def _weights(self, kind: str, x: Tensor, outputs: int, is_output: bool = False) -> Tensor:
        initial = self._config.initial_weights
        gain = {"orthogonal": OUTPUT_GAIN if is_output else math.sqrt(2), "lecun": 1.0, "he": math.sqrt(2)}[initial]
        self.pieces.append(Piece(f"{kind}{len(self.pieces)}", (x.shape[-1], outputs), initial, gain))
        return x.new_zeros(*x.shape[:-1], outputs)


class Using:
    """A Net with the parameters `layers`.

    Attributes:
        hidden: the input [B, units] of each dense and conv layer, from before it was normalized as features.
    """

    def __init__(self, layers: Layers):
        self._rest = iter(layers)
        self._normalised: list[tuple[Tensor, Tensor]] = []
        self.hidden: list[Tensor] = []

    def dense(self, x: Tensor, outputs: int, is_output: bool = False) -> Tensor:  # noqa: ARG002, given by the weights
        return self._apply(x, x)

    def conv(self, x: Tensor, filters: int, size: int, stride: int = 1) -> Tensor:  # noqa: ARG002
        return self._apply(patches(x, size, stride), x.flatten(1))

    def layer_norm(self, x: Tensor) -> Tensor:
        weight, bias = next(self._rest)
        centred = x - x.mean(-1, keepdim=True)
        deviation = torch.sqrt((centred * centred).mean(-1, keepdim=True) + LAYER_NORM_EPSILON)
        after = centred / deviation * weight + bias
        self._normalised.append((after, x))
        return after

    def _apply(self, x: Tensor, seen: Tensor) -> Tensor:
        self.hidden.append(next((before for after, before in self._normalised if after is seen), seen))
        weight, bias = next(self._rest)
        return x @ weight + bias


def patches(x: Tensor, size: int, stride: int) -> Tensor:
    """What each filter of a convolution sees: [B, height, width, C] -> [B, height', width', C * size * size]."""
    rows, columns = ((length - size) // stride + 1 for length in x.shape[1:3])
    seen = [
        x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    return torch.stack(seen, -1).flatten(3)


def layers(parameters: Tensor, pieces: Pieces) -> Layers:
    """Views of a parameter vector [parameters] as weight and bias per layer."""
    lengths = [length for piece in pieces for length in (math.prod(piece.weight), piece.weight[-1])]
    parts = parameters.split(lengths)
    return tuple((w.view(piece.weight), b) for w, b, piece in zip(parts[::2], parts[1::2], pieces, strict=True))


def flatten(layers: Layers) -> Tensor:
    """The parameter vector of `layers` (the inverse of `layers`)."""
    return torch.cat([part.reshape(-1) for layer in layers for part in layer])


def init(seed: Tensor, stream: noise.Stream, pieces: Pieces) -> Tensor:
    """Initial parameters [parameters] of a run with this `seed`: weights as each piece says, and zero biases."""

    def layer(index: int, piece: Piece) -> tuple[Tensor, Tensor]:
        weight = piece.gain * INITIAL[piece.initial](seed, index, stream, piece.weight)
        return weight, torch.zeros(piece.weight[-1], device=seed.device)

    return flatten(tuple(layer(index, piece) for index, piece in enumerate(pieces)))


def _orthogonal(seed: Tensor, index: int, stream: noise.Stream, shape: tuple[int, int]) -> Tensor:
    q, r = torch.linalg.qr(noise.normal(seed, index, stream, (max(shape), min(shape))))
    q = q * torch.sign(torch.diagonal(r))  # otherwise some rotations are more probable
    return q if shape[0] >= shape[1] else q.T


def _truncated_normal(seed: Tensor, index: int, stream: noise.Stream, shape: tuple[int, int]) -> Tensor:
    """Variance 1 / inputs, truncated (LeCun et al. 1998; as in Flax)."""
    most = math.erf(TRUNCATED_AT / math.sqrt(2))
    uniform = noise.uniform(seed, index, stream, shape) + 2.0**-25  # in the middle of its interval: never 0 or 1
    normal = math.sqrt(2) * torch.erfinv(most * (2 * uniform - 1))
    density = math.exp(-(TRUNCATED_AT**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * TRUNCATED_AT * density / most
    return normal / math.sqrt(variance * shape[0])


def _ones(seed: Tensor, index: int, stream: noise.Stream, shape: tuple[int, ...]) -> Tensor:  # noqa: ARG001
    return torch.ones(shape, device=seed.device)


INITIAL: dict[str, Callable[..., Tensor]] = {
    "orthogonal": _orthogonal,
    "lecun": _truncated_normal,
    "he": _truncated_normal,  # with gain sqrt(2): He et al. 2015
    "ones": _ones,
}
