"""A pack: P runs of equal SHAPE as one batch. The only file that knows there is more than one run.

Everything of a run has the pack axis first; a run's mathematics is vmapped over it. Nothing is reduced along it and no
random number is drawn along it, so a lane is what the same run would be alone.
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

from scorer_core import acting, checkpoint, diagnostics, game, networks, noise, objectives, replay
from scorer_core.config import RunConfig, spread
from scorer_core.envs import interface
from scorer_core.game import Lane, Players
from scorer_core.metric_parts import SCHEMA
from scorer_core.metrics import DIAGNOSTICS, METRICS
from scorer_core.networks import Shape
from scorer_core.replay import Replay
from scorer_core.support.errors import RecordError
from scorer_core.tracing import CudaGraph, trace

LEARNED = ("td_error", "msbe", "be_variance", "leader_loss", "follower_loss", "leader_grad_norm", "follower_grad_norm")
STATE = (  # the attributes of a pack that a checkpoint holds, each under its own name
    "vector_step", "observation", "players", "replay", "episode_return", "last_return", "counted", "episodes",
    "learned", "rounds_learned", "diverged", "initial", "probe", "drift",
)  # fmt: skip


# Else MKL chooses its code by where a matrix lies in memory, on an AMD EPYC for one, and a lane's last bits with it. It
# reads this at its first product; these are the processors for which it knows the word.
if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
    os.environ.setdefault("MKL_CBWR", f"{torch.backends.cpu.get_cpu_capability()},STRICT")


class Pack:
    """The state of a pack after `vector_step` vector steps, and how it moves on."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        device: torch.device,
        compiled: bool = False,
        run_ids: Sequence[str] | None = None,
    ):
        """`run_ids` name the runs in their metrics (default: those of `configs`)."""
        self.run_ids = list(run_ids) if run_ids else [config.run_id for config in configs]
        self.configs, self.config, self.device, self.compiled = list(configs), configs[0], device, compiled
        batch = self.configs * 2 if len(self.configs) == 1 and _needs_twin_lane(self.config, compiled) else self.configs
        lanes, num_envs = len(batch), self.config.num_envs
        # Adam's moments of parameters that no longer move decay into denormals, which a CPU takes 100 cycles each for.
        torch.set_flush_denormal(True)
        self.vector_step = 0
        self.lane = Lane(*(_lanes(getattr(config, name) for config in batch).to(device) for name in Lane._fields))
        self.environments = interface.make(self.config, self.lane.seed)
        self.observation = self.environments.reset().to(device)
        self.shape = networks.shape_of(self.config, self.environments.observation_shape, self.environments.num_actions)
        alone = [game.new_players(seed, self.shape) for seed in self.lane.seed]
        self.players: Players = tree_map(lambda *runs: torch.stack(runs), *alone)
        self.initial = self.players.phi.clone(), self.players.theta.clone()
        self.probe: game.Batch | None = None  # drawn at the first log point after learning has begun
        self.replay = self._new_replay(lanes)
        self.episode_return = torch.zeros(lanes, num_envs, device=device)
        self.last_return = torch.zeros(lanes, num_envs, device=device)
        # Which environments the logged return counts: those that have finished an episode.
        counted = self.config.return_before_first_episode == "zero"
        self.counted = torch.full((lanes, num_envs), counted, device=device)
        self.episodes = torch.zeros(lanes, dtype=torch.int64, device=device)
        self.learned = torch.zeros(lanes, len(LEARNED), device=device)  # sums over the rounds since the last log point
        self.updates_since_log = 0
        self.drift = torch.zeros(lanes, 2, device=device)  # of the target copies since the last log point, and how many
        self.diverged = torch.zeros(lanes, dtype=torch.bool, device=device)
        self._target_every = self.lane.target_every.tolist()
        self._log_steps = set(self.config.log_steps)
        self._instrument_steps = set(spread(self.config.log_steps, diagnostics.points(self.config)))
        self._recorded: dict[str, Callable[..., Any]] = {}

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

    @torch.no_grad()
    def step(self) -> None:
        """One vector step of every lane: act, store, learn when it is time, copy targets when it is time."""
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
        """One round of every lane."""
        config, num_rows = self.config, self.replay.action.shape[1]
        kept = replay.num_transitions(self.vector_step, num_rows, config.num_envs)

        def drawn(stream: int, k: int) -> Tensor:
            step = self.vector_step * config.follower_steps + k
            return noise.integers(self.lane.seed, step, stream, (config.batch_size,), kept)

        leader, steps = drawn(noise.Stream.LEADER_BATCH, 0), range(config.follower_steps)
        shared = config.batches == "shared"
        followers = torch.stack([leader if shared else drawn(noise.Stream.FOLLOWER_BATCH, k) for k in steps], 1)
        clock = torch.full_like(self.lane.seed, self.vector_step)
        self.players, learned = self._vectorised(
            "learn", update_one_run, self.players, self.replay, clock, leader, followers, self.lane
        )
        self.learned += learned
        self.updates_since_log += 1

    def log(self, steps_per_second: float) -> pa.Table:
        """The metrics of every lane at this step, a row a lane (records.SCHEMA); the next interval begins."""
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
            **self._instruments(),
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

    def _instruments(self) -> dict[str, Tensor]:
        """Each instrument's reading [P]; NaN where none is due or nothing has been learned yet."""
        rounds = int(self.players.updates[0])
        if self.vector_step not in self._instrument_steps or rounds == 0:
            return dict.fromkeys(DIAGNOSTICS, torch.full_like(self.lane.gamma, float("nan")))
        clock, num_rows = torch.full_like(self.lane.seed, self.vector_step), self.replay.action.shape[1]
        kept = replay.num_transitions(self.vector_step, num_rows, self.config.num_envs)
        if self.probe is None:
            self.probe = self._draw_probe(kept)
        measure = functools.partial(diagnostics.probe, shape=self.shape)
        probed, gram = torch.vmap(measure)(self.players, self.initial, self.probe, self.lane)
        rows = min(diagnostics.HORIZON, kept // self.config.num_envs)
        bias = functools.partial(diagnostics.q_bias, rows=rows, shape=self.shape)
        srank, effective_rank = map(torch.from_numpy, diagnostics.ranks(gram))
        return {
            **dict(zip(diagnostics.PROBED, probed.T, strict=True)),
            "q_bias": torch.vmap(bias)(self.players, self.replay, clock, self.lane),
            "srank": srank,
            "effective_rank": effective_rank,
        }

    def _draw_probe(self, kept: int) -> game.Batch:
        """The transitions that the instruments are read at, of the `kept` newest ones."""
        drawn = noise.integers(self.lane.seed, 0, noise.Stream.PROBE, (diagnostics.PROBE,), kept)
        return torch.vmap(replay.sample)(self.replay, torch.full_like(self.lane.seed, self.vector_step), drawn)

    def state(self) -> bytes:
        """Everything that `restore` needs to continue as if nothing had happened."""
        content = {name: checkpoint.plain(getattr(self, name)) for name in STATE}
        return checkpoint.dump(content | {"environments": self.environments.state()})

    def restore(self, state: bytes, lanes: Sequence[int] | None = None, file: Path | None = None) -> None:
        """Continue from `state`: of this pack, or of one whose `lanes`, by their index there, are this pack's runs.

        Pickled environments are only restored if `file`, from which `state` was read, is private to this user.

        Raises:
            ValueError: if `state` does not fit this pack; the message names the key.
            RecordError: if its environments are pickled and `file` is missing or not private.
        """
        saved = checkpoint.load(state)
        checkpoint.check_keys(saved, (*STATE, "environments"), "")
        if lanes is not None:
            lanes = list(lanes) * (len(self.lane.seed) // len(lanes))  # a single lane may have a twin
        like = {name: getattr(self, name) for name in STATE}
        like["probe"] = None if saved["probe"] is None else self._draw_probe(kept=1)
        fitted = {name: checkpoint.fit(saved[name], like[name], name, lanes) for name in STATE}
        environments = saved["environments"]
        if type(environments) is not dict:
            raise ValueError("'environments' is not a dict")
        if environments.get("format") == "pickle":
            if file is None:
                raise RecordError("pickled environments are only restored from a file")
            checkpoint.require_private(file, state)
        self.environments.restore(environments, lanes)
        for name, value in fitted.items():
            setattr(self, name, value)

    def _new_replay(self, lanes: int) -> Replay:
        grid = lanes, replay.rows(self.config.replay_size, self.config.num_envs), self.config.num_envs

        def ring(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            return torch.zeros(*grid, *shape, dtype=dtype, device=self.device)

        picture = self.environments.observation_shape, self.environments.observation_dtype
        kept = Replay(
            observation=ring(*picture),
            action=ring((), torch.int64),
            reward=ring((), torch.float32),
            terminated=ring((), torch.bool),
            truncated=ring((), torch.bool) if self.environments.truncates else ring((0,), torch.bool),
            final_observation=ring(*picture) if self.environments.truncates else ring((0,), torch.uint8),
        )
        kept.observation[:, 0] = self.observation
        return kept

    def _store(self, actions: Tensor, step: interface.Step) -> None:
        """Put the transition of this vector step into the ring and into the episode statistics."""
        row, kept = self.vector_step % self.replay.action.shape[1], self.replay
        self.observation = step.observation.to(self.device)
        reward, terminated = step.reward.to(self.device), step.terminated.to(self.device)
        kept.observation[:, (row + 1) % kept.observation.shape[1]] = self.observation
        kept.action[:, row] = actions
        kept.reward[:, row] = reward
        kept.terminated[:, row] = terminated
        if step.final_observation is not None:
            kept.truncated[:, row] = step.truncated.to(self.device)
            kept.final_observation[:, row] = step.final_observation.to(self.device)
        ended = terminated | step.truncated.to(self.device)
        self.episode_return += reward
        self.last_return = torch.where(ended, self.episode_return, self.last_return)
        self.episode_return = torch.where(ended, 0.0, self.episode_return)
        self.counted |= ended
        self.episodes += ended.sum(1)

    def _vectorised(self, name: str, alone: Callable[..., Any], *arguments: Any) -> Any:
        """`alone`, a function of one run, on all lanes at once; its operations are recorded at the first call."""
        if name not in self._recorded:
            recorded = trace(torch.vmap(functools.partial(alone, shape=self.shape)), arguments)
            performed = torch.compile(recorded) if self.compiled else recorded
            self._recorded[name] = CudaGraph(performed, arguments) if self.device.type == "cuda" else performed
        return self._recorded[name](*arguments)


def update_one_run(
    players: Players, kept: Replay, clock: Tensor, leader: Tensor, followers: Tensor, lane: Lane, shape: Shape
) -> tuple[Players, Tensor]:
    """One round of ONE run on the transitions drawn for it, and what is logged of it (LEARNED)."""
    leader_batch = replay.sample(kept, clock, leader)
    follower_batches = [replay.sample(kept, clock, drawn) for drawn in followers]
    players, led, followed = game.update(players, leader_batch, follower_batches, lane, shape)
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


def _needs_twin_lane(config: RunConfig, compiled: bool) -> bool:
    """Has a batch of one other last bits? A compiler writes other code for it; so has MKL for a layer of one output."""
    return compiled or config.algorithm.startswith("dueling") or 1 in (*config.phi_widths, *config.theta_widths)


def _lanes(values: Iterable[float]) -> Tensor:
    """One number a lane: int64 if they are whole, else float32."""
    values = list(values)
    return torch.tensor(values, dtype=torch.int64 if all(isinstance(value, int) for value in values) else torch.float32)


def _crossed(before: int, after: int, period: int) -> bool:
    return before // period != after // period
