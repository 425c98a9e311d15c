"""A pack: P runs of equal SHAPE as one batch. The only file that handles more than one run.

All tensors of a run have the pack axis first, and the functions of one run are vmapped over it. No reduction and no
random draw is along this axis, so each lane computes what the same run would compute alone. N: environments per run.
"""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from scorer_core import acting, checkpoint, diagnostics, game, networks, noise, objectives, registry
from scorer_core.config import RunConfig, spread
from scorer_core.envs import interface
from scorer_core.game import Batches, Lane, Players
from scorer_core.metric_rows import SCHEMA
from scorer_core.metrics import DIAGNOSTICS, METRICS
from scorer_core.networks import Shape
from scorer_core.replay import Replay, num_transitions, ring_rows, sample
from scorer_core.support.errors import RecordError
from scorer_core.tracing import CudaGraph, trace

LEARNED = ("td_error", "msbe", "be_variance", "leader_loss", "follower_loss", "leader_grad_norm", "follower_grad_norm")
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
            device: for the networks and the replay.
            compiled: use torch.compile.
            run_ids: names of the runs in their metrics (default: those of `configs`).

        Raises:
            RecordError: if its environments cannot be made, or cannot be saved and restored exactly; if the device has
                no TF32 and the runs ask for it.
        """
        set_matmul_precision(configs[0].matmul, device)
        self.run_ids = list(run_ids) if run_ids else [config.run_id for config in configs]
        self.configs, self.config, self.device, self.compiled = list(configs), configs[0], device, compiled
        batch = self.configs * 2 if len(self.configs) == 1 and _needs_twin_lane(self.config, compiled) else self.configs
        lanes, num_envs = len(batch), self.config.num_envs
        # Adam's moments of constant parameters decay to denormals, each of which costs a CPU about 100 cycles.
        torch.set_flush_denormal(True)
        self.vector_step = 0
        self.lane = Lane(*(_lanes(getattr(config, name) for config in batch).to(device) for name in Lane._fields))
        self.environments = interface.make(self.config, self.lane.seed)
        self.observation = self.environments.reset().to(device)
        self.shape = networks.shape_of(self.config, self.environments.observation_shape, self.environments.num_actions)
        _import_parts(self.config)
        self.coupling: game.UpdateFn = registry.coupling(self.config.coupling)
        alone = [game.new_players(seed, self.shape) for seed in self.lane.seed]
        self.players: Players = tree_map(lambda *runs: torch.stack(runs), *alone)
        self.initial = self.players.phi.clone(), self.players.theta.clone()
        self.probe: game.Batch | None = None  # drawn at the first log point after the first update
        self.replay = self._new_replay(lanes)
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
        self._traced: dict[str, Callable[..., Any]] = {}

    @property
    def env_steps(self) -> int:
        """Environment steps of each run so far."""
        return self.vector_step * self.config.num_envs

    @property
    def finished(self) -> bool:
        return self.vector_step >= self.config.vector_steps

    @property
    def log_is_due(self) -> bool:
        return self.vector_step in self._log_steps

    @property
    def all_compiled(self) -> bool:
        """Has each function been called that is compiled at its first call (`_vectorised`)?"""
        return self._traced.keys() >= {"act", "learn"}

    @torch.no_grad()
    def step(self) -> None:
        """One vector step of every lane: act, store, and update or copy to the targets when they are due."""
        actions = self._act()
        self._store(actions, self.environments.step(actions))
        before, self.vector_step = self.env_steps, self.vector_step + 1
        if self.env_steps > self.config.learning_starts and _crossed(before, self.env_steps, self.config.update_every):
            self._learn()
        due = [_crossed(before, self.env_steps, period) for period in self._target_every]
        if any(due):
            copied = torch.tensor(due, device=self.device)
            self.drift += torch.vmap(diagnostics.drift)(self.players, copied)
            self.players = torch.vmap(game.sync_targets)(self.players, copied)

    def _act(self) -> Tensor:
        """Actions [P, N]."""
        seed, num_envs = self.lane.seed, (self.config.num_envs,)
        explore = noise.uniform(seed, self.vector_step, noise.Stream.EXPLORE, num_envs)
        num_actions = self.environments.num_actions
        random_action = noise.integers(seed, self.vector_step, noise.Stream.RANDOM_ACTION, num_envs, num_actions)
        env_step = torch.full_like(seed, self.env_steps)
        return self._vectorised(
            "act", acting.act, self.players, self.observation, explore, random_action, env_step, self.lane
        )

    def _learn(self) -> None:
        """One update of every lane."""
        config, stored = self.config, self._num_transitions()

        def draw(stream: int, k: int) -> Tensor:
            """Indices [P, B] of the batch for step `k` of this update."""
            step = self.vector_step * config.follower_steps + k
            return noise.integers(self.lane.seed, step, stream, (config.batch_size,), stored)

        leader, steps = draw(noise.Stream.LEADER_BATCH, 0), range(config.follower_steps)
        shared = config.batches == "shared"
        followers = torch.stack([leader if shared else draw(noise.Stream.FOLLOWER_BATCH, k) for k in steps], 1)
        vector_step = torch.full_like(self.lane.seed, self.vector_step)
        one_run = functools.partial(update_one_run, self.coupling)
        self.players, learned = self._vectorised(
            "learn", one_run, self.players, self.replay, vector_step, leader, followers, self.lane
        )
        self.learned += learned
        self.updates_since_log += 1

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
            "epsilon": acting.epsilon(self.lane, env_step),
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
        measure = functools.partial(diagnostics.probe, shape=self.shape)
        probed, gram = torch.vmap(measure)(self.players, self.initial, self.probe, self.lane)
        rows = min(diagnostics.HORIZON, stored // self.config.num_envs)
        bias = functools.partial(diagnostics.q_bias, rows=rows, shape=self.shape)
        srank, effective_rank = map(torch.from_numpy, diagnostics.ranks(gram))
        return {
            **dict(zip(diagnostics.PROBED, probed.T, strict=True)),
            "q_bias": torch.vmap(bias)(self.players, self.replay, vector_step, self.lane),
            "srank": srank,
            "effective_rank": effective_rank,
        }

    def _num_transitions(self) -> int:
        return num_transitions(self.vector_step, self.replay.action.shape[1], self.config.num_envs)

    def _draw_probe(self, stored: int) -> game.Batch:
        """The probe batch of each lane, drawn from its `stored` newest transitions."""
        indices = noise.integers(self.lane.seed, 0, noise.Stream.PROBE, (diagnostics.PROBE,), stored)
        return torch.vmap(sample)(self.replay, torch.full_like(self.lane.seed, self.vector_step), indices)

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
            lanes = list(lanes) * (len(self.lane.seed) // len(lanes))  # a single lane may have a twin
        probe = None if saved.get("probe") is None else self._draw_probe(stored=1)
        fitted = checkpoint.fit_pack(saved, vars(self) | {"probe": probe}, lanes)
        checkpoint.check_source(saved, file, state)
        self.environments.restore(saved["environments"], lanes)
        for name, value in fitted.items():
            setattr(self, name, value)

    def _new_replay(self, lanes: int) -> Replay:
        grid = lanes, ring_rows(self.config.replay_size, self.config.num_envs), self.config.num_envs

        def ring(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            return torch.zeros(*grid, *shape, dtype=dtype, device=self.device)

        observation = self.environments.observation_shape, self.environments.observation_dtype
        truncates = self.environments.truncates
        new = Replay(
            observation=ring(*observation),
            action=ring((), torch.int64),
            reward=ring((), torch.float32),
            terminated=ring((), torch.bool),
            truncated=ring((), torch.bool) if truncates else ring((0,), torch.bool),
            final_observation=ring(*observation) if truncates else ring((0,), torch.uint8),
        )
        new.observation[:, 0] = self.observation
        return new

    def _store(self, actions: Tensor, step: interface.Step) -> None:
        """Add the transitions of this vector step, with `actions` [P, N], to the replay and the episode statistics."""
        row, replay = self.vector_step % self.replay.action.shape[1], self.replay
        self.observation = step.observation.to(self.device)
        reward, terminated = step.reward.to(self.device), step.terminated.to(self.device)
        replay.observation[:, (row + 1) % replay.observation.shape[1]] = self.observation
        replay.action[:, row] = actions
        replay.reward[:, row] = reward
        replay.terminated[:, row] = terminated
        if step.final_observation is not None:
            replay.truncated[:, row] = step.truncated.to(self.device)
            replay.final_observation[:, row] = step.final_observation.to(self.device)
        ended = terminated | step.truncated.to(self.device)
        self.episode_return += reward
        self.last_return = torch.where(ended, self.episode_return, self.last_return)
        self.episode_return = torch.where(ended, 0.0, self.episode_return)
        self.counted |= ended
        self.episodes += ended.sum(1)

    def _vectorised(self, name: str, one_run: Callable[..., Any], *arguments: Any) -> Any:
        """`one_run`, a function of one run, on all lanes at once; it is traced at the first call under this `name`."""
        if name not in self._traced:
            traced = trace(torch.vmap(functools.partial(one_run, shape=self.shape)), arguments)
            function = torch.compile(traced) if self.compiled else traced
            self._traced[name] = CudaGraph(function, arguments) if self.device.type == "cuda" else function
        return self._traced[name](*arguments)


def update_one_run(
    coupling: game.UpdateFn,
    players: Players,
    replay: Replay,
    vector_step: Tensor,
    leader: Tensor,
    followers: Tensor,
    lane: Lane,
    shape: Shape,
) -> tuple[Players, Tensor]:
    """One update of ONE run.

    Args:
        coupling: of the run.
        players: before the update.
        replay: from which the batches are taken.
        vector_step: [] int64.
        leader: indices [B] of the leader's batch.
        followers: indices [follower_steps, B] of the follower's batches.
        lane: the LANE settings.
        shape: the SHAPE settings and the sizes of the networks.

    Returns:
        The players after the update, and the values [len(LEARNED)] that are logged of it.
    """
    batches = Batches(
        sample(replay, vector_step, leader), [sample(replay, vector_step, indices) for indices in followers]
    )
    players, led, followed = game.update(coupling, players, batches, lane, shape)
    measured = {
        "td_error": led.delta.mean(),
        "msbe": objectives.msbe(led.delta),
        "be_variance": objectives.be_variance(led.delta),
        "leader_loss": led.loss,
        "follower_loss": followed.loss,
        "leader_grad_norm": led.grad_norm,
        "follower_grad_norm": followed.grad_norm,
    }
    return players, torch.stack([measured[name] for name in LEARNED])


def _import_parts(config: RunConfig) -> None:
    """Import the parts that `config` names now: a missing one is found, and the folder of the code may move later."""
    registry.function(registry.FOLLOWER_OBJECTIVES[config.follower_objective])
    registry.function(registry.SCHEDULES[config.schedule].rate)
    if config.leader_penalty != "none":
        registry.function(registry.LEADER_PENALTIES[config.leader_penalty])


def _needs_twin_lane(config: RunConfig, compiled: bool) -> bool:
    """Would a batch of one lane have other last bits? A compiler and MKL (for a layer of one output) use other code."""
    return compiled or config.algorithm.startswith("dueling") or 1 in (*config.phi_widths, *config.theta_widths)


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


def _crossed(before: int, after: int, period: int) -> bool:
    """Is there a multiple of `period` in (before, after]?"""
    return before // period != after // period
