"""Writes LLVM code: loops, loads and stores, and arithmetic on numbers or on vectors of numbers.

The order of every sum is written down, and nothing lets LLVM change it. So the bits of a result do not depend on the
processor.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from llvmlite import ir

# llvmlite has no types that a checker understands.
Register = Any  # a number or a vector of numbers
LlvmType = Any

F32, F64, I64, I8, I1 = ir.FloatType(), ir.DoubleType(), ir.IntType(64), ir.IntType(8), ir.IntType(1)
POINTER = ir.PointerType()
WIDTH = 16  # numbers that a loop handles at a time; LLVM makes as many instructions of it as the processor needs

# The type of a number in a register, and in memory.
IN_REGISTER: dict[torch.dtype, LlvmType] = {
    torch.float32: F32, torch.float64: F64, torch.int64: I64, torch.bool: I1, torch.uint8: I8,
}  # fmt: skip
IN_MEMORY = IN_REGISTER | {torch.bool: I8}


class Index(NamedTuple):
    """A position along one dimension, or `width` positions from there on."""

    start: Register
    width: int = 1


def integer(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


ZERO = Index(integer(0))


def width_of(value: Register) -> int:
    return value.type.count if isinstance(value.type, ir.VectorType) else 1


def wide(element: LlvmType, width: int) -> LlvmType:
    return element if width == 1 else ir.VectorType(element, width)


class Code:
    """One function under construction: its builder, and what all operations write with it."""

    def __init__(self, function: ir.Function):
        self.function, self.module = function, function.module
        self.builder: Any = ir.IRBuilder(  # llvmlite has no types
            function.append_basic_block("entry")
        )

    @contextmanager
    def loop(self, stop: int | Register, start: int = 0, step: int = 1) -> Iterator[Register]:
        """The body of a loop over start, start + step, ... below `stop`; yields the counter."""
        build = self.builder
        stop = integer(stop) if isinstance(stop, int) else stop
        before = build.block
        head, body, after = (self.function.append_basic_block() for _ in range(3))
        build.branch(head)
        build.position_at_end(head)
        counter = build.phi(I64)
        counter.add_incoming(integer(start), before)
        build.cbranch(build.icmp_signed("<", counter, stop), body, after)
        build.position_at_end(body)
        yield counter
        counter.add_incoming(build.add(counter, integer(step)), build.block)
        build.branch(head)
        build.position_at_end(after)

    def variable(self, typ: LlvmType) -> Register:
        """A place for one value; LLVM keeps it in a register."""
        with self.builder.goto_entry_block():
            return self.builder.alloca(typ)

    def address(self, base: Register, offset: Register | int, element: LlvmType) -> Register:
        offset = integer(offset) if isinstance(offset, int) else offset
        return self.builder.gep(base, [offset], source_etype=element)

    def load(self, base: Register, offset: Register | int, dtype: torch.dtype, width: int = 1) -> Register:
        """Number(s) from `offset` elements behind `base` on."""
        stored = IN_MEMORY[dtype]
        found = self.builder.load(self.address(base, offset, stored), align=dtype.itemsize, typ=wide(stored, width))
        if dtype == torch.bool:
            return self.builder.icmp_unsigned("!=", found, ir.Constant(found.type, None))
        return found

    def store(self, value: Register, base: Register, offset: Register | int, dtype: torch.dtype) -> None:
        stored = IN_MEMORY[dtype]
        if dtype == torch.bool:
            value = self.builder.zext(value, wide(stored, width_of(value)))
        self.builder.store(value, self.address(base, offset, stored), align=dtype.itemsize)

    def splat(self, value: Register, width: int) -> Register:
        """`value` in each of `width` places."""
        if width == width_of(value):
            return value
        vector = ir.VectorType(value.type, width)
        one = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return self.builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)

    def together(self, values: list[Register]) -> Register:
        """One vector of single numbers."""
        vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
        for i, value in enumerate(values):
            vector = self.builder.insert_element(vector, value, ir.Constant(ir.IntType(32), i))
        return vector

    def parts(self, vector: Register) -> list[Register]:
        count = width_of(vector)
        if count == 1:
            return [vector]
        return [self.builder.extract_element(vector, ir.Constant(ir.IntType(32), i)) for i in range(count)]

    def halves(self, vector: Register) -> tuple[Register, Register]:
        width = width_of(vector)
        undefined = ir.Constant(vector.type, ir.Undefined)

        def half(first: int) -> Register:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), width // 2), list(range(first, first + width // 2)))
            return self.builder.shuffle_vector(vector, undefined, mask)

        return half(0), half(width // 2)

    def constant(self, value: float, dtype: torch.dtype) -> Register:
        element = IN_REGISTER[dtype]
        if dtype.is_floating_point:
            return ir.Constant(element, float(torch.tensor(value, dtype=dtype)))
        return ir.Constant(element, int(value))

    def convert(self, value: Register, to: torch.dtype) -> Register:
        """`value` as a number of another type, as torch converts it."""
        target = IN_REGISTER[to]
        element = value.type.element if width_of(value) > 1 else value.type
        if element == target:
            return value
        build, typ = self.builder, wide(target, width_of(value))
        was_float = isinstance(element, ir.FloatType | ir.DoubleType)
        if to == torch.bool:
            zero = ir.Constant(value.type, None)
            return build.fcmp_unordered("!=", value, zero) if was_float else build.icmp_signed("!=", value, zero)
        if to.is_floating_point:
            if was_float:
                return build.fpext(value, typ) if target == F64 else build.fptrunc(value, typ)
            unsigned = element in (I1, I8)
            return build.uitofp(value, typ) if unsigned else build.sitofp(value, typ)
        if was_float:  # by int64, so that numbers above those of the type wrap
            whole = build.fptosi(value, wide(I64, width_of(value)))
            return whole if target == I64 else build.trunc(whole, typ)
        if element.width < target.width:
            return build.zext(value, typ)  # bool and uint8
        return build.trunc(value, typ)

    def prefetch(self, address: Register) -> None:
        """Ask for the cache line at `address`; nothing waits for it."""
        name, flag = "llvm.prefetch.p0", ir.IntType(32)
        function = self.module.globals.get(name) or ir.Function(
            self.module, ir.FunctionType(ir.VoidType(), [POINTER, flag, flag, flag]), name
        )
        to_read, keep, is_data = flag(0), flag(3), flag(1)
        self.builder.call(function, [address, to_read, keep, is_data])

    def intrinsic(self, name: str, *values: Register) -> Register:
        """An LLVM function on numbers or vectors, such as `sqrt`."""
        typ = values[0].type
        suffix = str(typ).replace("<", "v").replace(" x ", "").replace(">", "")
        suffix = suffix.replace("float", "f32").replace("double", "f64")
        full = f"llvm.{name}.{suffix}"
        function = self.module.globals.get(full) or ir.Function(
            self.module, ir.FunctionType(typ, [typ] * len(values)), full
        )
        return self.builder.call(function, values)

    def libm(self, name: str, *values: Register) -> Register:
        """A function of the C math library, of one or two float or double numbers, on each number of the vectors."""
        element = values[0].type.element if width_of(values[0]) > 1 else values[0].type
        full = f"{name}f" if element == F32 else name
        function = self.module.globals.get(full) or ir.Function(
            self.module, ir.FunctionType(element, [element] * len(values)), full
        )
        found = [self.builder.call(function, one) for one in zip(*map(self.parts, values), strict=True)]
        return found[0] if len(found) == 1 else self.together(found)
