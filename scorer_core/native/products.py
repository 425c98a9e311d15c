"""Matrix products as LLVM functions: blocks of the result stay in registers, and panels of the right factor in cache.

Each element of the result is one chain of fused multiply-adds over the inner dimension, in its order.
"""

import math
from typing import NamedTuple

import torch
from llvmlite import ir

from scorer_core.native import operations
from scorer_core.native.code import F32, I1, I64, POINTER, Code, Index, Register, integer, wide
from scorer_core.native.values import Array, Value

PANEL, LANES, ROWS = 16, 8, 6  # columns of a panel, floats of a vector, rows of a block: 12 of 16 registers are sums
MASK = 64  # elements that are compared with zero at a time
VECTOR = ir.VectorType(F32, LANES)


class Product(NamedTuple):
    """A product [M, K] @ [K, N] of matrices in memory, and the code that it is added to."""

    code: Code
    pointers: tuple[Register, Register, Register, Register]  # left, right, result, a panel of the right factor
    sizes: tuple[int, int, int]  # M, K, N
    left: tuple[int, ...]  # strides
    right: tuple[int, ...]
    row: int  # elements from one row of the result to the next

    def columns(self, first: Register, columns: int) -> None:
        """Columns `first` to `first` + `columns` - 1 of the result."""
        code, build, k = self.code, self.code.builder, self.sizes[1]
        _, b, _, panel = self.pointers
        padded = math.ceil(columns / LANES) * LANES
        if self.right[1] != 1 and self.right[0] == 1 and k % LANES == 0 and columns == padded:
            self._transposed_panel(first, padded)
        else:
            with code.loop(k) as i:
                source, target = build.mul(i, integer(self.right[0])), build.mul(i, integer(padded))
                if self.right[1] == 1 and columns == padded:
                    for j in range(0, padded, LANES):
                        value = code.load(b, build.add(build.add(source, first), integer(j)), torch.float32, LANES)
                        code.store(value, panel, build.add(target, integer(j)), torch.float32)
                else:
                    for j in range(padded):
                        at = build.add(source, build.mul(build.add(first, integer(j)), integer(self.right[1])))
                        value = code.load(b, at, torch.float32) if j < columns else ir.Constant(F32, 0.0)
                        code.store(value, panel, build.add(target, integer(j)), torch.float32)
        for start, rows, count in _blocks(self.sizes[0]):
            with code.loop(start + rows * count, start, rows) as top:
                self._block((top, rows), (first, columns))

    def _transposed_panel(self, first: Register, columns: int) -> None:
        """The panel of a right factor that is stored by columns: squares of 8 x 8 are transposed in registers."""
        code, build = self.code, self.code.builder
        _, b, _, panel = self.pointers
        with code.loop(self.sizes[1], step=LANES) as i:
            for j in range(0, columns, LANES):
                square = []
                for r in range(LANES):
                    at = build.add(build.mul(build.add(first, integer(j + r)), integer(self.right[1])), i)
                    square.append(code.load(b, at, torch.float32, LANES))
                for r, vector in enumerate(transposed(code, square)):
                    at = build.add(build.mul(build.add(i, integer(r)), integer(columns)), integer(j))
                    code.store(vector, panel, at, torch.float32)

    def _block(self, rows: tuple[Register, int], columns: tuple[Register, int]) -> None:
        """These rows and columns (the first, and how many) of the result, from the panel of the columns."""
        (top, height), (first, width), k = rows, columns, self.sizes[1]
        code, build = self.code, self.code.builder
        a, _, c, panel = self.pointers
        vectors = math.ceil(width / LANES)
        zero = ir.Constant(VECTOR, None)
        before = build.block
        head, after = (code.function.append_basic_block() for _ in range(2))
        starts = [build.mul(build.add(top, integer(r)), integer(self.left[0])) for r in range(height)]
        build.branch(head)
        build.position_at_end(head)
        i = build.phi(I64)
        sums = [[build.phi(VECTOR) for _ in range(vectors)] for _ in range(height)]
        at = build.mul(i, integer(vectors * LANES))
        values = [code.load(panel, build.add(at, integer(j * LANES)), torch.float32, LANES) for j in range(vectors)]
        along = build.mul(i, integer(self.left[1]))
        new = []
        for r in range(height):
            factor = code.splat(code.load(a, build.add(starts[r], along), torch.float32), LANES)
            new.append([code.intrinsic("fma", factor, values[j], sums[r][j]) for j in range(vectors)])
        following = build.add(i, integer(1))
        i.add_incoming(integer(0), before)
        i.add_incoming(following, head)
        for r in range(height):
            for j in range(vectors):
                sums[r][j].add_incoming(zero, before)
                sums[r][j].add_incoming(new[r][j], head)
        build.cbranch(build.icmp_signed("<", following, integer(k)), head, after)
        build.position_at_end(after)
        for r in range(height):
            target = build.add(build.mul(build.add(top, integer(r)), integer(self.row)), first)
            for j in range(vectors):
                rest = min(LANES, width - j * LANES)
                if rest == LANES:
                    code.store(new[r][j], c, build.add(target, integer(j * LANES)), torch.float32)
                else:
                    for lane, value in enumerate(code.parts(new[r][j])[:rest]):
                        code.store(value, c, build.add(target, integer(j * LANES + lane)), torch.float32)


