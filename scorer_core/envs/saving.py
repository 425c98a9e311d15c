"""How a gymnasium environment is saved and restored, and the check that a restored one continues exactly.

An environment is saved in one of two formats:

    values   plain values: all attributes of the environment and of each wrapper. A wrapper or environment that defines
             get_state() and set_state(state) is saved by these instead, and its environment by its generators only
    pickle   a pickle, if an attribute is no plain value. gymnasium.utils.EzPickle and others pickle only the arguments
             of the constructor: the copy is then in another state

Many environments cannot be saved in either. `format_of` finds out by playing.
"""

import functools
import itertools
import pickle
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv
from torch import Tensor

from scorer_core.checkpoint import check_keys
from scorer_core.envs import tasks
from scorer_core.support.errors import RecordError, UserCodeError, reason

SEED = 20260  # of the environments that `format_of` plays with
# Before each save: at one moment alone, a lost value may happen to be that of a new environment.
STEPS_BEFORE = (1, 6, 12, 20)
STEPS_AFTER = 20  # compared after the first episode's end
MAX_STEPS, MAX_SECONDS = 1000, 2.0  # without an episode's end; then the environments are reset
SIMPLE_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
SCALARS = (type(None), bool, int, float, str)


class NotPlainError(Exception):
    """An attribute is not a plain value; the message names it."""


