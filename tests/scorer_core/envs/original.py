"""The minatar package, made to take its chances from the counter-based generator, as the compiled games do."""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from minatar import Environment

from scorer_core.envs import asterix, breakout, freeway, seaquest
from scorer_core.envs.rules import STICKY
from scorer_core.noise import Stream, uniform


class GivenUniforms:
    """Answers the package's calls of numpy's RandomState with the uniforms of one step, one after the other."""

    def __init__(self) -> None:
        self.uniforms = np.zeros(0)
        self.next_draw = 0

    def start_step(self, uniforms: np.ndarray) -> None:
        self.uniforms = uniforms
        self.next_draw = STICKY

    def _take(self, count: int) -> np.ndarray:
        taken = self.uniforms[self.next_draw : self.next_draw + count]
        assert len(taken) == count
        self.next_draw += count
        return taken

    def rand(self, count: int | None = None) -> Any:
        if count is None:
            return float(self._take(1)[0])
        # Half a unit off the 24-bit grid: the package's cars stand still at exactly 1/2, which has no picture.
        return self._take(count) + 2.0**-25

    def randint(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        if size is None:
            return low + int(self._take(1)[0] * (high - low))
        return low + (self._take(size) * (high - low)).astype(int)


class Original:
    """One game of the package; an ended episode is followed by the next one's first observation."""

    def __init__(self, game: str) -> None:
        self.environment: Any = Environment(game)
        self.chances = GivenUniforms()
        self.environment.random = self.environment.env.random = self.chances
        self.name_draws(self.environment.env)

    def name_draws(self, env: Any) -> None:
        """Have each of the package's random decisions begin at its named draw."""
        modules: dict[str, list[tuple[str, int]]] = {
            "asterix": [("_spawn_entity", asterix.FROM_LEFT)],
            "breakout": [("reset", breakout.SIDE)],
            "seaquest": [("_spawn_enemy", seaquest.ENEMY_FROM_LEFT), ("_spawn_diver", seaquest.DIVER_FROM_LEFT)],
        }
        for method, draw in modules.get(self.environment.env_name, []):
            setattr(env, method, self._beginning_at(draw, getattr(env, method)))
        if self.environment.env_name == "freeway":
            randomize = env._randomize_cars

            def randomize_cars(initialize: bool) -> None:
                self.chances.next_draw = freeway.RESET_INTERVALS if initialize else freeway.NEW_INTERVALS
                randomize(initialize)

            env._randomize_cars = randomize_cars

    def _beginning_at(self, draw: int, method: Any) -> Any:
        def named() -> Any:
            self.chances.next_draw = draw
            return method()

        return named

    def reset(self, uniforms: np.ndarray) -> np.ndarray:
        self.chances.start_step(uniforms)
        self.environment.reset()
        return self.environment.state()

    def step(self, action: int, uniforms: np.ndarray) -> tuple[np.ndarray, float, bool]:
        self.chances.start_step(uniforms)
        reward, terminal = self.environment.act(action)
        if terminal:
            self.environment.reset()
        return self.environment.state(), reward, terminal


def uniforms_of(module: ModuleType, seed: int, step: int, environments: int) -> np.ndarray:
    """All draws of a step, by the torch form of the generator."""
    shape = (environments, module.DRAWS)
    return uniform(torch.tensor(seed), step, Stream.ENVIRONMENT, shape).numpy().astype(np.float64)
