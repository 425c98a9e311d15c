import pytest
import torch

from scorer_core.optim import adam_formula, adam_init, adam_step, adam_update, clip, linear


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_adam_with_clipping_is_torch_adam_with_clip_grad_norm_over_100_steps(max_norm):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    theirs = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.Adam([theirs], lr=1e-2)
    ours, state = start.clone(), adam_init(start)
    for _ in range(100):
        gradient = torch.randn(50, generator=generator)
        theirs.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([theirs], max_norm)
        optimiser.step()
        scale, norm = clip(gradient, torch.tensor(max_norm))
        torch.testing.assert_close(norm, gradient.norm())
        ours, state = adam_step(ours, gradient, state, torch.tensor(1e-2), scale)
    assert (ours - theirs).abs().max() < 1e-6
    assert (ours - start).abs().max() > 0.1


def test_the_one_pass_kernel_is_the_formula_to_one_unit_in_the_last_place():
    generator = torch.Generator().manual_seed(1)
    parameters, gradient, mean = torch.randn(3, 4, 1000, generator=generator)
    square = torch.rand(4, 1000, generator=generator)
    scalars = torch.rand(3, 4, generator=generator)
    kernel = adam_update(parameters, gradient, mean, square, *scalars)
    formula = adam_formula(parameters, gradient, mean, square, *scalars.unsqueeze(-1))
    for ours, reference in zip(kernel, formula, strict=True):
        torch.testing.assert_close(ours, reference, rtol=2.0**-22, atol=1e-6)


def test_under_vmap_each_lane_has_its_own_learning_rate_and_its_own_clipping():
    start, gradient = torch.zeros(2, 3), torch.tensor([[3.0, 0.0, 4.0], [300.0, 0.0, 400.0]])
    rate, norm = torch.tensor([0.1, 0.2]), torch.tensor([0.5, 50.0])

    def step(parameters, gradient, lr, max_norm):
        scale, before = clip(gradient, max_norm)
        return *adam_step(parameters, gradient, adam_init(parameters), lr, scale), scale, before

    moved, _, scale, before = torch.vmap(step)(start, gradient, rate, norm)
    torch.testing.assert_close(before, torch.tensor([5.0, 500.0]))
    torch.testing.assert_close(scale, torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(moved, torch.tensor([[-0.1, 0.0, -0.1], [-0.2, 0.0, -0.2]]))


def test_linear_reaches_its_end_and_stays():
    start, end = torch.tensor(1.0), torch.tensor(0.01)
    values = [linear(start, end, torch.tensor(p)).item() for p in (0.0, 0.5, 1.0, 2.0)]
    assert values == pytest.approx([1.0, 0.505, 0.01, 0.01])