@functools.cache
def format_of(task: str) -> str:
    """The format that saves the environments of `task` exactly, "values" or "pickle".

    Two new environments with equal seeds, and then an environment and its restored copy, get the same actions through
    at least one reset, and must return the same bits. The environments of a pack take no part.

    Raises:
        RecordError: if the environment does not repeat its episodes, or if neither format is exact.
    """
    try:
        with closing(_new(task)) as first, closing(_new(task)) as second:
            difference = _first_difference(first, second, _actions(first))
        if difference:
            raise RecordError(
                f"{task}: two new environments with equal seeds differ in {difference}, so its runs cannot be repeated"
                " or resumed; let the environment draw every random number from self.np_random"
            )
        reasons = []
        for format_name in ("values", "pickle"):
            difference = _lost(task, format_name)
            if not difference:
                return format_name
            reasons.append(f"{format_name}: {difference}")
    except (RecordError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit() included
        raise UserCodeError(f"{task}: the environment raises {reason(error)}") from error
    raise RecordError(
        f"{task}: the environment cannot be saved and restored exactly, so its runs could not resume ("
        f"{'; '.join(reasons)}); define get_state() and set_state(state) in it or in a wrapper, see docs/checkpoints.md"
    )


def save(environment: gymnasium.Env) -> list[dict[str, Any]]:
    """The state of `environment` as plain values and tensors: one dict per wrapper, from outside, and its own.

    Raises:
        NotPlainError: if it has an attribute that is no plain value.
    """
    seen: set[int] = set()
    return [_save_layer(layer, content, seen) for layer, content in _layers(environment)]


def restore(environment: gymnasium.Env, saved: Any) -> None:
    """Put `environment`, which was reset at least once, into the state that `save` returned.

    Raises:
        ValueError: if `saved` is the state of other classes; also whatever the environment's set_state raises.
    """
    layers = _layers(environment)
    if type(saved) is not list or len(saved) != len(layers):
        raise ValueError(f"it is not a list of {len(layers)}, one per wrapper and one for the environment")
    for (layer, content), values in reversed(list(zip(layers, saved, strict=True))):  # a wrapper after what it wraps
        check_keys(values, ("class", content, "generators"), "")
        if values["class"] != _class_name(layer):
            raise ValueError(f"it is of the class {values['class']}, not {_class_name(layer)}")
        if content == "state":
            layer.set_state(_decode(values["state"]))  # pyright: ignore[reportAttributeAccessIssue]
        elif content == "attributes":
            vars(layer).update(_decode(values["attributes"]))
        for name, state in values["generators"].items():
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = state
            if isinstance(vars(layer).get(name), SIMPLE_SPACES):
                vars(layer)[name]._np_random = generator
            else:
                vars(layer)[name] = generator


def _layers(environment: gymnasium.Env) -> list[tuple[gymnasium.Env, str]]:
    """The wrappers of `environment`, from outside, and the environment itself; and what is saved of each.

    That is "state" of those that define get_state and set_state, else "attributes"; "nothing" of an environment whose
    state a wrapper gives.
    """
    layers = [environment]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    functions = [[getattr(type(layer), name, None) for name in ("get_state", "set_state")] for layer in layers]
    contents = ["state" if all(map(callable, pair)) else "attributes" for pair in functions]
    if "state" in contents[:-1] and contents[-1] == "attributes":
        contents[-1] = "nothing"
    return list(zip(layers, contents, strict=True))


def _class_name(layer: gymnasium.Env) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _save_layer(layer: gymnasium.Env, content: str, seen: set[int]) -> dict[str, Any]:
    generators = {}
    for name, value in vars(layer).items():
        generator = value._np_random if isinstance(value, SIMPLE_SPACES) else value
        if isinstance(generator, np.random.Generator) and isinstance(generator.bit_generator, np.random.PCG64):
            _is_new(generator, name, seen)
            generators[name] = generator.bit_generator.state
    saved = None
    if content == "state":
        saved = _encode(layer.get_state(), "get_state()", set())  # pyright: ignore[reportAttributeAccessIssue]
    elif content == "attributes":
        if any(getattr(parent, "__slots__", ()) for parent in type(layer).__mro__):
            raise NotPlainError(f"{_class_name(layer)} has slots")
        saved = {
            name: _encode(value, name, seen)
            for name, value in vars(layer).items()
            if name not in generators and not _is_constant(name, value)
        }
    return {"class": _class_name(layer), content: saved, "generators": generators}


def _is_constant(name: str, value: Any) -> bool:
    """Is this attribute equal in every environment of the task? A space is, except for its generator."""
    return name == "env" or isinstance(value, (EnvSpec, *SIMPLE_SPACES))


def _is_new(value: Any, name: str, seen: set[int]) -> bool:
    """True; an object that two attributes share would be two objects after a restore."""
    if id(value) in seen:
        raise NotPlainError(f"{name} is shared")
    seen.add(id(value))
    return True


def _encode(value: Any, name: str, seen: set[int]) -> Any:
    """`value` with a tensor for each array, and a tensor without axes for each number of numpy."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, (np.number, np.bool_)):
        return _tensor(np.array(value), name)
    if type(value) in (list, dict):
        _is_new(value, name, seen)
    if type(value) in (list, tuple):
        return type(value)(_encode(item, name, seen) for item in value)
    if type(value) is dict and all(type(key) in SCALARS for key in value):
        return {key: _encode(item, name, seen) for key, item in value.items()}
    if type(value) is np.ndarray and value.ndim:
        owner = value
        while type(owner.base) is np.ndarray:
            owner = owner.base
        if owner.base is None and _is_new(owner, name, seen):
            return _tensor(value.copy(order="K"), name)
    raise NotPlainError(f"{name} is of type {type(value).__name__}")


def _tensor(array: np.ndarray, name: str) -> Tensor:
    try:
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:  # of strings, objects, or another byte order
        raise NotPlainError(f"{name} is an array of {array.dtype}") from error


def _decode(value: Any) -> Any:
    if isinstance(value, Tensor):
        array = value.numpy()
        return array.copy(order="K") if array.ndim else array[()]
    if isinstance(value, (list, tuple)):
        return type(value)(_decode(item) for item in value)
    return {key: _decode(item) for key, item in value.items()} if isinstance(value, dict) else value


def _new(task: str, seed: int = SEED) -> gymnasium.Env:
    """A new environment, created in the same way as those of a pack, and reset."""
    environment = SyncVectorEnv([functools.partial(tasks.make, task)]).envs[0]
    environment.reset(seed=seed)
    return environment


def _actions(environment: gymnasium.Env) -> Iterator[np.int64]:
    """A fixed sequence of random actions."""
    space, random = environment.action_space, np.random.default_rng(SEED)
    assert isinstance(space, spaces.Discrete)
    while True:
        yield space.start + random.integers(space.n)


def _lost(task: str, format_name: str) -> str | None:
    """The first difference after a save and a restore in this format; None if there is none."""
    with closing(_new(task)) as original:
        actions, difference = _actions(original), None
        for steps in STEPS_BEFORE:
            for action in itertools.islice(actions, steps):
                _, _, terminated, truncated, _ = original.step(action)
                if terminated or truncated:
                    original.reset()
            last_step = None if steps == STEPS_BEFORE[-1] else STEPS_AFTER
            try:
                with closing(_copy(task, original, format_name)) as copy:
                    difference = difference or _first_difference(original, copy, actions, last_step)
                if format_name == "values":
                    save(original)  # in its later state too
            except NotPlainError as error:
                return str(error)
        return difference


def _copy(task: str, original: gymnasium.Env, format_name: str) -> gymnasium.Env:
    """A copy of `original` by way of `format_name`.

    Raises:
        NotPlainError: if it cannot be copied in this way.
    """
    try:
        if format_name == "pickle":
            return pickle.loads(pickle.dumps(original))
        saved, copy = save(original), _new(task, SEED + 1)
        restore(copy, saved)
    except NotPlainError:
        raise
    except Exception as error:  # of the environment's own functions
        raise NotPlainError(f"{type(error).__name__}, {' '.join(str(error).split())}") from error
    return copy


def _first_difference(
    original: gymnasium.Env, copy: gymnasium.Env, actions: Iterator[np.int64], last_step: int | None = None
) -> str | None:
    """What differs first if both get the same actions until `last_step`; None if nothing does.

    Without `last_step`, they get them through at least one reset.
    """
    step, deadline = 0, time.monotonic() + MAX_SECONDS
    while step != last_step:
        step, action = step + 1, next(actions)
        observation, reward, terminated, truncated, _ = original.step(action)
        try:
            found = copy.step(action)
        except Exception as error:
            return f"step {step}: the copy raises {type(error).__name__}"
        expected = {"observation": observation, "reward": reward, "terminated": terminated, "truncated": truncated}
        for (name, value), other in zip(expected.items(), found[:4], strict=True):
            if not _same_bits(value, other):
                return f"the {name} of step {step}"
        out_of_patience = step >= MAX_STEPS or (step >= STEPS_AFTER and time.monotonic() > deadline)
        if terminated or truncated or (out_of_patience and last_step is None):
            observation, _ = original.reset()
            try:
                found, _ = copy.reset()
            except Exception as error:
                return f"the reset after step {step}: the copy raises {type(error).__name__}"
            if not _same_bits(observation, found):
                return f"the observation of the reset after step {step}"
            last_step = last_step or step + STEPS_AFTER
    return None


def _same_bits(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()
