"""Normalized scores, which are comparable across tasks: (score - zero) / (one - zero), with zero and one by a scheme.

References are fixed numbers with a source. Scores are never scaled by the best of the compared runs: a new variant
would then change the numbers of all others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from analysis.choices import Scheme
from scorer_core.identity import digest
from scorer_core.references import REFERENCE, random_return

# Returns of SCORER in Table 1 of the SCORER paper.
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
class Normalization:
    """The returns that become 0 and 1 on each task."""

    scheme: Scheme
    zero: dict[str, float]
    one: dict[str, float]
    meaning: dict[str, str]  # task -> the meaning of 0 and 1
    fallback: tuple[str, ...] = ()  # tasks for which the scheme has no reference

    def __call__(self, scores: np.ndarray, tasks: Sequence[str]) -> np.ndarray:
        """Normalized scores, of the shape of `scores`: `num_runs x num_tasks` (`x num_steps`)."""
        shape = (1, len(tasks)) + (1,) * (scores.ndim - 2)
        zero = np.array([self.zero[task] for task in tasks]).reshape(shape)
        one = np.array([self.one[task] for task in tasks]).reshape(shape)
        return (scores - zero) / (one - zero)

    @property
    def reference_hash(self) -> str:
        """A hash of the numbers: equal scales have equal hashes."""
        return digest([sorted(self.zero.items()), sorted(self.one.items())])

    @property
    def caption(self) -> str:
        """The meaning of the scale, for captions."""
        if self.scheme == "none":
            return "Scores are returns, not normalized."
        by_meaning: dict[str, list[str]] = {}
        for task, meaning in self.meaning.items():
            by_meaning.setdefault(meaning, []).append(task)
        scales = "; ".join(f"{meaning} ({', '.join(tasks)})" for meaning, tasks in by_meaning.items())
        return f"Normalized score: {scales}; scale ID {self.reference_hash}."


def normalization(
    scheme: Scheme,
    tasks: Sequence[str],
    baseline_curves: Mapping[str, np.ndarray],
    action_set: str = "minimal",
) -> Normalization:
    """The scale of each task under `scheme`.

    If `references` or `paper` has no reference for a task, the task uses `baseline`: 0 is the return of a random policy
    (if unknown, the lowest point of the baseline's mean learning curve), 1 is the highest point of that curve. Without
    such a curve the task keeps its raw returns.

    Args:
        scheme: where the returns of 0 and 1 come from.
        tasks: all tasks of the sweep.
        baseline_curves: by task, the baseline's mean return at the steps of its curve, num_steps.
        action_set: MinAtar's; a random policy depends on it.

    Raises:
        ValueError: if there is no such scheme.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"normalize: unknown scheme '{scheme}'; choose from: {', '.join(get_args(Scheme))}")
    zero, one, meaning, fallback = {}, {}, {}, []
    for task in tasks:
        known = random_return(task, action_set)
        curve = baseline_curves.get(task, np.array([]))
        top = REFERENCE.get(task) if scheme == "references" else None
        if scheme == "paper" and task in PAPER_SCORER:
            top = PAPER_SCORER[task], "the paper's SCORER"
        if top is not None and known is not None:
            zero[task], one[task], meaning[task] = known, top[0], f"0 is a random policy, 1 is {top[1]}"
            continue
        if scheme in ("references", "paper"):
            fallback.append(task)
        low = known if known is not None else float(curve.min(initial=np.inf))
        high = float(curve.max(initial=-np.inf))
        if scheme != "none" and np.isfinite([low, high]).all() and high > low:
            bottom = "a random policy" if known is not None else "the lowest point"
            zero[task], one[task] = low, high
            meaning[task] = f"0 is {bottom}, 1 is the highest point of the baseline's mean curve"
        else:
            zero[task], one[task], meaning[task] = 0.0, 1.0, "raw returns"
    return Normalization(scheme, zero, one, meaning, tuple(fallback))
