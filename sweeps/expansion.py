"""From a definition to its variants: every point of the axes for every variant as written, each distinct one once."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from scorer_core.config import RunConfig, unread_settings
from scorer_core.settings import resolve
from sweeps.ablation import Ablate, format_value
from sweeps.errors import DefinitionError, one_line

Settings = dict[str, Any]
Layers = Sequence[Mapping[str, Any]]  # settings, later ones winning
Point = list[RunConfig]  # a variant as written at one point of the grid: one run per task


@dataclass(frozen=True)
class Variant:
    """One setting of everything except task and seed."""

    base_name: str  # its key in `variants`; "" in a sweep without variants
    point: tuple[tuple[str, Any], ...] = ()  # its values on the axes that change at least one of its runs

    @cached_property
    def name(self) -> str:
        """The name in plans, tables and figures, such as `scorer ratio=5`."""
        return (
            " ".join([self.base_name, *(f"{field}={format_value(value)}" for field, value in self.point)]).strip()
            or "only"
        )


def layers_of_variants(variants: Mapping[str, Settings], ablate: Ablate | None) -> dict[str, Layers]:
    """The layers of each variant as written, and of those that `ablate` derives from one of them, by base name."""
    layers: dict[str, Layers] = {name: [settings] for name, settings in (variants or {"": {}}).items()}
    if ablate:
        whole = layers[ablate.from_]
        layers |= {name: [*whole, *toggles] for name, toggles in ablate.variants().items()}
    return layers


def dimensions_of(axes: Mapping[str, Sequence[Any]], paired: Mapping[str, Sequence[Any]]) -> list[list[Settings]]:
    """The settings along each dimension of the grid: one per axis, and one for all `paired` values (`zip`) together."""
    dimensions = [[{field: value} for value in values] for field, values in axes.items()]
    if paired:
        dimensions.append([dict(zip(paired, values, strict=True)) for values in zip(*paired.values(), strict=True)])
    return dimensions


def expand(
    layers: Mapping[str, Layers], dimensions: Sequence[Sequence[Settings]], total_steps: int, cells: Sequence[Settings]
) -> Iterator[tuple[Variant, list[Point]]]:
    """Each distinct variant, with every point of the grid that computes the same.

    A variant's name has an axis only if a move along this axis alone changes a run on at least one task: a ratio
    changes nothing of a monolithic baseline, which is therefore one variant for all ratios.

    Args:
        layers: for each variant as written, its layers of settings (`base` among them).
        dimensions: the settings along each dimension of the grid.
        total_steps: environment steps of each run.
        cells: `task` and `seed` of one run per task.

    Raises:
        DefinitionError: if the settings of a point are not valid.
    """
    places = list(itertools.product(*(range(len(dimension)) for dimension in dimensions)))
    for base_name, own in layers.items():
        points: dict[tuple[int, ...], Point] = {}
        run_ids: dict[tuple[int, ...], tuple[str, ...]] = {}
        # By dimension and place on all others: what the points computed along this line through the grid.
        lines: list[dict[tuple[int, ...], set[tuple[str, ...]]]] = [{} for _ in dimensions]
        for place in places:
            point = {k: v for dimension, i in zip(dimensions, place, strict=True) for k, v in dimension[i].items()}
            variant = Variant(base_name, tuple(point.items()))
            settings = _resolve(variant, [*own, point]) | {"total_steps": total_steps}
            points[place] = [run_config(variant, settings | cell) for cell in cells]
            run_ids[place] = tuple(config.run_id for config in points[place])
            for axis, line in enumerate(lines):
                line.setdefault((*place[:axis], *place[axis + 1 :]), set()).add(run_ids[place])
        distinct: dict[tuple[str, ...], tuple[Variant, list[Point]]] = {}
        for place in places:
            steps = [
                dimensions[axis][place[axis]]
                for axis, line in enumerate(lines)
                if len(line[*place[:axis], *place[axis + 1 :]]) > 1
            ]
            point = tuple((field, _hashable(value)) for step in steps for field, value in step.items())
            distinct.setdefault(run_ids[place], (Variant(base_name, point), []))[1].append(points[place])
        yield from distinct.values()


def check_settings_are_read(variants: Mapping[str, Settings], algorithms: Mapping[str, Iterable[str]]) -> None:
    """Reject a setting of a variant as written that its algorithm does not read: it would have no effect.

    Args:
        variants: the settings of each variant as written, by name.
        algorithms: those of each variant at all points of the axes, which may change the algorithm.

    Raises:
        DefinitionError: if there is such a setting; the message names the variant, the setting and the algorithm.
    """
    for name, written in variants.items():
        chosen = dict.fromkeys(algorithms[name])
        unread = set.intersection(*(set(unread_settings(algorithm)) for algorithm in chosen))
        for field in written:
            if field in unread:
                raise DefinitionError(
                    f"variants.{name}.{field}: has no effect, because {' and '.join(chosen)} does not read it"
                )


def run_config(variant: Variant, settings: Settings) -> RunConfig:
    """The configuration of one run of `variant`.

    Raises:
        DefinitionError: if `settings` are not valid; the message names the variant and the field.
    """
    try:
        return RunConfig(**settings)
    except ValidationError as error:
        raise DefinitionError(f"{_prefix(variant)}{one_line(error)}") from None


def _resolve(variant: Variant, layers: Layers) -> Settings:
    try:
        return resolve(layers)
    except ValueError as error:
        raise DefinitionError(f"{_prefix(variant)}{error}") from None


def _prefix(variant: Variant) -> str:
    return f"variant '{variant.name}': " if variant.base_name or variant.point else ""


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
