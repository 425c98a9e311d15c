import pytest
import torch

from scorer_core import networks
from scorer_core.config import RunConfig
from scorer_core.learners.dqn import DQN
from scorer_core.memory import ring
from scorer_core.memory.ring import Ring
from scorer_core.pack import Pack
from tests.scorer_core import probes

N, ROWS = 2, 4


def filled(vector_steps: int) -> Ring:
    """A ring in which the observation before vector step t, in environment n, is 10 t + n."""
    stored = Ring(
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
    count = ring.num_transitions(vector_steps, ROWS - 1, N)
    assert count == min(vector_steps, ROWS - 1) * N
    batch = ring.sample(filled(vector_steps), torch.tensor(vector_steps), torch.arange(count))
    oldest = vector_steps - count // N
    assert sorted(batch.observation.tolist()) == [10 * t + n for t in range(oldest, vector_steps) for n in range(N)]
    assert torch.equal(batch.next_observation, batch.observation + 10)
    assert torch.equal(batch.reward, -batch.observation)


def test_a_ring_holds_whole_vector_steps_within_its_size_and_the_newest_observation():
    config = RunConfig(task="minatar/breakout", replay_size=100_000, num_envs=128)
    learner = DQN(networks.shape_of(config, (4,), 2))
    assert learner.new_memory(torch.zeros(128, 4, dtype=torch.uint8), truncates=False).observation.shape == (
        782,
        128,
        4,
    )


def test_a_truncated_transition_keeps_the_observation_before_the_reset_and_is_not_terminal(monkeypatch):
    probes.register()
    config = RunConfig(
        task="Probe/Cut-v0", num_envs=4, update_every=4, total_steps=400, learning_starts=400, replay_size=400,
        batch_size=4, log_points=1, epsilon_start=0.0, epsilon_end=0.0, normalise_input=False,
    )  # fmt: skip
    pack = Pack([config], torch.device("cpu"))
    monkeypatch.setattr(pack.learner, "act", lambda *_: (torch.ones(4, dtype=torch.int64), ()))  # always right
    for _ in range(60):
        pack.step()
    kept = Ring(*(part[0] for part in pack.memory))
    cut_off = kept.truncated[:60] & ~kept.terminated[:60]
    assert cut_off.sum() > 3
    batch = ring.sample(kept, torch.tensor(60), torch.arange(240))
    states, following = batch.observation.argmax(1), batch.next_observation.argmax(1)
    assert ((following - states >= 0) & (following - states <= 1)).all(), "a transition leads into another episode"
