"""The cells of a sweep's grid (variant x task), which of them `exclude` removes, and when settings are equal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scorer_core.config import RunConfig
from scorer_core.fields import significant
from sweeps.errors import DefinitionError
from sweeps.expansion import Point, Settings, Variant


@dataclass(frozen=True, slots=True)
class Run:
    """A seed of a cell of the grid. Where two cells have equal configurations, they share a run: it is trained once."""

    variant: Variant
    config: RunConfig

    @property
    def run_id(self) -> str:
        """The hash of what the run computes."""
        return self.config.run_id


@dataclass(frozen=True)
class GridCell:
    """One cell of the grid before `exclude`, which does not depend on seeds."""

    run: Run  # with the first seed
    excluded: bool
    matched: set[int]  # positions in `exclude` of the entries that match one of its points


def grid_cells(variants: Iterable[tuple[Variant, list[Point]]], exclude: Sequence[Settings]) -> list[GridCell]:
    """Every cell: variants in their order, then tasks.

    Points that compute the same are one cell, which is excluded only if all of these points are.

    Args:
        variants: each variant with its points, from `expansion.expand`.
        exclude: entries of conditions.
    """
    cells = []
    for variant, points in variants:
        for configs in zip(*points[: None if exclude else 1], strict=True):  # of one task, at every point
            matched = [_matching_entries(exclude, variant, config) for config in configs]
            kept = next((config for config, by in zip(configs, matched, strict=True) if not by), None)
            cells.append(GridCell(Run(variant, kept or configs[0]), kept is None, set().union(*matched)))
    return cells


def check_exclusions(exclude: Sequence[Settings], cells: Sequence[GridCell], tasks: Sequence[str]) -> None:
    """Reject an entry of `exclude` that removes nothing: it is a mistake, and its runs would be trained.

    Raises:
        DefinitionError: if an entry names an unknown variant or task, or matches no cell.
    """
    variants = {name for cell in cells for name in (cell.run.variant.base_name, cell.run.variant.name) if name}
    for position, entry in enumerate(exclude):
        for field, known in (("variant", variants), ("task", set(tasks))):
            for value in _listed(entry.get(field, [])):
                if value not in known:
                    names = ", ".join(sorted(known)) or "none"
                    raise DefinitionError(
                        f"exclude.{position}.{field}: unknown {field} '{value}'; choose from: {names}"
                    )
        if not any(position in cell.matched for cell in cells):
            raise DefinitionError(f"exclude.{position}: matches no run; remove or correct {entry}")


def has_values(variant: Variant, wanted: Settings) -> bool:
    """Does `variant` have all values that `wanted`, such as `{ratio: 1}`, names?"""
    actual = dict(variant.point) | {"variant": variant.base_name}
    return all(field in actual and _equal(actual[field], value) for field, value in wanted.items())


def texts(value: Any) -> Iterator[str]:
    """All texts in `value`, at any depth; keys of mappings are not among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts(part)


def contains_mapping(value: Any) -> bool:
    """Is `value` a mapping, or a list that contains one?"""
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(contains_mapping, value)))


def _matching_entries(exclude: Sequence[Settings], variant: Variant, config: RunConfig) -> set[int]:
    """The positions in `exclude` of the entries of which all conditions match this run."""

    def matches(field: str, wanted: Any) -> bool:
        if field == "variant":
            actual = {variant.base_name, variant.name}
        elif field == "follower_objective":
            actual = _objective_as_written(config)
        else:
            actual = {_comparable(getattr(config, field))}
        return any(_comparable(value) in actual for value in _listed(wanted))

    return {
        position
        for position, conditions in enumerate(exclude)
        if all(matches(*condition) for condition in conditions.items())
    }


def _objective_as_written(config: RunConfig) -> set[Any]:
    """Every way to write the follower's objective of `config`."""
    written = {config.follower_objective} if config.follower_weight == 1 else set()
    if config.follower_weight == 0:
        written.add("msbe")
    return written | ({config.follower_weight} if config.follower_objective == "variance" else set())


def _equal(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and _comparable(one) == _comparable(other)


def _comparable(value: Any) -> Any:
    """A setting in the one form in which equal settings are equal: numbers as floats, lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_comparable, value))
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return significant(float(value))
    return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