def dense(
    module: ir.Module,
    sizes: tuple[int, int, int],
    left: tuple[int, ...],
    right: tuple[int, ...],
    row: int,
) -> ir.Function:
    """The function (left, right, result, panel) that writes left @ right.

    Args:
        module: where it is added, or found.
        sizes: M, K, N.
        left: strides of the left factor [M, K].
        right: strides of the right factor [K, N].
        row: elements from one row of the result to the next.
    """
    m, k, n = sizes
    name = f"dense_{m}_{k}_{n}_{left[0]}_{left[1]}_{right[0]}_{right[1]}_{row}"
    if name in module.globals:
        return module.globals[name]  # pyright: ignore[reportReturnType]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * 4), name)
    function.attributes.add("noinline")
    for argument in function.args:
        argument.add_attribute("noalias")
    code = Code(function)
    a, b, c, panel = function.args
    if left[0] == 1 != left[1] and m % LANES == k % LANES == 0:
        straight = code.builder.gep(panel, [integer(k * PANEL)], source_etype=F32)
        _transpose(code, a, straight, k, m, left[1])
        a, left = straight, (k, 1)
    product = Product(code, (a, b, c, panel), sizes, left, right, row)
    whole = n // PANEL * PANEL
    if whole:
        with code.loop(whole, step=PANEL) as first:
            product.columns(first, PANEL)
    if n > whole:
        product.columns(integer(whole), n - whole)
    code.builder.ret_void()
    return function


def scratch_floats(m: int, k: int, left: tuple[int, ...]) -> int:
    """The size of the scratch of a product: a panel of the right factor, and perhaps the left one, transposed."""
    return k * PANEL + (m * k if left[1] != 1 else 0)


def sparse(
    code: Code,
    left: Value,
    zeros: Array,
    right: Array,
    result: Array,
    scratch: Register,
    is_transposed: bool,
) -> None:
    """Write `left` @ `right`, or left.T @ right if it `is_transposed`, where `left` is mostly zeros.

    Zeros are skipped, which changes no bit: a sum does not change by a product with zero. A weight that is not finite,
    however, has no effect where `left` is zero. `left` is computed only where it is not zero.

    Args:
        code: of the function under construction.
        left: [rows, length].
        zeros: [rows, length], contiguous; zero only where `left` is.
        right: [length, N], or [rows, N] if `is_transposed`; contiguous.
        result: [rows, N], or [length, N] if `is_transposed`; contiguous.
        scratch: of `list_bytes`.
        is_transposed: see above.
    """
    build = code.builder
    (rows, length), n = left.shape, right.shape[1]
    values = build.gep(scratch, [integer(length)], source_etype=I64)
    b, c = right.address(code), result.address(code)
    if is_transposed:
        _fill_with_zeros(code, c, length * n)
    with code.loop(rows) as r:
        count = _list_nonzeros(code, zeros, r, scratch)
        with code.loop(count) as t:
            at = code.load(scratch, t, torch.int64)
            code.store(left.at(code, (Index(r), Index(at))), values, t, torch.float32)
        here = build.mul(r, integer(n))
        for first, vectors, width in _columns(n):
            at = [integer(first + j * width) for j in range(vectors)]
            if is_transposed:
                own = [code.load(b, build.add(here, offset), torch.float32, width) for offset in at]
                with code.loop(count) as t:
                    target = build.mul(code.load(scratch, t, torch.int64), integer(n))
                    factor = code.splat(code.load(values, t, torch.float32), width)
                    for offset, gradient in zip(at, own, strict=True):
                        place = build.add(target, offset)
                        before = code.load(c, place, torch.float32, width)
                        code.store(code.intrinsic("fma", factor, gradient, before), c, place, torch.float32)
            else:
                sums = [code.variable(wide(F32, width)) for _ in at]
                for held in sums:
                    build.store(ir.Constant(wide(F32, width), None if width > 1 else 0.0), held)
                with code.loop(count) as t:
                    source = build.mul(code.load(scratch, t, torch.int64), integer(n))
                    factor = code.splat(code.load(values, t, torch.float32), width)
                    for offset, held in zip(at, sums, strict=True):
                        weight = code.load(b, build.add(source, offset), torch.float32, width)
                        now = build.load(held, typ=weight.type)
                        build.store(code.intrinsic("fma", factor, weight, now), held)
                for offset, held in zip(at, sums, strict=True):
                    code.store(build.load(held, typ=wide(F32, width)), c, build.add(here, offset), torch.float32)


