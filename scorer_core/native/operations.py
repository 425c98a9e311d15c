"""What each torch operation on single elements is in LLVM code: (code, *elements) -> element."""

from collections.abc import Callable
from typing import Any

import torch
from llvmlite import ir

from scorer_core.native.code import Code, Register, width_of

aten = torch.ops.aten
Element = Callable[..., Register]


TANH_IS_1_FROM, TANH_IS_X_BELOW = 7.90531110763549805, 0.0004
TANH_ABOVE = (  # of x^13, x^11, ..., x
    -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
    6.37261928875436e-04, 4.89352455891786e-03,
)  # fmt: skip
TANH_BELOW = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def is_float32(value: Register) -> bool:
    return isinstance(value.type.element if width_of(value) > 1 else value.type, ir.FloatType)


def is_float(value: Register) -> bool:
    element = value.type.element if width_of(value) > 1 else value.type
    return isinstance(element, ir.FloatType | ir.DoubleType)


def _zero(value: Register) -> Register:
    return ir.Constant(value.type, None)


def _arithmetic(of_floats: str, of_integers: str) -> Element:
    def element(code: Code, x: Register, y: Register) -> Register:
        return getattr(code.builder, of_floats if is_float(x) else of_integers)(x, y)

    return element


def _compare(sign: str) -> Element:
    def element(code: Code, x: Register, y: Register) -> Register:
        if is_float(x):  # only != holds for NaN
            return (code.builder.fcmp_unordered if sign == "!=" else code.builder.fcmp_ordered)(sign, x, y)
        return code.builder.icmp_signed(sign, x, y)

    return element


def _floor_divide(code: Code, x: Register, y: Register) -> Register:
    build = code.builder
    if is_float(x):
        return code.intrinsic("floor", build.fdiv(x, y))
    quotient, rest = build.sdiv(x, y), build.srem(x, y)
    rounded_up = build.and_(build.icmp_signed("!=", rest, _zero(x)), build.icmp_signed("<", build.xor(x, y), _zero(x)))
    return build.select(rounded_up, build.sub(quotient, ir.Constant(x.type, _ones(x, 1))), quotient)


def _remainder(code: Code, x: Register, y: Register) -> Register:
    """With the sign of y, as in Python."""
    build = code.builder
    if is_float(x):
        rest = code.libm("fmod", x, y)
        other_sign = build.and_(
            build.fcmp_ordered("!=", rest, _zero(x)),
            build.xor(build.fcmp_ordered("<", rest, _zero(x)), build.fcmp_ordered("<", y, _zero(y))),
        )
        return build.select(other_sign, build.fadd(rest, y), rest)
    rest = build.srem(x, y)
    other_sign = build.and_(
        build.icmp_signed("!=", rest, _zero(x)), build.icmp_signed("<", build.xor(rest, y), _zero(x))
    )
    return build.select(other_sign, build.add(rest, y), rest)


def _ones(like: Register, value: Any) -> Any:
    return [value] * width_of(like) if width_of(like) > 1 else value


def _extreme(sign: str) -> Element:
    """The larger (">") or the smaller one ("<"); NaN if either is."""

    def element(code: Code, x: Register, y: Register) -> Register:
        build = code.builder
        if not is_float(x):
            return build.select(build.icmp_signed(sign, x, y), x, y)
        first = build.or_(build.fcmp_ordered(sign, x, y), build.fcmp_unordered("uno", x, x))
        return build.select(first, x, y)

    return element


def _bits(name: str) -> Element:
    return lambda code, *values: getattr(code.builder, name)(*values)


def _logical(name: str) -> Element:
    return lambda code, *values: getattr(code.builder, name)(*(code.convert(value, torch.bool) for value in values))


def where(code: Code, condition: Register, x: Register, y: Register) -> Register:
    return code.builder.select(condition, x, y)


def _relu(code: Code, x: Register) -> Register:
    return code.builder.select(code.builder.fcmp_ordered("<=", x, _zero(x)), _zero(x), x)


def _threshold_backward(code: Code, gradient: Register, x: Register, threshold: Register) -> Register:
    return code.builder.select(code.builder.fcmp_ordered("<=", x, threshold), _zero(gradient), gradient)


def _neg(code: Code, x: Register) -> Register:
    return code.builder.fneg(x) if is_float(x) else code.builder.neg(x)


def _abs(code: Code, x: Register) -> Register:
    if is_float(x):
        return code.intrinsic("fabs", x)
    return code.builder.select(code.builder.icmp_signed("<", x, _zero(x)), code.builder.neg(x), x)


def _sign(code: Code, x: Register) -> Register:
    """-1, 0 or 1; 0 for NaN."""
    build = code.builder
    compare = build.fcmp_ordered if is_float(x) else build.icmp_signed
    make = build.uitofp if is_float(x) else build.zext
    up, down = make(compare(">", x, _zero(x)), x.type), make(compare("<", x, _zero(x)), x.type)
    return build.fsub(up, down) if is_float(x) else build.sub(up, down)


def _tanh(code: Code, x: Register) -> Register:
    """The quotient of two polynomials, as in Eigen: within a few units in the last place for float32."""
    if not is_float32(x):
        return code.libm("tanh", x)

    def number(value: float) -> Register:
        return ir.Constant(x.type, _ones(x, float(torch.tensor(value, dtype=torch.float32))))

    def polynomial(coefficients: tuple[float, ...]) -> Register:
        total = number(coefficients[0])
        for coefficient in coefficients[1:]:
            total = code.builder.fadd(code.builder.fmul(total, square), number(coefficient))
        return total

    inside = _clamp(code, x, number(-TANH_IS_1_FROM), number(TANH_IS_1_FROM))
    square = code.builder.fmul(inside, inside)
    found = code.builder.fdiv(code.builder.fmul(inside, polynomial(TANH_ABOVE)), polynomial(TANH_BELOW))
    small = code.builder.fcmp_ordered("<", code.intrinsic("fabs", x), number(TANH_IS_X_BELOW))
    return code.builder.select(small, x, found)


