"""Lambda-returns against their definition: a weighted sum of n-step returns."""

import itertools
import math

import pytest
import torch

from scorer_core import noise
from scorer_core.memory import ring, rollout
from scorer_core.memory.rollout import lambda_returns

T = 6
RUNS_ON, TERMINATES, TRUNCATES = range(3)
PATTERNS = list(itertools.product((RUNS_ON, TERMINATES, TRUNCATES), repeat=T))
SEED = torch.tensor(5)


def values(stream: int) -> torch.Tensor:
    """Other numbers for every pattern: [T, number of patterns]."""
    return noise.normal(SEED, 0, stream, (T, len(PATTERNS))).double()


def n_step_return(t: int, n: int, ends: tuple[int, ...], reward, after, final, gamma: float) -> float:
    """The first n rewards from t on, then the best value of the state that follows."""
    total, discount = 0.0, 1.0
    for k in range(t, t + n):
        total += discount * reward[k]
        discount *= gamma
        if ends[k] == TERMINATES:
            return total
        if ends[k] == TRUNCATES:
            return total + discount * final[k]
    return total + discount * after[t + n - 1]


def by_brute_force(t: int, ends: tuple[int, ...], reward, after, final, gamma: float, lam: float) -> float:
    """(1 - lambda) sum_n lambda^(n - 1) G^(n); the longest n-step return has the rest of the weight."""
    last = next((k for k in range(t, T) if ends[k] != RUNS_ON), T - 1) - t + 1
    returns = [n_step_return(t, n, ends, reward, after, final, gamma) for n in range(1, last + 1)]
    weights = [(1 - lam) * lam ** (n - 1) for n in range(1, last)]
    return math.fsum(w * g for w, g in zip([*weights, 1 - math.fsum(weights)], returns, strict=True))


@pytest.mark.parametrize("lam", [0.0, 0.65, 1.0])
def test_lambda_returns_are_the_sum_of_n_step_returns_for_every_pattern_of_ends_in_six_steps(lam):
    reward, value, final, gamma = values(0), values(1), values(2), 0.9
    last_value = values(3)[0]
    ends = torch.tensor(PATTERNS).T
    terminated, truncated = (ends == TERMINATES).double(), ends == TRUNCATES
    scalars = torch.tensor([gamma, lam], dtype=torch.float64)
    found = lambda_returns(reward, terminated, truncated, value, last_value, final, scalars[0], scalars[1])
    after = torch.cat([value[1:], last_value[None]])
    for column, pattern in enumerate(PATTERNS):
        one = reward[:, column].tolist(), after[:, column].tolist(), final[:, column].tolist()
        expected = [by_brute_force(t, pattern, *one, gamma, lam) for t in range(T)]
        assert found[:, column].tolist() == pytest.approx(expected, abs=1e-12), pattern


def test_the_official_start_replaces_one_value_and_nothing_else():
    """Its scan starts with the value of s_T where that of s_{T-1} belongs; the later steps of the scan are right."""
    reward, value, last_value = torch.zeros(3, 2), torch.tensor([[1.0, 1.0]] * 3), torch.tensor([10.0, 10.0])
    terminated = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    never, gamma, lam = torch.zeros(3, 2, dtype=torch.bool), torch.tensor(0.5), torch.tensor(0.5)
    arguments = reward, terminated, never, value, last_value, torch.zeros(3, 2), gamma, lam
    exact, official = lambda_returns(*arguments), lambda_returns(*arguments, start="official")
    # By hand: G_2 = 0.5 * 10, or 0 if the episode ends there; G_1 = 0.5 (0.5 G_2 + 0.5 v), with v = 1 or 10 (or 0).
    torch.testing.assert_close(exact[2], torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(exact[1], torch.tensor([0.5 * (2.5 + 0.5), 0.5 * 0.5]))
    torch.testing.assert_close(official[2], exact[2])
    torch.testing.assert_close(official[1], torch.tensor([0.5 * (2.5 + 5.0), 0.0]))
    torch.testing.assert_close(official[0], 0.5 * (0.5 * official[1] + 0.5))


@pytest.mark.parametrize("vector_step", [4, 5, 9, 12])
def test_the_rows_of_a_rollout_are_in_the_order_of_time(vector_step):
    kept = ring.new(4, torch.zeros(2, 3), truncates=False)
    for step in range(vector_step):
        kept.reward[step % 5] = step
    rows = rollout.order(kept, torch.tensor(vector_step))
    assert kept.reward[rows][:, 0].tolist() == list(range(vector_step - 4, vector_step))
