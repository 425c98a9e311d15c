"""The settings that only one kind of learner reads, and what follows from them. `RunConfig` has them all. No torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel

from scorer_core.fields import Count, Fraction, Size, Whole, lane, shape

if TYPE_CHECKING:
    from scorer_core.config import RunConfig


class DQNSettings(BaseModel):
    """Deep Q-learning from a replay, with target networks."""

    HAS_TARGETS: ClassVar = True

    double_features: Literal["target", "online"] = shape(
        "target",
        "ddqn: features on which the online control chooses the next action; target as in the official code",
    )
    replay_size: Count = shape(100_000, "transitions in the replay, all environments together")
    batch_size: Size = shape(64, "transitions per gradient step")
    learning_starts: Whole = shape(10_000, "environment steps before the first update", ge=0, le=10**15)
    update_every: Count = shape(128, "environment steps between updates")
    target_every: Count = lane(16_000, "environment steps between copies to the targets")

    @staticmethod
    def check_sizes(config: "RunConfig") -> None:
        """Raises ValueError if the sizes do not fit together."""
        if config.replay_size < config.num_envs:
            raise ValueError(f"replay_size ({config.replay_size}) is smaller than num_envs ({config.num_envs})")
        if config.batch_size > config.replay_size:
            raise ValueError(f"batch_size ({config.batch_size}) is larger than replay_size ({config.replay_size})")

    @staticmethod
    def updates_in(config: "RunConfig", env_steps: int) -> float:
        """Updates in `env_steps` environment steps of a run that learns from its first step."""
        return env_steps / max(config.update_every, config.num_envs)

    @staticmethod
    def transitions_per_step(config: "RunConfig") -> int:
        """Transitions in the batch of one gradient step."""
        return config.batch_size

    @staticmethod
    def transitions_in_memory(config: "RunConfig") -> int:
        return config.replay_size + config.num_envs  # and the newest observations


class PQNSettings(BaseModel):
    """Parallelised Q-network (Gallici et al. 2025): rollouts and lambda-returns; no replay, no target networks."""

    HAS_TARGETS: ClassVar = False

    rollout_steps: Size = shape(32, "vector steps in a rollout; its transitions are used for `epochs`, then dropped")
    minibatches: Size = shape(32, "minibatches in an epoch; each is one update")
    epochs: Size = shape(4, "passes over a rollout, each in a new order; 4 as in the official code, 2 in the paper")
    td_lambda: Fraction = lane(0.65, "lambda of the lambda-returns")
    lambda_start: Literal["exact", "official"] = shape(
        "exact",
        "state of the one-step part of the last but one lambda-return: its next state, or the one after it, as in the "
        "official code",
    )

    @staticmethod
    def check_sizes(config: "RunConfig") -> None:
        """Raises ValueError if the sizes do not fit together."""
        transitions = config.rollout_steps * config.num_envs
        if transitions % config.minibatches:
            raise ValueError(
                f"minibatches ({config.minibatches}): a rollout of {transitions} transitions (rollout_steps x num_envs)"
                " cannot be divided into as many equal parts"
            )

    @staticmethod
    def updates_in(config: "RunConfig", env_steps: int) -> float:
        """Updates in `env_steps` environment steps."""
        return env_steps / (config.rollout_steps * config.num_envs) * config.epochs * config.minibatches

    @staticmethod
    def transitions_per_step(config: "RunConfig") -> int:
        """Transitions in the batch of one gradient step."""
        return config.rollout_steps * config.num_envs // config.minibatches

    @staticmethod
    def transitions_in_memory(config: "RunConfig") -> int:
        return (config.rollout_steps + 1) * config.num_envs  # and the newest observations


LEARNERS: dict[str, type[DQNSettings] | type[PQNSettings]] = {"dqn": DQNSettings, "pqn": PQNSettings}  # by family
OF_LEARNERS = frozenset(name for settings in LEARNERS.values() for name in settings.model_fields)
