"""Caveats of a report: problems that weaken its figures, each as a sentence for the page and for every caption."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.load import RunRow
from analysis.summary import Summary
from analysis.text import listed
from scorer_core.scores import FINAL_WINDOW
from scorer_core.support.text import count
from scorer_core.verdicts import MEANINGS

FEW_SEEDS, SCARCE_SEEDS = 10, 5
SAME_END = (
    0.01  # two runs end at the same step if they differ by at most this fraction, because they log at other steps
)


@dataclass(frozen=True)
class Caveat:
    """One problem."""

    text: str
    serious: bool = True  # `--strict` refuses the report


def caveats(summary: Summary) -> list[Caveat]:
    """All caveats. There are none for a complete sweep of one code version with ten seeds or more."""
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
            f"{unfinished} of {count(len(runs), 'run')} {'is' if unfinished == 1 else 'are'} unfinished "
            f"({counts['missing']} not started, {counts['partial']} partial) and excluded."
        )
    if counts["diverged"]:
        names = Counter(run.variant for run in runs if run.status == "diverged")
        by_variant = listed([f"{name} {number}" for name, number in names.items()])
        included = (
            "is included with the returns it" if counts["diverged"] == 1 else "are included with the returns they"
        )
        yield Caveat(f"{count(counts['diverged'], 'run')} diverged and {included} logged: {by_variant}.")
    finished = [run for run in runs if run.status in ("done", "diverged")]
    without = [run for run in finished if (run.variant, run.task, run.seed) not in summary.results.series]
    if never := [run for run in without if run.status != "diverged"]:
        yield Caveat(
            f"{count(len(never), 'run')} never finished an episode and {_have(never)} no score: {_named(never)}."
        )
    if broken := [run for run in without if run.status == "diverged"]:
        yield Caveat(
            f"{count(len(broken), 'run')} diverged without a finite return and {_have(broken)} no score: "
            f"{_named(broken)}."
        )
    late = [run for run in finished if not run.scored and (run.variant, run.task, run.seed) in summary.results.series]
    if late:
        yield Caveat(
            f"{count(len(late), 'run')} {_have(late)} no finite return in the last 10 % of training and no final "
            f"score: {_named(late)}."
        )
    zeros = {run.variant for run in finished if run.config and run.config.return_before_first_episode == "zero"}
    if zeros:
        yield Caveat(
            f"The return of an environment is 0 before its first episode ends (return_before_first_episode: zero): "
            f"{listed(sorted(zeros))}. Curves, best and auc include these zeros.",
            serious=False,
        )
    if summary.results.problems:
        yield Caveat(
            f"{count(len(summary.results.problems), 'problem')} with the records, listed in the report.", serious=False
        )


def _lengths(summary: Summary) -> Iterator[Caveat]:
    """Imported runs that end at another step than the sweep's own runs."""
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
    window = f"A final score is the mean of the last {100 * FINAL_WINDOW:.0f} % of the run itself."
    for found, when in ((short, "before"), (long, "after")):
        if found:
            ends = " and ".join(f"{end:,}" for end in sorted({own[run.task] for run, _ in found}))
            end = "ends" if len(found) == 1 else "end"
            yield Caveat(
                f"{count(len(found), 'imported run')} {end} {when} step {ends}, the last step of the sweep: "
                f"{listed(_ends(found), separator='; ')}. {window}"
            )


def _ends(found: Sequence[tuple[RunRow, int]]) -> list[str]:
    """Last steps of runs: one entry for the runs of a variant that come from one file and end at one step."""
    groups: dict[tuple[str, str, int], list[RunRow]] = {}
    for run, end in found:
        groups.setdefault((run.variant, run.code_version, end), []).append(run)
    return [
        f"{_name(runs[0]) if len(runs) == 1 else f'{len(runs)} runs of {variant}'} at step {end:,} ({code})"
        for (variant, code, end), runs in groups.items()
    ]


def _verdicts(summary: Summary) -> Iterator[Caveat]:
    found = summary.results.verdicts()
    for verdict in MEANINGS:
        rates = [f"{name} {counts[verdict]} of {counts['runs']}" for name, counts in found.items() if counts[verdict]]
        if rates:
            yield Caveat(f"Runs with the verdict {verdict}: {listed(rates)}.", serious=False)


