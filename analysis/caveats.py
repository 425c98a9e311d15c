"""What a reader must know before believing the figures: each a sentence, for the report and for every caption."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.load import RunRow
from analysis.summary import Summary
from scorer_core.scores import FINAL_WINDOW
from scorer_core.support.text import count
from scorer_core.verdicts import MEANINGS

FEW_SEEDS, SCARCE_SEEDS = 10, 5
SAME_END = 0.01  # two runs end at the same step if they differ by at most this fraction: they log at other steps


@dataclass(frozen=True)
class Caveat:
    text: str
    serious: bool = True  # a strict report is not made then


def caveats(summary: Summary) -> list[Caveat]:
    """Everything that weakens the report. Empty for a complete sweep of one code version with ten seeds or more."""
    return [
        *_runs(summary),
        *_lengths(summary),
        *_verdicts(summary),
        *_variants(summary),
        *_seeds(summary),
        *_code(summary),
        *_scale(summary),
    ]


def _runs(summary: Summary) -> Iterator[Caveat]:
    runs = summary.results.runs
    counts = summary.results.count()
    unfinished = counts["missing"] + counts["partial"]
    if unfinished:
        yield Caveat(
            f"{unfinished} of {len(runs)} runs are not finished ({counts['missing']} missing, {counts['partial']} "
            "partial) and count nowhere."
        )
    if counts["diverged"]:
        names = Counter(run.variant for run in runs if run.status == "diverged")
        told = _some([f"{name} {number}" for name, number in names.items()])
        counted = "counts with the returns it" if counts["diverged"] == 1 else "count with the returns they"
        yield Caveat(f"{count(counts['diverged'], 'run')} diverged and {counted} logged: {told}.")
    finished = [run for run in runs if run.status in ("done", "diverged")]
    without = [run for run in finished if (run.variant, run.task, run.seed) not in summary.results.series]
    if never := [run for run in without if run.status != "diverged"]:
        yield Caveat(f"{_count(never)} never finished an episode and {_have(never)} no score: {_named(never)}.")
    if broken := [run for run in without if run.status == "diverged"]:
        yield Caveat(
            f"{_count(broken)} diverged without a finite return and {_have(broken)} no score: {_named(broken)}."
        )
    late = [run for run in finished if not run.scored and run not in without]
    if late:
        yield Caveat(
            f"{_count(late)} {_have(late)} no finite return in the last tenth of training and no final score: "
            f"{_named(late)}."
        )
    zeros = {run.variant for run in finished if run.config and run.config.return_before_first_episode == "zero"}
    if zeros:
        yield Caveat(
            f"Returns count 0 for an environment before its first episode (return_before_first_episode: zero): "
            f"{_some(sorted(zeros))}. Curves, best and auc include these zeros.",
            serious=False,
        )
    if summary.results.problems:
        yield Caveat(
            f"{count(len(summary.results.problems), 'remark')} on the records, listed in the report.", serious=False
        )


def _lengths(summary: Summary) -> Iterator[Caveat]:
    """Imported runs that end at another step than the sweep's own."""
    results = summary.results
    own: dict[str, int] = {}
    for run in results.runs:
        if run.config and (run.variant, run.task, run.seed) in results.series:
            own[run.task] = max(own.get(run.task, 0), int(results.series[run.variant, run.task, run.seed].steps[-1]))
    short, long = [], []
    for run in results.runs:
        if run.config is None and run.task in own and (run.variant, run.task, run.seed) in results.series:
            series = results.series[run.variant, run.task, run.seed]
            end = int(series.steps[series.valid][-1])
            if end < (1 - SAME_END) * own[run.task]:
                short.append((run, end))
            elif end > (1 + SAME_END) * own[run.task]:
                long.append((run, end))
    window = f"A final score covers the last {100 * FINAL_WINDOW:.0f} % of its run's own training."
    for found, when in ((short, "before"), (long, "after")):
        if found:
            ends = " and ".join(f"{end:,}" for end in sorted({own[run.task] for run, _ in found}))
            told = _some(_ends(found), separator="; ")
            end = "ends" if len(found) == 1 else "end"
            yield Caveat(
                f"{_count([run for run, _ in found])} {end} {when} the sweep's own step {ends}: {told}. {window}"
            )


