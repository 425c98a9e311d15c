"""Hand-computed values of the paper's objectives (eq. 1, 2, 8, 9)."""

import pytest
import torch

from scorer_core.objectives import be_variance, msbe, td_error, td_target, weighted


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


def test_the_weight_goes_from_msbe_at_0_to_be_variance_at_1():
    delta = torch.tensor([1.4, 1.0, -0.3])
    assert weighted(delta, torch.tensor(0.0)) == msbe(delta)
    assert weighted(delta, torch.tensor(1.0)) == be_variance(delta)
    halfway = (msbe(delta) + be_variance(delta)) / 2
    torch.testing.assert_close(weighted(delta, torch.tensor(0.5)), halfway)
