"""The types of settings, and their declaration as LANE or SHAPE fields. No torch.

LANE fields are numbers that may differ between the runs of a pack. SHAPE fields decide array sizes or which code runs:
all runs of a pack have the same.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, Strict


class Kind(StrEnum):
    LANE = "lane"
    SHAPE = "shape"


def significant(value: float) -> float:
    """12 significant digits, so that 0.2 * 1e-4 and 2e-5 are one setting and hence one run."""
    return float(f"{value:.12g}")


def not_boolean(value: Any) -> Any:
    """`value` itself. pydantic and Python accept True as 1, but in a definition it is a mistake.

    Raises:
        ValueError: if it is True or False.
    """
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number")
    return value


Whole = Annotated[int, BeforeValidator(not_boolean)]
Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(significant), BeforeValidator(not_boolean)]
Rate = Annotated[Number, Field(gt=0)]
Weight = Annotated[Number, Field(ge=0)]
Power = Annotated[Number, Field(ge=0, le=4)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=1, le=10**15)]  # more steps than any run has; exact as a float
Size = Annotated[Whole, Field(ge=1, le=10**6)]  # of an array
Seed = Annotated[Whole, Field(ge=0, lt=2**62)]
Switch = Annotated[bool, Strict()]
Widths = tuple[Size, ...]


def lane(default: Any = ..., description: str = "", **kwargs: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": Kind.LANE}, **kwargs)


def shape(default: Any = ..., description: str = "", **kwargs: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": Kind.SHAPE}, **kwargs)
