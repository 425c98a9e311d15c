"""Hand-computed values of the paper's objectives (eq. 1, 2, 8, 9)."""

import pytest
import torch

from scorer_core.objectives import (
    be_variance,
    feature_covariance,
    feature_norm,
    msbe,
    norm_loss,
    srank_surrogate,
    td_error,
    td_target,
    variance,
)


def test_td_target_bootstraps_from_the_best_next_action_unless_terminated():
    target = td_target(
        reward=torch.tensor([1.0, 2.0]),
        terminated=torch.tensor([0.0, 1.0]),
        next_values=torch.tensor([[0.5, 3.0], [7.0, 9.0]]),
        gamma=torch.tensor(0.9),
    )
    torch.testing.assert_close(target, torch.tensor([1 + 0.9 * 3, 2.0]))


def test_td_error_is_target_minus_the_value_of_the_action_taken():
    values = torch.tensor([[0.5, -0.5], [1.0, -1.0]])
    delta = td_error(torch.tensor([1.9, 0.0]), values, torch.tensor([0, 1]))
    torch.testing.assert_close(delta, torch.tensor([1.4, 1.0]))


def test_msbe_and_be_variance_by_hand():
    delta = torch.tensor([1.4, 1.0])
    torch.testing.assert_close(msbe(delta), torch.tensor((1.96 + 1.0) / 2))
    torch.testing.assert_close(be_variance(delta), torch.tensor((1.96 + 1.0) / 2 - 1.2**2))


@pytest.mark.parametrize("shift", [-3.0, 0.5, 100.0])
def test_a_constant_shift_of_the_targets_moves_msbe_but_not_be_variance(shift):
    delta = torch.tensor([1.4, 1.0, -0.3, 2.0])
    torch.testing.assert_close(be_variance(delta + shift), be_variance(delta), rtol=1e-4, atol=1e-5)
    assert abs(msbe(delta + shift) - msbe(delta)) > 0.1


def test_double_the_one_chooses_and_the_other_values():
    target = td_target(
        reward=torch.tensor([1.0, 2.0]),
        terminated=torch.tensor([0.0, 1.0]),
        next_values=torch.tensor([[0.5, 3.0], [7.0, 9.0]]),
        gamma=torch.tensor(0.9),
        chosen_by=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    )
    torch.testing.assert_close(target, torch.tensor([1 + 0.9 * 0.5, 2.0]))


def test_follower_objectives_by_hand():
    delta, z = torch.tensor([1.4, 1.0]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    assert variance(delta, z, None) == be_variance(delta)
    torch.testing.assert_close(norm_loss(delta, z, None), torch.tensor(0.1 * (1 - 6 / 4) ** 2))


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("objective", [msbe, be_variance])
def test_weights_that_are_all_1_give_the_bits_of_no_weights(objective, size):
    delta = torch.randn(size, generator=torch.Generator().manual_seed(size))
    assert objective(delta, torch.ones(size)).item() == objective(delta).item()


@pytest.mark.parametrize("objective", [msbe, be_variance])
def test_a_weighted_mean_ignores_transitions_of_weight_0_and_counts_those_of_weight_2_twice(objective):
    delta = torch.tensor([1.4, 1e6, 1.0, -0.3, -1e6])
    torch.testing.assert_close(objective(delta, torch.tensor([1.0, 0, 1, 1, 0])), objective(delta[[0, 2, 3]]))
    torch.testing.assert_close(objective(delta, torch.tensor([1.0, 0, 2, 1, 0])), objective(delta[[0, 2, 2, 3]]))
    torch.testing.assert_close(objective(delta, torch.tensor([3.0, 0, 6, 3, 0])), objective(delta[[0, 2, 2, 3]]))


def test_the_follower_s_variance_is_weighted_and_its_norm_is_not():
    delta, z, weight = torch.tensor([1.4, 1.0, 9.0]), torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 1, 0])
    torch.testing.assert_close(variance(delta, z, weight), torch.tensor(0.04))
    assert norm_loss(delta, z, weight) == norm_loss(delta, z, None)


def test_leader_penalties_by_hand():
    z = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    torch.testing.assert_close(feature_norm(z), torch.tensor(18 / 4))
    # Centred columns are (-1, 1) and (2, -2): their covariance is -2, twice in the matrix, over two features.
    torch.testing.assert_close(feature_covariance(z), torch.tensor((4 + 4) / 2.0))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_srank_surrogate_of_equal_singular_values_is_one_over_their_number(rank):
    q, _ = torch.linalg.qr(torch.arange(64.0).sin().view(8, 8))
    z = 3 * q[:, :rank] @ torch.eye(rank, 10)
    torch.testing.assert_close(srank_surrogate(z), torch.tensor(1 / rank))
