"""The definition of a search: a sweep with distributions instead of values."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from scorer_core import plugins
from scorer_core.config import PARTS, RunConfig
from scorer_core.fields import Count, Number
from scorer_core.support.commands import command
from sweeps import loading, old_names
from sweeps.definition import NOT_ON_AN_AXIS, SETTINGS, Sweep
from sweeps.errors import DefinitionError, one_line, shortened
from sweeps.expansion import Settings
from sweeps.space import Dimension
from sweeps.text_types import FolderName, Text

SEARCHED = SETTINGS - NOT_ON_AN_AXIS
Name = Literal["iqm_final", "auc", "time_to_threshold"]
Direction = Literal["maximize", "minimize"]
Sampler = Literal["tpe", "gp", "cmaes", "qmc", "random", "grid"]
DIRECTIONS: dict[Name, Direction] = {"iqm_final": "maximize", "auc": "maximize", "time_to_threshold": "minimize"}


class Objective(BaseModel):
    """The value of a trial: the interquartile mean (IQM), over its tasks and seeds, of one number per run.

    `iqm_final`: the mean return over the last 10 % of training. `auc`: the mean return over all of training.
    `time_to_threshold`: the first logged environment step with a return of at least `threshold`, or `total_steps` if
    there is none. Rows before the first finished episode have no return and are left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: Name
    threshold: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, written: Any) -> Any:
        if isinstance(written, str):
            return {"name": written}
        if isinstance(written, Mapping) and list(written) == ["time_to_threshold"]:
            return {"name": "time_to_threshold", "threshold": written["time_to_threshold"]}
        return written

    @model_validator(mode="after")
    def _threshold_only_for_time_to_threshold(self) -> Self:
        if (self.name == "time_to_threshold") != (self.threshold is not None):
            raise ValueError("only time_to_threshold has a threshold, and needs one: {time_to_threshold: RETURN}")
        return self


Fraction = Annotated[Number, Field(gt=0, lt=1)]


