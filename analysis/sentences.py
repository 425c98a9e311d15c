"""Sentences of a report that are made from its numbers: the answer, claims, methods and captions of tables."""

from collections.abc import Sequence

from analysis.load import SCORE_MEANINGS, Results
from analysis.summary import AgainstRandom, Summary
from analysis.text import format_estimate, listed
from scorer_core.support.text import count

MOST_VARIANTS = 4  # variants in a sentence about one task
MOST_COMPARISONS = 3  # comparisons in one sentence
AGAINST_RANDOM: dict[AgainstRandom, str] = {
    "above": "above",
    "below": "below",
    "not significant": "no significant difference",
    "no interval": "no confidence interval",
}


def answer(summary: Summary) -> str:
    """The result in a few sentences: does any variant differ from its baseline?"""
    whole = summary.aggregates
    if not whole:
        return "No variant has a finished run on every task yet, so there is nothing to compare."
    unit = "normalized IQM" if summary.normalization.scheme != "none" else "IQM"
    if not summary.comparisons:
        best = max(whole, key=lambda name: float(whole[name]["iqm"].value))
        return f"The {unit} of {best} is {format_estimate(whole[best]['iqm'])}: {_why_no_comparison(summary)}."
    parts = []
    for result, side in (("better", "above"), ("worse", "below")):
        found = [comparison for comparison in summary.comparisons if comparison.result == result]
        found.sort(key=lambda comparison: -abs(float(comparison.difference.value)))
        if found:
            baselines = {comparison.baseline for comparison in found}
            against = min(baselines) if len(baselines) == 1 else "its baseline"
            differences = [f"{one.variant} by {format_estimate(one.simultaneous, absolute=True)}" for one in found]
            parts.append(f"{side} {against}: {listed(differences, MOST_COMPARISONS)}")
    sentences = [f"{unit[0].upper()}{unit[1:]} {'; '.join(parts)}."] if parts else []
    if names := [one.variant for one in summary.comparisons if one.result == "not significant"]:
        sentences.append(f"No significant difference from the baseline: {listed(names, MOST_COMPARISONS)}.")
    if unclear := [comparison for comparison in summary.comparisons if comparison.no_claim]:
        differences = [f"{one.variant} minus {one.baseline} {format_estimate(one.simultaneous)}" for one in unclear]
        sentences.append(f"Difference of {unit}: {listed(differences, MOST_COMPARISONS)}.")
    return " ".join([*sentences, *no_claims(summary)])


def _why_no_comparison(summary: Summary) -> str:
    missing = [name for name in summary.results.baselines if name not in summary.aggregates]
    if len(summary.results.variants) == 1:
        return "the only variant"
    if len(summary.aggregates) == 1:
        return "the only variant with a score on every task"
    if missing:
        return f"the highest; there is no comparison, because the baseline {missing[0]} has no score on some task"
    return "the highest; there is no comparison, because the sweep has no baseline"


def no_claims(summary: Summary) -> list[str]:
    """One sentence per reason why comparisons make no claim; for the answer and for captions."""
    by_reason: dict[str, list[str]] = {}
    for comparison in summary.comparisons:
        if comparison.no_claim:
            by_reason.setdefault(comparison.no_claim, []).append(comparison.variant)
    return [f"No claim about {listed(names, MOST_COMPARISONS)}: {reason}." for reason, names in by_reason.items()]


def against_random(summary: Summary) -> list[str]:
    """One sentence per task: which variants are above and below the return of a random policy."""
    sentences = []
    for task in summary.tasks:
        random = summary.random[task]
        if random is None:
            sentences.append(f"{summary.task_label(task)}: the return of a random policy on {task} is unknown.")
            continue
        groups: dict[str, list[str]] = {}
        for name in summary.raw:
            if (name, task) in summary.against_random:
                groups.setdefault(AGAINST_RANDOM[summary.against_random[name, task]], []).append(name)
        parts = "; ".join(f"{relation}: {_variants(summary, names, task)}" for relation, names in groups.items())
        sentences.append(f"{summary.task_label(task)}, against a random policy (return {random:g}): {parts}.")
    return sentences


def _variants(summary: Summary, names: Sequence[str], task: str) -> str:
    """Each variant with its IQM; of many variants only their number and range."""
    if len(names) <= MOST_VARIANTS:
        return ", ".join(f"{name} {format_estimate(summary.per_task[name, task])}" for name in names)
    every = "all " if len(names) == len(summary.raw) else ""
    lowest, highest = (pick(float(summary.per_task[name, task].value) for name in names) for pick in (min, max))
    return f"{every}{len(names)} variants, from {lowest:.3g} to {highest:.3g}"


def nothing_to_report(results: Results) -> str:
    """Why a sweep without a score cannot be reported on."""
    counts = results.count()
    problems = "".join(f"\n  {problem}" for problem in results.problems[:5])
    without = sum(run.status in ("done", "diverged") and not run.scored for run in results.runs)
    if without:
        problems = f"; {without} finished without a score: no episode ended, or a reward was not finite{problems}"
    return (
        f"{results.folder}: no finished run to report on; of {count(len(results.runs), 'run')}, {counts['missing']} "
        f"not started, {counts['partial']} unfinished, {counts['diverged']} diverged{problems}"
    )


# --- methods, for captions and for the page ---


def method(summary: Summary, reps: int, score: bool = True, scale: bool = True) -> str:
    """How the numbers of one figure or table were made; its caption ends with it.

    Args:
        summary: all numbers.
        reps: bootstrap repetitions.
        score: the figure shows scores, not curves.
        scale: the figure has normalized scores.
    """
    sentences = [_intervals(summary, f"{reps:,} repetitions"), _score(summary) if score else "", _scale(summary, scale)]
    return " ".join(sentence for sentence in sentences if sentence)


def methods(summary: Summary) -> str:
    """How all numbers of the page were made."""
    settings = summary.settings
    reps = f"{settings.reps:,} repetitions, {settings.curve_reps:,} for curves and profiles"
    return " ".join(filter(None, [_score(summary), _intervals(summary, reps), _scale(summary, True)]))


def _intervals(summary: Summary, repetitions: str) -> str:
    widened = ", widened for few seeds" if summary.settings.few_seeds_correction else ""
    return (
        "Intervals: 95 % stratified bootstrap confidence intervals (percentile, whole runs resampled, "
        f"{repetitions}, seed {summary.settings.bootstrap_seed}{widened}); {summary.seeds_text} per task."
    )


def _score(summary: Summary) -> str:
    return f"Score: {SCORE_MEANINGS[summary.settings.score]}."


def _scale(summary: Summary, scale: bool) -> str:
    return summary.normalization.caption if scale and summary.normalization.scheme != "none" else ""


def table_notes(summary: Summary) -> str:
    """How to read the results table."""
    notes = ["Bold: highest IQM, if its interval overlaps no other."]
    if summary.normalization.scheme != "none":
        notes.append("Task columns are raw returns; all-task columns and differences use normalized scores.")
    if summary.comparisons:
        notes.append(
            f"Differences are paired by seed with simultaneous intervals over "
            f"{count(len(summary.comparisons), 'comparison')} (max-t); intervals of P(better) are not adjusted."
        )
    return " ".join([*notes, *no_claims(summary)])


def table_caption(summary: Summary, warnings: Sequence[str]) -> str:
    """The full caption of the results table, for a paper."""
    parts = [summary.results.sweep.question, "IQM of each variant.", table_notes(summary)]
    return " ".join([*parts, method(summary, summary.settings.reps), *warnings])