def list_bytes(length: int) -> int:
    """The size of the list of the nonzeros of a row: their positions, then their values."""
    return 12 * (length + LANES)


def _fill_with_zeros(code: Code, pointer: Register, count: int) -> None:
    whole = count // LANES * LANES
    with code.loop(whole, step=LANES) as i:
        code.store(ir.Constant(VECTOR, None), pointer, i, torch.float32)
    for i in range(whole, count):
        code.store(ir.Constant(F32, 0.0), pointer, i, torch.float32)


def _columns(n: int) -> list[tuple[int, int, int]]:
    """(first, vectors, width) of parts that cover `n` columns: at most 8 vectors, then single columns."""
    parts, first = [], 0
    while n - first >= LANES:
        vectors = min(8, (n - first) // LANES)
        parts.append((first, vectors, LANES))
        first += vectors * LANES
    return parts + [(column, 1, 1) for column in range(first, n)]


def _list_nonzeros(code: Code, zeros: Array, row: Register, found: Register) -> Register:
    """Write the positions of what is not zero in a row of `zeros` to `found`; returns their number."""
    build, length = code.builder, zeros.shape[1]
    count = code.variable(I64)
    build.store(integer(0), count)

    def part(first: Register, width: int) -> None:
        values = zeros.at(code, (Index(row), Index(first, width)))
        zero = ir.Constant(values.type, None if width > 1 else 0)
        compare = build.fcmp_unordered if operations.is_float(values) else build.icmp_unsigned
        bits = build.bitcast(compare("!=", values, zero), ir.IntType(width))
        bits = bits if width == MASK else build.zext(bits, I64)
        before = build.block
        head, body, after = (code.function.append_basic_block() for _ in range(3))
        start = build.load(count, typ=I64)
        build.branch(head)
        build.position_at_end(head)
        rest, number = build.phi(I64), build.phi(I64)
        rest.add_incoming(bits, before)
        number.add_incoming(start, before)
        build.cbranch(build.icmp_unsigned("!=", rest, integer(0)), body, after)
        build.position_at_end(body)
        place = build.add(first, build.cttz(rest, ir.Constant(I1, 1)))
        code.store(place, found, number, torch.int64)
        rest.add_incoming(build.and_(rest, build.sub(rest, integer(1))), body)
        number.add_incoming(build.add(number, integer(1)), body)
        build.branch(head)
        build.position_at_end(after)
        build.store(number, count)

    whole = length // MASK * MASK
    if whole:
        with code.loop(whole, step=MASK) as i:
            part(i, MASK)
    width = MASK // 2
    while whole < length:
        if whole + width <= length:
            part(integer(whole), width)
            whole += width
        else:
            width //= 2
    return build.load(count, typ=I64)


def _blocks(m: int) -> list[tuple[int, int, int]]:
    """(first row, rows, number) of equal blocks that cover `m` rows, none much smaller than the others."""
    if m <= ROWS:
        return [(0, m, 1)]
    whole, rest = divmod(m, ROWS)
    if rest == 0:
        return [(0, ROWS, whole)]
    if rest >= 4:
        return [(0, ROWS, whole), (whole * ROWS, rest, 1)]
    first, second = math.ceil((ROWS + rest) / 2), (ROWS + rest) // 2
    start = (whole - 1) * ROWS
    blocks = [(0, ROWS, whole - 1)] if whole > 1 else []
    if first == second:
        return [*blocks, (start, first, 2)]
    return [*blocks, (start, first, 1), (start + first, second, 1)]


def _transpose(code: Code, source: Register, target: Register, rows: int, columns: int, stride: int) -> None:
    """`target` [columns, rows] from `source` [rows, columns]; both numbers are multiples of 8."""
    build = code.builder
    with code.loop(columns, step=LANES) as j, code.loop(rows, step=LANES) as i:
        square = [
            code.load(source, build.add(build.mul(build.add(i, integer(r)), integer(stride)), j), torch.float32, LANES)
            for r in range(LANES)
        ]
        for r, vector in enumerate(transposed(code, square)):
            at = build.add(build.mul(build.add(j, integer(r)), integer(rows)), i)
            code.store(vector, target, at, torch.float32)


def transposed(code: Code, rows: list[Register]) -> list[Register]:
    """The columns of a square of 8 vectors, by interleaving: three rounds of shuffles."""

    def shuffle(x: Register, y: Register, mask: list[int]) -> Register:
        return code.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask))

    for _ in range(3):
        low = [shuffle(rows[r], rows[r + 4], [0, 8, 1, 9, 2, 10, 3, 11]) for r in range(4)]
        high = [shuffle(rows[r], rows[r + 4], [4, 12, 5, 13, 6, 14, 7, 15]) for r in range(4)]
        rows = [vector for pair in zip(low, high, strict=True) for vector in pair]
    return rows
