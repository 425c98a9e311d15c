"""Which runs a command selects: by variant, task, seed and state."""

import glob
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from scorer_core.support.text import count, folded
from slurm.status import STATES, PackStatus, RunStatus, SweepStatus
from sweeps.errors import DefinitionError
from sweeps.grid import GridRun

SHOWN_NAMES = 12  # in an error


@dataclass(frozen=True)
class Filter:
    """The values of --variant, --task, --seed and --state. An option that is not given matches all runs."""

    variants: Sequence[str] = ()
    tasks: Sequence[str] = ()
    seeds: Sequence[str] = ()
    states: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        return not (self.variants or self.tasks or self.seeds or self.states)

    def matches(self, variant: str, base_name: str, task: str, seed: int, state: str = "") -> bool:
        """Whether the filter selects such a run; `base_name` is the variant without the values of its axes."""
        return (
            _any_matches(self.variants, lambda word: fnmatchcase(variant, word) or fnmatchcase(base_name, word))
            and _any_matches(
                self.tasks, lambda word: fnmatchcase(task, word) or fnmatchcase(task.rpartition("/")[2], word)
            )
            and _any_matches(self.seeds, lambda word: _range(word)[0] <= seed <= _range(word)[1])
            and _any_matches(self.states, lambda name: name == state)
        )

    def among(self, runs: Iterable[GridRun]) -> "Filter":
        """The same filter for these runs. A word that is the exact name of a variant or task is not a pattern.

        Raises:
            DefinitionError: if no variant, task or seed of `runs` matches a word.
        """
        if self.empty:
            return self
        runs = list(runs)
        for word in self.seeds:
            low, high = _range(word.removeprefix("!"))
            if runs and not any(low <= run.seed <= high for run in runs):
                seeds = sorted({run.seed for run in runs})
                raise DefinitionError(f"--seed {word}: matches none of this sweep; choose from: {folded(seeds)}")
        variants = {name for run in runs for name in (run.variant, run.base_name)}
        tasks = {name for run in runs for name in (run.task, run.task.rpartition("/")[2])}
        return replace(
            self,
            variants=[_literal("--variant", word, variants) for word in self.variants],
            tasks=[_literal("--task", word, tasks) for word in self.tasks],
        )

    def matches_run(self, cell: RunStatus) -> bool:
        """Whether the filter selects this run in the state that it has."""
        run = cell.run
        return self.empty or self.matches(run.variant, run.base_name, run.task, run.seed, cell.state)

    def matches_state(self, state: str) -> bool:
        """Whether the filter selects a pack in this state whose runs are unknown."""
        return not (self.variants or self.tasks or self.seeds) and _any_matches(self.states, lambda name: name == state)

    def matches_grid_run(self, run: GridRun) -> bool:
        """Whether the filter selects this run, whatever its state."""
        return self.matches(run.variant, run.base_name, run.task, run.seed)


def make_filter(
    variants: list[str] | None, tasks: list[str] | None, seeds: list[str] | None, states: list[str] | None = None
) -> Filter:
    """The filter that the options ask for.

    Raises:
        DefinitionError: if a seed is not a number or a range, or a state is unknown.
    """
    for state in states or ():
        if state.removeprefix("!") not in STATES:
            raise DefinitionError(f"--state {state}: unknown state; choose from: {', '.join(STATES)}")
    for seed in seeds or ():
        _range(seed.removeprefix("!"))
    return Filter(variants or (), tasks or (), seeds or (), states or ())


def matching_packs(status: SweepStatus, wanted: Filter, states: Collection[str]) -> dict[str, PackStatus]:
    """The packs in one of `states` with a run that `wanted` selects, by pack id."""
    packs = dict.fromkeys(cell.pack for cell in status.cells if cell.pack and wanted.matches_run(cell))
    return {pack.folder.pack_id: pack for pack in packs if pack.state in states}


def describe_packs(status: SweepStatus, packs: Mapping[str, PackStatus], wanted: Filter) -> str:
    """How many packs and runs these are, and how many of the runs `wanted` does not select."""
    runs = sum(len(pack.run_ids) for pack in packs.values())
    selected = sum(wanted.matches_run(cell) for cell in status.cells if cell.pack and cell.pack.folder.pack_id in packs)
    others = runs - selected
    shared = f", including {count(others, 'run')} you did not select, in the same packs" if others > 0 else ""
    return f"{count(len(packs), 'pack')} with {count(runs, 'run')}{shared}"


def _literal(option: str, word: str, names: Collection[str]) -> str:
    """`word`, with brackets and stars escaped if it is one of `names`."""
    excluded = "!" if word.startswith("!") else ""
    name = word.removeprefix("!")
    if name in names:
        return excluded + glob.escape(name)
    if not any(fnmatchcase(known, name) for known in names):
        there = ", ".join(sorted(names)[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
        raise DefinitionError(f"{option} {word}: matches none of this sweep; choose from: {there}")
    return word


def _any_matches(wanted: Sequence[str], matches: Callable[[str], bool]) -> bool:
    """Whether a word matches, or none is given, and no word with a leading `!` matches."""
    included = [word for word in wanted if not word.startswith("!")]
    excluded = [word[1:] for word in wanted if word.startswith("!")]
    return (not included or any(map(matches, included))) and not any(map(matches, excluded))


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", text)
    if not match:
        raise DefinitionError(f"--seed {text}: is neither a number nor a range such as 0-4")
    low, high = int(match.group(1)), int(match.group(2) or match.group(1))
    if low > high:
        raise DefinitionError(f"--seed {text}: the range is empty; write the smaller number first")
    return low, high
