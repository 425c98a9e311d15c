"""What a network's layer and its optimizer are made of: matrix products, and the step of Adam and RAdam."""

import torch

from scorer_core import optim
from scorer_core.native import products
from scorer_core.native.code import Register
from scorer_core.native.lowering import Lowering, Traced, UnsupportedError, dtype_of, handles, shape_of
from scorer_core.native.values import Position, Value

aten = torch.ops.aten
SPARSE_COLUMNS = 32  # with fewer, a dense product is faster


@handles(aten.mm.default)
def _product(lowering: Lowering, node: Traced) -> Value:
    if dtype_of(node) != torch.float32:
        raise UnsupportedError(f"{node.target} of {dtype_of(node)}")
    code, right = lowering.code, lowering.stored(lowering.value(node.args[1]))
    (m, n), k = shape_of(node), right.shape[0]
    result = lowering.new_array((m, n), torch.float32, node)
    zeros = lowering.zeros_of(node.args[0])
    if zeros is not None and n >= SPARSE_COLUMNS and right.contiguous:
        is_transposed = node.args[0].target is aten.t.default
        left = lowering.value(node.args[0].args[0] if is_transposed else node.args[0])
        scratch = lowering.new_buffer(products.list_bytes(left.shape[1]))
        products.sparse(code, left, zeros.reshaped(left.shape), right, result, scratch.pointer(), is_transposed)
        return result
    left = lowering.stored(lowering.value(node.args[0]))
    scratch = lowering.new_buffer(4 * products.scratch_floats(m, k, left.strides))
    function = products.dense(lowering.module, (m, k, n), left.strides, right.strides, n)
    code.builder.call(function, [*(array.address(code) for array in (left, right, result)), scratch.pointer()])
    return result


@handles(torch.ops.scorer.moment_update.default)
def _moment_update(lowering: Lowering, node: Traced) -> list[Value]:
    code, build = lowering.code, lowering.code.builder
    arrays = [lowering.stored(lowering.value(argument)) for argument in node.args[:4]]
    (size,) = arrays[0].shape
    scalars = [lowering.value(argument).at(code, ()) for argument in node.args[4:]]
    results = [lowering.new_over(arrays[k], node, item, node.args[k]) for item, k in enumerate((0, 2, 3))]

    def body(position: Position, width: int) -> None:
        parameter, gradient, mean, square = (array.at(code, position) for array in arrays)
        scale, step_size, epsilon, adaptive = (code.splat(scalar, width) for scalar in scalars)

        def number(value: float) -> Register:
            return code.splat(code.constant(value, torch.float32), width)

        gradient = build.fmul(scale, gradient)
        mean = build.fadd(build.fmul(number(optim.BETA_1), mean), build.fmul(number(1 - optim.BETA_1), gradient))
        added = build.fmul(build.fmul(number(1 - optim.BETA_2), gradient), gradient)
        square = build.fadd(build.fmul(number(optim.BETA_2), square), added)
        divisor = build.fadd(build.fmul(adaptive, code.intrinsic("sqrt", square)), epsilon)
        parameter = build.fsub(parameter, build.fdiv(build.fmul(step_size, mean), divisor))
        for array, value in zip(results, (parameter, mean, square), strict=True):
            array.put(code, position, value)

    lowering.each((size,), body)
    return list(results)
