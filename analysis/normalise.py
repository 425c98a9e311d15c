"""What makes returns of different tasks comparable: (score - zero) / (one - zero), by a named scheme.

References are fixed numbers with a source. Nothing is ever scaled by the best of the compared runs: adding a variant
would change every other variant's numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.choices import Scheme
from scorer_core.identity import digest
from scorer_core.references import REFERENCE, random_return

# SCORER in the same row of Table 1.
PAPER_SCORER: dict[str, float] = {
    "minatar/asterix": 52.88,
    "minatar/breakout": 63.93,
    "minatar/freeway": 62.75,
    "minatar/space_invaders": 147.82,
    "gymnax/asterix": 52.88,
    "gymnax/breakout": 63.93,
    "gymnax/freeway": 62.75,
    "gymnax/space_invaders": 147.82,
}


@dataclass(frozen=True)
class Normalisation:
    """Zero and one of each task's scale, in units of return."""

    scheme: Scheme
    zero: dict[str, float]
    one: dict[str, float]
    meaning: dict[str, str]  # of each task's zero and one, in words
    fallback: tuple[str, ...] = ()  # tasks the scheme has no reference for

    def __call__(self, scores: np.ndarray, tasks: Sequence[str]) -> np.ndarray:
        """Scores seeds x tasks (x steps) on the common scale."""
        shape = (1, len(tasks)) + (1,) * (scores.ndim - 2)
        zero = np.array([self.zero[task] for task in tasks]).reshape(shape)
        one = np.array([self.one[task] for task in tasks]).reshape(shape)
        return (scores - zero) / (one - zero)

    @property
    def reference_hash(self) -> str:
        """Names the numbers that were used: equal scales have equal hashes."""
        return digest([sorted(self.zero.items()), sorted(self.one.items())])

    @property
    def caption(self) -> str:
        if self.scheme == "none":
            return "Returns are not normalised."
        by_meaning: dict[str, list[str]] = {}
        for task, meaning in self.meaning.items():
            by_meaning.setdefault(meaning, []).append(task)
        scales = "; ".join(f"{meaning} ({', '.join(tasks)})" for meaning, tasks in by_meaning.items())
        return f"Normalised scores: {scales}; scale {self.reference_hash}."


def normalisation(
    scheme: Scheme,
    tasks: Sequence[str],
    baseline_curves: Mapping[str, np.ndarray],
    action_set: str = "minimal",
) -> Normalisation:
    """The scale of each task under `scheme`.

    A task that `references` or `paper` does not know falls back to `baseline`: the lowest point of the baseline's mean
    learning curve (or random, where known) is 0, its highest is 1. Without such a curve the task keeps its raw returns.

    `baseline_curves` holds, by task, the baseline's mean return on the steps of its curve.
    """
    zero, one, meaning, fallback = {}, {}, {}, []
    for task in tasks:
        known = random_return(task, action_set)
        curve = baseline_curves.get(task, np.array([]))
        top = REFERENCE.get(task) if scheme == "references" else None
        if scheme == "paper" and task in PAPER_SCORER:
            top = PAPER_SCORER[task], "the paper's SCORER"
        if top is not None and known is not None:
            zero[task], one[task], meaning[task] = known, top[0], f"0 a random policy, 1 {top[1]}"
            continue
        if scheme in ("references", "paper"):
            fallback.append(task)
        low = known if known is not None else float(curve.min(initial=np.inf))
        high = float(curve.max(initial=-np.inf))
        if scheme != "none" and np.isfinite([low, high]).all() and high > low:
            bottom = "a random policy" if known is not None else "the lowest"
            zero[task], one[task] = low, high
            meaning[task] = f"0 {bottom}, 1 the highest point of the baseline's mean curve"
        else:
            zero[task], one[task], meaning[task] = 0.0, 1.0, "raw returns"
    return Normalisation(scheme, zero, one, meaning, tuple(fallback))
