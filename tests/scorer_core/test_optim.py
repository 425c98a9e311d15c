import pytest
import torch

from scorer_core import optim
from scorer_core.optim import clip, moment_formula, moment_update

EPSILON = torch.tensor(1e-8)
THEIRS = {"adam": torch.optim.Adam, "radam": torch.optim.RAdam}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_an_optimizer_with_clipping_is_torch_s_with_clip_grad_norm_over_200_steps(name, max_norm):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    theirs = torch.nn.Parameter(start.clone())
    optimizer = THEIRS[name]([theirs], lr=1e-2)
    ours, state = start.clone(), optim.init(start)
    for _ in range(200):
        gradient = torch.randn(50, generator=generator)
        theirs.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([theirs], max_norm)
        optimizer.step()
        scale, norm = clip(gradient, torch.tensor(max_norm))
        torch.testing.assert_close(norm, gradient.norm())
        ours, state = optim.step(name, ours, gradient, state, torch.tensor(1e-2), scale, EPSILON)
        assert (ours - theirs).abs().max() < 1e-6
    assert (ours - start).abs().max() > 0.05


@pytest.mark.parametrize("name", THEIRS)
def test_the_last_step_is_what_the_optimizer_took(name):
    before, gradient, lr = torch.zeros(5), torch.arange(-2.0, 3.0), torch.tensor(0.1)
    parameters, state = before, optim.init(before)
    for _ in range(8):  # RAdam divides by the second moment from the sixth step on
        before = parameters
        parameters, state = optim.step(name, parameters, gradient, state, lr, torch.tensor(0.5), EPSILON)
        torch.testing.assert_close(optim.last_step(name, state, lr, EPSILON), before - parameters)


def test_epsilon_is_added_to_the_root_of_the_second_moment_after_its_correction():
    start, gradient = torch.zeros(1), torch.tensor([2.0])
    moved, _ = optim.step(
        "adam", start, gradient, optim.init(start), torch.tensor(1.0), torch.ones(()), torch.tensor(3.0)
    )
    torch.testing.assert_close(moved, torch.tensor([-2.0 / (2.0 + 3.0)]))


def test_the_one_pass_kernel_is_the_formula_to_one_unit_in_the_last_place():
    generator = torch.Generator().manual_seed(1)
    parameters, gradient, mean = torch.randn(3, 4, 1000, generator=generator)
    square = torch.rand(4, 1000, generator=generator)
    scalars = torch.rand(4, 4, generator=generator)
    kernel = moment_update(parameters, gradient, mean, square, *scalars)
    formula = moment_formula(parameters, gradient, mean, square, *scalars.unsqueeze(-1))
    for ours, reference in zip(kernel, formula, strict=True):
        torch.testing.assert_close(ours, reference, rtol=2.0**-22, atol=1e-6)


def test_under_vmap_each_lane_has_its_own_learning_rate_and_its_own_clipping():
    start, gradient = torch.zeros(2, 3), torch.tensor([[3.0, 0.0, 4.0], [300.0, 0.0, 400.0]])
    rate, norm = torch.tensor([0.1, 0.2]), torch.tensor([0.5, 50.0])

    def step(parameters, gradient, lr, max_norm):
        scale, before = clip(gradient, max_norm)
        return *optim.step("adam", parameters, gradient, optim.init(parameters), lr, scale, EPSILON), scale, before

    moved, _, scale, before = torch.vmap(step)(start, gradient, rate, norm)
    torch.testing.assert_close(before, torch.tensor([5.0, 500.0]))
    torch.testing.assert_close(scale, torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(moved, torch.tensor([[-0.1, 0.0, -0.1], [-0.2, 0.0, -0.2]]))
