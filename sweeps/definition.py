"""A sweep: YAML, validated, expanded to runs. Every mistake is one line that names the file and the field."""

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scorer_core.config import (
    LANE_FIELDS,
    SHAPE_FIELDS,
    Count,
    Number,
    RunConfig,
    Seed,
    resolve,
    significant,
)
from scorer_core.registry import check_task
from scorer_core.support.commands import command
from sweeps.ablation import Ablate, format_value
from sweeps.reading import DefinitionError, apply_override, read_mapping, read_text, shortened

SHIPPED = Path(__file__).parent
LONGEST_NAME = 80  # characters; a figure has no room for a longer label
AT_THE_TOP = {"task": "tasks", "seed": "seeds", "total_steps": "total_steps"}
MAX_RUNS = 100_000  # of a grid before `exclude`; planning so many takes about half a minute
SETTINGS = {*LANE_FIELDS, *SHAPE_FIELDS, "ratio", "hold", "preset"} - set(AT_THE_TOP)


@dataclass(frozen=True)
class Variant:
    """One setting of everything but task and seed."""

    base_name: str  # its name under `variants`; "" in a sweep without
    point: tuple[tuple[str, Any], ...] = ()  # where it stands on the axes that matter to it

    @property
    def name(self) -> str:
        return (
            " ".join([self.base_name, *(f"{field}={format_value(value)}" for field, value in self.point)]).strip()
            or "only"
        )


@dataclass(frozen=True)
class Run:
    """One cell of the grid. Cells of equal configuration are one run, trained once."""

    variant: Variant
    config: RunConfig

    @property
    def run_id(self) -> str:
        return self.config.run_id


@dataclass(frozen=True)
class GridCell:
    """One cell of the grid before `exclude`."""

    run: Run
    excluded: bool
    matched: set[int]  # places in `exclude` of the entries that match one of its points


def _is_folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!a} cannot be a folder's name; begin with a letter or digit, go on with these or . _ -")
    return _is_short(name)