def _variants(summary: Summary) -> Iterator[Caveat]:
    absent = [name for name in summary.results.variants if name not in summary.raw]
    finished = {run.variant for run in summary.results.runs if run.status in ("done", "diverged")}
    if unfinished := [name for name in absent if name not in finished]:
        yield Caveat(f"Excluded from all figures (no finished run): {listed(unfinished)}.")
    if unscored := [name for name in absent if name in finished]:
        yield Caveat(f"Excluded from all figures (no score): {listed(unscored)}.")
    ids: dict[str, list[str]] = {}
    for run in summary.results.runs:
        if run.config:
            ids.setdefault(run.variant, []).append(run.run_id)
    same: dict[tuple[str, ...], list[str]] = {}
    for name, run_ids in ids.items():
        same.setdefault(tuple(run_ids), []).append(name)
    for names in same.values():
        if len(names) > 1:
            yield Caveat(
                f"These variants are the same runs, because their settings are equivalent: {listed(names)}.",
                serious=False,
            )
    incomplete = [name for name in summary.raw if name not in summary.normalized]
    if incomplete:
        yield Caveat(f"Excluded from all-task results (no finished run on at least one task): {listed(incomplete)}.")


def _seeds(summary: Summary) -> Iterator[Caveat]:
    runs = {name: summary.runs_of(name) for name in summary.raw}
    counts = np.array([n for row in runs.values() for n in row if n])
    fewest = counts.min()
    if counts.max() != fewest:
        ranges = {name: (row.min(), row.max()) for name, row in runs.items()}
        numbers = [f"{name} {low}" if low == high else f"{name} {low}-{high}" for name, (low, high) in ranges.items()]
        yield Caveat(
            f"The number of seeds differs ({listed(numbers)}); a difference uses the seeds that both variants have."
        )
    if fewest == 1:
        yield Caveat("Some variants have one seed per task and therefore no confidence interval.")
    elif fewest < SCARCE_SEEDS:
        yield Caveat(
            f"Only {count(fewest, 'seed')}: confidence intervals are unreliable even with the correction; treat "
            "comparisons as preliminary."
        )
    elif fewest < FEW_SEEDS:
        corrected = summary.settings.few_seeds_correction
        weakness = "depend on the few-seeds correction" if corrected else "are too narrow"
        yield Caveat(
            f"Only {count(fewest, 'seed')} (fewer than {FEW_SEEDS}): confidence intervals {weakness}.", serious=False
        )


def _code(summary: Summary) -> Iterator[Caveat]:
    found = {run.code_version for run in summary.results.runs if run.code_version and run.config}
    # Runs with different parts of the user's name different packages: each is compared with itself.
    of_packages: dict[str, set[str]] = {}
    for version in found:
        ours, *users = version.split(" with ")
        for package, one in [("", ours), *(user.split(" ", 1) for user in users)]:
            of_packages.setdefault(package, set()).add(one)
    versions = sorted(found) if any(len(each) > 1 for each in of_packages.values()) else sorted(found)[:1]
    if len(versions) > 1:
        yield Caveat(f"Runs of {len(versions)} code versions are mixed: {listed(versions)}.")
    elif versions and " then " in versions[0]:
        yield Caveat(f"Runs were resumed with another code version: {versions[0]}.")
    yield from map(Caveat, summary.results.version_notes)


def _scale(summary: Summary) -> Iterator[Caveat]:
    if summary.normalization.fallback:
        yield Caveat(
            f"No reference score for {listed(summary.normalization.fallback)}: normalized by the baseline's curve; not "
            "comparable across sweeps.",
            serious=False,
        )


def _have(runs: Sequence[RunRow]) -> str:
    return "has" if len(runs) == 1 else "have"


def _name(run: RunRow) -> str:
    return f"{run.variant} on {run.task}, seed {run.seed}"


def _named(runs: Sequence[RunRow]) -> str:
    return listed([_name(run) for run in runs], separator="; ")
