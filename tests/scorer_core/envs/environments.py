"""Environments that can, and that cannot, be saved and restored exactly."""

import random
from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import EzPickle


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
