"""A search: a sweep with distributions instead of values. Every mistake is one line that names file and field."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from scorer_core.config import Count, Number, RunConfig
from scorer_core.support.commands import command
from sweeps import definition
from sweeps.definition import DefinitionError, FolderName, Sweep, Text, one_line
from sweeps.reading import shortened
from sweeps.space import Dimension

LANES = 16  # runs of a pack, at most, where nothing else is said
SEARCHED = definition.SETTINGS - {"preset", "hold"}
Name = Literal["iqm_final", "auc", "time_to_threshold"]
Direction = Literal["maximize", "minimize"]
Sampler = Literal["tpe", "gp", "cmaes", "qmc", "random", "grid"]
BEST: dict[Name, Direction] = {"iqm_final": "maximize", "auc": "maximize", "time_to_threshold": "minimize"}
Settings = dict[str, Any]


class Objective(BaseModel):
    """What a trial is judged by: the interquartile mean, over its tasks and seeds, of a number of each run.

    `iqm_final`: the mean return over the last 10 % of training; `auc`: over all of it; `time_to_threshold`: the first
    logged step with a return of `threshold`, the budget if there is none. Rows before the first finished episode have
    no return and are left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    def _threshold_where_it_belongs(self) -> Self:
        if (self.name == "time_to_threshold") != (self.threshold is not None):
            raise ValueError("a threshold belongs to time_to_threshold: {time_to_threshold: RETURN}")
        return self


Share = Annotated[Number, Field(gt=0, lt=1)]


