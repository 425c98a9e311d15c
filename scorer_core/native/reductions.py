"""Sums, means and largest elements: in vectors along the last dimension, in a fixed order."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from scorer_core.native import operations
from scorer_core.native.code import WIDTH, Index, Register, integer
from scorer_core.native.lowering import Lowering, Traced, UnsupportedError, dtype_of, handles, shape_of
from scorer_core.native.values import ZERO, Array, Pointwise, Position, Scalar, Value, contiguous_strides

aten = torch.ops.aten


def _reduced(lowering: Lowering, node: Traced, value: Value, dims: Sequence[int], combine: Any, start: float) -> Array:
    """`value` combined along `dims`, with these dimensions as 1: vectors along the last dimension."""
    code, dtype = lowering.code, value.dtype
    gone = {dim % len(value.shape) for dim in dims}
    merged = True
    while merged and len(value.shape) > 1:  # neighbouring dimensions that are both summed are one
        merged = False
        for dim in range(len(value.shape) - 1):
            if {dim, dim + 1} <= gone and (one := value.merged(dim)) is not None:
                value, merged = one, True
                gone = {d - (d > dim) for d in gone}
                break
    shape = tuple(1 if dim in gone else size for dim, size in enumerate(value.shape))
    result = lowering.new_array(shape, dtype, node)
    last = len(shape) - 1

    def neutral(width: int) -> Register:
        return code.splat(code.constant(start, dtype), width)

    def sums(along: Sequence[int], position: list[Any], width: int) -> Register:
        """All along the dimensions `along`, in memory between the rounds; LLVM keeps it in registers."""
        held = code.variable(neutral(width).type)
        code.builder.store(neutral(width), held)

        def rounds(rest: Sequence[int]) -> None:
            if not rest:
                found = code.splat(value.at(code, tuple(position)), width)
                now = code.builder.load(held, typ=found.type)
                code.builder.store(combine(code, now, found), held)
                return
            with code.loop(value.shape[rest[0]]) as i:
                position[rest[0]] = Index(i)
                rounds(rest[1:])

        rounds(along)
        return code.builder.load(held, typ=neutral(width).type)

    def body(outer: Position, width: int) -> None:
        position: list[Any] = list(outer)
        if last not in gone:
            found = sums(sorted(gone), position, width)
        else:
            length = value.shape[last]
            whole = length // WIDTH * WIDTH
            others = sorted(gone - {last})
            held = code.variable(neutral(WIDTH).type)
            single = code.variable(neutral(1).type)
            code.builder.store(neutral(WIDTH), held)
            code.builder.store(neutral(1), single)

            def rounds(rest: Sequence[int]) -> None:
                if rest:
                    with code.loop(value.shape[rest[0]]) as i:
                        position[rest[0]] = Index(i)
                        rounds(rest[1:])
                    return

                def add(at: Index, into: Register, width: int) -> None:
                    position[last] = at
                    found = code.splat(value.at(code, tuple(position)), width)
                    now = code.builder.load(into, typ=found.type)
                    code.builder.store(combine(code, now, found), into)

                if whole:
                    with code.loop(whole, step=WIDTH) as i:
                        add(Index(i, WIDTH), held, WIDTH)
                if whole < length:
                    with code.loop(length, start=whole) as i:
                        add(Index(i), single, 1)

            rounds(others)
            found = code.builder.load(single, typ=neutral(1).type)
            if whole:
                wide = operations.fold(code, code.builder.load(held, typ=neutral(WIDTH).type), combine)
                found = combine(code, wide, found) if whole < length else wide
        result.put(code, outer, found)

    if last in gone:
        with_last = tuple(shape)
        _each_scalar(lowering, with_last, body)
    else:
        lowering.each(shape, body)
    return result


def _each_scalar(lowering: Lowering, shape: Sequence[int], body: Callable[[Position, int], None]) -> None:
    def inner(rest: Sequence[int], position: Position) -> None:
        if not rest:
            body(position, 1)
        elif rest[0] == 1:
            inner(rest[1:], (*position, ZERO))
        else:
            with lowering.code.loop(rest[0]) as i:
                inner(rest[1:], (*position, Index(i)))

    inner(shape, ())


@handles(aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim, aten.amax.default, aten.max.default)
def _reduce(lowering: Lowering, node: Traced) -> Value:
    value = lowering.value(node.args[0], dtype_of(node))
    dims = node.args[1] if len(node.args) > 1 and node.args[1] else range(len(value.shape))
    length = math.prod(value.shape[dim] for dim in dims)
    combine, start = (operations.largest, -math.inf) if "max" in str(node.target) else (operations.add, 0.0)
    if "max" in str(node.target) and not value.dtype.is_floating_point:
        raise UnsupportedError(f"{node.target} of {value.dtype}")
    found: Value = _reduced(lowering, node, value, list(dims), combine, start)
    shape = shape_of(node)
    if math.prod(shape) == 1:
        found = Scalar(found.at(lowering.code, (ZERO,) * len(found.shape)), found.dtype, shape)
    else:
        assert isinstance(found, Array)
        found = Array(found.base, found.dtype, shape, contiguous_strides(shape), found.offset)
    if "mean" in str(node.target):
        found = Pointwise(operations.divide, (found, lowering.value(float(length), found.dtype)), found.dtype, shape)
    return found


@handles(aten.max.dim, aten.argmax.default)
def _max(lowering: Lowering, node: Traced) -> Any:
    """The largest along the last dimension, and the first place where it is; NaN counts as largest."""
    value = lowering.stored(lowering.value(node.args[0]))
    last = len(value.shape) - 1
    if value.dtype not in (torch.float32, torch.float64):
        raise UnsupportedError(f"{node.target} of {value.dtype}")
    if node.args[1] % len(value.shape) != last:
        raise UnsupportedError(f"{node.target} along another than the last dimension")
    code, build = lowering.code, lowering.code.builder
    shape = value.shape[:-1]
    best = lowering.new_array(shape, value.dtype)
    where = lowering.new_array(shape, torch.int64)

    def body(outer: Position, width: int) -> None:  # noqa: ARG001
        now, at = value.at(code, (*outer, ZERO)), integer(0)
        for k in range(1, value.shape[last]):
            other = value.at(code, (*outer, Index(integer(k))))
            larger = build.and_(
                build.fcmp_ordered("ord", now, now),
                build.or_(build.fcmp_ordered(">", other, now), build.fcmp_unordered("uno", other, other)),
            )
            now, at = build.select(larger, other, now), build.select(larger, integer(k), at)
        for array, found in ((best, now), (where, at)):
            array.put(code, outer, found)

    _each_scalar(lowering, shape, body)
    if node.target is aten.argmax.default:
        return where.reshaped(shape_of(node))
    keep = _shape_of_items(node)
    return [best.reshaped(keep), where.reshaped(keep)]


def _shape_of_items(node: Traced) -> tuple[int, ...]:
    return tuple(node.meta["val"][0].shape)
