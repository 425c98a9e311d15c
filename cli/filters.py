"""Which runs a verb is about: by variant, task, seed and state."""

import glob
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from slurm.status import STATES, RunStatus
from sweeps.errors import DefinitionError
from sweeps.grid import GridRun

SHOWN_NAMES = 12
MANY = "may be repeated; a leading ! leaves out"
Variants = Annotated[list[str] | None, typer.Option("--variant", metavar="GLOB", help=f"Of these variants; {MANY}.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", metavar="GLOB", help="On these tasks; likewise.")]
Seeds = Annotated[list[str] | None, typer.Option("--seed", metavar="N|N-M", help="With these seeds; likewise.")]
States = Annotated[list[str] | None, typer.Option("--state", metavar="STATE", help=f"{', '.join(STATES)}; likewise.")]


@dataclass(frozen=True)
class Filter:
    variants: Sequence[str] = ()
    tasks: Sequence[str] = ()
    seeds: Sequence[str] = ()
    states: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        return not (self.variants or self.tasks or self.seeds or self.states)

    def takes(self, variant: str, family: str, task: str, seed: int, state: str = "") -> bool:
        """Is a run of this kind meant? A filter that is not given takes all."""
        return (
            _chosen(self.variants, lambda word: fnmatchcase(variant, word) or fnmatchcase(family, word))
            and _chosen(self.tasks, lambda word: fnmatchcase(task, word) or fnmatchcase(task.rpartition("/")[2], word))
            and _chosen(self.seeds, lambda span: _span(span)[0] <= seed <= _span(span)[1])
            and _chosen(self.states, lambda name: name == state)
        )

    def among(self, runs: Iterable[GridRun]) -> "Filter":
        """The same filter for these runs. A word that is the name of a variant or a task means only this one.

        Raises:
            DefinitionError: if no variant or task of `runs` matches a word.
        """
        runs = list(runs)
        variants = {name for run in runs for name in (run.variant, run.base_name)}
        tasks = {name for run in runs for name in (run.task, run.task.rpartition("/")[2])}
        return replace(
            self,
            variants=[_literal("--variant", word, variants) for word in self.variants],
            tasks=[_literal("--task", word, tasks) for word in self.tasks],
        )

    def takes_cell(self, cell: RunStatus) -> bool:
        run = cell.run
        return self.empty or self.takes(run.variant, run.base_name, run.task, run.seed, cell.state)

    def takes_pack(self, state: str) -> bool:
        """Is a pack in this state meant whose runs are not known?"""
        return not (self.variants or self.tasks or self.seeds) and _chosen(self.states, lambda name: name == state)

    def takes_run(self, run: GridRun) -> bool:
        return self.takes(run.variant, run.base_name, run.task, run.seed)


def make_filter(
    variants: list[str] | None, tasks: list[str] | None, seeds: list[str] | None, states: list[str] | None = None
) -> Filter:
    """The filter that the options ask for.

    Raises:
        DefinitionError: if a seed is no number or span, or a state no state.
    """
    for state in states or ():
        if state.removeprefix("!") not in STATES:
            raise DefinitionError(f"--state {state}: is not one of {', '.join(STATES)}")
    for seed in seeds or ():
        _span(seed.removeprefix("!"))
    return Filter(variants or (), tasks or (), seeds or (), states or ())


def _literal(option: str, word: str, names: Collection[str]) -> str:
    """`word`, so that brackets and stars in it are no pattern if it is one of `names`."""
    refused = "!" if word.startswith("!") else ""
    name = word.removeprefix("!")
    if name in names:
        return refused + glob.escape(name)
    if not any(fnmatchcase(known, name) for known in names):
        there = ", ".join(sorted(names)[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
        raise DefinitionError(f"{option} {word}: matches none of this sweep; there is {there}")
    return word


def _chosen(wanted: Sequence[str], matches: Callable[[str], bool]) -> bool:
    """Does any word match, or none stand there; and none of those with a `!`?"""
    taken = [word for word in wanted if not word.startswith("!")]
    refused = [word[1:] for word in wanted if word.startswith("!")]
    return (not taken or any(map(matches, taken))) and not any(map(matches, refused))


def _span(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", text)
    if not match:
        raise DefinitionError(f"--seed {text}: is neither a number nor a span such as 0-4")
    return int(match.group(1)), int(match.group(2) or match.group(1))