def _ends(found: Sequence[tuple[RunRow, int]]) -> list[str]:
    """Where runs end: one entry for the runs of a variant that come from one file and end at one step."""
    groups: dict[tuple[str, str, int], list[RunRow]] = {}
    for run, end in found:
        groups.setdefault((run.variant, run.code, end), []).append(run)
    return [
        f"{_name(runs[0]) if len(runs) == 1 else f'{len(runs)} runs of {variant}'} at step {end:,} ({code})"
        for (variant, code, end), runs in groups.items()
    ]


def _verdicts(summary: Summary) -> Iterator[Caveat]:
    found = summary.results.verdicts()
    for verdict in MEANINGS:
        told = [f"{name} {counts[verdict]} of {counts['runs']}" for name, counts in found.items() if counts[verdict]]
        if told:
            yield Caveat(f"Runs judged {verdict}: {_some(told)}.", serious=False)


def _variants(summary: Summary) -> Iterator[Caveat]:
    absent = [name for name in summary.results.variants if name not in summary.raw]
    finished = {run.variant for run in summary.results.runs if run.status in ("done", "diverged")}
    if unfinished := [name for name in absent if name not in finished]:
        yield Caveat(f"Without a finished run, and in no figure: {_some(unfinished)}.")
    if unscored := [name for name in absent if name in finished]:
        yield Caveat(f"Without a score, and in no figure: {_some(unscored)}.")
    ids: dict[str, list[str]] = {}
    for run in summary.results.runs:
        if run.config:
            ids.setdefault(run.variant, []).append(run.run_id)
    same: dict[tuple[str, ...], list[str]] = {}
    for name, run_ids in ids.items():
        same.setdefault(tuple(run_ids), []).append(name)
    for names in same.values():
        if len(names) > 1:
            yield Caveat(f"The same runs, because their settings compute the same: {_some(names)}.", serious=False)
    narrow = [name for name in summary.raw if name not in summary.normalised]
    if narrow:
        yield Caveat(f"Without a run on some task, and left out of what joins all tasks: {_some(narrow)}.")


def _seeds(summary: Summary) -> Iterator[Caveat]:
    runs = {name: summary.runs_of(name) for name in summary.raw}
    counts = np.array([n for row in runs.values() for n in row if n])
    fewest = counts.min()
    if counts.max() != fewest:
        ranges = {name: (row.min(), row.max()) for name, row in runs.items()}
        told = _some(
            [f"{name} {low}" if low == high else f"{name} {low}-{high}" for name, (low, high) in ranges.items()]
        )
        yield Caveat(f"Seeds are unequal ({told}); differences use the seeds both sides have.")
    if fewest == 1:
        yield Caveat("Somewhere there is one seed a task: no interval can be given for it.")
    elif fewest < SCARCE_SEEDS:
        yield Caveat(f"Only {count(fewest, 'seed')}: intervals are rough even when corrected.")
    elif fewest < FEW_SEEDS:
        correction = "lean on the few-seeds correction" if summary.settings.few_seeds_correction else "are too narrow"
        yield Caveat(f"Only {count(fewest, 'seed')}: below {FEW_SEEDS}, intervals {correction}.", serious=False)


def _code(summary: Summary) -> Iterator[Caveat]:
    versions = sorted({run.code for run in summary.results.runs if run.code and run.config})
    if len(versions) > 1:
        yield Caveat(f"{len(versions)} code versions are mixed: {_some(versions)}.")
    elif versions and " then " in versions[0]:
        yield Caveat(f"Runs were resumed with other code: {versions[0]}.")
    yield from map(Caveat, summary.results.version_notes)


def _scale(summary: Summary) -> Iterator[Caveat]:
    if summary.normalisation.fallback:
        yield Caveat(
            f"No fixed reference for {_some(summary.normalisation.fallback)}: scaled by the baseline's own curve, not "
            "comparable with other sweeps.",
            serious=False,
        )


def _count(runs: Sequence[RunRow]) -> str:
    return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"


def _have(runs: Sequence[RunRow]) -> str:
    return "has" if len(runs) == 1 else "have"


def _name(run: RunRow) -> str:
    return f"{run.variant} on {run.task}, seed {run.seed}"


def _named(runs: Sequence[RunRow]) -> str:
    return _some([_name(run) for run in runs], separator="; ")


def _some(names: Sequence[str], most: int = 6, separator: str = ", ") -> str:
    return separator.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
