"""The tensors of a program: stored arrays, and expressions whose elements are computed where they are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scorer_core.native.code import IN_MEMORY, ZERO, Code, Index, Register, integer, width_of

Position = tuple[Index, ...]  # one Index per dimension; at most one of them is wide


class Value(ABC):
    """A tensor of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @abstractmethod
    def at(self, code: Code, position: Position) -> Register:
        """The element at `position`, or a vector of elements if one index is wide and matters."""

    def merged(self, dim: int) -> Value | None:  # noqa: ARG002
        """The same tensor with dimension `dim` and the next as one, or None if that is no simple expression."""
        return None


@dataclass(eq=False)
class Array(Value):
    """Elements in memory."""

    base: Any  # what gives the Register of the first element's address: a Buffer or an Input
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    offset: int = 0

    def at(self, code: Code, position: Position) -> Register:
        pointer = self.base.pointer()
        offset, wide = integer(self.offset), None
        for index, size, stride in zip(position, self.shape, self.strides, strict=True):
            if size == 1 or stride == 0:
                continue
            if index.width > 1:
                wide = index.width, stride
            offset = code.builder.add(offset, _times(code, index.start, stride))
        if wide is None:
            return code.load(pointer, offset, self.dtype)
        width, stride = wide
        if stride == 1:
            return code.load(pointer, offset, self.dtype, width)
        at = [code.builder.add(offset, integer(k * stride)) for k in range(width)]
        return code.together([code.load(pointer, one, self.dtype) for one in at])

    def put(self, code: Code, position: Position, value: Register) -> None:
        """Write one element, or a vector of elements along the last dimension."""
        offset = integer(self.offset)
        for index, stride in zip(position, self.strides, strict=True):
            offset = code.builder.add(offset, _times(code, index.start, stride))
        pointer, width = self.base.pointer(), width_of(value)
        if width == 1 or self.strides[-1] == 1:
            code.store(value, pointer, offset, self.dtype)
            return
        for k, one in enumerate(code.parts(value)):
            code.store(one, pointer, code.builder.add(offset, integer(k * self.strides[-1])), self.dtype)

    def address(self, code: Code, position: Position = ()) -> Register:
        """Of one element, the first if no position is given."""
        offset = integer(self.offset)
        for index, stride in zip(position, self.strides, strict=False):
            offset = code.builder.add(offset, _times(code, index.start, stride))
        return code.address(self.base.pointer(), offset, IN_MEMORY[self.dtype])

    def merged(self, dim: int) -> Array | None:
        (m, n), (outer, inner) = self.shape[dim : dim + 2], self.strides[dim : dim + 2]
        if n == 1:
            inner = outer
        elif m != 1 and outer != n * inner:
            return None
        strides = (*self.strides[:dim], inner, *self.strides[dim + 2 :])
        return Array(self.base, self.dtype, _merged_shape(self.shape, dim), strides, self.offset)

    @property
    def contiguous(self) -> bool:
        return self.strides == contiguous_strides(self.shape)

    def reshaped(self, shape: Sequence[int]) -> Array:
        """The same elements of a contiguous array in another shape."""
        assert self.contiguous
        return Array(self.base, self.dtype, tuple(shape), contiguous_strides(shape), self.offset)


@dataclass(eq=False)
class Scalar(Value):
    """One number for all elements, in a register or constant."""

    value: Register
    dtype: torch.dtype
    shape: tuple[int, ...]

    def at(self, code: Code, position: Position) -> Register:  # noqa: ARG002
        return self.value

    def merged(self, dim: int) -> Scalar:
        return Scalar(self.value, self.dtype, _merged_shape(self.shape, dim))


@dataclass(eq=False)
class Pointwise(Value):
    """An operation on the elements of its arguments, which are broadcast to its shape."""

    operation: Callable[..., Register]  # (code, *elements) -> element
    arguments: tuple[Value, ...]
    dtype: torch.dtype
    shape: tuple[int, ...]

    def at(self, code: Code, position: Position) -> Register:
        elements = [argument.at(code, broadcast(position, argument.shape)) for argument in self.arguments]
        width = max(map(width_of, elements))
        return self.operation(code, *(code.splat(element, width) for element in elements))

    def merged(self, dim: int) -> Pointwise | None:
        arguments = []
        for argument in self.arguments:
            own = dim - (len(self.shape) - len(argument.shape))
            if own < -1:
                arguments.append(argument)
                continue
            pair, mine = self.shape[dim : dim + 2], argument.shape[max(own, 0) : own + 2]
            if own >= 0 and (mine == pair or isinstance(argument, Scalar)):
                merged = argument.merged(own)
            elif all(size == 1 for size in argument.shape):
                merged = expanded(argument, (1,) * max(0, len(argument.shape) - 1))
            else:
                return None
            if merged is None:
                return None
            arguments.append(merged)
        return Pointwise(self.operation, tuple(arguments), self.dtype, _merged_shape(self.shape, dim))