def _zero_below_one(scale: tuple[float, float]) -> tuple[float, float]:
    zero, one = scale
    if not zero < one:
        raise ValueError(f"[zero, one]: zero must be less than one, not [{zero:g}, {one:g}]")
    return scale


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Search(BaseModel):
    """The definition as written. A trial is one point of `space` on every task with every seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    # The name of its confirmation is 8 characters longer.
    name: Annotated[FolderName, Field(max_length=72)] = Field(description="the folder in outputs/")
    question: Text = Field(description="shown by `scorer sweeps` and in the report")
    tasks: list[str] = Field(description="every trial is trained on all of them")
    total_steps: Count = Field(description="environment steps per run")
    seeds: Any = Field(description="a number of seeds per trial, or a list")  # validated with the sweep of a trial
    trials: Annotated[Count, Field(le=1_000_000)] = Field(description="total number of trials")
    base: Settings = Field(default={}, description="settings of all trials; the default that the search improves")
    space: Annotated[dict[str, Dimension], Field(min_length=1)] = Field(
        description="by setting: a list of choices, or {FORM: [low, high]} where FORM is uniform, log, integer or "
        "log_integer; with `when: {SETTING: VALUE}` only where an earlier setting has this value"
    )
    scale: dict[str, Annotated[tuple[Number, Number], AfterValidator(_zero_below_one)]] = Field(
        default={}, description="by task: the returns that become 0 and 1; needed with several tasks"
    )
    objective: Annotated[list[Objective], BeforeValidator(_listed), Field(min_length=1)] = Field(
        default=[Objective(name="iqm_final")],
        description="IQM over the runs of: iqm_final (mean return over the last 10 % of training), auc (mean "
        "return over all of training), {time_to_threshold: RETURN} (the first logged step with this return); a list "
        "gives a Pareto front",
    )
    direction: Annotated[list[Direction], BeforeValidator(_listed)] | None = Field(
        default=None,
        description="maximize or minimize, one per objective; by default time_to_threshold is minimized and the others "
        "are maximized",
    )
    sampler: Sampler = Field(default="tpe", description="Optuna's sampler")
    sampler_seed: Annotated[int, Field(ge=0, lt=2**62, strict=True)] = Field(default=0, description="its seed")
    pruner: Literal["none", "wilcoxon", "halving"] = Field(
        default="none",
        description="halving keeps the best trials at each rung; wilcoxon stops a trial that is worse than the best "
        "one in a signed-rank test on pairs of runs; with one objective only",
    )
    rungs: list[Fraction] = Field(
        default=[0.25, 0.5],
        description="both pruners: the fractions of total_steps at which trials are compared and pruned",
    )
    p_threshold: Fraction = Field(default=0.1, description="wilcoxon: a trial is pruned if its p-value is below")
    keep_fraction: Fraction = Field(
        default=0.5, description="halving: fraction of the trials that continue after a rung"
    )
    sources: dict[str, str] = Field(
        default={}, description="written by scorer: the hash of the file of each part that is your own"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for field, dimension in self.space.items():
            if field not in SEARCHED:
                raise ValueError(f"space.{field}: unknown setting; choose from: {', '.join(sorted(SEARCHED))}")
            before = list(self.space)[: list(self.space).index(field)]
            for other, values in dimension.when.items():
                if other not in before or self.space[other].numeric:
                    raise ValueError(f"space.{field}.when.{other}: is not an earlier field of `space` with choices")
                for value in values:
                    if not self.space[other].has(value):
                        raise ValueError(f"space.{field}.when.{other}: {value!r} is not one of its choices")
        if self.direction and len(self.direction) != len(self.objective):
            raise ValueError(f"direction: give one per objective ({len(self.objective)}), not {len(self.direction)}")
        if len(set(self.objective)) < len(self.objective):
            raise ValueError("objective: duplicate value")
        for task in self.scale:
            if task not in self.tasks:
                raise ValueError(f"scale.{task}: is not in `tasks`")
        if len(set(self.tasks)) > 1 and (unscaled := [task for task in self.tasks if task not in self.scale]):
            raise ValueError(
                f"scale.{unscaled[0]}: is missing; "
                "with several tasks, give [zero, one] for each: the returns that become 0 and 1"
            )
        self._sampler_can_search()
        self._pruner_can_prune()
        return self

    def _sampler_can_search(self) -> None:
        numeric = [field for field, dimension in self.space.items() if dimension.numeric and not dimension.when]
        if self.sampler == "cmaes" and len(numeric) < 2:
            raise ValueError("sampler: cmaes needs at least two numeric fields without `when` in `space`")
        if self.sampler == "grid":
            for field, dimension in self.space.items():
                if dimension.numeric or dimension.when:
                    raise ValueError(f"space.{field}: sampler grid accepts only lists of choices, without `when`")
        if self.sampler == "cmaes" and len(self.objective) > 1:
            raise ValueError("sampler: cmaes accepts only one objective")

    def _pruner_can_prune(self) -> None:
        if self.pruner == "none":
            return
        if len(self.objective) > 1:
            raise ValueError(f"pruner: {self.pruner} accepts only one objective")
        if not self.rungs or self.rungs != sorted(set(self.rungs)):
            raise ValueError("rungs: must be fractions of total_steps in increasing order")

    def check_pruning(self) -> None:
        """Reject a pruner that can never prune, and rungs where there is nothing to compare.

        `seeds` must be a list, as `parse` leaves it.

        Raises:
            DefinitionError: if `p_threshold` is too low for the number of tasks x seeds, or if a rung is before the
                first logged step, in the same vector step as another rung, or at the end of training.
        """
        num_runs = len(self.tasks) * len(self.seeds)
        if self.pruner == "wilcoxon" and 0.5**num_runs >= self.p_threshold:
            raise DefinitionError(
                f"p_threshold: with {num_runs} tasks x seeds the smallest possible p is {0.5**num_runs:g}, so wilcoxon "
                f"can never prune at {self.p_threshold:g}. Add seeds, or raise p_threshold."
            )
        for config in self._configs_that_log_differently():
            where = f"total_steps {config.total_steps:,}, num_envs {config.num_envs}, log_points {config.log_points}"
            first, before = config.log_steps[0] * config.num_envs, 0
            for number, step in enumerate(self.rung_steps()):
                rung = f"rungs.{number}: {self.rungs[number]:g} of total_steps is step {step:,}"
                reached = -(-step // config.num_envs)  # the vector step after which training pauses
                if step < first:
                    raise DefinitionError(
                        f"{rung}, before the first logged step {first:,} ({where}); use a later rung or more log_points"
                    )
                if reached >= config.vector_steps:
                    raise DefinitionError(f"{rung}, the end of training ({where}); use an earlier rung")
                if reached == before:
                    raise DefinitionError(
                        f"{rung}, in the same vector step as rungs.{number - 1} ({where}); remove one of them"
                    )
                before = reached

    def _configs_that_log_differently(self) -> list[RunConfig]:
        """The default configuration with the ends of the searched fields that determine the logged steps."""
        default, searched = self.default[0], [f for f in ("num_envs", "log_points") if f in self.space]
        ends = [
            [*self.space[field].ends, *([getattr(default, field)] if self.space[field].when else [])]
            for field in searched
        ]
        return [
            default.model_copy(update=dict(zip(searched, corner, strict=True))) for corner in itertools.product(*ends)
        ]

    @property
    def directions(self) -> list[Direction]:
        """One per objective: as written, or the usual one."""
        return self.direction or [DIRECTIONS[objective.name] for objective in self.objective]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines which trials are tried and how they are scored: a study is bound to it.

        It has the keys of version 0.1, so that a search which that version started can continue.
        """
        not_read = {"question", "trials"} if self.sources else {"question", "trials", "sources"}
        written = self.model_dump(mode="json", exclude=not_read)
        written["base"] = old_names.original(written["base"], old_names.SETTINGS)
        return old_names.original(written, old_names.SEARCH)

    @property
    def trials_at_most(self) -> int:
        """`trials`, or the number of points of a grid if that is smaller."""
        if self.sampler != "grid":
            return self.trials
        points = 1
        for dimension in self.space.values():
            points *= len(dimension.values)
        return min(self.trials, points)

    @cached_property
    def default(self) -> list[RunConfig]:
        """The runs of `base` without any searched value: the default that a search tries to improve."""
        return self.runs({})

    def runs(self, point: Mapping[str, Any]) -> list[RunConfig]:
        """The runs of a trial: `num_tasks * num_seeds`, all seeds of one task after the other.

        Raises:
            DefinitionError: if the values of `point` are not valid settings.
        """
        return [run.config for run in self.sweep({shortened(_shown(point), 60): dict(point)}).runs]

    def sweep(self, variants: Mapping[str, Settings], seeds: Any = None, **changes: Any) -> Sweep:
        """A sweep of these points on the tasks of the search; `changes` replace keys of its definition.

        Raises:
            DefinitionError: if the values of a point are not valid settings.
        """
        raw = {
            "name": self.name, "question": self.question, "tasks": self.tasks, "total_steps": self.total_steps,
            "seeds": self.seeds if seeds is None else seeds, "base": self.base, "baseline": next(iter(variants)),
            "variants": dict(variants), "sources": self.sources, **changes,
        }  # fmt: skip
        return loading.parse(raw, f"search {self.name}")

    def rung_steps(self) -> list[int]:
        """The environment steps at which trials are pruned; none without a pruner."""
        return [] if self.pruner == "none" else [round(rung * self.total_steps) for rung in self.rungs]


