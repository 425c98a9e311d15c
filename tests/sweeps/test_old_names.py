"""Definitions and studies in the spelling of version 0.1: they are read, and are the same runs and searches."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from optuna.trial import TrialState

from slurm.jobs.search_worker import Worker
from sweeps import folders, loading, search
from sweeps.confirm import ranking
from sweeps.errors import DefinitionError
from sweeps.studies import study_in
from sweeps.study import BOUND_TO, Study
from tests.search_synthetic import SyntheticTrainer

# SHA-256 of the run ids that the commits before the new names expanded each shipped sweep to, in their order.
RUN_IDS = {
    "leader_regularisation": "20c31d18bb5ed78d",
    "objective": "aa867b70a3f7a3f6",
    "order_and_batches": "72356d14eff7ef5e",
    "paper_minatar": "93c7bd43ae466963",
    "quickstart": "a8e7d55144111b13",
    "ranking": "6d515438f3abfb77",
    "ratio": "7a74588b8fa41a4a",
    "roles": "e685f22553024301",
    "timescale": "23aa125d57cc3549",
}
SWEEP = {
    "name": "mine", "question": "why?", "tasks": ["minatar/breakout"], "total_steps": 10_000, "seeds": 2,
    "base": {"hold": "follower"}, "baseline": "a",
    "variants": {"a": {"ratio": 5}, "hold": {"hold": "leader", "ratio": 2}},
    "ablate": {"from": "a", "toggle": [{"hold": "leader", "ratio": 10}]},
}  # fmt: skip
SEARCH = {
    "name": "syn", "question": "?", "tasks": ["minatar/breakout"], "total_steps": 4000, "seeds": 5, "trials": 6,
    "base": {"num_envs": 8, "replay_size": 400, "batch_size": 8, "hold": "follower"},
    "space": {"ratio": {"log": [0.01, 100]}}, "pruner": "wilcoxon", "pruner_p": 0.2, "pruner_keep": 0.4,
}  # fmt: skip


def ids(sweep: loading.Sweep) -> list[str]:
    """The run ids of a sweep, without those of PQN, which was added to paper_minatar later."""
    return [run.run_id for run in sweep.runs if run.config.family == "dqn"]


def written(folder: Path, definition: dict) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(definition))
    return str(path)


def in_new_names(definition: dict) -> dict:
    text = json.dumps(definition).replace('{"hold":', '{"fixed_lr":').replace(', "hold": "', ', "fixed_lr": "')
    return json.loads(text.replace("pruner_p", "p_threshold").replace("pruner_keep", "keep_fraction"))


@pytest.mark.parametrize("name", sorted(RUN_IDS))
def test_a_shipped_sweep_is_the_runs_that_it_was(name):
    assert hashlib.sha256(" ".join(ids(loading.load(name))).encode()).hexdigest()[:16] == RUN_IDS[name]


def test_hold_is_the_old_name_of_fixed_lr_in_base_variants_toggles_and_overrides(tmp_path):
    old = loading.load(written(tmp_path, SWEEP))
    assert old == loading.load(written(tmp_path, in_new_names(SWEEP)))
    assert list(old.variants) == ["a", "hold"], "a variant may have this name"
    by_name = {run.variant.name: run.config for run in old.runs}
    assert (by_name["a"].leader_lr, by_name["a"].follower_lr) == (1e-4, 5e-4)
    assert (by_name["hold"].leader_lr, by_name["hold"].follower_lr) == (1e-4, 2e-4)
    for path in (written(tmp_path, SWEEP), written(tmp_path, in_new_names(SWEEP))):
        for key in ("hold", "fixed_lr"):
            changed = loading.load(path, [f"variants.hold.{key}=follower"])
            assert changed.variants["hold"] == {"fixed_lr": "follower", "ratio": 2}
    assert "hold" not in loading.dump(old).replace("hold:\n", "")


def test_both_spellings_of_a_key_are_an_error(tmp_path):
    path = written(tmp_path, SWEEP | {"base": {"hold": "leader", "fixed_lr": "leader"}})
    with pytest.raises(DefinitionError, match=r"mine.yaml: base.hold: is the old name of fixed_lr; remove one of them"):
        loading.load(path)
    with pytest.raises(DefinitionError, match=r"mine.yaml: pruner_p: is the old name of p_threshold"):
        search.load(written(tmp_path, SEARCH | {"p_threshold": 0.2}))


def test_an_output_folder_with_old_names_or_another_question_has_the_definition_of_its_sweep(tmp_path):
    outputs = tmp_path / "mine"
    outputs.mkdir()
    (outputs / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    new = in_new_names(SWEEP) | {"question": "Why now?", "paper": "It is known."}
    assert folders.changes(written(tmp_path, new), outputs) == []
    other = new | {"seeds": 3, "base": {"fixed_lr": "leader"}}
    assert folders.changes(written(tmp_path, other), outputs) == ["seeds", "base.fixed_lr"]


def test_a_search_that_version_0_1_started_continues_in_either_spelling(tmp_path):
    old = search.load(written(tmp_path, SEARCH))
    new = search.load(written(tmp_path, in_new_names(SEARCH)))
    assert old == new
    assert (new.p_threshold, new.keep_fraction, new.base["fixed_lr"]) == (0.2, 0.4, "follower")
    assert search.load(written(tmp_path, in_new_names(SEARCH)), ["pruner_p=0.3"]).p_threshold == 0.3
    bound = Study(new, tmp_path / "syn").optuna.user_attrs[BOUND_TO]["definition"]
    assert (bound["pruner_p"], bound["pruner_keep"], bound["base"]["hold"]) == (0.2, 0.4, "follower")
    assert not {"p_threshold", "keep_fraction", "fixed_lr"} & {*bound, *bound["base"]}
    (tmp_path / "syn" / "search.yaml").write_text(yaml.safe_dump(SEARCH))
    assert study_in(tmp_path / "syn").search == new
    with pytest.raises(DefinitionError, match=r"\(p_threshold: 0\.2, now 0\.3\)"):
        Study(search.load(written(tmp_path, SEARCH), ["pruner_p=0.3"]), tmp_path / "syn")


def test_the_attributes_of_trials_that_version_0_1_wrote_are_read(tmp_path):
    made = Study(search.load(written(tmp_path, SEARCH | {"pruner": "halving", "pruner_keep": 0.5})), tmp_path / "syn")
    assert Worker(made, SyntheticTrainer(), 6).work() == 0
    expected = [made.rung_scores(rung) for rung in (0, 1)], [trial.number for trial in ranking(made)]
    assert made.trials()[0].user_attrs.keys() >= {"run_ids", "rung_0_scores"}
    journal = tmp_path / "syn" / "study.journal"
    text = journal.read_text()
    for new, old in [("run_ids", "run ids"), ("pruned_at_step", "stopped at"), ("rung_0_scores", "rung 0"),
                     ("rung_1_scores", "rung 1")]:  # fmt: skip
        assert f'"{new}"' in text
        text = text.replace(f'"{new}"', f'"{old}"')
    journal.write_text(text)
    again = study_in(tmp_path / "syn")
    assert {"run ids", "stopped at"} <= {key for trial in again.trials() for key in trial.user_attrs}
    assert any(trial.state == TrialState.PRUNED for trial in again.trials())
    found = [again.rung_scores(rung) for rung in (0, 1)], [trial.number for trial in ranking(again)]
    assert str(found) == str(expected)
    assert all(np.isfinite(scores).all() for scores in found[0][0].values())
