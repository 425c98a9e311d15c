"""The definition of a sweep: its keys, their validation, and the runs it expands to."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, field_validator, model_validator

from scorer_core import plugins
from scorer_core.config import LANE_FIELDS, SHAPE_FIELDS
from scorer_core.envs.tasks import check_task
from scorer_core.fields import Count, Number, Seed
from sweeps import cells
from sweeps.ablation import Ablate
from sweeps.cells import GridCell, Run
from sweeps.errors import DefinitionError, value_in_words
from sweeps.expansion import (
    Settings,
    Variant,
    check_settings_are_read,
    dimensions_of,
    expand,
    layers_of_variants,
)
from sweeps.ranges import axis_values
from sweeps.text_types import FolderName, Name, Text, is_name

TOP_LEVEL = {"task": "tasks", "seed": "seeds", "total_steps": "total_steps"}  # settings with a key at the top level
MAX_RUNS = 100_000  # of a grid before `exclude`; docs/performance.md has the cost of planning so many
SETTINGS = {*LANE_FIELDS, *SHAPE_FIELDS, "ratio", "fixed_lr", "preset"} - {*TOP_LEVEL, "sources"}
NOT_ON_AN_AXIS = {"preset", "fixed_lr"}  # they say how other settings of their layer are read

Values = Annotated[list[Any], Field(min_length=1)]
Axis = Annotated[list[Any] | dict[str, Any], PlainValidator(lambda written: written)]  # `axis_values` checks it


class Sweep(BaseModel):
    """The definition as written: `variants` x `axes` x `zip`, minus `exclude`, on every task, with every seed.

    An axis is a list of values, or a range such as `{log: [1, 100], num: 7}` (ranges.py).

    Layers of settings, later ones winning: `base`, the variant's, its toggles' (`ablate`), the point's on the axes.

    `baseline` is a variant, or one point: its name as `scorer plan` shows it, or a mapping such as `{ratio: 1}` that
    only this point matches. A single variant without axes is its own baseline. `paper` says what the paper found;
    `reported` has numbers of others, by source, variant and task: an IQM and half the width of its interval (returns).
    `sources`, written into a frozen definition, has the hashes of the user's own parts as they were (`RunConfig`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: FolderName
    question: Text
    paper: Text | None = None
    tasks: Annotated[list[Name], Field(min_length=1)]
    total_steps: Count
    seeds: Annotated[list[Seed], Field(min_length=1)]
    base: Settings = {}
    baseline: str | Settings | None = None
    variants: dict[str, Settings] = {}
    axes: dict[str, Axis] = {}
    zip: dict[str, Values] = {}
    ablate: Ablate | None = None
    exclude: list[Settings] = []
    reported: dict[str, dict[str, dict[str, tuple[Number, Number]]]] = {}
    sources: dict[str, str] = {}

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, seeds: Any) -> Any:
        if not isinstance(seeds, int | float):
            return seeds
        if isinstance(seeds, bool) or seeds != seeds // 1:
            raise ValueError(f"{str(seeds).lower()} is neither a number of seeds nor a list of seeds")
        if seeds < 1:
            raise ValueError(f"at least one seed is needed, not {value_in_words(seeds)}")
        if seeds > MAX_RUNS:
            raise ValueError(f"at most {MAX_RUNS:,} seeds, not {value_in_words(seeds)}")
        return list(range(int(seeds)))

    @field_validator("baseline", mode="before")
    @classmethod
    def _baseline_is_a_name_or_a_point(cls, baseline: Any) -> Any:
        if not isinstance(baseline, str | Mapping | None):
            written = value_in_words(baseline)
            raise ValueError(f"{written} is neither the name of a variant nor a point such as {{ratio: 1}}")
        return baseline

    @field_validator("variants", mode="before")
    @classmethod
    def _empty_variants(cls, variants: Any) -> Any:
        """A variant that overrides nothing may be written as a bare name."""
        return {str(k): v or {} for k, v in variants.items()} if isinstance(variants, Mapping) else variants

    @field_validator("variants", "reported")
    @classmethod
    def _names_can_be_shown(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            is_name(name)
        return named

    @field_validator("tasks", "seeds")
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        for value, times in Counter(values).items():
            if times > 1:
                raise ValueError(f"duplicate value {value}")
        return values

    @model_validator(mode="after")
    def _tasks_exist(self) -> Self:
        for i, task in enumerate(self.tasks):
            if task not in self.sources:  # otherwise it is recorded, and may be missing here
                try:
                    self.tasks[i] = check_task(task)
                except ValueError as error:
                    raise ValueError(f"tasks.{i}: {error}") from None
        return self

    @model_validator(mode="after")
    def _settings_are_known(self) -> Self:
        on_axes = SETTINGS - NOT_ON_AN_AXIS
        toggles = self.ablate.toggle if self.ablate else []
        places: list[tuple[str, Settings, set[str]]] = [
            ("base", self.base, SETTINGS),
            ("axes", self.axes, on_axes),
            ("zip", self.zip, on_axes),
            *((f"variants.{name}", settings, SETTINGS) for name, settings in self.variants.items()),
            *((f"ablate.toggle.{i}", settings, SETTINGS) for i, settings in enumerate(toggles)),
            *((f"exclude.{i}", entry, on_axes | {"variant", "task"}) for i, entry in enumerate(self.exclude)),
        ]
        for place, settings, known in places:
            for field in settings:
                if field not in known:
                    hint = f"; set `{TOP_LEVEL[field]}` at the top level" if field in TOP_LEVEL else ""
                    raise ValueError(f"{place}.{field}: unknown setting{hint}")
        for i, conditions in enumerate(self.exclude):
            for field, value in conditions.items():
                if cells.contains_mapping(value):
                    written = value_in_words(value)
                    raise ValueError(f"exclude.{i}.{field}: {written} is neither a value nor a list of values")
        return self

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{field} has {len(values)}" for field, values in self.zip.items())
            raise ValueError(f"zip: all lists must have the same length; {lengths}")
        for field in self.axes.keys() & self.zip.keys():
            raise ValueError(f"zip.{field}: is already an axis")
        if self.variants and self.baseline is None and (len(self.variants) > 1 or self.ablate):
            raise ValueError(f"baseline: is missing; choose from: {', '.join(self.variants)}")
        if isinstance(self.baseline, dict):
            on_axes = ["variant", *self.axes, *self.zip]
            for field in self.baseline:
                if field not in on_axes:
                    raise ValueError(f"baseline.{field}: is not an axis; choose from: {', '.join(on_axes)}")
        if self.ablate and self.ablate.from_ not in self.variants:
            names = ", ".join(self.variants) or "none"
            raise ValueError(f"ablate.from: unknown variant '{self.ablate.from_}'; choose from: {names}")
        return self

    @model_validator(mode="after")
    def _axes_have_values(self) -> Self:
        _ = self.axis_values
        return self

    @model_validator(mode="after")
    def _grid_is_not_too_large(self) -> Self:
        points = math.prod(len(values) for values in dimensions_of(self.axis_values, self.zip))
        variants = len(self.variants or "1") + (len(self.ablate.variants()) if self.ablate else 0)
        runs = variants * points * len(self.tasks) * len(self.seeds)
        if runs > MAX_RUNS:
            raise ValueError(
                f"axes: the grid has {runs:,} runs (variants: {variants:,}, points of the axes: {points:,}, "
                f"tasks: {len(self.tasks):,}, seeds: {len(self.seeds):,}); at most {MAX_RUNS:,} in one sweep"
            )
        return self

    @cached_property
    def axis_values(self) -> dict[str, list[Any]]:
        """The values on each axis.

        Raises:
            ValueError: if an axis has none; the message names it.
        """
        found = {}
        for field, written in self.axes.items():
            try:
                found[field] = axis_values(field, written)
            except ValueError as error:
                raise ValueError(f"axes.{field}: {error}") from None
        return found

    @cached_property
    def runs(self) -> list[Run]:
        """Every cell of the grid that is not excluded: variants in the order written, then tasks, then seeds.

        Raises:
            DefinitionError: if a cell's settings are not a valid run, or `exclude` leaves none.
        """
        if not self.first_runs:
            raise DefinitionError("exclude: removes every run")
        self._check_toggles()
        self._check_reported()
        self._check_baseline()
        return [Run(run.variant, run.config.with_seed(seed)) for run in self.first_runs for seed in self.seeds]

    @cached_property
    def first_runs(self) -> list[Run]:
        """Of each variant on each task, the run with the first seed. The other runs differ from it only in the seed."""
        return [cell.run for cell in self._cells if not cell.excluded]

    def runs_by_cell(self) -> Iterator[tuple[Variant, str, list[Run]]]:
        """Each variant on each task, with its runs, one per seed."""
        for place, first in enumerate(self.first_runs):
            start = place * len(self.seeds)
            yield first.variant, first.config.task, self.runs[start : start + len(self.seeds)]

    @cached_property
    def sources_now(self) -> dict[str, str]:
        """The hash of each of the user's own parts that the runs name: as frozen, or else as it is now.

        And the place of each short name that the definition uses.
        """
        places = {place: digest for run in self.first_runs for place, digest in run.config.sources.items()}
        if not places:
            return {}
        known = {**plugins.short_names(), **self.sources}
        written = set(cells.texts(self.model_dump(exclude={"question", "paper", "sources"})))
        return places | {name: known[name] for name in sorted(written & known.keys()) if known[name] in places}

    @cached_property
    def grid_variants(self) -> list[Variant]:
        """The variants that have runs, in the order written."""
        return list(dict.fromkeys(run.variant for run in self.first_runs))

    @cached_property
    def baseline_points(self) -> list[Variant]:
        """The points of the baseline: one, unless it is a variant that an axis changes; none without a baseline."""
        return self._matches_baseline(self.grid_variants)

    def baseline_of(self, variant: Variant) -> Variant | None:
        """The point of the baseline that `variant` is compared with: the most similar one; None without a baseline."""
        return max(self.baseline_points, key=lambda v: sum(item in variant.point for item in v.point), default=None)

    def check_exclusions(self) -> None:
        """Reject an entry of `exclude` that removes nothing: it is a mistake, and its runs would be trained.

        Raises:
            DefinitionError: if an entry names an unknown variant or task, or matches no cell.
        """
        cells.check_exclusions(self.exclude, self._cells, self.tasks)

    @cached_property
    def _cells(self) -> list[GridCell]:
        layers = {name: [self.base, *own] for name, own in layers_of_variants(self.variants, self.ablate).items()}
        first_seed = [{"task": task, "seed": self.seeds[0], "sources": self.sources} for task in self.tasks]
        variants = list(expand(layers, dimensions_of(self.axis_values, self.zip), self.total_steps, first_seed))
        algorithms: dict[str, list[str]] = {}
        for variant, points in variants:
            algorithms.setdefault(variant.base_name, []).extend(point[0].algorithm for point in points)
        check_settings_are_read(self.variants, algorithms)
        return cells.grid_cells(variants, self.exclude)

    def _check_toggles(self) -> None:
        ids: dict[str, set[str]] = {}
        for run in self.first_runs:
            ids.setdefault(run.variant.base_name, set()).add(run.run_id)
        for name in self.ablate.variants() if self.ablate else ():
            if self.ablate and ids.get(name) and ids.get(name) == ids.get(self.ablate.from_):
                raise DefinitionError(f"ablate.toggle: '{name}' computes the same as {self.ablate.from_}")

    def _check_reported(self) -> None:
        known = {(run.variant.name, run.config.task) for run in self.first_runs}
        for source, variants in self.reported.items():
            for variant, tasks in variants.items():
                for task in tasks:
                    if (variant, task) not in known:
                        raise DefinitionError(f"reported.{source}: this sweep has no run of '{variant}' on {task}")

    def _check_baseline(self) -> None:
        points = self.grid_variants
        found = self._matches_baseline(points)
        if self.baseline is None or self.baseline in list(self.variants) or len(found) == 1:
            return
        written = value_in_words(self.baseline)
        names = ", ".join(variant.name for variant in found or points)
        if found:
            raise DefinitionError(f"baseline: {written} matches {len(found)} points; choose one of them: {names}")
        raise DefinitionError(f"baseline: {written} is not a variant and matches no point; choose from: {names}")

    def _matches_baseline(self, points: list[Variant]) -> list[Variant]:
        wanted = self.baseline
        if wanted is None:
            return points if len(self.variants) == len(points) == 1 else []
        if isinstance(wanted, str):
            return [v for v in points if v.base_name and v.base_name == wanted] or [
                v for v in points if v.name == wanted
            ]
        return [v for v in points if cells.has_values(v, wanted)]
