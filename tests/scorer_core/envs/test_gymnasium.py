"""Gymnasium environments: what a checkpoint holds of them, and which of them are refused because they cannot resume."""

import random
from typing import Any

import gymnasium
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from scorer_core import checkpoint
from scorer_core.config import RunConfig
from scorer_core.envs import saving
from scorer_core.envs.gymnasium import GymnasiumEnvironments
from scorer_core.metrics import MEASURED
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.train import train
from tests.scorer_core.envs.environments import (
    Endless,
    EndlessGeneratorLost,
    GeneratorLost,
    HalfOwnState,
    KeepsState,
    LostButPeriodic,
    NumpysGlobalGenerator,
    OwnState,
    PlainEzPickle,
    PythonsGlobalGenerator,
    Queue,
    RaisesAtReset,
    SeededGlobalGenerator,
    SeededSpace,
    Shared,
    StateLost,
    StateLostAndKept,
    UnseededGenerator,
    Walk,
    WithEngine,
)


def kept(**_: Any) -> gymnasium.Env:
    return KeepsState(TimeLimit(StateLostAndKept(), 5))


def task_of(environment: type[gymnasium.Env], **settings: Any) -> str:
    name = f"{environment.__name__}{''.join(f'-{value}' for value in settings.values())}-v0"
    if name not in gymnasium.registry:
        wrapped = environment is StateLostAndKept
        gymnasium.register(name, entry_point=kept if wrapped else environment, **settings)
    return name


def played(environments: GymnasiumEnvironments, steps: int, first: int = 0) -> list[torch.Tensor]:
    """What `steps` steps return; the actions depend on the step only."""
    returned = []
    for step in range(first, first + steps):
        actions = torch.randint(2, (2, 3), generator=torch.Generator().manual_seed(step))
        result = environments.step(actions)
        assert result.final_observation is not None
        returned += [result.observation, result.reward, result.terminated, result.truncated, result.final_observation]
    return returned


def saved_and_loaded(environments: GymnasiumEnvironments) -> dict[str, Any]:
    return checkpoint.load(checkpoint.dump(environments.state()))


PLAIN = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    Walk,
    PlainEzPickle,
    OwnState,
    StateLostAndKept,
    SeededSpace,
    Endless,
]
PICKLED = [WithEngine, Shared, Queue]


@pytest.mark.parametrize("task", [*PLAIN, *PICKLED], ids=str)
def test_restored_environments_continue_bit_for_bit(task):
    name = task if isinstance(task, str) else task_of(task, max_episode_steps=7)
    environments = GymnasiumEnvironments(name, [3, 4], 3)
    environments.reset()
    played(environments, 11)
    state = saved_and_loaded(environments)
    assert state["format"] == ("pickle" if task in PICKLED else "values")
    expected = played(environments, 40, first=11)
    restored = GymnasiumEnvironments(name, [3, 4], 3)
    restored.reset()
    restored.restore(state)
    assert all(torch.equal(*pair) for pair in zip(played(restored, 40, first=11), expected, strict=True))
    assert restored.state()["format"] == state["format"]
    if not isinstance(task, str):
        assert any(truncated.any() for truncated in expected[3::5]), "no episode ended in the comparison"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (
            StateLost,
            r"the environment cannot be saved.*\(values: engine is of type Engine; pickle: the observation of step 1\)",
        ),
        (LostButPeriodic, r"the environment cannot be saved and restored exactly.*pickle: the observation of step 1"),
        (
            GeneratorLost,
            r"the environment cannot be saved and restored exactly.*pickle: the observation of the reset after step",
        ),
        (
            EndlessGeneratorLost,
            r"the environment cannot be saved and restored exactly.*the observation of the reset after step",
        ),
        (HalfOwnState, r"the environment cannot be saved and restored exactly.*values: the observation of step 1;"),
        (NumpysGlobalGenerator, r"two new environments with equal seeds differ in the observation.*self\.np_random"),
        (SeededGlobalGenerator, r"two new environments with equal seeds differ in the observation"),
        (PythonsGlobalGenerator, r"two new environments with equal seeds differ in the observation"),
        (UnseededGenerator, r"two new environments with equal seeds differ in the observation"),
        (RaisesAtReset, r"the environment raises OSError: no licence found"),
    ],
)
def test_an_environment_that_would_not_resume_exactly_is_refused_by_name_in_one_line(environment, reason):
    name = task_of(environment)
    with pytest.raises(RecordError, match=rf"^{name}: {reason}") as refused:
        GymnasiumEnvironments(name, [0], 2)
    assert "\n" not in str(refused.value)


