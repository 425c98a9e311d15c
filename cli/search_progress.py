"""The progress bar of a search."""

import time
from types import TracebackType
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from cli.progress import SECONDS_BETWEEN_LINES, progress
from scorer_core.identity import pack_id
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count
from sweeps.batches import Batch
from sweeps.study import Study

TOLD = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class SearchProgressBar:
    """How far a search is: trials told, environment steps a second, and the best so far."""

    def __init__(self, study: Study, console: Console):
        self._study, self._console, self._spoken = study, console, time.monotonic()
        self._progress = progress(console)
        first = study.search.default[0]
        self._steps_a_trial = first.total_steps * len(study.search.default)
        self._bar = self._progress.add_task("", total=study.search.trials_at_most * self._steps_a_trial)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Draw how far the study is."""
        trials = self._study.trials()
        told = sum(trial.state in TOLD for trial in trials)
        steps, speed = self._in_flight(trials)
        failed = sum(trial.state == TrialState.FAIL for trial in trials)
        text = f"{told} of {count(self._study.search.trials_at_most, 'trial')}"
        text += (f", {failed} failed" if failed else "") + best_so_far(self._study, trials)
        self._progress.update(self._bar, completed=told * self._steps_a_trial + steps, description=text, speed=speed)
        if not self._console.is_terminal and time.monotonic() - self._spoken > SECONDS_BETWEEN_LINES:
            self._spoken = time.monotonic()
            self._console.print(f"{text}, {speed:,.0f} steps/s")

    def _in_flight(self, trials: list[FrozenTrial]) -> tuple[int, float]:
        """Environment steps of the batches in training so far, and a second."""
        names = {t.user_attrs["batch"] for t in trials if t.state == TrialState.RUNNING and "batch" in t.user_attrs}
        steps, speed, packs = 0, 0.0, self._study.folder / "packs"
        for name in names:
            batch = Batch(self._study.folder / "batches" / name, {})
            try:
                batch.read()
                states = [PackFolder(packs / pack_id(run_ids)).state() for run_ids in batch.packs]
            except RecordError:
                continue  # drawn again in a moment
            steps += sum(state.get("step", 0) * state.get("lanes", 0) for state in states)
            speed += sum(s.get("steps_per_second", 0.0) for s in states if s.get("phase") == "training")
        return steps, speed


def best_so_far(study: Study, trials: list[FrozenTrial]) -> str:
    """In words: the best value and where it is, of one objective; the number of points on a Pareto front of several."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return ""
    if len(study.search.objective) > 1:
        return f", {len(study.optuna.best_trials)} on the Pareto front"
    sign = 1 if study.search.directions[0] == "maximize" else -1
    best = max(complete, key=lambda trial: sign * trial.values[0])
    return f", best {best.values[0]:.4g} at {point_in_words(best.params)}"


def point_in_words(point: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in point.items()) or "base"
