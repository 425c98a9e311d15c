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

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class SearchProgressBar:
    """The progress of a search: finished trials, environment steps per second, and the best trial so far."""

    def __init__(self, study: Study, console: Console):
        self._study, self._console, self._printed = study, console, time.monotonic()
        self._progress = progress(console)
        first = study.search.default[0]
        self._steps_per_trial = first.total_steps * len(study.search.default)
        self._bar = self._progress.add_task("", total=study.search.trials_at_most * self._steps_per_trial)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Update the bar to the state of the study."""
        trials = self._study.trials()
        finished = sum(trial.state in FINISHED for trial in trials)
        steps, speed = self._in_flight(trials)
        failed = sum(trial.state == TrialState.FAIL for trial in trials)
        text = f"{finished} of {count(self._study.search.trials_at_most, 'trial')}"
        text += (f", {failed} failed" if failed else "") + best_so_far(self._study, trials)
        self._progress.update(
            self._bar, completed=finished * self._steps_per_trial + steps, description=text, speed=speed
        )
        if not self._console.is_terminal and time.monotonic() - self._printed > SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            self._console.print(f"{text}, {speed:,.0f} steps/s")

    def _in_flight(self, trials: list[FrozenTrial]) -> tuple[int, float]:
        """Environment steps of the batches in training, so far and per second."""
        names = {t.user_attrs["batch"] for t in trials if t.state == TrialState.RUNNING and "batch" in t.user_attrs}
        steps, speed, packs = 0, 0.0, self._study.folder / "packs"
        for name in names:
            batch = Batch(self._study.folder / "batches" / name, {})
            try:
                batch.read()
                states = [PackFolder(packs / pack_id(run_ids)).state() for run_ids in batch.packs]
            except RecordError:
                continue  # read again in a moment
            steps += sum(state.get("step", 0) * state.get("lanes", 0) for state in states)
            speed += sum(s.get("steps_per_second", 0.0) for s in states if s.get("phase") == "training")
        return steps, speed


def best_so_far(study: Study, trials: list[FrozenTrial]) -> str:
    """Text on the best trial so far; with several objectives, on the size of the Pareto front."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return ""
    if len(study.search.objective) > 1:
        return f", {len(study.optuna.best_trials)} on the Pareto front"
    sign = 1 if study.search.directions[0] == "maximize" else -1
    best = max(complete, key=lambda trial: sign * trial.values[0])
    return f", best {best.values[0]:.4g} at {point_in_words(best.params)}"


def point_in_words(point: dict[str, Any]) -> str:
    """The settings of a trial as `name=value, ...`; `base` if there are none."""
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in point.items()) or "base"
