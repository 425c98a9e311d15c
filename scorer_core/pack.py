"""A pack: P runs of equal SHAPE as one batch. The only file that handles more than one run.

All tensors of a run have the pack axis first, and the functions of one run are vmapped over it. No reduction and no
random draw is along this axis, so each lane computes what the same run would compute alone. N: environments per run.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from scorer_core import checkpoint, diagnostics, game, networks, noise, plugins, registry, single_run
from scorer_core.config import RunConfig, spread
from scorer_core.envs import interface
from scorer_core.game import Lane, Players
from scorer_core.learners.learner import Learner
from scorer_core.memory import ring
from scorer_core.memory.ring import Transition
from scorer_core.metric_rows import SCHEMA
from scorer_core.metrics import DIAGNOSTICS, METRICS
from scorer_core.native.code_cache import CodeCache
from scorer_core.native.lowering import UnsupportedError
from scorer_core.native.program import Program, processor
from scorer_core.single_run import LEARNED, Returns
from scorer_core.support.errors import RecordError
from scorer_core.support.memory import use_large_pages
from scorer_core.tracing import CudaGraph, trace

RECORDED, COMPILED = ("act", "finish", "learn"), ("act", "learn")  # functions on a GPU; others take little time
log = logging.getLogger("scorer")

TF32_SINCE = (8, 0)  # compute capability: NVIDIA A100

# Otherwise MKL may choose its code by the address of a matrix (on an AMD EPYC, for instance), which changes the last
# bits. MKL reads this variable at its first product and knows these two values.
if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
    os.environ.setdefault("MKL_CBWR", f"{torch.backends.cpu.get_cpu_capability()},STRICT")


class Pack:
    """The state of a pack after `vector_step` vector steps, and the next step."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        device: torch.device,
        compiled: bool = False,
        run_ids: Sequence[str] | None = None,
    ):
        """A new pack of the P runs `configs`, at step 0.

        Args:
            configs: of equal SHAPE.
            device: for the networks and the memory.
            compiled: on a GPU, use torch.compile.
            run_ids: names of the runs in their metrics (default: those of `configs`).

        Raises:
            RecordError: if its environments cannot be made, or cannot be saved and restored exactly; if the device has
                no TF32 and the runs ask for it.
        """
        set_matmul_precision(configs[0].matmul, device)
        self.run_ids = list(run_ids) if run_ids else [config.run_id for config in configs]
        self.configs, self.config, self.device, self.compiled = list(configs), configs[0], device, compiled
        lanes, num_envs = len(configs), self.config.num_envs
        # Adam's moments of constant parameters decay to denormals, each of which costs a CPU about 100 cycles.
        torch.set_flush_denormal(True)
        self.vector_step = 0
        self.part = 0  # parts of learning done after this vector step, or 0 if all are
        self.lane = Lane(*(_lanes(getattr(config, name) for config in configs).to(device) for name in Lane._fields))
        self.environments = interface.make(self.config, self.lane.seed)
        self.observation = self.environments.reset().to(device)
        self.shape = networks.shape_of(self.config, self.environments.observation_shape, self.environments.num_actions)
        parts = _import_parts(self.config)
        self.learner: Learner = registry.learner(self.config)(self.shape)
        self.coupling: game.UpdateFn = registry.function(registry.coupling(self.config.coupling).update)
        alone = [self.learner.new_players(seed) for seed in self.lane.seed]
        self.players: Players = tree_map(lambda *runs: torch.stack(runs), *alone)
        self.initial = self.players.phi.clone(), self.players.theta.clone()
        self.probe: game.Batch | None = None  # drawn at the first log point after the first update
        self.memory = self._new_memory(lanes)
        self._rows = _rows_first(self.memory)
        self.episode_return = torch.zeros(lanes, num_envs, device=device)
        self.last_return = torch.zeros(lanes, num_envs, device=device)
        # The environments that the logged return averages: those that have finished an episode.
        counted = self.config.return_before_first_episode == "zero"
        self.counted = torch.full((lanes, num_envs), counted, device=device)
        self.episodes = torch.zeros(lanes, dtype=torch.int64, device=device)
        self.learned = torch.zeros(lanes, len(LEARNED), device=device)  # sums over updates since the last log point
        self.updates_since_log = 0
        self.drift = torch.zeros(lanes, 2, device=device)  # sum and number since the last log point
        self.diverged = torch.zeros(lanes, dtype=torch.bool, device=device)
        self._target_every = self.lane.target_every.tolist()
        self._log_steps = set(self.config.log_steps)
        self._diagnostic_steps = set(spread(self.config.log_steps, diagnostics.points(self.config)))
        self._returns: Returns | None = None  # the four tensors above
        self._functions: dict[str, Callable[..., Any]] = {}
        parts += [type(self.learner), self.coupling]
        # A function outside of scorer_core may read anything, which no key would have.
        are_ours = all(part.__module__.startswith("scorer_core.") for part in parts)
        self._code_cache = CodeCache(self.config.shape_id, processor()) if device.type == "cpu" and are_ours else None

    @property
    def env_steps(self) -> int:
        """Environment steps of each run so far."""
        return self.vector_step * self.config.num_envs

    @property
    def finished(self) -> bool:
        return self.vector_step >= self.config.vector_steps and self.part == 0

    @property
    def log_is_due(self) -> bool:
        return self.vector_step in self._log_steps and self.part == 0

    @property
    def all_compiled(self) -> bool:
        """Has each function been called that is compiled at its first call (`_vectorised`)?"""
        return self._functions.keys() >= set(COMPILED)

    @torch.no_grad()
    def step(self) -> None:
        """One vector step of every lane, and the learning that is due, or its next part if it has several."""
        if self.part == 0:
            self._collect()
        parts = self.learner.parts(self.vector_step)
        if parts:
            self._learn()
            self.part = (self.part + 1) % parts
        if self.part == 0:
            self._copy_to_targets()

    def _collect(self) -> None:
        """Act, step the environments, and store the transitions."""
        now = torch.full_like(self.lane.seed, self.vector_step)
        actions, kept = self._vectorised("act", self.learner.act, self.players, self.observation, now, self.lane)
        step = self.environments.step(actions)
        self.observation = step.observation.to(self.device)
        final = step.final_observation
        transition = Transition(
            action=actions,
            reward=step.reward.to(self.device),
            terminated=step.terminated.to(self.device),
            truncated=step.truncated.to(self.device),
            final_observation=None if final is None else final.to(self.device),
            observation=self.observation,
            kept=kept,
        )
        self.learner.store(self._rows, self.vector_step, transition)
        self._count_returns(transition)
        self.vector_step += 1

    def _learn(self) -> None:
        """The updates of the next part of learning, in every lane."""
        vector_step = torch.full_like(self.lane.seed, self.vector_step)
        if self.part == 0 and self.learner.finishes:
            finished = self._vectorised(
                "finish", self.learner.finish, self.players, self.memory, vector_step, self.lane
            )
            self.learner.keep(self.memory, finished)
        one_run = functools.partial(single_run.update, self.coupling, self.learner)
        for draws in self.learner.draws(self.lane.seed, self.vector_step, self.part):
            self.players, learned = self._vectorised(
                "learn", one_run, self.players, self.memory, vector_step, draws, self.lane, in_place=True
            )
            self.learned += learned
            self.updates_since_log += 1

    def _copy_to_targets(self) -> None:
        due = [self.learner.copies_targets(self.vector_step, period) for period in self._target_every]
        if any(due):
            copied = torch.tensor(due, device=self.device)
            one_run = functools.partial(single_run.copy_to_targets, self.learner)
            self.players, drift = self._vectorised("copy", one_run, self.players, copied, in_place=True)
            self.drift += drift

    def log(self, steps_per_second: float) -> pa.Table:
        """The metrics at this step, one row per lane (SCHEMA); starts the next interval.

        `steps_per_second` is environment steps per second of the whole pack.
        """
        finite = [tensor.isfinite().all(1) for tensor in (self.players.phi, self.players.theta, self.learned)]
        self.diverged |= ~torch.stack(finite).all(0)
        env_step = torch.tensor(self.env_steps, device=self.device)
        leader_lr, follower_lr = game.learning_rates(self.players.updates, self.lane, self.config)
        columns = {
            "return": self.last_return.sum(1) / self.counted.sum(1),
            "episodes": self.episodes,
            **dict(zip(LEARNED, (self.learned / self.updates_since_log).T, strict=True)),
            "leader_lr": leader_lr,
            "follower_lr": follower_lr,
            "epsilon": game.epsilon(self.lane, env_step),
            "target_drift": self.drift[:, 0] / self.drift[:, 1],
            **self._diagnostics(),
        }
        self.learned.zero_()
        self.drift.zero_()
        self.updates_since_log = 0
        lanes = len(self.configs)
        arrays = {
            "run_id": pa.array(self.run_ids).dictionary_encode(),
            "step": np.full(lanes, self.env_steps),
            **{name: columns[name][:lanes].to(torch.float32).cpu().numpy() for name in METRICS},
            "diverged": self.diverged[:lanes].cpu().numpy(),
            "steps_per_second": np.full(lanes, steps_per_second, np.float32),
        }
        return pa.Table.from_pydict(arrays, schema=SCHEMA)

    def _diagnostics(self) -> dict[str, Tensor]:
        """The value [P] of each diagnostic; NaN if none is due at this step, or before the first update."""
        if self.vector_step not in self._diagnostic_steps or int(self.players.updates[0]) == 0:
            return dict.fromkeys(DIAGNOSTICS, torch.full_like(self.lane.gamma, float("nan")))
        vector_step, stored = torch.full_like(self.lane.seed, self.vector_step), self._num_transitions()
        if self.probe is None:
            self.probe = self._draw_probe(stored)
        measure = functools.partial(diagnostics.probe, learner=self.learner)
        state = self.players, self.initial, self.probe, self.lane
        probed, z = self._vectorised("probe", measure, *state)
        rows = min(diagnostics.HORIZON, stored // self.config.num_envs)
        bias = functools.partial(diagnostics.q_bias, rows=rows, shape=self.shape)
        srank, effective_rank = map(torch.from_numpy, diagnostics.ranks(z))
        return {
            **dict(zip(diagnostics.PROBED, probed.T, strict=True)),
            "q_bias": vmapped(bias)(self.players, self.learner.recent(self.memory), vector_step, self.lane),
            "srank": srank,
            "effective_rank": effective_rank,
        }

    def _num_transitions(self) -> int:
        capacity = self.learner.recent(self.memory).action.shape[1] - 1
        return ring.num_transitions(self.vector_step, capacity, self.config.num_envs)

    def _draw_probe(self, stored: int) -> game.Batch:
        """The probe batch of each lane, drawn from its `stored` newest transitions."""
        indices = noise.integers(self.lane.seed, 0, noise.Stream.PROBE, (diagnostics.PROBE,), stored)
        recent, vector_step = self.learner.recent(self.memory), torch.full_like(self.lane.seed, self.vector_step)
        return vmapped(ring.sample)(recent, vector_step, indices)

    def state(self) -> bytes:
        """A checkpoint from which `restore` continues to the same metrics as without a restart."""
        return checkpoint.dump_pack(vars(self), self.environments.state())

    def restore(self, state: bytes, lanes: Sequence[int] | None = None, file: Path | None = None) -> None:
        """Continue from the checkpoint `state`, of this pack or of a larger one.

        Args:
            state: what `Pack.state` returned.
            lanes: for a larger pack: the lanes there whose runs are this pack's, in its order.
            file: from which `state` was read. Pickled environments are only restored if it is private to this user.

        Raises:
            ValueError: if `state` does not fit this pack; the message names the key.
            RecordError: if its environments are pickled and `file` is missing or not private.
        """
        saved = checkpoint.load(state)
        if lanes is not None:
            lanes = list(lanes)
        elif len(self.configs) == 1 and _is_twice_one_run(saved):
            lanes = [0]
        probe = None if saved.get("probe") is None else self._draw_probe(stored=1)
        fitted = checkpoint.fit_pack(saved, vars(self) | {"probe": probe}, lanes)
        if fitted["part"] not in range(max(1, self.learner.parts(fitted["vector_step"]))):
            raise ValueError(f"'part' is {fitted['part']}, which is no part of learning of this step")
        checkpoint.check_source(saved, file, state)
        self.environments.restore(saved["environments"], lanes)
        for name, value in fitted.items():
            setattr(self, name, value)
        self._returns = None
        self._rows = _rows_first(self.memory)

    def _new_memory(self, lanes: int) -> Any:
        """The memory of every lane, with the first observations."""
        like = torch.empty_like(self.observation[0], dtype=self.environments.observation_dtype, device="meta")
        one_run = self.learner.new_memory(like, self.environments.truncates)
        memory = tree_map(lambda part: torch.zeros(lanes, *part.shape, dtype=part.dtype, device=self.device), one_run)
        for part in tree_leaves(memory):
            use_large_pages(part)
        self.learner.begin(_rows_first(memory), self.observation)
        return memory

    def _count_returns(self, transition: Transition) -> None:
        if self._returns is None:
            self._returns = Returns(self.episode_return, self.last_return, self.counted, self.episodes)
        step = transition.reward, transition.terminated, transition.truncated
        returns, _ = self._vectorised("count", single_run.count_returns, self._returns, *step, in_place=True)
        self.episode_return, self.last_return, self.counted, self.episodes = self._returns = returns

    def _vectorised(self, name: str, one_run: Callable[..., Any], *arguments: Any, in_place: bool = False) -> Any:
        """`one_run`, a function of one run, on all lanes; it is compiled at the first call under this `name`.

        `in_place`: the first of its two results may overwrite its first argument.
        """
        if name not in self._functions:
            self._functions[name] = self._function(name, one_run, arguments, in_place)
        return self._functions[name](*arguments)

    def _function(
        self, name: str, one_run: Callable[..., Any], arguments: tuple[Any, ...], in_place: bool
    ) -> Callable[..., Any]:
        if self.device.type == "cpu":
            try:
                return Program(name, one_run, arguments, in_place, self._sparse(arguments), self._code_cache)
            except UnsupportedError as error:
                log.warning("%s: torch runs this function, which takes longer: no machine code for %s", name, error)
                return vmapped(one_run)
        if name not in RECORDED:
            return torch.vmap(one_run)
        traced = trace(torch.vmap(one_run), arguments)
        return CudaGraph(torch.compile(traced) if self.compiled and name in COMPILED else traced, arguments)

    def _sparse(self, arguments: tuple[Any, ...]) -> list[int]:
        """The numbers of the arguments that are observations, if the task says that most of their elements are zero."""
        if not self.environments.sparse:
            return []
        seen = self.learner.recent(self.memory)
        observations = self.observation, seen.observation, seen.final_observation
        leaves = enumerate(tree_leaves(arguments))
        return [k for k, leaf in leaves if leaf.numel() and any(leaf is other for other in observations)]


def vmapped(one_run: Callable[..., Any]) -> Callable[..., Any]:
    """`one_run` on all lanes, by torch.vmap. A single lane is computed twice: of one matrix, MKL uses other code."""
    both = torch.vmap(one_run)

    def all_lanes(*arguments: Any) -> Any:
        leaf = tree_leaves(arguments)[0]
        if len(leaf) > 1 or not leaf.is_cpu:
            return both(*arguments)
        return tree_map(lambda x: x[:1], both(*tree_map(lambda x: torch.cat([x, x]), arguments)))

    return all_lanes


def _is_twice_one_run(saved: Mapping[str, Any]) -> bool:
    """Is it a checkpoint of an earlier version, in which a single run was computed twice?"""
    players = saved.get("players")
    phi = players.get("phi") if isinstance(players, dict) else None
    return isinstance(phi, Tensor) and phi.dim() == 2 and len(phi) == 2 and bool(torch.equal(phi[0], phi[1]))


def _import_parts(config: RunConfig) -> list[Any]:
    """Import the parts that `config` names now: a missing one is found, and the folder of the code may move later.

    Raises:
        RecordError: if a part of the user's is not the one that the run was planned with.
        UserCodeError: if a part cannot be imported.
    """
    plugins.check_unchanged(config.sources)
    parts = [
        registry.part(registry.FOLLOWER_OBJECTIVES, config.follower_objective),
        registry.function(registry.schedule(config.schedule).rate),
        registry.part(registry.NETWORKS, config.network),
    ]
    if config.leader_penalty != "none":
        parts.append(registry.part(registry.LEADER_PENALTIES, config.leader_penalty))
    return parts


def set_matmul_precision(matmul: str, device: torch.device) -> None:
    """Compute the matrix products of this process on a GPU in `matmul`, `float32` or `tf32`.

    Raises:
        RecordError: if it is `tf32` and the device has none: float32 is another run.
    """
    if matmul == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < TF32_SINCE):
        raise RecordError(
            f"matmul: tf32 needs a GPU of compute capability {'.'.join(map(str, TF32_SINCE))} or newer, not this "
            f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}; use matmul: float32"
        )
    if device.type == "cuda":
        precision = {"float32": "ieee", "tf32": "tf32"}[matmul]
        torch.backends.cuda.matmul.fp32_precision = precision
        torch.backends.cudnn.conv.fp32_precision = precision  # pyright: ignore[reportAttributeAccessIssue]


def _lanes(values: Iterable[float]) -> Tensor:
    """One number per lane [P]: int64 if all are whole, otherwise float32."""
    values = list(values)
    return torch.tensor(values, dtype=torch.int64 if all(isinstance(value, int) for value in values) else torch.float32)


def _rows_first(memory: Any) -> Any:
    """Views of `memory` with the lanes behind the rows, so that a row is written for all lanes at once."""
    return tree_map(lambda part: part.movedim(0, 1), memory)