def _is_short(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a name of {len(name):,} characters is too long; use at most {LONGEST_NAME}")
    return name


def _is_visible(text: str) -> str:
    """Without characters that hide, reorder or control others: most would not be shown as they are."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise ValueError(f"{shortened(ascii(text), 80)} has a control or invisible character; remove it")
    return text


def _is_name(name: str) -> str:
    if name != name.strip() or not name:
        raise ValueError(f"the name {name!r} is empty, or begins or ends with a space; rename it")
    return _is_visible(_is_short(name))


def _is_text(text: str) -> str:
    _is_visible(" ".join(text.split()))
    return text


FolderName = Annotated[str, AfterValidator(_is_folder_name)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_is_text)]
Values = Annotated[list[Any], Field(min_length=1)]
Settings = dict[str, Any]


class Sweep(BaseModel):
    """The definition as written: `variants` x `axes` x `zip`, minus `exclude`, on every task, with every seed.

    Layers of settings, later ones winning: `base`, the variant's, its toggles' (`ablate`), the point's on the axes.

    `baseline` is a variant, or one point: by the name that plan shows, or as a mapping such as `{ratio: 1}` that only
    this point matches. A single variant without axes is its own baseline. `paper` says in words what the paper found;
    `reported` holds numbers of others, by source, variant and task: an IQM and the half width of its interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FolderName
    question: Text
    paper: Text | None = None
    tasks: Annotated[list[Annotated[str, AfterValidator(_is_name), AfterValidator(check_task)]], Field(min_length=1)]
    total_steps: Count
    seeds: Annotated[list[Seed], Field(min_length=1)]
    base: Settings = {}
    baseline: str | Settings | None = None
    variants: dict[str, Settings] = {}
    axes: dict[str, Values] = {}
    zip: dict[str, Values] = {}
    ablate: Ablate | None = None
    exclude: list[Settings] = []
    reported: dict[str, dict[str, dict[str, tuple[Number, Number]]]] = {}

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, seeds: Any) -> Any:
        if not isinstance(seeds, int | float):
            return seeds
        if isinstance(seeds, bool) or seeds != seeds // 1:
            raise ValueError(f"{str(seeds).lower()} is neither a number of seeds nor a list of them")
        if seeds < 1:
            raise ValueError(f"at least one seed is needed, not {_written(seeds)}")
        if seeds > MAX_RUNS:
            raise ValueError(f"at most {MAX_RUNS:,} seeds, not {_written(seeds)}")
        return list(range(int(seeds)))

    @field_validator("baseline", mode="before")
    @classmethod
    def _baseline_is_a_name_or_a_point(cls, baseline: Any) -> Any:
        if not isinstance(baseline, str | Mapping | None):
            raise ValueError(f"{_written(baseline)} is neither the name of a variant nor a point such as {{ratio: 1}}")
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
            _is_name(name)
        return named

    @field_validator("tasks", "seeds")
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        for value, times in Counter(values).items():
            if times > 1:
                raise ValueError(f"{value} stands twice")
        return values

    @model_validator(mode="after")
    def _settings_are_known(self) -> Self:
        places: list[tuple[str, Settings, set[str]]] = [
            ("base", self.base, SETTINGS),
            ("axes", self.axes, SETTINGS - {"preset", "hold"}),
            ("zip", self.zip, SETTINGS - {"preset", "hold"}),
            *((f"variants.{name}", settings, SETTINGS) for name, settings in self.variants.items()),
            *((f"ablate.toggle.{i}", t, SETTINGS) for i, t in enumerate(self.ablate.toggle if self.ablate else [])),
            *(
                (f"exclude.{i}", c, SETTINGS - {"preset", "hold"} | {"variant", "task"})
                for i, c in enumerate(self.exclude)
            ),
        ]
        for place, settings, known in places:
            for field in settings:
                if field not in known:
                    where = f"; it belongs at the top, as `{AT_THE_TOP[field]}`" if field in AT_THE_TOP else ""
                    raise ValueError(f"{place}.{field}: no such setting here{where}")
        for i, conditions in enumerate(self.exclude):
            for field, value in conditions.items():
                if _holds_mapping(value):
                    raise ValueError(f"exclude.{i}.{field}: {_written(value)} is neither a value nor a list of values")
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{field} has {len(values)}" for field, values in self.zip.items())
            raise ValueError(f"zip: paired values must be equally many; {lengths}")
        for field in self.axes.keys() & self.zip.keys():
            raise ValueError(f"zip.{field}: is an axis already")
        if self.variants and self.baseline is None and (len(self.variants) > 1 or self.ablate):
            raise ValueError(f"baseline: is missing; name one of {', '.join(self.variants)}")
        if isinstance(self.baseline, dict):
            on_axes = ["variant", *self.axes, *self.zip]
            for field in self.baseline:
                if field not in on_axes:
                    raise ValueError(f"baseline.{field}: is not on an axis; choose from: {', '.join(on_axes)}")
        if self.ablate and self.ablate.from_ not in self.variants:
            raise ValueError(
                f"ablate.from: '{self.ablate.from_}' is not a variant; name one of {', '.join(self.variants)}"
            )
        return self

    @model_validator(mode="after")
    def _grid_is_not_too_large(self) -> Self:
        paired = [next(iter(self.zip.values()))] if self.zip else []
        points = math.prod(len(values) for values in [*self.axes.values(), *paired])
        families = len(self.variants or "1") + (len(self.ablate.variants()) if self.ablate else 0)
        runs = families * points * len(self.tasks) * len(self.seeds)
        if runs > MAX_RUNS:
            raise ValueError(
                f"axes: the grid has {runs:,} runs (variants: {families:,}, points of the axes: {points:,}, "
                f"tasks: {len(self.tasks):,}, seeds: {len(self.seeds):,}); at most {MAX_RUNS:,} in one sweep"
            )
        return self

    @cached_property
    def runs(self) -> list[Run]:
        """Every cell of the grid: variants in the order written, then tasks, then seeds.

        Raises:
            DefinitionError: if a cell's settings are not a valid run, or `exclude` leaves none.
        """
        runs = [cell.run for cell in self._cells if not cell.excluded]
        if not runs:
            raise DefinitionError("exclude: removes every run")
        self._check_toggles(runs)
        self._check_reported(runs)
        self._check_baseline(runs)
        return runs

    @cached_property
    def _cells(self) -> list[GridCell]:
        """Every cell of the grid. Points that compute the same are one cell; it goes if all of them are excluded."""
        cells = []
        for variant, points in self._variants_with_settings():
            for task, seed in itertools.product(self.tasks, self.seeds):
                place = {"task": task, "seed": seed}
                configs = [_run_config(variant, settings | place) for settings in points[: None if self.exclude else 1]]
                matched = [self._excluded_by(variant, config) for config in configs]
                kept = next((config for config, by in zip(configs, matched, strict=True) if not by), None)
                cells.append(GridCell(Run(variant, kept or configs[0]), kept is None, set().union(*matched)))
        return cells

    def check_exclusions(self) -> None:
        """Reject an `exclude` that removes nothing: it has a mistake, and the runs it means would be trained.

        Raises:
            DefinitionError: if an entry names an unknown variant or task, or matches no cell.
        """
        known = [cell.run.variant for cell in self._cells]
        variants = {name for variant in known for name in (variant.base_name, variant.name) if name}
        for place, entry in enumerate(self.exclude):
            for field, there in (("variant", variants), ("task", set(self.tasks))):
                for value in _listed(entry.get(field, [])):
                    if value not in there:
                        names = ", ".join(sorted(there)) or "none"
                        raise DefinitionError(
                            f"exclude.{place}.{field}: unknown {field} '{value}'; choose from: {names}"
                        )
            if not any(place in cell.matched for cell in self._cells):
                raise DefinitionError(f"exclude.{place}: matches no run; remove or correct {entry}")

    def _check_toggles(self, runs: list[Run]) -> None:
        ids: dict[str, set[str]] = {}
        for run in runs:
            ids.setdefault(run.variant.base_name, set()).add(run.run_id)
        for name in self.ablate.variants() if self.ablate else ():
            if self.ablate and ids.get(name) and ids.get(name) == ids.get(self.ablate.from_):
                raise DefinitionError(f"ablate.toggle: '{name}' changes nothing of {self.ablate.from_}")

    def _check_reported(self, runs: list[Run]) -> None:
        cells = {(run.variant.name, run.config.task) for run in runs}
        for source, variants in self.reported.items():
            for variant, tasks in variants.items():
                for task in tasks:
                    if (variant, task) not in cells:
                        raise DefinitionError(f"reported.{source}: there is no '{variant}' on {task} in this sweep")

    def _check_baseline(self, runs: list[Run]) -> None:
        points = list(dict.fromkeys(run.variant for run in runs))
        found = self._matches_baseline(points)
        if self.baseline is None or self.baseline in list(self.variants) or len(found) == 1:
            return
        written = _written(self.baseline)
        names = ", ".join(variant.name for variant in found or points)
        if found:
            raise DefinitionError(f"baseline: {written} matches {len(found)} points; name one of them: {names}")
        raise DefinitionError(f"baseline: {written} is not a variant and matches no point; choose from: {names}")

    def _matches_baseline(self, points: list[Variant]) -> list[Variant]:
        wanted = self.baseline
        if wanted is None:
            return points if len(self.variants) == len(points) == 1 else []
        if isinstance(wanted, str):
            return [v for v in points if v.base_name and v.base_name == wanted] or [
                v for v in points if v.name == wanted
            ]
        return [v for v in points if _has(v, wanted)]

    @cached_property
    def baseline_points(self) -> list[Variant]:
        """The points of the baseline: one, unless it is a variant that an axis changes; none without a baseline."""
        return self._matches_baseline(self.grid_variants)

    @cached_property
    def grid_variants(self) -> list[Variant]:
        """The variants that have runs, in the order written."""
        return list(dict.fromkeys(run.variant for run in self.runs))

    def baseline_of(self, variant: Variant) -> Variant | None:
        """What `variant` is compared with: of the baseline's points the one most like its own; None without any."""
        return max(self.baseline_points, key=lambda v: sum(item in variant.point for item in v.point), default=None)

    def _variants_with_settings(self) -> Iterator[tuple[Variant, list[Settings]]]:
        """Each distinct variant, with the resolved settings, but for task and seed, of every point that computes it.

        A variant's name has an axis only where a move along this axis alone changes a run on at least one task: a ratio
        changes nothing of a monolithic baseline, which is therefore one variant for all ratios.
        """
        dimensions = [[{field: value} for value in values] for field, values in self.axes.items()]
        if self.zip:
            paired = zip(*self.zip.values(), strict=True)
            dimensions.append([dict(zip(self.zip, values, strict=True)) for values in paired])
        places = list(itertools.product(*(range(len(dimension)) for dimension in dimensions)))
        for family, layers in self._families().items():
            settings, run_ids = {}, {}
            for place in places:
                point = {k: v for dimension, i in zip(dimensions, place, strict=True) for k, v in dimension[i].items()}
                where = Variant(family, tuple(point.items()))
                settings[place] = _resolve(where, [self.base, *layers, point]) | {"total_steps": self.total_steps}
                run_ids[place] = tuple(
                    _run_config(where, {**settings[place], "task": task, "seed": self.seeds[0]}).run_id
                    for task in self.tasks
                )
            matters = {
                place: [
                    len({run_ids[(*place[:axis], i, *place[axis + 1 :])] for i in range(len(dimension))}) > 1
                    for axis, dimension in enumerate(dimensions)
                ]
                for place in places
            }
            named: dict[tuple[str, ...], tuple[Variant, list[Settings]]] = {}
            for place in places:
                steps = [dimensions[axis][i] for axis, i in enumerate(place) if matters[place][axis]]
                point = tuple((field, _frozen(value)) for step in steps for field, value in step.items())
                named.setdefault(run_ids[place], (Variant(family, point), []))[1].append(settings[place])
            yield from named.values()

    def _families(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """The layers of each variant as written, and of those that `ablate` makes of one."""
        families: dict[str, Sequence[Mapping[str, Any]]] = {}
        for name, settings in (self.variants or {"": {}}).items():
            families[name] = [settings]
        if self.ablate:
            whole = families[self.ablate.from_]
            for name, toggles in self.ablate.variants().items():
                families[name] = [*whole, *toggles]
        return families

    def _excluded_by(self, variant: Variant, config: RunConfig) -> set[int]:
        def matches(field: str, wanted: Any) -> bool:
            if field == "variant":
                actual = {variant.base_name, variant.name}
            elif field == "follower_objective":
                actual = _objective_as_written(config)
            else:
                actual = {_comparable(getattr(config, field))}
            return any(_comparable(value) in actual for value in _listed(wanted))

        return {
            place
            for place, conditions in enumerate(self.exclude)
            if all(matches(*condition) for condition in conditions.items())
        }


def load(sweep: str, overrides: Sequence[str] = ()) -> Sweep:
    """The definition called `sweep`: a shipped name, or the path of a YAML file; `overrides` are `dotted.key=value`.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    raw, source = read(sweep, overrides)
    if "space" in raw:
        raise DefinitionError(f"{source}: is a search, for it has a `space`: {command('search', sweep)}")
    found = parse(raw, source)
    try:
        found.check_exclusions()
    except DefinitionError as error:
        raise DefinitionError(f"{source}: {error}") from None
    return found


def load_submitted(folder: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The definition in `folder`, an output folder, as it was submitted; `overrides` are `dotted.key=value`.

    The sweep has the name of the folder, which may have been renamed since.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    raw, source = read(str(folder / "sweep.yaml"), overrides)
    return parse(raw | {"name": "renamed"}, source).model_copy(update={"name": folder.resolve().name})


def read(name: str, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """What is written under `name`, a shipped name or the path of a YAML file, and where; with `overrides`.

    Raises:
        DefinitionError: if there is no such definition, or it is not YAML.
    """
    path = Path(name)
    if not path.suffix and not _is_file(path):  # a folder of outputs may have the name of a shipped sweep
        path = SHIPPED / f"{name}.yaml"
        if not _is_file(path):
            there = ", ".join([*shipped(), *shipped_searches()])
            raise DefinitionError(f"{name}: no such file, and no shipped sweep or search; there is {there}")
    raw = read_mapping(path)
    for override in overrides:
        apply_override(raw, override)
    return raw, str(path)


def parse(raw: Mapping[str, Any], source: str) -> Sweep:
    """`raw` as a sweep whose grid is known to expand; `source` is named in errors.

    Raises:
        DefinitionError: if it is not valid.
    """
    try:
        sweep = Sweep.model_validate(raw)
        sweep.runs  # noqa: B018, every cell is validated here, before anything is written
    except ValidationError as error:
        hint = ""
        if error.errors()[0]["type"] == "extra_forbidden" and error.errors()[0]["loc"][0] in SETTINGS:
            hint = f"; did you mean base.{error.errors()[0]['loc'][0]}?"
        raise DefinitionError(f"{source}: {one_line(error)}{hint}") from None
    except DefinitionError as error:
        raise DefinitionError(f"{source}: {error}") from None
    return sweep


def dump(sweep: Sweep) -> str:
    """The definition as YAML that `load` reads back."""
    raw = sweep.model_dump(mode="json", by_alias=True)
    if sweep.seeds == list(range(len(sweep.seeds))):
        raw["seeds"] = len(sweep.seeds)
    return yaml.safe_dump(raw, sort_keys=False)


def shipped() -> list[str]:
    """The sweeps that come with the tool."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml") if not _is_search(path))


