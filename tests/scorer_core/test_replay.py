import pytest
import torch

from scorer_core import replay
from scorer_core.config import RunConfig
from scorer_core.pack import Pack
from tests.scorer_core import probes

N, ROWS = 2, 4


def filled(vector_steps: int) -> replay.Replay:
    """A ring in which the observation before vector step t, in environment n, is 10 t + n."""
    stored = replay.Replay(
        observation=torch.zeros(ROWS, N), action=torch.zeros(ROWS, N, dtype=torch.int64), reward=torch.zeros(ROWS, N),
        terminated=torch.zeros(ROWS, N, dtype=torch.bool), truncated=torch.zeros(ROWS, N, 0, dtype=torch.bool),
        final_observation=torch.zeros(ROWS, N, 0),
    )  # fmt: skip
    for t in range(vector_steps):
        for n in range(N):
            stored.observation[t % ROWS, n] = 10 * t + n
            stored.observation[(t + 1) % ROWS, n] = 10 * (t + 1) + n
            stored.reward[t % ROWS, n] = -(10 * t + n)
    return stored


@pytest.mark.parametrize("vector_steps", [1, 2, 3, 4, 7])
def test_the_newest_transitions_are_drawn_each_with_the_observation_that_followed(vector_steps):
    count = replay.num_transitions(vector_steps, ROWS, N)
    assert count == min(vector_steps, ROWS - 1) * N
    batch = replay.sample(filled(vector_steps), torch.tensor(vector_steps), torch.arange(count))
    oldest = vector_steps - count // N
    assert sorted(batch.observation.tolist()) == [10 * t + n for t in range(oldest, vector_steps) for n in range(N)]
    assert torch.equal(batch.next_observation, batch.observation + 10)
    assert torch.equal(batch.reward, -batch.observation)


def test_a_ring_holds_whole_vector_steps_within_its_size_and_the_newest_observation():
    assert replay.ring_rows(100_000, 128) == 782


def test_a_truncated_transition_keeps_the_observation_before_the_reset_and_is_not_terminal():
    probes.register()
    config = RunConfig(
        task="Probe/Cut-v0", num_envs=4, update_every=4, total_steps=400, learning_starts=400, replay_size=400,
        batch_size=4, log_points=1, epsilon_start=0.0, epsilon_end=0.0, normalise_input=False,
    )  # fmt: skip
    pack = Pack([config], torch.device("cpu"))
    always_right = torch.ones(1, 4, dtype=torch.int64)
    truncated = []
    for _ in range(60):
        step = pack.environments.step(always_right)
        pack._store(always_right, step)
        truncated.append(step.truncated[0])
        pack.vector_step += 1
    cut_off = torch.stack(truncated) & ~pack.replay.terminated[0, :60]
    assert cut_off.sum() > 3
    batch = replay.sample(replay.Replay(*(part[0] for part in pack.replay)), torch.tensor(60), torch.arange(240))
    states, following = batch.observation.argmax(1), batch.next_observation.argmax(1)
    assert ((following - states >= 0) & (following - states <= 1)).all(), "a transition leads into another episode"
