"""The MinAtar games as `Environments`: compiled; on a CPU in one loop, on CUDA with one thread per environment.

Environment n of a lane is a function of the lane's seed, n and the step alone: its chances at a step are the draws
from n * DRAWS on of that lane's key for that step.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic
from torch import Tensor

from scorer_core import noise
from scorer_core.checkpoint import check_keys, fit
from scorer_core.envs import asterix, breakout, freeway, rules, seaquest, space_invaders
from scorer_core.envs.interface import Step
from scorer_core.envs.rules import ALL_ACTIONS, ELAPSED, JIT_OPTIONS, Rules, rules_of, scalar, stuck_action, time_is_up
from scorer_core.noise import Stream, key_scalar

GAMES: dict[str, ModuleType] = {
    "asterix": asterix,
    "breakout": breakout,
    "freeway": freeway,
    "seaquest": seaquest,
    "space_invaders": space_invaders,
}
ACTION_SETS = ("minimal", "full")
ENVIRONMENT = int(Stream.ENVIRONMENT)
BITS_PER_ACTION = 3
STATE_DTYPE = torch.int16
CACHE_LINE = 64  # bytes
LINES_AHEAD = 3  # of a longer state; the processor prefetches a shorter one by itself
ENVIRONMENTS_AHEAD = 8  # measured: 4 to 16 do as well


class CompiledEnvironments:
    """`step` returns the same tensors each time and overwrites them: copy what must outlive the next step.

    The games keep part of their state in the observation, so it must not be written to.
    """

    observation_dtype = torch.uint8
    truncates = False
    pickled = False
    sparse = True

    def __init__(
        self,
        game: str,
        protocol: str,
        seeds: Tensor,
        num_envs: int,
        action_set: str = "minimal",
        device: torch.device | str = "cpu",
    ) -> None:
        if game not in GAMES:
            raise ValueError(f"unknown game {game!r}; choose from: {', '.join(GAMES)}")
        if action_set not in ACTION_SETS:
            raise ValueError(f"unknown action set {action_set!r}; choose from: {', '.join(ACTION_SETS)}")
        module = GAMES[game]
        rules = rules_of(game, protocol)
        actions = module.ACTIONS if action_set == "minimal" else ALL_ACTIONS
        self.num_actions = len(actions)
        self.observation_shape = (10, 10, module.CHANNELS)
        device = torch.device(device)
        shape = (len(seeds), num_envs)
        self._meanings = meanings_of(actions)
        self._seeds = seeds.to(device, torch.int64).contiguous()
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        # On CUDA neighboring threads read neighboring numbers.
        self._states = (
            torch.zeros((module.STATE_SIZE, *shape), dtype=STATE_DTYPE, device=device).permute(1, 2, 0)
            if device.type == "cuda"
            else torch.zeros((*shape, module.STATE_SIZE), dtype=STATE_DTYPE)
        )
        self._observation = torch.zeros((*shape, *self.observation_shape), dtype=torch.uint8, device=device)
        self._taken = torch.zeros(shape, dtype=torch.int64, device=device)  # the actions that happened last
        reward = torch.zeros(shape, dtype=torch.float32, device=device)
        terminated = torch.zeros(shape, dtype=torch.bool, device=device)
        self._result = Step(self._observation, reward, terminated, torch.zeros_like(terminated), None)
        if device.type == "cuda":
            from scorer_core.envs import cuda_games

            self._loops = cuda_games.loops(module, rules, len(seeds) * num_envs)
            self._in_place: Callable[[Tensor], Any] = cuda_games.in_place
        else:
            self._loops, self._in_place = _loops(module, rules), Tensor.numpy
        pictures = self._observation.flatten(start_dim=2)
        self._place = tuple(map(self._in_place, (self._seeds, self._step, self._states, pictures)))
        self._outcome = tuple(map(self._in_place, (self._taken, reward, terminated)))

    def reset(self) -> Tensor:
        self._step.zero_()
        self._states.zero_()
        self._taken.zero_()
        reset_all, _ = self._loops
        reset_all(*self._place)
        return self._observation

    def step(self, actions: Tensor) -> Step:
        if self._step.is_cuda:
            self._step += 1  # on a CPU the loop does it: this would take half of the call
        _, step_all = self._loops
        step_all(*self._place, self._in_place(actions.contiguous()), self._meanings, *self._outcome)
        return self._result

    def state(self) -> dict[str, Any]:
        return {
            "format": "compiled",
            "step": self._step.clone(),
            "states": self._states.clone(),
            "taken": self._taken.clone(),
            "observation": self._observation.clone(),
        }

    def restore(self, state: dict[str, Any], lanes: Sequence[int] | None = None) -> None:
        check_keys(state, ("format", "step", "states", "taken", "observation"), "environments")
        if state["format"] != "compiled":
            raise ValueError(f"'environments.format' is {state['format']!r}, not 'compiled'")
        for name, own, chosen in (
            ("step", self._step, None),
            ("states", self._states, lanes),
            ("taken", self._taken, lanes),
            ("observation", self._observation, lanes),
        ):
            own.copy_(fit(state[name], own, f"environments.{name}", chosen))


def meanings_of(actions: Sequence[int]) -> int:
    """What each action of a set means, packed into one number: a look-up that loops can vectorize."""
    return sum(action << BITS_PER_ACTION * n for n, action in enumerate(actions))


@scalar
def meaning(meanings: int, action: int) -> int:
    return (meanings >> BITS_PER_ACTION * action) & (2**BITS_PER_ACTION - 1)


def _sources(module: ModuleType) -> int:
    """A hash of the source of everything that is compiled into a game."""
    text = "".join(inspect.getsource(part) for part in (module, rules, noise))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@intrinsic
def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element of the flat array, which may lie behind its end; nothing waits for it.

    Measured on Seaquest, whose 4,096 environments outgrow the nearer caches: 26 -> 23 ns a step.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        ask = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        )
        to_read, keep, data_not_code = flag(0), flag(3), flag(1)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
        builder.call(ask, [address, to_read, keep, data_not_code])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@scalar
def advance(
    reset: Callable[..., None],
    step: Callable[..., tuple[int, bool]],
    state: np.ndarray,
    picture: np.ndarray,
    action: int,
    key: np.uint64,
    first_draw: int,
    rules: Rules,
) -> tuple[int, bool]:
    """One step of one environment, which is reset if its episode ends."""
    reward, over = step(state, picture, action, key, first_draw, rules)
    over = time_is_up(state, rules) or over
    if over:
        state[ELAPSED] = 0
        reset(state, picture, key, first_draw, rules)
    return reward, over


@cache
def _loops(module: ModuleType, rules: Rules) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The loops over all environments: reset and step. Parts that the rules do not use are not compiled.

    numba names a compiled copy on disk by what the loop closes over. With `sources` among it, and returned to be among
    it, a copy of other sources is never taken for these.
    """
    reset, step, draws, sources = module.reset, module.step, module.DRAWS, _sources(module)
    size, line = module.STATE_SIZE, CACHE_LINE // STATE_DTYPE.itemsize
    compiles = not config.DISABLE_JIT  # pyright: ignore[reportAttributeAccessIssue]
    lines_ahead = LINES_AHEAD if compiles and size > LINES_AHEAD * line else 0

    @njit(cache=True, **JIT_OPTIONS)
    def reset_all(seeds, clock, states, pictures):
        for lane in range(seeds.shape[0]):
            key = key_scalar(seeds[lane], clock[0], ENVIRONMENT)
            for n in range(states.shape[1]):
                reset(states[lane, n], pictures[lane, n], key, n * draws, rules)
        return sources

    @njit(cache=True, **JIT_OPTIONS)
    def step_all(seeds, clock, states, pictures, actions, meanings, taken, rewards, terminated):
        clock[0] += 1
        for lane in range(seeds.shape[0]):
            key = key_scalar(seeds[lane], clock[0], ENVIRONMENT)
            for n in range(states.shape[1]):
                chosen = meaning(meanings, actions[lane, n])
                taken[lane, n] = stuck_action(taken[lane, n], chosen, key, n * draws, rules)
            for n in range(states.shape[1]):
                ahead = (lane * states.shape[1] + n + ENVIRONMENTS_AHEAD) * size
                for i in range(lines_ahead):
                    _prefetch(states, ahead + i * line)  # pyright: ignore[reportCallIssue]
                rewards[lane, n], terminated[lane, n] = advance(
                    reset, step, states[lane, n], pictures[lane, n], taken[lane, n], key, n * draws, rules
                )
        return sources

    return reset_all, step_all