@dataclass(eq=False)
class Rows(Value):
    """`source[index_0, index_1, ...]`: the rows at these positions along the first dimensions."""

    source: Array
    indices: tuple[Value, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.source.dtype

    def at(self, code: Code, position: Position) -> Register:
        where, rest = position[: self._chosen], position[self._chosen :]
        if any(index.width > 1 for index in where):
            return _one_by_one(self, code, position)
        return self.source.at(code, (*self._rows(code, where), *rest))

    def address(self, code: Code, position: Position) -> Register:
        """Of one element."""
        where, rest = position[: self._chosen], position[self._chosen :]
        return self.source.address(code, (*self._rows(code, where), *rest))

    @property
    def _chosen(self) -> int:
        """The number of dimensions that the indices have."""
        return len(self.shape) - (len(self.source.shape) - len(self.indices))

    def _rows(self, code: Code, where: Position) -> list[Index]:
        """The position in the source of the row at `where`."""
        rows = []
        for index, size in zip(self.indices, self.source.shape, strict=False):
            at = index.at(code, broadcast(where, index.shape))
            behind = code.builder.icmp_signed("<", at, integer(0))
            rows.append(Index(code.builder.select(behind, code.builder.add(at, integer(size)), at)))
        return rows

    def merged(self, dim: int) -> Rows | None:
        if dim < self._chosen:
            return None
        source = self.source.merged(dim - self._chosen + len(self.indices))
        return None if source is None else Rows(source, self.indices, _merged_shape(self.shape, dim))


@dataclass(eq=False)
class Chosen(Value):
    """`source.gather(dim, index)`."""

    source: Value
    dim: int
    index: Value

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.index.shape

    @property
    def dtype(self) -> torch.dtype:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.source.dtype

    def at(self, code: Code, position: Position) -> Register:
        if any(index.width > 1 for index in position):
            return _one_by_one(self, code, position)
        chosen = Index(self.index.at(code, position))
        return self.source.at(code, (*position[: self.dim], chosen, *position[self.dim + 1 :]))


@dataclass(eq=False)
class Remapped(Value):
    """A view of an expression: `back` gives the position in `source` of a position here."""

    source: Value
    shape: tuple[int, ...]
    back: Callable[[Position], Position]

    @property
    def dtype(self) -> torch.dtype:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.source.dtype

    def at(self, code: Code, position: Position) -> Register:
        return self.source.at(code, self.back(position))


@dataclass(eq=False)
class Reshaped(Value):
    """A view of an expression with the same elements in another shape."""

    source: Value
    shape: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.source.dtype

    def at(self, code: Code, position: Position) -> Register:
        if any(index.width > 1 for index in position):
            return _one_by_one(self, code, position)
        number = integer(0)
        for index, stride in zip(position, contiguous_strides(self.shape), strict=True):
            number = code.builder.add(number, _times(code, index.start, stride))
        found = []
        for size, stride in zip(self.source.shape, contiguous_strides(self.source.shape), strict=True):
            along = code.builder.udiv(number, integer(stride))
            found.append(Index(code.builder.urem(along, integer(size))))
        return self.source.at(code, tuple(found))


@dataclass(eq=False)
class Counted(Value):
    """arange: start, start + step, ..."""

    start: int
    step: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def at(self, code: Code, position: Position) -> Register:
        (index,) = position
        at = [code.builder.add(index.start, integer(k)) for k in range(index.width)]
        value = code.together(at) if index.width > 1 else at[0]
        scaled = code.builder.mul(value, code.splat(integer(self.step), index.width))
        return code.convert(code.builder.add(scaled, code.splat(integer(self.start), index.width)), self.dtype)


def broadcast(position: Position, shape: tuple[int, ...]) -> Position:
    """The position in an argument of this shape, of a position in the result."""
    own = position[len(position) - len(shape) :]
    return tuple(ZERO if size == 1 else index for index, size in zip(own, shape, strict=True))


def expanded(value: Value, shape: Sequence[int]) -> Value:
    """`value` broadcast to `shape`, or a value of single elements with fewer dimensions."""
    if isinstance(value, Scalar):
        return Scalar(value.value, value.dtype, tuple(shape))
    if isinstance(value, Array):
        if len(shape) < len(value.shape):  # all are 1
            return Array(value.base, value.dtype, tuple(shape), (0,) * len(shape), value.offset)
        missing = len(shape) - len(value.shape)
        old = ((1, 0),) * missing + tuple(zip(value.shape, value.strides, strict=True))
        strides = tuple(0 if size == 1 != new else stride for (size, stride), new in zip(old, shape, strict=True))
        return Array(value.base, value.dtype, tuple(shape), strides, value.offset)
    own = value.shape
    if len(shape) < len(own):
        return Remapped(value, tuple(shape), lambda _: (ZERO,) * len(own))
    return Remapped(value, tuple(shape), lambda position: broadcast(position, own))


def flattened(value: Value, shape: tuple[int, ...]) -> Value | None:
    """`value` with neighboring dimensions as one so that it has this shape, or None if that is no simple expression."""
    found: Value | None = value
    while found is not None and len(found.shape) > len(shape):
        differs = (dim for dim, (own, new) in enumerate(zip(found.shape, shape, strict=False)) if own != new)
        found = found.merged(min(next(differs, len(shape) - 1), len(found.shape) - 2))
    return found if found is not None and found.shape == shape else None


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    strides = [1] * len(shape)
    for dim in reversed(range(len(shape) - 1)):
        strides[dim] = strides[dim + 1] * max(shape[dim + 1], 1)
    return tuple(strides)


def _merged_shape(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :])


def _one_by_one(value: Value, code: Code, position: Position) -> Register:
    """The vector of elements at a position with a wide index, each computed alone."""
    wide = next(k for k, index in enumerate(position) if index.width > 1)
    at = [Index(code.builder.add(position[wide].start, integer(k))) for k in range(position[wide].width)]
    return code.together([value.at(code, (*position[:wide], one, *position[wide + 1 :])) for one in at])


def _times(code: Code, index: Register, stride: int) -> Register:
    return index if stride == 1 else code.builder.mul(index, integer(stride))