def shipped_searches() -> list[str]:
    """The searches that do."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml") if _is_search(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


def _is_search(path: Path) -> bool:
    return bool(re.search(r"^space:", read_text(path), re.MULTILINE))


def _resolve(variant: Variant, layers: Sequence[Mapping[str, Any]]) -> Settings:
    try:
        return resolve(layers)
    except ValueError as error:
        raise DefinitionError(f"{_place(variant)}{error}") from None


def _run_config(variant: Variant, settings: Settings) -> RunConfig:
    try:
        return RunConfig(**settings)
    except ValidationError as error:
        raise DefinitionError(f"{_place(variant)}{one_line(error)}") from None


def _place(variant: Variant) -> str:
    return f"variant '{variant.name}': " if variant.base_name or variant.point else ""


def one_line(error: ValidationError) -> str:
    """The first thing that is wrong: the field and why."""
    first = error.errors(include_url=False)[0]
    field = ".".join(shortened(str(place), 100) for place in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
    elif field and first["type"] != "value_error" and first["type"] != "missing":
        message += f", not {_written(first['input'])}"
    return f"{field}: {message}" if field else message


def _written(value: Any) -> str:
    """A value for a message: short, whatever it is."""
    try:
        return shortened(repr(value), 100)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a number of thousands of digits"


def _has(variant: Variant, wanted: Settings) -> bool:
    """Has this point all values that `wanted` names?"""
    actual = dict(variant.point) | {"variant": variant.base_name}
    return all(field in actual and _same(actual[field], value) for field, value in wanted.items())


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and _comparable(one) == _comparable(other)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _comparable(value: Any) -> Any:
    """A setting in the one form in which equal settings are equal: numbers as floats, lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_comparable, value))
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return significant(float(value))
    return value


def _holds_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_holds_mapping, value)))


def _objective_as_written(config: RunConfig) -> set[Any]:
    """Every way to write the follower's objective of `config`."""
    written = {config.follower_objective} if config.follower_weight == 1 else set()
    if config.follower_weight == 0:
        written.add("msbe")
    return written | ({config.follower_weight} if config.follower_objective == "variance" else set())