def _zero_below_one(scale: tuple[float, float]) -> tuple[float, float]:
    zero, one = scale
    if not zero < one:
        raise ValueError(f"[zero, one] needs zero below one, not [{zero:g}, {one:g}]")
    return scale


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Search(BaseModel):
    """The definition as written. A trial is a point of `space` on every task with every seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[FolderName, Field(max_length=72)]  # that of its confirmation is 8 characters longer
    question: Text
    tasks: list[str]
    total_steps: Count
    seeds: Any  # the sweep of a trial validates them
    trials: Annotated[Count, Field(le=1_000_000)]
    base: Settings = {}
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    scale: dict[str, Annotated[tuple[Number, Number], AfterValidator(_zero_below_one)]] = {}  # returns that become 0, 1
    objective: Annotated[list[Objective], BeforeValidator(_listed), Field(min_length=1)] = [Objective(name="iqm_final")]
    direction: Annotated[list[Direction], BeforeValidator(_listed)] | None = None
    sampler: Sampler = "tpe"
    sampler_seed: Annotated[int, Field(ge=0, lt=2**62, strict=True)] = 0
    pruner: Literal["none", "wilcoxon", "halving"] = "none"
    rungs: list[Share] = [0.25, 0.5]  # where a pruner looks, as shares of the budget
    pruner_p: Share = 0.1  # wilcoxon: prune below this p
    pruner_keep: Share = 0.5  # halving: the share that goes on from a rung

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for field, dimension in self.space.items():
            if field not in SEARCHED:
                raise ValueError(f"space.{field}: no such setting; there is {', '.join(sorted(SEARCHED))}")
            before = list(self.space)[: list(self.space).index(field)]
            for other, values in dimension.when.items():
                if other not in before or self.space[other].numeric:
                    raise ValueError(f"space.{field}.when.{other}: not an earlier field of `space` with choices")
                for value in values:
                    if not self.space[other].has(value):
                        raise ValueError(f"space.{field}.when.{other}: {value!r} is none of its choices")
        if self.direction and len(self.direction) != len(self.objective):
            raise ValueError(f"direction: {len(self.objective)} needed, one an objective, not {len(self.direction)}")
        if len(set(self.objective)) < len(self.objective):
            raise ValueError("objective: one stands twice")
        for task in self.scale:
            if task not in self.tasks:
                raise ValueError(f"scale.{task}: not one of `tasks`")
        if len(set(self.tasks)) > 1 and (unscaled := [task for task in self.tasks if task not in self.scale]):
            raise ValueError(f"scale.{unscaled[0]}: [zero, one] is needed to average tasks, whose returns differ")
        self._sampler_can_search()
        self._pruner_can_prune()
        return self

    def _sampler_can_search(self) -> None:
        numeric = [field for field, dimension in self.space.items() if dimension.numeric and not dimension.when]
        if self.sampler == "cmaes" and len(numeric) < 2:
            raise ValueError("sampler: cmaes needs at least two unconditional numeric fields in `space`")
        if self.sampler == "grid":
            for field, dimension in self.space.items():
                if dimension.numeric or dimension.when:
                    raise ValueError(f"space.{field}: sampler grid takes lists of choices alone, without conditions")
        if self.sampler == "cmaes" and len(self.objective) > 1:
            raise ValueError("sampler: cmaes takes one objective")

    def _pruner_can_prune(self) -> None:
        if self.pruner == "none":
            return
        if len(self.objective) > 1:
            raise ValueError(f"pruner: {self.pruner} takes one objective")
        if not self.rungs or self.rungs != sorted(set(self.rungs)):
            raise ValueError("rungs: shares of the budget, each larger than the one before")

    def check_pruning(self) -> None:
        """Refuse a pruner that could never prune, and rungs where it would have nothing to compare.

        `seeds` are a list by now.

        Raises:
            DefinitionError: see there.
        """
        blocks = len(self.tasks) * len(self.seeds)
        if self.pruner == "wilcoxon" and 0.5**blocks >= self.pruner_p:
            raise DefinitionError(
                f"pruner_p: {self.pruner_p:g} is out of reach of {blocks} tasks x seeds, "
                f"of which the smallest p is {0.5**blocks:g}: wilcoxon could never prune"
            )
        for config in self._configs_that_log_differently():
            where = f"total_steps {config.total_steps:,}, num_envs {config.num_envs}, log_points {config.log_points}"
            first, before = config.log_steps[0] * config.num_envs, 0
            for number, step in enumerate(self.rung_steps()):
                rung = f"rungs.{number}: {self.rungs[number]:g} of the budget is step {step:,}"
                reached = -(-step // config.num_envs)  # the vector step after which training pauses
                if step < first:
                    raise DefinitionError(
                        f"{rung}, before step {first:,}, the first that is logged ({where}); "
                        "give a later rung or more log_points"
                    )
                if reached >= config.vector_steps:
                    raise DefinitionError(f"{rung}, where training ends ({where}); give an earlier rung")
                if reached == before:
                    raise DefinitionError(
                        f"{rung}, in the same step of the environments as rungs.{number - 1} ({where}); remove one"
                    )
                before = reached

    def _configs_that_log_differently(self) -> list[RunConfig]:
        """The default at every corner of the searched fields that decide which steps are logged."""
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
        return self.direction or [BEST[objective.name] for objective in self.objective]

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides which trials are tried and how they are judged: what a study is bound to."""
        return self.model_dump(mode="json", exclude={"question", "trials"})

    @property
    def trials_at_most(self) -> int:
        """`trials`, or the grid if that is smaller."""
        if self.sampler != "grid":
            return self.trials
        points = 1
        for dimension in self.space.values():
            points *= len(dimension.values)
        return min(self.trials, points)

    @cached_property
    def default(self) -> list[RunConfig]:
        """The runs of `base` as it stands: what a search is out to beat."""
        return self.runs({})

    def runs(self, point: Mapping[str, Any]) -> list[RunConfig]:
        """The runs of a trial: its tasks in their order, each with every seed.

        Raises:
            DefinitionError: if `point` is not a valid setting.
        """
        return [run.config for run in self.sweep({shortened(_shown(point), 60): dict(point)}).runs]

    def sweep(self, variants: Mapping[str, Settings], seeds: Any = None, **changes: Any) -> Sweep:
        """An ordinary sweep of these points.

        Raises:
            DefinitionError: if one of them is not a valid setting.
        """
        raw = {
            "name": self.name, "question": self.question, "tasks": self.tasks, "total_steps": self.total_steps,
            "seeds": self.seeds if seeds is None else seeds, "base": self.base, "baseline": next(iter(variants)),
            "variants": dict(variants), **changes,
        }  # fmt: skip
        return definition.parse(raw, f"search {self.name}")

    def rung_steps(self) -> list[int]:
        """Where a pruner looks, in environment steps."""
        return [] if self.pruner == "none" else [round(rung * self.total_steps) for rung in self.rungs]


def load(name: str, overrides: Sequence[str] = ()) -> Search:
    """The search called `name`: a shipped name, or the path of a YAML file; `overrides` are `dotted.key=value`.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    raw, source = definition.read(name, overrides)
    if "space" not in raw:
        raise DefinitionError(f"{source}: space: missing, so this is no search but a sweep: {command('run', name)}")
    return parse(raw, source)


def parse(raw: Mapping[str, Any], source: str) -> Search:
    """`raw` as a search whose ends are valid runs; `source` is named in errors.

    Raises:
        DefinitionError: if it is not valid.
    """
    try:
        search = Search.model_validate(raw)
    except ValidationError as error:
        raise DefinitionError(f"{source}: {one_line(error)}") from None
    try:
        shapes = search.sweep({"base": {}})
        for field, dimension in search.space.items():
            given = {other: values[0] for other, values in dimension.when.items()}
            search.sweep({shortened(_shown({field: end}), 60): given | {field: end} for end in dimension.ends})
        search = search.model_copy(update={"seeds": shapes.seeds})
        search.check_pruning()
    except DefinitionError as error:
        raise DefinitionError(f"{source}: {str(error).removeprefix(f'search {search.name}: ')}") from None
    return search


def dump(search: Search) -> str:
    """The definition as YAML that `load` reads back."""
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
