"""Read the runs in a CSV file: long or wide tables, exports of W&B, files of Stable-Baselines3, Excel's dialects.

Whatever is not understood is refused with the file, the line and what was expected.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from analysis.csv_table import CsvTable
from analysis.load import ReportError

Field = Literal["variant", "task", "seed", "step", "return"]
Row = tuple[str, str, int, int]  # variant, task, seed, step

# Column names that are found without an option, the first one that is there. Sources: Stable-Baselines3's logger
# (time/total_timesteps, rollout/ep_rew_mean), CleanRL's scripts (global_step, charts/episodic_return, exp_name,
# env_id), W&B's history (_step) and chart exports (Step), the official SCORER code's process_results (timesteps).
KNOWN: dict[Field, tuple[str, ...]] = {
    "variant": ("variant", "algo", "algorithm", "exp_name", "name"),
    "task": ("task", "env_id", "env", "environment"),
    "seed": ("seed",),
    "step": ("step", "steps", "global_step", "timesteps", "time/total_timesteps", "total_timesteps", "_step"),
    "return": ("return", "rollout/ep_rew_mean", "charts/episodic_return", "episodic_return", "episode_return"),
}
MOST_STEPS = 2**53  # beyond this, neighbouring steps are one floating-point number
MOST_SEED = 2**63 - 1
LONGEST_NAME = 200  # characters
SEED_COLUMN = re.compile(r"seed[ _=:-]?(\d+)", re.ASCII | re.IGNORECASE)
_EDGE = r"(?<![A-Za-z0-9]){}[ _=:-]?(\d+)(?![A-Za-z0-9]|\.\d)"
SEED_IN_NAME = re.compile(_EDGE.format("seed"), re.ASCII | re.IGNORECASE)
SEED_IN_PATH = re.compile(_EDGE.format("(?:seed|s)"), re.ASCII | re.IGNORECASE)
CLEANRL_NAME = re.compile(r"(?P<env>.+)__(?P<name>.+)__(?P<seed>\d+)__\d{9,}", re.ASCII)
SEPARATORS = " _-=.,:;/()[]"
NO_NAMES = {"", "progress", "monitor", "data", "results", "returns", "history", "log", "runs", "export", "curves"}


@dataclass(frozen=True)
class Columns:
    """What the columns of a CSV are called. `=value` is one value for the whole file; None: a known name."""

    variant: str | None = None
    task: str | None = None
    seed: str | None = None
    step: str | None = None
    score: str | None = None

    def of(self, field: Field) -> str | None:
        return self.score if field == "return" else getattr(self, field)


@dataclass(frozen=True)
class RunsInFile:
    """The rows of a file that have a return."""

    sha256: str  # of the file
    read_as: str
    rows: dict[Row, float]
    notes: list[str]  # what was left out


def read_runs(source: Path, columns: Columns, tasks: Sequence[str]) -> RunsInFile:
    """The runs in `source`, on `tasks` of the sweep.

    Raises:
        ReportError: one line that names the file, the line in it, and what was expected.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ReportError(f"{source}: cannot be read: {error.strerror}") from None
    read_as, rows, notes = _Reading(CsvTable(source, content), columns, tasks).rows()
    return RunsInFile(hashlib.sha256(content).hexdigest(), read_as, rows, notes)


def _one_line(text: str) -> str:
    """A column's name for a message: without line breaks and control characters."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))[:100]


def _split_seed(name: str, pattern: re.Pattern[str]) -> tuple[str, int] | None:
    """A run's name without its seed, and the seed; None if it names none or several."""
    found = list(pattern.finditer(name))
    if len({match[1] for match in found}) != 1 or len(found[0][1]) > 18:
        return None
    left, right = name[: found[0].start()].rstrip(SEPARATORS), name[found[0].end() :].lstrip(SEPARATORS)
    return f"{left}_{right}" if left and right else left or right, int(found[0][1])


def _split_name(run: str) -> tuple[str, int, str | None] | None:
    """Variant, seed and (in CleanRL's names) environment of a run's name; None if it has no seed."""
    if (match := CLEANRL_NAME.fullmatch(run)) and len(match["seed"]) <= 18:
        return match["name"], int(match["seed"]), match["env"]
    split = _split_seed(run, SEED_IN_NAME)
    return (*split, None) if split else None


