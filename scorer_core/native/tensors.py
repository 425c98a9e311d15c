"""New tensors, views, joined tensors, and elements chosen by index."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from scorer_core.native import operations
from scorer_core.native.code import I8, Index, integer
from scorer_core.native.lowering import RESHAPING, Lowering, Traced, UnsupportedError, dtype_of, handles, shape_of
from scorer_core.native.values import (
    ZERO,
    Array,
    Chosen,
    Counted,
    Pointwise,
    Position,
    Remapped,
    Reshaped,
    Rows,
    Scalar,
    Value,
    expanded,
    flattened,
)

aten = torch.ops.aten
LINE = 64  # bytes of a cache line


@handles(operator.getitem)
def _item(lowering: Lowering, node: Traced) -> Any:
    return lowering.values[node.args[0]][node.args[1]]


@handles(aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar)
def _add(lowering: Lowering, node: Traced) -> Value:
    dtype = dtype_of(node)
    if dtype == torch.bool:
        raise UnsupportedError(f"{node.target} of {dtype}")
    x, y = (lowering.value(argument, dtype) for argument in node.args[:2])
    alpha = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
    if alpha != 1:
        y = Pointwise(operations.mul, (y, lowering.value(alpha, dtype)), dtype, y.shape)
    adds = node.target in (aten.add.Tensor, aten.add.Scalar)
    return Pointwise(operations.add if adds else operations.sub, (x, y), dtype, shape_of(node))


@handles(aten.rsub.Scalar, aten.rsub.Tensor)
def _subtract_from(lowering: Lowering, node: Traced) -> Value:
    x, y = (lowering.value(argument, dtype_of(node)) for argument in node.args[:2])
    return Pointwise(operations.sub, (y, x), dtype_of(node), shape_of(node))


@handles(aten._to_copy.default)
def _copy(lowering: Lowering, node: Traced) -> Value:
    return lowering.value(node.args[0], dtype_of(node))


@handles(aten.clone.default, aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default)
def _same(lowering: Lowering, node: Traced) -> Value:
    return lowering.value(node.args[0])


@handles(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def _where(lowering: Lowering, node: Traced) -> Value:
    condition = lowering.value(node.args[0], torch.bool)
    x, y = (lowering.value(argument, dtype_of(node)) for argument in node.args[1:])
    return Pointwise(operations.where, (condition, x, y), dtype_of(node), shape_of(node))


@handles(aten.isfinite.default)
def _is_finite(lowering: Lowering, node: Traced) -> Value:
    return Pointwise(operations.is_finite, (lowering.value(node.args[0]),), torch.bool, shape_of(node))


@handles(
    aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.new_zeros.default,
    aten.new_ones.default, aten.zeros.default, aten.ones.default, aten.full.default, aten.scalar_tensor.default,
    aten.new_full.default,
)  # fmt: skip
def _constant(lowering: Lowering, node: Traced) -> Value:
    name = str(node.target)
    if "zeros" in name:
        number = 0
    elif "ones" in name:
        number = 1
    else:
        number = node.args[0] if "scalar_tensor" in name else node.args[-1]
    return Scalar(lowering.code.constant(number, dtype_of(node)), dtype_of(node), shape_of(node))


@handles(aten.arange.start_step, aten.arange.default, aten.arange.start)
def _arange(lowering: Lowering, node: Traced) -> Value:  # noqa: ARG001
    if not all(isinstance(number, int) for number in node.args):
        raise UnsupportedError(f"{node.target} of fractions")
    numbers = (0, *node.args) if len(node.args) == 1 else node.args
    start, step = numbers[0], numbers[2] if len(numbers) > 2 else 1
    return Counted(int(start), int(step), dtype_of(node), shape_of(node))


@handles(*RESHAPING)
def _view(lowering: Lowering, node: Traced) -> Value:
    source, shape = node.args[0], shape_of(node)
    while source.target in RESHAPING:
        source = source.args[0]
    value = lowering.value(source)
    if value.shape == shape:
        return value
    if isinstance(value, Scalar):
        return Scalar(value.value, value.dtype, shape)
    if node in lowering.sparse and not isinstance(value, Array):
        return flattened(value, shape) or Reshaped(value, shape)
    found = lowering.stored(value)
    if not found.contiguous:
        found = lowering.stored(found, lowering.new_array(found.shape, found.dtype))
    return found.reshaped(shape)


@handles(aten.expand.default)
def _expand(lowering: Lowering, node: Traced) -> Value:
    return expanded(lowering.value(node.args[0]), shape_of(node))


def _strided(lowering: Lowering, node: Traced, change: Callable[[list[int], list[int]], Any]) -> Value:
    """A view of an array, by changed shape and strides."""
    value = lowering.value(node.args[0])
    if isinstance(value, Scalar):
        return Scalar(value.value, value.dtype, shape_of(node))
    found = lowering.stored(value)
    shape, strides = list(found.shape), list(found.strides)
    offset = change(shape, strides) or 0
    return Array(found.base, found.dtype, tuple(shape), tuple(strides), found.offset + offset)


@handles(aten.t.default, aten.numpy_T.default)
def _transpose(lowering: Lowering, node: Traced) -> Value:
    value = lowering.value(node.args[0])
    if node in lowering.sparse and not isinstance(value, Array):
        return Remapped(value, shape_of(node), lambda position: position[::-1])

    def change(shape: list[int], strides: list[int]) -> None:
        shape.reverse()
        strides.reverse()

    return _strided(lowering, node, change)


@handles(aten.transpose.int)
def _swap(lowering: Lowering, node: Traced) -> Value:
    def change(shape: list[int], strides: list[int]) -> None:
        i, j = node.args[1:]
        for numbers in (shape, strides):
            numbers[i], numbers[j] = numbers[j], numbers[i]

    return _strided(lowering, node, change)


@handles(aten.permute.default)
def _permute(lowering: Lowering, node: Traced) -> Value:
    def change(shape: list[int], strides: list[int]) -> None:
        for numbers in (shape, strides):
            numbers[:] = [numbers[i] for i in node.args[1]]

    return _strided(lowering, node, change)


@handles(aten.unsqueeze.default)
def _unsqueeze(lowering: Lowering, node: Traced) -> Value:
    dim = node.args[1] % len(shape_of(node))
    value = lowering.value(node.args[0])
    if not isinstance(value, Array | Scalar):
        return Remapped(value, shape_of(node), lambda position: (*position[:dim], *position[dim + 1 :]))

    def change(shape: list[int], strides: list[int]) -> None:
        shape.insert(dim, 1)
        strides.insert(dim, 0)
        if dim + 1 < len(strides):
            strides[dim] = strides[dim + 1] * shape[dim + 1]
        else:
            strides[dim] = 1

    return _strided(lowering, node, change)


@handles(aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(lowering: Lowering, node: Traced) -> Value:
    old = lowering.value(node.args[0])
    dims = node.args[1] if isinstance(node.args[1], list | tuple) else [node.args[1]]
    gone = {dim % len(old.shape) for dim in dims if old.shape[dim] == 1}

    def back(position: Position) -> Position:
        rest = iter(position)
        return tuple(ZERO if dim in gone else next(rest) for dim in range(len(old.shape)))

    if not isinstance(old, Array | Scalar):
        return Remapped(old, shape_of(node), back)

    def change(shape: list[int], strides: list[int]) -> None:
        for numbers in (shape, strides):
            numbers[:] = [number for dim, number in enumerate(numbers) if dim not in gone]

    return _strided(lowering, node, change)


@handles(aten.select.int)
def _select(lowering: Lowering, node: Traced) -> Value:
    def change(shape: list[int], strides: list[int]) -> int:
        dim, index = node.args[1:]
        size, stride = shape.pop(dim), strides.pop(dim)
        return index % size * stride

    return _strided(lowering, node, change)


@handles(aten.slice.Tensor)
def _slice(lowering: Lowering, node: Traced) -> Value:
    def change(shape: list[int], strides: list[int]) -> int:
        given: list[Any] = [*node.args[1:], *(0, 0, None, 1)[len(node.args) - 1 :]]
        dim, (start, stop, step) = given[0], slice(*given[1:]).indices(shape[given[0]])
        offset = start * strides[dim]
        shape[dim], strides[dim] = len(range(start, stop, step)), strides[dim] * step
        return offset

    return _strided(lowering, node, change)


@handles(aten.slice_backward.default, aten.select_backward.default, aten.diagonal_backward.default)
def _view_backward(lowering: Lowering, node: Traced) -> Value:
    """Zeros, with the gradient where the slice, the selected part or the diagonal was."""
    gradient, sizes, dim = node.args[:3]
    whole = lowering.new_array(sizes, dtype_of(node))
    zero = lowering.code.constant(0, whole.dtype)
    lowering.stored(Scalar(zero, whole.dtype, tuple(sizes)), whole)
    shape, strides = list(whole.shape), list(whole.strides)
    if node.target is aten.select_backward.default:
        offset = node.args[3] % shape.pop(dim) * strides.pop(dim)
    elif node.target is aten.diagonal_backward.default:
        if node.args[2:] != (0, 0, 1) or len(sizes) != 2:
            raise UnsupportedError(f"{node.target} with arguments")
        shape, strides, offset = [min(shape)], [sum(strides)], 0
    else:
        start, stop, step = slice(*node.args[3:]).indices(shape[dim])
        offset = start * strides[dim]
        shape[dim], strides[dim] = len(range(start, stop, step)), strides[dim] * step
    part = Array(whole.base, whole.dtype, tuple(shape), tuple(strides), whole.offset + offset)
    lowering.stored(lowering.value(gradient), part)
    return whole


@handles(aten.diagonal.default)
def _diagonal(lowering: Lowering, node: Traced) -> Value:
    if node.args[1:] not in ((), (0,), (0, 0), (0, 0, 1)) or len(shape_of(node)) != 1:
        raise UnsupportedError(f"{node.target} with arguments")

    def change(shape: list[int], strides: list[int]) -> None:
        shape[:], strides[:] = [min(shape)], [sum(strides)]

    return _strided(lowering, node, change)


@handles(aten.split_with_sizes.default, aten.split.Tensor, aten.unbind.int)
def _split(lowering: Lowering, node: Traced) -> list[Value]:
    value = lowering.stored(lowering.value(node.args[0]))
    unbinds = node.target is aten.unbind.int
    where = node.args[1] if unbinds and len(node.args) > 1 else node.args[2] if len(node.args) > 2 else 0
    dim, offset, parts = where % len(value.shape), value.offset, []
    for tensor in node.meta["val"]:
        shape, strides = tuple(tensor.shape), value.strides
        if unbinds:
            strides = (*strides[:dim], *strides[dim + 1 :])
        parts.append(Array(value.base, value.dtype, shape, strides, offset))
        offset += value.strides[dim] * (1 if unbinds else shape[dim])
    return parts


@handles(aten.cat.default)
def _cat(lowering: Lowering, node: Traced) -> Value:
    parts, dim = node.args[0], (node.args[1] if len(node.args) > 1 else 0) % len(shape_of(node))
    whole = lowering.cats.get(node) or lowering.new_array(shape_of(node), dtype_of(node))
    start = 0
    for part in parts:
        value = lowering.value(part, dtype_of(node))
        offset = whole.offset + start * whole.strides[dim]
        if not (isinstance(value, Array) and value.base is whole.base and value.offset == offset):
            lowering.stored(value, Array(whole.base, whole.dtype, value.shape, whole.strides, offset))
        start += value.shape[dim]
    return whole


@handles(aten.stack.default)
def _stack(lowering: Lowering, node: Traced) -> Value:
    parts, dim = node.args[0], (node.args[1] if len(node.args) > 1 else 0) % len(shape_of(node))
    whole = lowering.new_array(shape_of(node), dtype_of(node))
    strides = (*whole.strides[:dim], *whole.strides[dim + 1 :])
    for k, part in enumerate(parts):
        value = lowering.value(part, dtype_of(node))
        lowering.stored(
            value, Array(whole.base, whole.dtype, value.shape, strides, whole.offset + k * whole.strides[dim])
        )
    return whole


@handles(aten.index.Tensor)
def _index(lowering: Lowering, node: Traced) -> Value:
    source, indices = lowering.value(node.args[0]), node.args[1]
    if any(index is None or index.meta["val"].dtype != torch.int64 for index in indices):
        raise UnsupportedError(f"{node.target} with such indices")
    if not isinstance(source, Array):
        source = lowering.stored(source)
    found = Rows(source, tuple(lowering.value(index) for index in indices), shape_of(node))
    _prefetch(lowering, found)
    return found


def _prefetch(lowering: Lowering, rows: Rows) -> None:
    """Ask for long rows, which lie anywhere in memory, all at once: one after another, each would be waited for."""
    code, length = lowering.code, math.prod(rows.shape[1:]) * rows.dtype.itemsize
    if len(rows.indices[0].shape) != 1 or length < LINE or not rows.source.contiguous:
        return
    first = len(rows.shape) - 1

    with code.loop(rows.shape[0]) as i:
        start = rows.address(code, (Index(i), *(ZERO,) * first))
        for byte in range(0, length + LINE - 1, LINE):
            code.prefetch(code.address(start, min(byte, length - 1), I8))


@handles(aten.gather.default)
def _gather(lowering: Lowering, node: Traced) -> Value:
    source, dim, index = lowering.stored(lowering.value(node.args[0])), node.args[1], lowering.value(node.args[2])
    return Chosen(source, dim % len(source.shape), index)


@handles(aten.scatter_add.default)
def _scatter_add(lowering: Lowering, node: Traced) -> Value:
    before, dim, index, source = (node.args[0], node.args[1], node.args[2], node.args[3])
    result = lowering.new_array(shape_of(node), dtype_of(node))
    lowering.stored(lowering.value(before), result)
    at, added = lowering.value(index), lowering.value(source)
    dim %= len(result.shape)
    code = lowering.code

    def body(position: Position, width: int) -> None:
        for k in range(width):
            last = Index(code.builder.add(position[-1].start, integer(k))) if width > 1 else position[-1]
            one = (*position[:-1], last)
            where = (*one[:dim], Index(at.at(code, one)), *one[dim + 1 :])
            result.put(code, where, operations.add(code, result.at(code, where), added.at(code, one)))

    lowering.each(at.shape, body)
    return result


@handles(aten.index_copy.default)
def _index_copy(lowering: Lowering, node: Traced) -> Value:
    before, dim, index, source = node.args
    if dim != 0:
        raise UnsupportedError(f"{node.target} along another than the first dimension")
    result = lowering.stored(lowering.value(before), lowering.new_array(shape_of(node), dtype_of(node)))
    at, rows = lowering.stored(lowering.value(index)), lowering.value(source)

    def body(position: Position, width: int) -> None:
        row = Index(at.at(lowering.code, position[:1]))
        result.put(lowering.code, (row, *position[1:]), lowering.code.splat(rows.at(lowering.code, position), width))

    lowering.each(rows.shape, body)
    return result
