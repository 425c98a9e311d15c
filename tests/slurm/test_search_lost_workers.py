"""Workers that are killed or lose their disk, storage or device: the trials go on. With a stand-in for training."""

import errno
import itertools
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from scorer_core.support.errors import RecordError
from slurm.jobs.search_worker import Worker
from slurm.jobs.train_pack import FAILED, FINISHED, INTERRUPTED
from sweeps.search import Search
from sweeps.storage import StorageError
from sweeps.study import STARTS_WITHOUT_PROGRESS, Study
from tests.search_synthetic import SyntheticTrainer, search_of
from tests.searches import Raising, every_run, finishing_writes, points


def disk_full() -> RecordError:
    error = RecordError("packs/1/state.json: cannot be written: No space left on device")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    "error",
    [disk_full(), OSError(errno.ENOSPC, "No space left on device"), StorageError("the database does not answer")],
    ids=["record", "disk", "storage"],
)
def test_a_full_disk_or_a_lost_storage_fails_no_trial_however_often(tmp_path, error):
    study = Study(search_of(trials=3), tmp_path / "syn")
    for _ in range(STARTS_WITHOUT_PROGRESS + 2):
        with pytest.raises(type(error)):
            Worker(study, Raising(error, every_run), 3).work()
        assert [trial.state for trial in study.trials()] == [TrialState.RUNNING] * 3
    assert Worker(study, SyntheticTrainer(), 3).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 3


def test_a_broken_device_fails_its_trials_only_after_several_workers_and_then_says_so(tmp_path):
    study = Study(search_of(trials=4), tmp_path / "syn")
    broken = Raising(RuntimeError("CUDA error: an illegal memory access"), lambda config: config.ratio == first)
    batch = study.claim(2)
    assert batch is not None
    first = search_of().runs(batch.points[0])[0].ratio
    batch.forget_start()
    batch.release()
    for _ in range(STARTS_WITHOUT_PROGRESS):
        assert Worker(study, broken, 2).work() == FAILED
        assert [trial.state for trial in study.trials()] == [TrialState.RUNNING] * 2
    assert Worker(study, broken, 2).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.FAIL] * 2 + [TrialState.COMPLETE] * 2
    assert study.trials()[0].user_attrs["error"] == (
        "3 workers in a row ended without a new checkpoint of it; the last error: RuntimeError: CUDA error: an illegal "
        "memory access. Fix the cause, then search again with --trials 6 to replace them"
    )


def test_killed_right_after_a_trial_failed_the_others_go_on_from_their_commit(tmp_path, monkeypatch):
    space = {"ratio": [1.0, 2.0, 4.0]}
    study = Study(search_of(space=space, sampler="grid", trials=3), tmp_path / "syn")
    failing = study.fail

    def killed_after_failing(*arguments: Any) -> None:
        failing(*arguments)
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(study, "fail", killed_after_failing)
        with pytest.raises(KilledError):
            Worker(study, Raising(ValueError("env"), lambda config: config.ratio == 2.0, commits=1), 3).work()
    trainer = SyntheticTrainer()
    assert Worker(study, trainer, 3).work() == FINISHED
    assert points(study)["FAIL"] == [2.0]
    assert len(points(study)["COMPLETE"]) == 2
    assert not trainer.trained, "no run began again"


class KilledError(BaseException):
    """Simulates SIGKILL: no code of the worker handles it."""


def test_a_batch_that_kills_its_workers_is_given_up_and_the_search_goes_on(tmp_path):
    study = Study(search_of(trials=6), tmp_path / "syn")
    killing = Raising(KilledError(), lambda config: config.run_id in first)
    first = [run.run_id for run in study.search.runs(_first_point(study))]
    for _ in range(STARTS_WITHOUT_PROGRESS):
        with pytest.raises(KilledError):
            Worker(study, killing, 2).work()
    assert Worker(study, killing, 2).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.FAIL] * 2 + [TrialState.COMPLETE] * 4
    assert (
        study.trials()[1]
        .user_attrs["error"]
        .startswith(
            "3 workers in a row ended without a new checkpoint of it, killed or out of memory; see their logs. Fix"
        )
    )
    assert set(finishing_writes(study).values()) == {1}