def _seed_in_path(source: Path) -> tuple[int, str] | None:
    """The seed in the name of the file, otherwise in the name of its folder, and which of the two."""
    for name, kind in ((source.stem, "file"), (source.resolve().parent.name, "folder")):
        if found := _split_seed(name, SEED_IN_PATH):
            return found[1], f"from the {kind}'s name"
    return None


@dataclass(frozen=True)
class _Values:
    """A column of returns."""

    place: int
    variant: str | None = None  # from the column's name
    seed: int | None = None
    env: str | None = None


@dataclass
class _Reading:
    """Which columns of a table hold what, and the rows that follow from it."""

    table: CsvTable
    columns: Columns
    tasks: Sequence[str]
    places: dict[Field, int] = field(default_factory=dict)  # of the fields that are columns
    fixed: dict[Field, str] = field(default_factory=dict)  # of the fields that have one value in the whole file
    why: dict[Field, str] = field(default_factory=dict)  # where a fixed value comes from
    notes: list[str] = field(default_factory=list)

    def rows(self) -> tuple[str, dict[Row, float], list[str]]:
        """How the file was read, its rows, and what was left out."""
        for name in ("variant", "task", "seed", "step", "return"):
            self._find(name)
        values, kind = self._value_columns()
        self._complete(values)
        return self._read_as(kind, values), self._rows(values), self.notes

    # --- which column is what ---

    def _find(self, name: Field) -> None:
        option = self.columns.of(name)
        if option is not None and option.startswith("=") and name != "return":
            self.fixed[name], self.why[name] = option[1:].strip(), ""
            return
        if option is not None:
            if option in self.table.header:
                self.places[name] = self.table.header.index(option)
            elif name != "return":  # in a chart export of W&B, a metric's name is only a part of the column's
                self.table.refuse(f"no column {option!r}; {self._columns_are()}; {self._how_to(name)}")
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

    def _columns_are(self) -> str:
        names = [_one_line(name) for name in self.table.header if name]
        return "the columns are " + ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")

    def _how_to(self, name: Field) -> str:
        how = f"name it with --{name} COLUMN"
        if name in ("variant", "task", "seed"):
            value = {"variant": "NAME", "task": self.tasks[0], "seed": "0"}[name]
            how += f", or give one value for the whole file with --{name} ={value}"
        return how

    def _value_columns(self) -> tuple[list[_Values], str]:
        """The columns of returns, and the form of the file in words."""
        if self.table.monitor is not None and "return" not in self.places:
            self._check_monitor()
            return [_Values(self.table.header.index("r"))], "Stable-Baselines3 monitor.csv, one row per episode"
        if "step" not in self.places and "step" not in self.fixed:
            self.table.refuse(f"no column of environment steps; {self._columns_are()}; {self._how_to('step')}")
        if "step" in self.fixed:
            self.table.refuse(f"--step ={self.fixed['step']}: every row needs its own step; {self._how_to('step')}")
        if "return" in self.places:
            column = self.table.header[self.places["return"]]
            return [_Values(self.places["return"])], {
                "rollout/ep_rew_mean": "Stable-Baselines3 progress.csv, one row per log",
                "charts/episodic_return": "CleanRL's metrics, one row per log",
            }.get(column, "long CSV, one row per run and step")
        if self.columns.score is None and (found := self._seed_columns()):
            return found, "wide CSV, one column per seed"
        if found := self._wandb_columns():
            return found, "W&B chart export, one column per run"
        if self.columns.score is not None:
            self.table.refuse(f"no column {self.columns.score!r}; {self._columns_are()}; {self._how_to('return')}")
        return self.table.refuse(
            f"no column of returns; expected 'return', one column 'seed_<n>' per seed, or '<run> - <metric>' as W&B "
            f"exports; {self._columns_are()}; {self._how_to('return')}"
        )

    def _check_monitor(self) -> None:
        for name in ("r", "l"):
            if name not in self.table.header:
                self.table.refuse(f"no column {name!r} as in Stable-Baselines3's monitor.csv; {self._columns_are()}", 2)
        if re.fullmatch(r"\d+\.monitor\.csv", self.table.source.name):
            others = len(list(self.table.source.parent.glob("*.monitor.csv")))
            if others > 1:
                self.table.refuse(
                    f"holds one of {others} environments of a run, so its episodes do not give the run's steps; import "
                    "the run's progress.csv"
                )

    def _seed_columns(self) -> list[_Values]:
        found, ignored = [], []
        for place, name in enumerate(self.table.header):
            match = SEED_COLUMN.fullmatch(name)
            if match:
                found.append(_Values(place, seed=self.table.whole(match[1], name, 1, MOST_SEED)))
            elif name and place not in self.places.values():
                ignored.append(name)
        if found and ignored:
            self.notes.append(f"ignored the columns {', '.join(map(_one_line, ignored[:6]))}")
        return found

    def _wandb_columns(self) -> list[_Values]:
        """Columns `<run> - <metric>`; beside each, W&B writes its lowest and highest value (`__MIN`, `__MAX`)."""
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
            several = ", ".join(map(_one_line, metrics[:6]))
            self.table.refuse(f"several metrics: {several}; choose one: --return METRIC", 1)
        return [self._wandb_column(place, run) for place, (run, _) in found.items()]

    def _wandb_column(self, place: int, run: str) -> _Values:
        variant, seed, env = _split_name(run) or (run, None, None)
        return _Values(place, variant or None, seed, env)

    def _complete(self, values: Sequence[_Values]) -> None:
        """Fixed values for the fields that no column holds, from the names of the file and its folder."""
        if not self._known("task"):
            env = self.table.monitor.get("env_id") if self.table.monitor else None
            name = self._first_name()
            if all(one.env for one in values) or CLEANRL_NAME.fullmatch(name):
                pass  # each run's name has its task
            elif env in self.tasks:
                self.fixed["task"], self.why["task"] = str(env), "from the file's first line"
            elif isinstance(env, str) and env != "None":
                self.table.refuse(f"env_id {env!r} is {self._no_task()}", 1)
            elif len(self.tasks) == 1:
                self.fixed["task"], self.why["task"] = self.tasks[0], "the sweep's only task"
            else:
                self.table.refuse(f"no column 'task'; {self._columns_are()}; {self._how_to('task')}")
        if self._known("seed") and len(values) > 1:
            self.table.refuse(f"one seed for {len(values)} columns of returns; name the seed in each column's name", 1)
        if not self._known("seed") and any(one.seed is None for one in values) and not _split_name(self._first_name()):
            found = _seed_in_path(self.table.source)
            if found is None or len(values) > 1:
                unnamed = next(self.table.header[one.place] for one in values if one.seed is None)
                what = "no column 'seed'" if len(values) == 1 else f"no seed in the name of column {unnamed!r}"
                self.table.refuse(f"{what}; {self._columns_are()}; {self._how_to('seed')}")
            self.fixed["seed"], self.why["seed"] = str(found[0]), found[1]
        if not self._known("variant") and any(one.variant is None for one in values):
            split = _split_seed(self.table.source.stem, SEED_IN_PATH)
            name = split[0] if split else self.table.source.stem
            if name.casefold() in NO_NAMES or name.endswith(".monitor"):
                self.table.refuse(f"no column 'variant'; {self._columns_are()}; {self._how_to('variant')}")
            self.fixed["variant"] = name
            self.why["variant"] = "from the file's name; another: --variant =NAME"

    def _first_name(self) -> str:
        """The first cell of the column of variants; it may be the name of a run, with a seed."""
        return self.table.lines[0][1][self.places["variant"]] if "variant" in self.places else ""

    def _known(self, name: Field) -> bool:
        return name in self.places or name in self.fixed

    def _no_task(self) -> str:
        tasks = ", ".join(self.tasks)
        return f"not a task of this sweep ({tasks}); if it is one of them, use --task ={self.tasks[0]}"

    def _read_as(self, kind: str, values: Sequence[_Values]) -> str:
        told = []
        for name in ("variant", "task", "seed", "step", "return"):
            if name in self.fixed:
                why = f" ({self.why[name]})" if self.why[name] else ""
                told.append(f"{name} = {self.fixed[name]}{why}")
            elif name in self.places:
                told.append(f"{name} from column '{_one_line(self.table.header[self.places[name]])}'")
        if self.table.monitor is not None and "step" not in self.places:
            told.append("step from the sum of column 'l', return from column 'r'")
        elif "return" not in self.places:
            told.append(f"return from {len(values)} column{'s' if len(values) > 1 else ''}")
        return f"{kind}: {'; '.join(told)}"

    # --- its rows ---

    def _rows(self, values: Sequence[_Values]) -> dict[Row, float]:
        rows: dict[Row, float] = {}
        runs: dict[tuple[str, str, int], int] = {}  # last step with a value
        total = 0
        for line, cells in self.table.lines:
            if not any(cells[one.place] for one in values):  # a row of other metrics; its other cells may be empty too
                if all(cells[self.places[name]] for name in ("variant", "task", "seed") if name in self.places):
                    for one in values:
                        runs.setdefault(self._run(cells, one, line), -1)
                continue
            if "step" in self.places:
                column = self.table.header[self.places["step"]]
                step = self.table.whole(self._cell(cells, "step", line), column, line, MOST_STEPS)
            else:
                length = self.table.whole(cells[self.table.header.index("l")], "l", line, MOST_STEPS)
                total += length
                step = total
                if not length > 0 or total > MOST_STEPS:
                    self.table.refuse(f"{length} in column 'l' is no length of an episode", line)
            for one in values:
                run = self._run(cells, one, line)
                runs.setdefault(run, -1)
                if not cells[one.place]:
                    continue
                row = (*run, step)
                if row in rows:
                    self.table.refuse(f"{run[0]} on {run[1]}, seed {run[2]}, step {step} appears twice", line)
                rows[row] = self.table.number(cells[one.place], self.table.header[one.place], line)
                runs[run] = max(runs[run], step)
        for (variant, task, seed), last in runs.items():
            if last == 0:
                self.table.refuse(f"{variant} on {task}, seed {seed}: has no step above 0")
            if last < 0:
                self.notes.append(f"left out {variant} on {task}, seed {seed}: no row has a return")
        if not rows:
            self.table.refuse("no row has a return")
        return rows

    def _cell(self, cells: Sequence[str], name: Field, line: int) -> str:
        if name in self.fixed:
            return self.fixed[name]
        text = cells[self.places[name]]
        if not text:
            self.table.refuse(f"nothing in column {self.table.header[self.places[name]]!r}", line)
        return text

    def _run(self, cells: Sequence[str], one: _Values, line: int) -> tuple[str, str, int]:
        env, seed, variant = one.env, one.seed, one.variant
        if self._known("variant"):
            variant = self._cell(cells, "variant", line)
            if seed is None and not self._known("seed"):
                variant, seed, env = _split_name(variant) or (variant, None, None)
        if self._known("seed"):
            text = self._cell(cells, "seed", line)
            match = SEED_COLUMN.fullmatch(text)
            column = "--seed" if "seed" in self.fixed else self.table.header[self.places["seed"]]
            seed = self.table.whole(match[1] if match else text, column, line, MOST_SEED)
        if seed is None:
            self.table.refuse(f"no column 'seed', and no seed in {variant!r}; {self._how_to('seed')}", line)
        task = self._cell(cells, "task", line) if self._known("task") else env
        if task is None or task not in self.tasks:
            self.table.refuse(f"{task!r} is {self._no_task()}", line)
        return self._name(variant or "", line), task, seed

    def _name(self, variant: str, line: int) -> str:
        if not variant:
            self.table.refuse(f"the variant has no name; {self._how_to('variant')}", line)
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in variant):
            self.table.refuse(f"the variant {variant!a} holds a control character; rename it", line)
        if len(variant) > LONGEST_NAME:
            self.table.refuse(f"the variant's name has {len(variant):,} characters; use at most {LONGEST_NAME}", line)
        return variant
