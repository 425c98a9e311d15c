"""Which columns of a CSV file hold the variant, the task, the seed, the step and the return.

Sources of the known names: Stable-Baselines3's logger (time/total_timesteps, rollout/ep_rew_mean), CleanRL's scripts
(global_step, charts/episodic_return, exp_name, env_id), W&B's history (_step) and chart exports (Step), the official
SCORER code's process_results (timesteps).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from analysis.importers.csv_table import CsvTable
from analysis.importers.run_names import CLEANRL_NAME, SEED_IN_PATH, seed_in_path, split_name, split_seed
from scorer_core.support.text import count

Field = Literal["variant", "task", "seed", "step", "return"]
FIELDS: tuple[Field, ...] = ("variant", "task", "seed", "step", "return")

# Column names that are found without an option; the first one in the file counts.
KNOWN: dict[Field, tuple[str, ...]] = {
    "variant": ("variant", "algo", "algorithm", "exp_name", "name"),
    "task": ("task", "env_id", "env", "environment"),
    "seed": ("seed",),
    "step": ("step", "steps", "global_step", "timesteps", "time/total_timesteps", "total_timesteps", "_step"),
    "return": ("return", "rollout/ep_rew_mean", "charts/episodic_return", "episodic_return", "episode_return"),
}
MOST_SEED = 2**63 - 1
SEED_COLUMN = re.compile(r"seed[ _=:-]?(\d+)", re.ASCII | re.IGNORECASE)
# Names of files that do not name a variant.
NO_NAMES = {"", "progress", "monitor", "data", "results", "returns", "history", "log", "runs", "export", "curves"}


@dataclass(frozen=True)
class Columns:
    """The user's names of a CSV file's columns. `=value` is one value for the whole file; None: use the known names."""

    variant: str | None = None
    task: str | None = None
    seed: str | None = None
    step: str | None = None
    score: str | None = None

    def of(self, field: Field) -> str | None:
        return self.score if field == "return" else getattr(self, field)


@dataclass(frozen=True)
class ReturnColumn:
    """A column of returns."""

    place: int
    variant: str | None = None  # from the column's name
    seed: int | None = None
    env: str | None = None


@dataclass
class Layout:
    """Which columns of a table hold which fields. `find_layout` makes it."""

    table: CsvTable
    columns: Columns
    tasks: Sequence[str]
    form: str = ""  # the format of the file, e.g. "long CSV, one row per run and step"
    returns: list[ReturnColumn] = field(default_factory=list)
    places: dict[Field, int] = field(default_factory=dict)  # of the fields that are columns
    fixed: dict[Field, str] = field(default_factory=dict)  # of the fields that have one value in the whole file
    why: dict[Field, str] = field(default_factory=dict)  # where a fixed value comes from
    notes: list[str] = field(default_factory=list)  # what was left out

    def known(self, name: Field) -> bool:
        """Whether a column or a fixed value gives this field."""
        return name in self.places or name in self.fixed

    def no_task(self) -> str:
        """The end of a message about an unknown task."""
        tasks = ", ".join(self.tasks)
        return f"not a task of this sweep ({tasks}); if it is one of them, use --task ={self.tasks[0]}"

    def _columns_are(self) -> str:
        names = [one_line(name) for name in self.table.header if name]
        return "the columns are " + ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")

    def how_to(self, name: Field) -> str:
        """The end of a message: the options that give this field."""
        how = f"name it with --{name} COLUMN"
        if name in ("variant", "task", "seed"):
            value = {"variant": "NAME", "task": self.tasks[0], "seed": "0"}[name]
            how += f", or give one value for the whole file with --{name} ={value}"
        return how

    @property
    def description(self) -> str:
        """How the file is read, for the user: the format, then each field and where it comes from."""
        parts = []
        for name in FIELDS:
            if name in self.fixed:
                why = f" ({self.why[name]})" if self.why[name] else ""
                parts.append(f"{name} = {self.fixed[name]}{why}")
            elif name in self.places:
                parts.append(f"{name} from column '{one_line(self.table.header[self.places[name]])}'")
        if self.table.monitor is not None and "step" not in self.places:
            parts.append("step from the sum of column 'l', return from column 'r'")
        elif "return" not in self.places:
            parts.append(f"return from {count(len(self.returns), 'column')}")
        return f"{self.form}: {'; '.join(parts)}"

    def find(self) -> None:
        """Fill in the layout."""
        for name in FIELDS:
            self._find(name)
        self.returns, self.form = self._return_columns()
        self._complete()

    def _find(self, name: Field) -> None:
        option = self.columns.of(name)
        if option is not None and option.startswith("=") and name != "return":
            self.fixed[name], self.why[name] = option[1:].strip(), ""
            return
        if option is not None:
            if option in self.table.header:
                self.places[name] = self.table.header.index(option)
            elif name != "return":  # in a chart export of W&B, a metric's name is only a part of the column's
                self.table.refuse(f"no column {option!r}; {self._columns_are()}; {self.how_to(name)}")
            return
        if self.table.monitor is not None and name in ("step", "return"):
            return
        lower = [column.casefold() for column in self.table.header]
        found = [lower.index(known) for known in KNOWN[name] if known in lower]
        if name == "return" and len(found) > 1 and lower[found[0]] != "return":
            several = ", ".join(repr(self.table.header[place]) for place in found)
            self.table.refuse(f"several columns hold returns: {several}; choose one: --return COLUMN")
        if found:
            self.places[name] = found[0]

    def _return_columns(self) -> tuple[list[ReturnColumn], str]:
        """The columns of returns, and the form of the file in words."""
        if self.table.monitor is not None and "return" not in self.places:
            self._check_monitor()
            return [ReturnColumn(self.table.header.index("r"))], "Stable-Baselines3 monitor.csv, one row per episode"
        if "step" not in self.places and "step" not in self.fixed:
            self.table.refuse(f"no column of environment steps; {self._columns_are()}; {self.how_to('step')}")
        if "step" in self.fixed:
            self.table.refuse(f"--step ={self.fixed['step']}: every row needs its own step; {self.how_to('step')}")
        if "return" in self.places:
            column = self.table.header[self.places["return"]]
            return [ReturnColumn(self.places["return"])], {
                "rollout/ep_rew_mean": "Stable-Baselines3 progress.csv, one row per log",
                "charts/episodic_return": "CleanRL's metrics, one row per log",
            }.get(column, "long CSV, one row per run and step")
        if self.columns.score is None and (found := self._seed_columns()):
            return found, "wide CSV, one column per seed"
        if found := self._wandb_columns():
            return found, "W&B chart export, one column per run"
        if self.columns.score is not None:
            self.table.refuse(f"no column {self.columns.score!r}; {self._columns_are()}; {self.how_to('return')}")
        return self.table.refuse(
            f"no column of returns; expected 'return', one column 'seed_<n>' per seed, or '<run> - <metric>' as W&B "
            f"exports; {self._columns_are()}; {self.how_to('return')}"
        )

    def _check_monitor(self) -> None:
        for name in ("r", "l"):
            if name not in self.table.header:
                self.table.refuse(f"no column {name!r} as in Stable-Baselines3's monitor.csv; {self._columns_are()}", 2)
        if re.fullmatch(r"\d+\.monitor\.csv", self.table.source.name):
            others = len(list(self.table.source.parent.glob("*.monitor.csv")))
            if others > 1:
                self.table.refuse(
                    f"contains one of the {others} environments of a run, so its episodes do not give the run's "
                    "steps; import the run's progress.csv"
                )

    def _seed_columns(self) -> list[ReturnColumn]:
        found, ignored = [], []
        for place, name in enumerate(self.table.header):
            match = SEED_COLUMN.fullmatch(name)
            if match:
                found.append(ReturnColumn(place, seed=self.table.whole(match[1], name, 1, MOST_SEED)))
            elif name and place not in self.places.values():
                ignored.append(name)
        if found and ignored:
            self.notes.append(f"ignored the columns {', '.join(map(one_line, ignored[:6]))}")
        return found

    def _wandb_columns(self) -> list[ReturnColumn]:
        """Columns `<run> - <metric>`, without W&B's columns of lowest and highest values (`__MIN`, `__MAX`)."""
        found: dict[int, tuple[str, str]] = {}
        for place, name in enumerate(self.table.header):
            companion = re.fullmatch(r"(.+)__(MIN|MAX)", name, re.DOTALL)
            if companion and companion[1] in self.table.header:
                continue
            run, dash, metric = name.rpartition(" - ")
            wanted = self.columns.score
            if wanted is not None and name.endswith(f" - {wanted}"):
                run, metric = name.removesuffix(f" - {wanted}"), wanted
            if dash and place not in self.places.values():
                found[place] = run, metric
        metrics = sorted({metric for _, metric in found.values()})
        if self.columns.score is not None:
            found = {place: pair for place, pair in found.items() if pair[1] == self.columns.score}
        elif len(metrics) > 1:
            several = ", ".join(map(one_line, metrics[:6]))
            self.table.refuse(f"several metrics: {several}; choose one: --return METRIC", 1)
        return [self._wandb_column(place, run) for place, (run, _) in found.items()]

    def _wandb_column(self, place: int, run: str) -> ReturnColumn:
        variant, seed, env = split_name(run) or (run, None, None)
        return ReturnColumn(place, variant or None, seed, env)

    def _complete(self) -> None:
        """Fixed values for the fields that no column holds, from the names of the file and its folder."""
        values = self.returns
        if not self.known("task"):
            env = self.table.monitor.get("env_id") if self.table.monitor else None
            name = self._first_name()
            if all(one.env for one in values) or CLEANRL_NAME.fullmatch(name):
                pass  # each run's name has its task
            elif env in self.tasks:
                self.fixed["task"], self.why["task"] = str(env), "from the file's first line"
            elif isinstance(env, str) and env != "None":
                self.table.refuse(f"env_id {env!r} is {self.no_task()}", 1)
            elif len(self.tasks) == 1:
                self.fixed["task"], self.why["task"] = self.tasks[0], "the sweep's only task"
            else:
                self.table.refuse(f"no column 'task'; {self._columns_are()}; {self.how_to('task')}")
        if self.known("seed") and len(values) > 1:
            self.table.refuse(f"one seed for {len(values)} columns of returns; name the seed in each column's name", 1)
        if not self.known("seed") and any(one.seed is None for one in values) and not split_name(self._first_name()):
            found = seed_in_path(self.table.source)
            if found is None or len(values) > 1:
                unnamed = next(self.table.header[one.place] for one in values if one.seed is None)
                what = "no column 'seed'" if len(values) == 1 else f"no seed in the name of column {unnamed!r}"
                self.table.refuse(f"{what}; {self._columns_are()}; {self.how_to('seed')}")
            self.fixed["seed"], self.why["seed"] = str(found[0]), found[1]
        if not self.known("variant") and any(one.variant is None for one in values):
            split = split_seed(self.table.source.stem, SEED_IN_PATH)
            name = split[0] if split else self.table.source.stem
            if name.casefold() in NO_NAMES or name.endswith(".monitor"):
                self.table.refuse(f"no column 'variant'; {self._columns_are()}; {self.how_to('variant')}")
            self.fixed["variant"] = name
            self.why["variant"] = "from the file's name; to change it: --variant =NAME"

    def _first_name(self) -> str:
        """The first cell of the column of variants; it may be the name of a run, with a seed."""
        return self.table.lines[0][1][self.places["variant"]] if "variant" in self.places else ""


def find_layout(table: CsvTable, columns: Columns, tasks: Sequence[str]) -> Layout:
    """The layout of `table`; `columns` are the user's choices, `tasks` those of the sweep.

    Raises:
        ReportError: one line that names the file, the line in it, and what was expected.
    """
    layout = Layout(table, columns, tasks)
    layout.find()
    return layout


def one_line(text: str) -> str:
    """A column's name for a message: without line breaks and control characters."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))[:100]