def test_the_check_does_not_change_the_episodes_of_a_pack(monkeypatch):
    def observations() -> list[torch.Tensor]:
        environments = GymnasiumEnvironments("CartPole-v1", [3, 4], 3)
        return [environments.reset(), *played(environments, 40)]

    monkeypatch.setattr(saving, "format_of", lambda _: "values")
    unchecked = observations()
    monkeypatch.undo()
    saving.format_of.cache_clear()
    numpys, pythons = np.random.get_state(legacy=False)["state"]["key"], random.getstate()
    assert all(torch.equal(*pair) for pair in zip(observations(), unchecked, strict=True))
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpys)
    assert random.getstate() == pythons


def test_a_damaged_state_is_rejected_by_the_name_of_its_key():
    environments = GymnasiumEnvironments("CartPole-v1", [3, 4], 3)
    environments.reset()

    def refusal(**changed: Any) -> str:
        state: dict[str, Any] = environments.state() | changed
        with pytest.raises(ValueError, match="'environments") as refused:
            environments.restore({name: value for name, value in state.items() if value is not None})
        return str(refused.value)

    states = environments.state()["states"]
    assert refusal(format="compiled") == "'environments.format' is 'compiled', not 'values' or 'pickle'"
    assert refusal(states=1) == "'environments.states' is of type int, not list"
    assert refusal(format="pickle", states=None, pickle=1).startswith("'environments.pickle': AttributeError")
    assert refusal(extra=1) == "'environments.extra' is unknown"
    assert refusal(states=None) == "'environments.states' is missing"
    assert refusal(states=states[:5]) == "'environments' holds 5 environments, not 6"
    assert "'environments.states[0]': ValueError: it is not a list of 4" in refusal(states=[states[0][:3]] * 6)
    other = [*states[0][:3], states[0][3] | {"class": "other.Env"}]
    assert "is of the class other.Env, not gymnasium.envs.classic_control" in refusal(states=[other] * 6)
    renamed = [*states[0][:3], {"class": states[0][3]["class"], "values": {}, "generators": {}}]
    assert "'environments.states[0]': ValueError: 'attributes' is missing, 'values' is unknown" in refusal(
        states=[renamed] * 6
    )
    damaged = [*states[0][:3], states[0][3] | {"generators": {"_np_random": {}}}]
    assert "'environments.states[0]': ValueError: state must be for a PCG64" in refusal(states=[damaged] * 6)


SETTINGS: dict[str, Any] = {
    "num_envs": 3, "update_every": 3, "total_steps": 240, "learning_starts": 30, "batch_size": 8, "replay_size": 60,
    "log_points": 8, "phi_widths": (8, 8), "theta_widths": (8,),
}  # fmt: skip


def train_to(folder: PackFolder, until: int | None = None) -> bool:
    return train(folder, torch.device("cpu"), commit_seconds=60.0, should_stop=lambda: False, until=until)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("environment", [StateLostAndKept, WithEngine])
def test_a_resumed_pack_leaves_the_rows_of_an_uninterrupted_one(environment, tmp_path):
    task = task_of(environment, max_episode_steps=7)
    configs = [RunConfig(task=task, seed=seed, **SETTINGS) for seed in range(2)]
    whole, cut = PackFolder.create(tmp_path / "whole", configs), PackFolder.create(tmp_path / "cut", configs)
    assert train_to(whole)
    assert not train_to(cut, until=100)
    assert train_to(cut)
    whole_rows, cut_rows = (
        pa.concat_tables(pq.read_table(part) for part in folder.parts()).drop_columns(list(MEASURED)).to_pylist()
        for folder in (whole, cut)
    )
    assert str(cut_rows) == str(whole_rows), "as text, in which NaN equals NaN"
    assert whole_rows[-1]["episodes"] > 10


def test_a_pack_of_a_refused_environment_fails_before_it_trains(tmp_path):
    folder = PackFolder.create(tmp_path, [RunConfig(task=task_of(StateLost), seed=0, **SETTINGS)])
    with pytest.raises(RecordError, match=r"^StateLost-v0: the environment cannot be saved"):
        train_to(folder)
    assert {path.name for path in folder.path.iterdir()} == {"pack.json"}
