"""The tables of all settings, presets and keys: `python -m tools.settings_page` writes them into docs/settings.md."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scorer_core.config import RunConfig, unread_settings
from scorer_core.learners.settings import LEARNERS
from scorer_core.registry import ALGORITHMS, COUPLINGS, FOLLOWER_OBJECTIVES, LEADER_PENALTIES, NETWORKS, SCHEDULES
from scorer_core.settings import PRESETS
from slurm.profile import Profile
from sweeps.search import Objective, Search
from tools.page import DOCS, replace_generated, table

PAGE = DOCS / "settings.md"
NAMES: dict[str, Iterable[str]] = {  # settings whose values are names of scorer_core/registry.py
    "algorithm": ALGORITHMS,
    "coupling": COUPLINGS,
    "follower_objective": FOLLOWER_OBJECTIVES,
    "leader_penalty": ["none", *LEADER_PENALTIES],
    "schedule": SCHEDULES,
    "network": NETWORKS,
}


def tables() -> dict[str, str]:
    """The generated parts of the page, by name."""
    return {"settings": settings(), "presets": presets(), "search": keys(Search), "profile": keys(Profile)}


def settings() -> str:
    """All settings of a run: default, LANE or SHAPE, and meaning; last those that only some algorithms read."""
    family = {name: key for key, settings in LEARNERS.items() for name in settings.model_fields}
    rows = []
    for name, field in sorted(RunConfig.model_fields.items(), key=lambda item: family.get(item[0], "")):
        extra = field.json_schema_extra
        kind = str(extra["kind"]) if isinstance(extra, Mapping) else ""
        readers = ", ".join(f"`{algorithm}`" for algorithm in ALGORITHMS if name not in unread_settings(algorithm))
        meaning = _meaning(name, field) + (f". Read by {readers}" if name in family else "")
        rows.append((f"`{name}`", _default(field), kind.upper(), meaning))
    return table(("setting", "default", "kind", "meaning"), rows)


def presets() -> str:
    """What each preset sets."""
    rows = [
        (f"`{field}`", *(_written(preset[field]) for preset in PRESETS.values()))
        for field in next(iter(PRESETS.values()))
    ]
    return table(("setting", *(f"`{name}`" for name in PRESETS)), rows)


def keys(model: type[BaseModel]) -> str:
    """The keys of a definition or profile: default and meaning."""
    rows = [(f"`{name}`", _default(field), _meaning(name, field)) for name, field in model.model_fields.items()]
    return table(("key", "default", "meaning"), rows)


def _meaning(name: str, field: FieldInfo) -> str:
    values = NAMES.get(name) or (get_args(field.annotation) if get_origin(field.annotation) is Literal else ())
    listed = ", ".join(f"`{value}`" for value in values)
    return f"{field.description} ({listed})" if listed else field.description or ""


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else _written(field.default)


def _written(value: Any) -> str:
    """`value` as in YAML; empty if nothing is the default."""
    if value is None or value in ({}, []):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return _written(int(value)) if value.is_integer() else f"{value:g}"
    if isinstance(value, Objective):
        return value.name
    if isinstance(value, list | tuple):
        inside = ", ".join(map(_written, value))
        return inside if isinstance(value[0], Objective) else f"[{inside}]"
    return str(value)


def write(page: Path = PAGE) -> None:
    """Replace the tables in `page`."""
    for part, text in tables().items():
        replace_generated(page, part, text)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write()
