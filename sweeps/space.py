"""The search space: a distribution per field, for some fields only under a condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    import optuna

Form = Literal["uniform", "log", "integer", "log_integer", "choice"]
LARGEST = 1e15  # of a searched number; whole numbers up to this are exact as floats
FORMS: tuple[Form, ...] = ("uniform", "log", "integer", "log_integer", "choice")


class Dimension(BaseModel):
    """One searched field, as written: `{log: [0.1, 100]}`, `{integer: [1, 4]}`, or a list of choices.

    `when` names an earlier field and values: this field is searched only if the earlier one has one of the values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    form: Form
    values: list[Any]
    when: dict[str, list[Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, written: Any) -> Any:
        """`{log: [a, b], when: {f: v}}` as form, values, and a list of values per condition."""
        if isinstance(written, list):
            written = {"choice": written}
        if not isinstance(written, Mapping) or "form" in written:
            return written
        forms = [form for form in FORMS if form in written]
        if len(forms) != 1:
            raise ValueError(f"give a list of choices, or one of {', '.join(FORMS[:-1])} with [low, high]")
        when = written.get("when", {})
        if not isinstance(when, Mapping):
            raise ValueError("when: must be a mapping of a field to its values")
        rest = {key: value for key, value in written.items() if key not in (forms[0], "when")}
        conditions = {field: value if isinstance(value, list) else [value] for field, value in when.items()}
        return {"form": forms[0], "values": written[forms[0]], "when": conditions, **rest}

    @model_validator(mode="after")
    def _numbers_are_finite(self) -> Self:
        for value in self.values:
            if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:  # NaN is not, either
                raise ValueError(f"{self.form}: {_short(value)} is not a finite number of at most {LARGEST:g}")
        for field, values in self.when.items():
            if not values:
                raise ValueError(f"when.{field}: at least one value is needed")
        return self

    @model_validator(mode="after")
    def _has_something_to_choose(self) -> Self:
        if self.form == "choice":
            if any(not isinstance(value, bool | int | float | str) for value in self.values):
                raise ValueError("choices must be numbers, text, true or false")
            if len({isinstance(value, bool) for value in self.values}) > 1:
                raise ValueError("do not mix true or false with other choices")
            if len(self.values) < 2 or any(self.values.count(value) > 1 for value in self.values):
                raise ValueError("at least two different choices are needed, without duplicates")
            return self
        whole = self.form in ("integer", "log_integer")
        kinds = int if whole else int | float
        if len(self.values) != 2 or any(not isinstance(v, kinds) or isinstance(v, bool) for v in self.values):
            raise ValueError(f"{self.form} needs [low, high], two {'whole ' if whole else ''}numbers")
        low, high = self.values
        if not low < high:
            raise ValueError(f"{self.form}: low ({low}) must be less than high ({high})")
        if self.form.startswith("log") and low <= 0:
            raise ValueError(f"{self.form}: low ({low}) must be greater than 0")
        return self

    @property
    def numeric(self) -> bool:
        """Is it a range of numbers, not a list of choices?"""
        return self.form != "choice"

    @property
    def ends(self) -> list[Any]:
        """Both ends of the range, or every choice: if these are valid settings, so are all other values."""
        return self.values

    def has(self, value: Any) -> bool:
        """Is `value` one of the choices? True does not equal 1 here."""
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.values)

    def exists(self, point: Mapping[str, Any]) -> bool:
        """Is this field searched at `point`, which has the values of the fields before it?"""
        return all(field in point and point[field] in values for field, values in self.when.items())

    def suggest(self, trial: optuna.Trial, field: str) -> Any:
        """The value of `field` in `trial`; drawn only if the trial does not have it yet."""
        if self.form == "choice":
            return trial.suggest_categorical(field, self.values)
        low, high = self.values
        if self.form in ("integer", "log_integer"):
            return trial.suggest_int(field, low, high, log=self.form == "log_integer")
        return trial.suggest_float(field, low, high, log=self.form == "log")


def _short(value: float) -> str:
    """A number for a message: Python refuses to print whole numbers of thousands of digits."""
    return "a number of hundreds of digits" if isinstance(value, int) and abs(value) > 10**100 else str(value)
