"""A small sweep that tests change."""

from sweeps.definition import Sweep
from sweeps.loading import parse

MINIMAL = {"name": "mine", "question": "why?", "tasks": ["minatar/breakout"], "total_steps": 10_000, "seeds": 2}


def sweep(**changes) -> Sweep:
    """The sweep with these keys changed."""
    return parse(MINIMAL | changes, "mine.yaml")


def names(expanded: Sweep) -> list[str]:
    """The names of its variants, in their order."""
    return [variant.name for variant in expanded.grid_variants]
