"""Ranges of numbers on an axis: `{log: [1, 100], num: 7}`, `{linear: [0, 1], num: 5}`, `{range: [0.1, 0.5, 0.1]}`."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any, get_args

from scorer_core.config import RunConfig
from sweeps.ablation import format_value
from sweeps.errors import value_in_words

EXAMPLE = "{log: [1, 100], num: 7}"
FORMS = ("log", "linear", "range")
DIGITS = 3  # significant digits of a rounded value
SHOWN_DIGITS = 6  # of a number in the name of a variant
MOST_VALUES = 1_000  # of one range
LARGEST = 10**15  # of a number in a range; whole numbers up to this are exact as floats
SMALLEST = Decimal("1e-300")  # above 0
EXACT = Context(prec=60, rounding=ROUND_HALF_UP)  # decimal: 0.1 + 0.2 is 0.3, and every machine rounds alike


def _has_int(annotation: Any) -> bool:
    return annotation is int or any(map(_has_int, get_args(annotation)))


WHOLE = {name for name, field in RunConfig.model_fields.items() if _has_int(field.annotation)}


def axis_values(field: str, written: Any) -> list[Any]:
    """The values of `field` on an axis: those of a list as they are, those of a range rounded as people write them.

    A range contains both of its ends; `range` contains the second only if a step reaches it.

    Args:
        field: the setting; values of a setting that is a whole number are rounded to whole numbers.
        written: a list, or the mapping of a range.

    Raises:
        ValueError: if it is neither, or no list of distinct values comes out; the message is one line.
    """
    if isinstance(written, list) and written:
        return written
    if isinstance(written, list):
        raise ValueError("at least one value is needed")
    if not isinstance(written, Mapping):
        raise ValueError(f"{value_in_words(written)} is neither a list of values nor a range such as {EXAMPLE}")
    forms = [form for form in FORMS if form in written]
    if len(forms) != 1:
        raise ValueError(f"give a list of values, or one of {', '.join(FORMS)}, such as {EXAMPLE}")
    (form,) = forms
    for key in written:
        if key not in (form, "num") or (key == "num" and form == "range"):
            hint = "; its third number is the step" if key == "num" else ""
            raise ValueError(f"{form} has no key '{key}'{hint}")
    numbers = _numbers(form, written[form])
    whole = field in WHOLE and all(number == number.to_integral_value() for number in numbers)
    with localcontext(EXACT):
        if form == "range":
            exact = _steps(*numbers)
        else:
            exact = _between(form, numbers[0], numbers[1], _num(form, written.get("num")))
        values = [_plain(_rounded(form, value, exact, whole)) for value in exact]
    _check_distinct(form, values)
    return values


def _numbers(form: str, written: Any) -> list[Decimal]:
    names = ["from", "to", "step"] if form == "range" else ["from", "to"]
    if not isinstance(written, list) or len(written) != len(names):
        raise ValueError(f"{form} needs [{', '.join(names)}], not {value_in_words(written)}")
    for value in written:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
            raise ValueError(f"{form}: {value_in_words(value)} is not a number of at most {LARGEST:g}")
        if form == "log" and value <= 0:
            raise ValueError(f"{form}: {value} is not above 0")
        if 0 < abs(value) < SMALLEST:
            raise ValueError(f"{form}: {value} is too small; at least {SMALLEST:g}")
    start, end = written[:2]
    if form == "range" and written[2] == 0:
        raise ValueError("range: the step is 0")
    if start == end:
        raise ValueError(f"{form}: both ends are {start}")
    if form == "range" and (written[2] > 0) != (end > start):
        raise ValueError(f"range: a step of {written[2]} does not lead from {start} to {end}")
    return [Decimal(str(value)) for value in written]


def _num(form: str, num: Any) -> int:
    if num is None:
        raise ValueError(f"{form} needs `num`, the number of values, such as {EXAMPLE}")
    if isinstance(num, bool) or not isinstance(num, int):
        raise ValueError(f"num: {value_in_words(num)} is not a whole number")
    if not 2 <= num <= MOST_VALUES:
        raise ValueError(f"num: must be from 2 to {MOST_VALUES:,}, not {value_in_words(num)}")
    return num


def _steps(start: Decimal, end: Decimal, step: Decimal) -> list[Decimal]:
    """The values from `start` in steps, `end` among them if a step reaches it."""
    steps = (end - start) / step
    if steps >= MOST_VALUES:
        raise ValueError(f"range: more than {MOST_VALUES:,} values; choose a larger step")
    if steps < 1:
        raise ValueError(f"range: a step of {step} leads beyond {end}")
    return [start + place * step for place in range(int(steps) + 1)]


def _between(form: str, start: Decimal, end: Decimal, num: int) -> list[Decimal]:
    """Both ends and the values between them, at equal distances or at equal ratios."""
    places = [Decimal(place) for place in range(1, num - 1)]
    if form == "log":
        return [start, *(start * (end / start) ** (place / (num - 1)) for place in places), end]
    return [start, *(start + (end - start) * place / (num - 1) for place in places), end]


def _rounded(form: str, value: Decimal, values: Sequence[Decimal], whole: bool) -> Decimal:
    """A value between the ends as people write it; the ends and the values of `range` are exact.

    `log`: to three significant digits. `linear`: to those of the distance between two values, if it has many.
    """
    if form == "range" or value in (values[0], values[-1]):
        return value
    size = value if form == "log" else values[1] - values[0]
    if form == "linear" and len(size.normalize().as_tuple().digits) <= SHOWN_DIGITS:
        return value.quantize(Decimal(1)) if whole else value
    place = Decimal(1).scaleb(size.adjusted() - DIGITS + 1)
    return value.quantize(max(place, Decimal(1)) if whole else place)


def _check_distinct(form: str, values: Sequence[int | float]) -> None:
    """Reject values that are not in order after rounding, or that would be written alike in the names of variants."""
    sign = 1 if values[0] < values[-1] else -1
    named: dict[str, int | float] = {}
    for value in values:
        name = format_value(value)
        if named and (name in named or sign * value <= sign * next(reversed(named.values()))):
            first, last = format_value(values[0]), format_value(values[-1])
            raise ValueError(f"{form}: {len(values)} values between {first} and {last} are not distinct after rounding")
        named[name] = value


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
