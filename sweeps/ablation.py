"""`ablate`: from one variant, the variants that change one factor, or all factors but one."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Ablate(BaseModel):
    """Toggles of a variant. A toggle is a mapping of settings that change one factor.

    `one_at_a_time`: one variant per toggle, with only this toggle. `leave_one_out`: one variant with all toggles, named
    "all", and one variant per toggle with all other toggles. `both`: all of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    from_: Annotated[str, Field(alias="from")]
    toggle: Annotated[list[Annotated[dict[str, Any], Field(min_length=1)]], Field(min_length=1)]
    how: Literal["one_at_a_time", "leave_one_out", "both"] = "one_at_a_time"

    def variants(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """The new variants: by name, the toggles that are layers over the settings of `from`."""
        names = [
            ", ".join(f"{field}={format_value(value)}" for field, value in toggle.items()) for toggle in self.toggle
        ]
        found: dict[str, Sequence[Mapping[str, Any]]] = {}
        if self.how != "leave_one_out":
            found |= {f"{self.from_} {name}": [toggle] for name, toggle in zip(names, self.toggle, strict=True)}
        if self.how != "one_at_a_time":
            found[f"{self.from_} all"] = list(self.toggle)
            for left_out, name in enumerate(names):
                kept = [toggle for i, toggle in enumerate(self.toggle) if i != left_out]
                found[f"{self.from_} all but {name}"] = kept
        return found


def format_value(value: Any) -> str:
    """The text of a setting in the name of a variant: `true`, `64x32`, `0.0001`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "x".join(map(format_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
