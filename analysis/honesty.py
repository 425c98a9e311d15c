"""What a reader must know before believing the figures: each a sentence, for the report and for every caption."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.summary import Summary
from scorer_core.verdicts import MEANINGS

FEW_SEEDS, SCARCE_SEEDS = 10, 5


@dataclass(frozen=True)
class Caution:
    text: str
    serious: bool = True  # a strict report is not made then


def cautions(summary: Summary) -> list[Caution]:
    """Everything that weakens the report. Empty for a complete sweep of one code version with ten seeds or more."""
    return [
        *_runs(summary),
        *_verdicts(summary),
        *_variants(summary),
        *_seeds(summary),
        *_code(summary),
        *_scale(summary),
    ]


def _runs(summary: Summary) -> Iterator[Caution]:
    runs = summary.results.runs
    counts = summary.results.count()
    unfinished = counts["missing"] + counts["partial"]
    if unfinished:
        yield Caution(
            f"{unfinished} of {len(runs)} runs are not finished ({counts['missing']} missing, {counts['partial']} "
            "partial) and count nowhere."
        )
    if counts["diverged"]:
        names = Counter(run.variant for run in runs if run.status == "diverged")
        told = _some([f"{name} {count}" for name, count in names.items()])
        yield Caution(f"{counts['diverged']} runs diverged and count with the returns they logged: {told}.")
    lost = sum(run.status in ("done", "diverged") and not run.scored for run in runs)
    if lost:
        yield Caution(f"{lost} finished runs logged no finite return late in training and have no score.")
    if summary.results.problems:
        yield Caution(f"{len(summary.results.problems)} remarks on the records, listed in the report.", serious=False)


def _verdicts(summary: Summary) -> Iterator[Caution]:
    found = summary.results.verdicts()
    for verdict in MEANINGS:
        told = [f"{name} {counts[verdict]} of {counts['runs']}" for name, counts in found.items() if counts[verdict]]
        if told:
            yield Caution(f"Runs judged {verdict}: {_some(told)}.", serious=False)


def _variants(summary: Summary) -> Iterator[Caution]:
    absent = [name for name in summary.results.variants if name not in summary.raw]
    if absent:
        yield Caution(f"Without a finished run, and in no figure: {_some(absent)}.")
    narrow = [name for name in summary.raw if name not in summary.normalised]
    if narrow:
        yield Caution(f"Without a run on some task, and left out of what joins all tasks: {_some(narrow)}.")


def _seeds(summary: Summary) -> Iterator[Caution]:
    runs = {name: summary.runs_of(name) for name in summary.raw}
    counts = np.array([n for row in runs.values() for n in row if n])
    fewest = counts.min()
    if counts.max() != fewest:
        ranges = {name: (row.min(), row.max()) for name, row in runs.items()}
        told = _some(
            [f"{name} {low}" if low == high else f"{name} {low}-{high}" for name, (low, high) in ranges.items()]
        )
        yield Caution(f"Seeds are unequal ({told}); differences use the seeds both sides have.")
    if fewest == 1:
        yield Caution("Somewhere there is one seed a task: no interval can be given for it.")
    elif fewest < SCARCE_SEEDS:
        yield Caution(f"Only {fewest} seeds: intervals are rough even when corrected.")
    elif fewest < FEW_SEEDS:
        correction = "lean on the few-seeds correction" if summary.settings.few_seeds_correction else "are too narrow"
        yield Caution(f"Only {fewest} seeds: below {FEW_SEEDS}, intervals {correction}.", serious=False)


def _code(summary: Summary) -> Iterator[Caution]:
    versions = sorted({run.code for run in summary.results.runs if run.code and run.config})
    if len(versions) > 1:
        yield Caution(f"{len(versions)} code versions are mixed: {_some(versions)}.")
    elif versions and " then " in versions[0]:
        yield Caution(f"Runs were resumed with other code: {versions[0]}.")


def _scale(summary: Summary) -> Iterator[Caution]:
    if summary.normalisation.fallback:
        yield Caution(
            f"No fixed reference for {_some(summary.normalisation.fallback)}: scaled by the baseline's own curve, not "
            "comparable with other sweeps.",
            serious=False,
        )


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