def load(name: str, overrides: Sequence[str] = ()) -> Search:
    """The search called `name`: a shipped name, or the path of a YAML file; `overrides` are `dotted.key=value`.

    Raises:
        DefinitionError: if there is no such search, or it is not valid.
    """
    raw, source = loading.read(name, overrides)
    if "space" not in raw:
        raise DefinitionError(f"{source}: has no `space`, so it is a sweep. Run it with: {command('run', name)}")
    return parse(raw, source)


def parse(raw: Mapping[str, Any], source: str) -> Search:
    """`raw` as a search of which the ends of every range are valid settings; messages name `source`.

    Raises:
        DefinitionError: if it is not valid.
    """
    try:
        search = Search.model_validate(raw)
    except ValidationError as error:
        raise DefinitionError(f"{source}: {one_line(error)}") from None
    try:
        search = search.model_copy(update={"sources": _sources(search)})
        shapes = search.sweep({"base": {}})
        for field, dimension in search.space.items():
            given = {other: values[0] for other, values in dimension.when.items()}
            ends = {shortened(_shown({field: end}), 60): given | {field: end} for end in dimension.ends}
            search.sweep(ends)
        search = search.model_copy(update={"seeds": shapes.seeds})
        search.check_pruning()
    except DefinitionError as error:
        raise DefinitionError(f"{source}: {str(error).removeprefix(f'search {search.name}: ')}") from None
    return search


def _sources(search: Search) -> dict[str, str]:
    """The hash of each of the user's own parts that a trial may have, and the place of each short name.

    As frozen, or else as it is now. A part counts also where a trial does not read it: another trial may.

    Raises:
        DefinitionError: if a part is not found.
    """
    found: dict[str, str] = {}
    known = {**plugins.short_names(), **search.sources}
    for field in PARTS:
        values = search.tasks if field == "task" else [search.base.get(field)]
        values = [*values, *(search.space[field].values if field in search.space else [])]
        for name in (value for value in values if isinstance(value, str)):
            place = name if plugins.is_place(name) else known.get(name, name)
            try:
                source = plugins.source_of(field, place, search.sources)
            except ValueError as error:
                raise DefinitionError(str(error)) from None
            if source:
                found |= {place: source} | ({name: place} if name != place else {})
    return dict(sorted(found.items()))


def dump(search: Search) -> str:
    """The definition as YAML that `load` reads back to an equal search."""
    raw = search.model_dump(mode="json", exclude_defaults=True)
    raw["space"] = {
        field: {dimension.form: dimension.values} | ({"when": dimension.when} if dimension.when else {})
        for field, dimension in search.space.items()
    }
    raw["objective"] = [
        {"time_to_threshold": objective.threshold} if objective.threshold is not None else objective.name
        for objective in search.objective
    ]
    return yaml.safe_dump(raw, sort_keys=False)


def _shown(point: Mapping[str, Any]) -> str:
    return " ".join(f"{field}={value}" for field, value in point.items()) or "base"
