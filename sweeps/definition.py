"""A sweep: YAML, validated, expanded to runs. Every mistake is one line that names the file and the field."""

import itertools
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

from scorer_core.commands import command
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
from sweeps.ablation import Ablate, shown
from sweeps.reading import DefinitionError, Loader, put

SHIPPED = Path(__file__).parent
LONGEST_NAME = 80  # characters; a figure has no room for a longer label
AT_THE_TOP = {"task": "tasks", "seed": "seeds", "total_steps": "total_steps"}
SETTINGS = {*LANE_FIELDS, *SHAPE_FIELDS, "ratio", "hold", "preset"} - set(AT_THE_TOP)


@dataclass(frozen=True)
class Variant:
    """One setting of everything but task and seed."""

    family: str  # its name under `variants`; "" in a sweep without
    point: tuple[tuple[str, Any], ...] = ()  # where it stands on the axes that matter to it

    @property
    def name(self) -> str:
        return " ".join([self.family, *(f"{field}={shown(value)}" for field, value in self.point)]).strip() or "only"


@dataclass(frozen=True)
class Run:
    """One cell of the grid. Cells of equal configuration are one run, trained once."""

    variant: Variant
    config: RunConfig

    @property
    def run_id(self) -> str:
        return self.config.run_id


@dataclass(frozen=True)
class Cell:
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
            raise ValueError(f"{shortened(ascii(text))} has a control or invisible character; remove it")
    return text


def _is_name(name: str) -> str:
    if name != name.strip() or not name:
        raise ValueError(f"the name {name!r} is empty, or begins or ends with a space; rename it")
    return _is_visible(_is_short(name))


def _is_text(text: str) -> str:
    _is_visible(" ".join(text.split()))
    return text


def shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


FolderName = Annotated[str, AfterValidator(_is_folder_name)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_is_text)]
Values = Annotated[list[Any], Field(min_length=1)]
Settings = dict[str, Any]


