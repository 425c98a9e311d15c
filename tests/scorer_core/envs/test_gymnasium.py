"""Gymnasium environments: what a checkpoint holds of them, and which of them are refused because they cannot resume."""

import random
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import EzPickle
from gymnasium.wrappers import TimeLimit

from scorer_core import checkpoint
from scorer_core.config import RunConfig
from scorer_core.envs import saving
from scorer_core.envs.gymnasium import GymnasiumEnvironments
from scorer_core.metrics import MEASURED
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.train import train


class Walk(gymnasium.Env):
    """A random walk from a random place: it ends outside [-limit, limit]."""

    observation_space = Box(-100, 100, (1,), np.float64)
    action_space = Discrete(2)
    limit = 3.0
    draws_at_steps = True

    def reset(self, *, seed: int | None = None, options: Any = None):  # noqa: ARG002
        super().reset(seed=seed)
        self.place = float(self.draw())
        return self.observe(), {}

    def step(self, action: int):
        self.place += (1.0 if action else -1.0) + (self.draw() if self.draws_at_steps else 0.1)
        return self.observe(), -abs(self.place), abs(self.place) > self.limit, False, {}

    def draw(self) -> float:
        return self.np_random.uniform(-0.5, 0.5)

    def observe(self) -> np.ndarray:
        return np.array([self.place])


class Engine:
    """An object that is no plain value."""

    place = 0.0


class WithEngine(Walk):
    """Its state is in an object, which a pickle holds."""

    def __init__(self):
        self.engine = Engine()

    @property
    def place(self) -> float:
        return self.engine.place

    @place.setter
    def place(self, value: float) -> None:
        self.engine.place = value


class StateLost(WithEngine, EzPickle):
    """As MuJoCo's and Box2D's: its pickle is the constructor's arguments."""

    def __init__(self):
        WithEngine.__init__(self)
        EzPickle.__init__(self)


class LostButPeriodic(StateLost):
    """Every 20 steps it is in the state of a new environment."""

    def draw(self) -> float:
        return 0.0

    def step(self, action: int):  # noqa: ARG002
        self.place = (self.place + 1) % 20
        return self.observe(), 0.0, False, False, {}


class PlainEzPickle(Walk, EzPickle):
    """Its pickle would lose the state, but all of its attributes are plain values."""

    def __init__(self):
        EzPickle.__init__(self)


class GeneratorLost(WithEngine):
    """Its pickle holds everything but the generator, so only the next episode differs."""

    draws_at_steps = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_np_random"}


class OwnState(StateLost):
    """Its pickle loses the state, but it has functions that give and take it."""

    def get_state(self) -> dict[str, Any]:
        return {"place": np.array([self.place]), "history": ("a", [1, 2.5, None, np.float32(0.1)])}

    def set_state(self, state: dict[str, Any]) -> None:
        assert type(state["place"]) is np.ndarray
        assert state["history"] == ("a", [1, 2.5, None, np.float32(0.1)])
        assert type(state["history"][1][3]) is np.float32
        (self.place,) = map(float, state["place"])


class KeepsState(gymnasium.Wrapper):
    """It gives and takes the state of an environment that cannot do so itself."""

    def get_state(self) -> float:
        return self.get_wrapper_attr("engine").place

    def set_state(self, state: float) -> None:
        self.get_wrapper_attr("engine").place = state


class StateLostAndKept(StateLost):
    """Registered with the wrapper around it."""


class HalfOwnState(OwnState):
    """Its functions lose half of the state."""

    def get_state(self) -> dict[str, Any]:
        return super().get_state() | {"place": np.array([self.place // 1])}


class NumpysGlobalGenerator(Walk):
    def draw(self) -> float:
        return np.random.uniform(-0.5, 0.5)


class SeededGlobalGenerator(NumpysGlobalGenerator):
    def reset(self, *, seed: int | None = None, options: Any = None):  # noqa: ARG002
        if seed is not None:
            np.random.seed(seed)
        return super().reset(seed=seed)


class PythonsGlobalGenerator(Walk):
    def draw(self) -> float:
        return random.uniform(-0.5, 0.5)


class UnseededGenerator(Walk):
    def __init__(self):
        self.own = np.random.default_rng()

    def draw(self) -> float:
        return self.own.uniform(-0.5, 0.5)


class SeededSpace(Walk):
    """It draws from its own space, which has a generator of its own."""

    def __init__(self):
        self.starts = Box(-1, 1, (1,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None):  # noqa: ARG002
        if seed is not None:
            self.starts.seed(seed)
        return super().reset(seed=seed)

    def draw(self) -> float:
        return float(self.starts.sample()[0])


class Shared(Walk):
    """Two attributes are one list, which plain values would make two."""

    def __init__(self):
        self.path: list[float] = [0.0]
        self.same_path = self.path

    def draw(self) -> float:
        self.path.append(len(self.path) / 10)
        return self.same_path[-1] % 0.5 + self.np_random.uniform()


class Queue(Walk):
    def __init__(self):
        self.recent = deque([0.0], maxlen=3)

    def draw(self) -> float:
        self.recent.append(self.np_random.uniform(-0.5, 0.5))
        return self.recent[0]


class Endless(Walk):
    limit = np.inf


class EndlessGeneratorLost(GeneratorLost):
    limit = np.inf


class RaisesAtReset(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None):  # noqa: ARG002
        raise OSError("no licence\nfound")


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