def _first_point(study: Study) -> dict[str, Any]:
    """The point of the first trial, which a worker drew before it was killed."""
    batch = study.claim(2)
    assert batch is not None
    batch.forget_start()
    batch.release()
    return batch.points[0]


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_a_batch_whose_workers_are_killed_after_each_commit_is_finished(tmp_path, pruner):
    study = Study(search_of(trials=2, pruner=pruner), tmp_path / "syn")
    killed = 0
    while True:
        try:
            assert Worker(study, Raising(KilledError(), every_run, commits=1), 2).work() == FINISHED
            break
        except KilledError:
            killed += 1
    assert killed > STARTS_WITHOUT_PROGRESS
    assert {trial.state for trial in study.trials()} <= {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_worker_that_is_told_to_stop_does_not_count_against_its_trials(tmp_path):
    study = Study(search_of(trials=2), tmp_path / "syn")
    for _ in range(STARTS_WITHOUT_PROGRESS + 3):
        asked = itertools.count()
        stop = lambda asked=asked: next(asked) > 0  # noqa: E731, once it has claimed
        assert Worker(study, SyntheticTrainer(should_stop=lambda: True), 2, should_stop=stop).work() == INTERRUPTED
    assert Worker(study, SyntheticTrainer(), 2).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 2


def test_a_sampler_that_raises_fails_its_trial_with_its_own_name_and_stops_the_worker(tmp_path, monkeypatch):
    class Singular(optuna.samplers.RandomSampler):
        def sample_independent(self, *_: Any, **__: Any) -> Any:
            raise np.linalg.LinAlgError("singular matrix")

    study = Study(search_of(trials=3), tmp_path / "syn")
    with monkeypatch.context() as patched:
        patched.setattr("sweeps.study.make_sampler", lambda *_: Singular())
        with pytest.raises(RecordError, match="sampler tpe failed: LinAlgError: singular matrix"):
            Worker(study, SyntheticTrainer(), 1).work()
    assert [trial.state for trial in study.trials()] == [TrialState.FAIL]
    assert Worker(study, SyntheticTrainer(), 1).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.FAIL] + [TrialState.COMPLETE] * 2
    assert study.trials()[0].user_attrs["error"] == "sampler tpe failed: LinAlgError: singular matrix"


def test_a_trial_that_kills_whoever_draws_its_point_is_given_up(tmp_path, monkeypatch):
    def killing(search: Search, number: int) -> Any:
        raise KilledError

    study = Study(search_of(trials=2), tmp_path / "syn")
    with monkeypatch.context() as patched:
        patched.setattr("sweeps.study.make_sampler", killing)
        for _ in range(1 + STARTS_WITHOUT_PROGRESS):
            with pytest.raises(KilledError):
                study.claim(1)
    assert Worker(study, SyntheticTrainer(), 1).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert (
        study.trials()[0].user_attrs["error"].startswith("3 workers in a row ended while sampler tpe drew its point.")
    )


def test_a_damaged_batch_is_one_line_that_says_what_to_remove_and_then_its_trials_begin_again(tmp_path):
    study = Study(search_of(trials=2), tmp_path / "syn")
    _first_point(study)
    file = study.folder / "batches" / "000000" / "batch.json"
    for text in ("{", "[]", '{"points": 3}', '{"points": {"x": {}}, "packs": [], "decisions": []}'):
        file.write_text(text)
        with pytest.raises(RecordError, match=r"batch\.json: ") as refused:
            study.claim(2)
        assert "\n" not in str(refused.value)
    file.unlink()
    assert Worker(study, SyntheticTrainer(), 2).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 2