class Sweep(BaseModel):
    """The definition as written: `variants` x `axes` x `zip`, minus `exclude`, on every task, with every seed.

    Layers of settings, later ones winning: `base`, the variant's, its toggles' (`ablate`), the point's on the axes.
    `paper` says in words what the paper found; `reported` holds numbers of others, by source, variant and task: an IQM
    and the half width of its interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FolderName
    question: Text
    paper: Text | None = None
    tasks: Annotated[list[Annotated[str, AfterValidator(_is_name), AfterValidator(check_task)]], Field(min_length=1)]
    total_steps: Count
    seeds: Annotated[list[Seed], Field(min_length=1)]
    base: Settings = {}
    baseline: str | None = None
    variants: dict[str, Settings] = {}
    axes: dict[str, Values] = {}
    zip: dict[str, Values] = {}
    ablate: Ablate | None = None
    exclude: list[Settings] = []
    reported: dict[str, dict[str, dict[str, tuple[Number, Number]]]] = {}

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, seeds: Any) -> Any:
        if isinstance(seeds, bool):
            raise ValueError(f"{str(seeds).lower()} is neither a number of seeds nor a list of them")
        if not isinstance(seeds, int):
            return seeds
        if seeds < 1:
            raise ValueError(f"at least one seed is needed, not {seeds}")
        return list(range(seeds))

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
                if any(isinstance(one, dict) for one in _listed(value)):
                    raise ValueError(f"exclude.{i}.{field}: {value!r} is neither a value nor a list of values")
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{field} has {len(values)}" for field, values in self.zip.items())
            raise ValueError(f"zip: paired values must be equally many; {lengths}")
        for field in self.axes.keys() & self.zip.keys():
            raise ValueError(f"zip.{field}: is an axis already")
        if self.variants and self.baseline not in self.variants:
            wanted = "is missing" if self.baseline is None else f"'{self.baseline}' is not a variant"
            raise ValueError(f"baseline: {wanted}; name one of {', '.join(self.variants)}")
        if self.ablate and self.ablate.from_ not in self.variants:
            raise ValueError(
                f"ablate.from: '{self.ablate.from_}' is not a variant; name one of {', '.join(self.variants)}"
            )
        if self.baseline and not self.variants:
            raise ValueError(f"baseline: '{self.baseline}' is not a variant; there are none")
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
        return runs

    @cached_property
    def _cells(self) -> list[Cell]:
        """Every cell of the grid. Points that compute the same are one cell; it goes if all of them are excluded."""
        cells = []
        for variant, points in self._variants_with_settings():
            for task, seed in itertools.product(self.tasks, self.seeds):
                place = {"task": task, "seed": seed}
                configs = [_run_config(variant, settings | place) for settings in points[: None if self.exclude else 1]]
                matched = [self._excluded_by(variant, config) for config in configs]
                kept = next((config for config, by in zip(configs, matched, strict=True) if not by), None)
                cells.append(Cell(Run(variant, kept or configs[0]), kept is None, set().union(*matched)))
        return cells

    def check_exclusions(self) -> None:
        """Reject an `exclude` that removes nothing: it has a mistake, and the runs it means would be trained.

        Raises:
            DefinitionError: if an entry names an unknown variant or task, or matches no cell.
        """
        known = [cell.run.variant for cell in self._cells]
        variants = {name for variant in known for name in (variant.family, variant.name) if name}
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
            ids.setdefault(run.variant.family, set()).add(run.run_id)
        for name in self.ablate.families() if self.ablate else ():
            if self.ablate and ids.get(name) and ids.get(name) == ids.get(self.ablate.from_):
                raise DefinitionError(f"ablate.toggle: '{name}' changes nothing of {self.ablate.from_}")

    def _check_reported(self, runs: list[Run]) -> None:
        cells = {(run.variant.name, run.config.task) for run in runs}
        for source, variants in self.reported.items():
            for variant, tasks in variants.items():
                for task in tasks:
                    if (variant, task) not in cells:
                        raise DefinitionError(f"reported.{source}: there is no '{variant}' on {task} in this sweep")

    @cached_property
    def grid_variants(self) -> list[Variant]:
        """The variants that have runs, in the order written."""
        return list(dict.fromkeys(run.variant for run in self.runs))

    def baseline_of(self, variant: Variant) -> Variant | None:
        """What `variant` is compared with: of the baseline's points the one most like its own; None without any."""
        points = [v for v in self.grid_variants if v.family and v.family == self.baseline]
        return max(points, key=lambda v: sum(item in variant.point for item in v.point), default=None)

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
            for name, toggles in self.ablate.families().items():
                families[name] = [*whole, *toggles]
        return families

    def _excluded_by(self, variant: Variant, config: RunConfig) -> set[int]:
        def matches(field: str, wanted: Any) -> bool:
            if field == "variant":
                actual = {variant.family, variant.name}
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
    if not path.suffix and not path.is_file():  # a folder of outputs may have the name of a shipped sweep
        path = SHIPPED / f"{name}.yaml"
        if not path.exists():
            there = ", ".join([*shipped(), *shipped_searches()])
            raise DefinitionError(f"{name}: no such file, and no shipped sweep or search; there is {there}")
    raw = read_mapping(path, Loader)
    for override in overrides:
        put(raw, override)
    return raw, str(path)


def read_mapping(path: Path, loader: type[yaml.SafeLoader] | type[yaml.BaseLoader]) -> dict[str, Any]:
    """The keys and values in the YAML file at `path`, as `loader` takes them.

    Raises:
        DefinitionError: if it cannot be read, is not YAML, or holds something else.
    """
    try:
        raw = yaml.load(path.read_text(), Loader=loader)
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise DefinitionError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise DefinitionError(f"{path}: not a mapping of keys to values")
    return raw


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
    return yaml.safe_dump(sweep.model_dump(mode="json", by_alias=True), sort_keys=False)


def shipped() -> list[str]:
    """The sweeps that come with the tool."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml") if not _is_search(path))


def shipped_searches() -> list[str]:
    """The searches that do."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml") if _is_search(path))


def _is_search(path: Path) -> bool:
    return bool(re.search(r"^space:", path.read_text(), re.MULTILINE))


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
    return f"variant '{variant.name}': " if variant.family or variant.point else ""


def one_line(error: ValidationError) -> str:
    """The first thing that is wrong: the field and why."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
    elif field and first["type"] != "value_error" and first["type"] != "missing":
        message += f", not {first['input']!r}"
    return f"{field}: {message}" if field else message


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _comparable(value: Any) -> Any:
    """A setting in the one form in which equal settings are equal: numbers as floats, lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_comparable, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return significant(float(value))
    return value


def _objective_as_written(config: RunConfig) -> set[Any]:
    """Every way to write the follower's objective of `config`."""
    written = {config.follower_objective} if config.follower_weight == 1 else set()
    if config.follower_weight == 0:
        written.add("msbe")
    return written | ({config.follower_weight} if config.follower_objective == "variance" else set())