def _libm(name: str) -> Element:
    return lambda code, *values: code.libm(name, *values)


def _intrinsic(name: str) -> Element:
    return lambda code, x: code.intrinsic(name, x)


def _reciprocal(code: Code, x: Register) -> Register:
    return code.builder.fdiv(ir.Constant(x.type, _ones(x, 1.0)), x)


def is_finite(code: Code, x: Register) -> Register:
    return code.builder.fcmp_ordered("==", code.builder.fsub(x, x), _zero(x))


def _tanh_backward(code: Code, gradient: Register, y: Register) -> Register:
    one = ir.Constant(y.type, _ones(y, 1.0))
    return code.builder.fmul(gradient, code.builder.fsub(one, code.builder.fmul(y, y)))


add, sub, mul = _arithmetic("fadd", "add"), _arithmetic("fsub", "sub"), _arithmetic("fmul", "mul")
divide = _bits("fdiv")
largest, smallest = _extreme(">"), _extreme("<")


def _clamp(code: Code, x: Register, low: Register, high: Register) -> Register:
    return smallest(code, largest(code, x, low), high)


def _power(code: Code, x: Register, y: Register) -> Register:
    return code.libm("pow", x, y)


# The operations whose arguments are converted to the dtype of the result first.
OF_RESULT: dict[Any, Element] = {
    aten.mul.Tensor: mul, aten.mul.Scalar: mul,
    aten.div.Tensor: divide, aten.div.Scalar: divide,
    aten.floor_divide.default: _floor_divide, aten.remainder.Scalar: _remainder, aten.remainder.Tensor: _remainder,
    aten.maximum.default: largest, aten.minimum.default: smallest,
    aten.clamp_min.default: largest, aten.clamp_max.default: smallest,
    aten.clamp_min.Tensor: largest, aten.clamp_max.Tensor: smallest,
    aten.clamp.default: _clamp,
    aten.pow.Tensor_Scalar: _power, aten.pow.Scalar: _power, aten.pow.Tensor_Tensor: _power,
    aten.relu.default: _relu, aten.threshold_backward.default: _threshold_backward,
    aten.neg.default: _neg, aten.abs.default: _abs, aten.sgn.default: _sign, aten.sign.default: _sign,
    aten.sqrt.default: _intrinsic("sqrt"), aten.exp.default: _libm("exp"), aten.log.default: _libm("log"),
    aten.expm1.default: _libm("expm1"), aten.log1p.default: _libm("log1p"),
    aten.tanh.default: _tanh, aten.tanh_backward.default: _tanh_backward,
    aten.reciprocal.default: _reciprocal,
    aten.bitwise_xor.Tensor: _bits("xor"), aten.bitwise_xor.Scalar: _bits("xor"),
    aten.bitwise_and.Tensor: _bits("and_"), aten.bitwise_and.Scalar: _bits("and_"),
    aten.bitwise_or.Tensor: _bits("or_"), aten.bitwise_or.Scalar: _bits("or_"),
    aten.__rshift__.Scalar: _bits("ashr"), aten.__lshift__.Scalar: _bits("shl"),
    aten.bitwise_right_shift.Tensor_Scalar: _bits("ashr"), aten.bitwise_left_shift.Tensor_Scalar: _bits("shl"),
    aten.bitwise_not.default: _bits("not_"),
    aten.logical_and.default: _logical("and_"), aten.logical_or.default: _logical("or_"),
    aten.logical_not.default: _logical("not_"),
}  # fmt: skip
# The operations whose arguments are converted to the dtype that torch gives them together.
OF_ARGUMENTS: dict[Any, Element] = {
    getattr(getattr(aten, name), kind): _compare(sign)
    for name, sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.items()
    for kind in ("Tensor", "Scalar")
}  # fmt: skip
_BITWISE = {
    target for target in OF_RESULT if target.name().startswith(("aten::bitwise_not", "aten::bitwise_and",
                                                                "aten::bitwise_or", "aten::bitwise_xor"))
}  # fmt: skip
_EQUAL = {aten.eq.Tensor, aten.eq.Scalar, aten.ne.Tensor, aten.ne.Scalar}
_LOGICAL = {aten.logical_and.default, aten.logical_or.default, aten.logical_not.default}
# The operations that are torch's for a dtype, where it has others: the elements of these are numbers with a sign.
ALLOWED: dict[torch.dtype, set[Any]] = {
    torch.bool: _BITWISE | _EQUAL | _LOGICAL | {aten.mul.Tensor},
    torch.uint8: _BITWISE | _EQUAL,
    torch.int64: (OF_RESULT.keys() | OF_ARGUMENTS.keys())
    - {aten.pow.Tensor_Scalar, aten.pow.Scalar, aten.pow.Tensor_Tensor},
    **dict.fromkeys(
        (torch.float32, torch.float64),
        (OF_RESULT.keys() | OF_ARGUMENTS.keys()) - _BITWISE - {aten.floor_divide.default},
    ),
}


def fold(code: Code, vector: Register, combine: Element) -> Register:
    """One number of a vector's: halves are combined until one is left."""
    while width_of(vector) > 1:
        if width_of(vector) == 2:
            return combine(code, *code.parts(vector))
        vector = combine(code, *code.halves(vector))
    return vector
