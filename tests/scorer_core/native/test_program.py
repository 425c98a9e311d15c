"""Machine code computes what torch computes, for each operation and for programs of several."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad

from scorer_core.native.lowering import UnsupportedError
from scorer_core.native.program import Program

LANES = 3
NAN, INFINITY = float("nan"), float("inf")
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, -1e30, 1e-4, 8.5, NAN, INFINITY, -INFINITY, 2.0, -7.0, 1.5, 0.1]


def compare(one_run, *arguments: Tensor, tolerance: float = 0.0) -> None:
    """Check that machine code and torch agree in every lane: bit for bit, or to `tolerance`."""
    want = torch.vmap(one_run)(*arguments)
    found = Program("test", one_run, arguments)(*arguments)
    assert len(want) == len(found)
    for ours, theirs in zip(found, want, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


def lanes(values) -> Tensor:
    """`values`, rotated by one more place in each lane."""
    return torch.stack([torch.roll(torch.tensor(values), lane) for lane in range(LANES)])


UNARY = {
    "relu": torch.relu, "neg": torch.neg, "abs": torch.abs, "sqrt": torch.sqrt, "sign": torch.sign, "exp": torch.exp,
    "log": torch.log, "expm1": torch.expm1, "tanh": torch.tanh, "reciprocal": torch.reciprocal,
    "isfinite": torch.isfinite, "clamp": lambda x: x.clamp(-1, 2), "clamp_min": lambda x: x.clamp_min(0.5),
    "clamp_max": lambda x: x.clamp_max(0.5), "rsub": lambda x: 1 - x, "square": lambda x: x**2,
    "to bool": lambda x: x.to(torch.bool), "to double": lambda x: x.to(torch.float64),
    "logical_not": torch.logical_not, "where": lambda x: torch.where(x > 0, x, 0.0),
    "compare": lambda x: (x < 1) | (x >= 2) ^ ~(x != x), "divide": lambda x: 1.0 / x,
    "alpha": lambda x: torch.add(x, x, alpha=2),
}  # fmt: skip
# torch rounds square roots less exactly; the others are computed in other ways.
INEXACT = {"sqrt": 2e-7, "exp": 1e-6, "log": 1e-6, "expm1": 1e-6, "tanh": 5e-7}


@pytest.mark.parametrize("name", UNARY)
def test_an_operation_on_single_elements_is_torch_s_also_for_nan_and_infinity(name):
    compare(lambda x: (UNARY[name](x),), lanes(EDGES), tolerance=INEXACT.get(name, 0.0))


BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum,
    "minimum": torch.minimum, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq,
    "ne": torch.ne,
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_an_operation_on_two_elements_is_torch_s_for_every_pair_of_edges(name):
    x = torch.tensor(EDGES)
    pairs = torch.cartesian_prod(x, x).T.unsqueeze(0).repeat(LANES, 1, 1)
    compare(lambda p: (BINARY[name](p[0], p[1]),), pairs)


def test_whole_numbers_are_divided_as_in_torch():
    x = lanes([7, -7, 8, -8, 0, 1, -1, 10**12, -(10**12) + 1])
    compare(lambda x: (x // 3, x % 3, x // -4, x % -4, x & 6, x ^ 5, x.abs(), (x > 2).to(torch.int64)), x)


REDUCTIONS = {
    "sum": lambda x: x.sum(), "mean": lambda x: x.mean(), "rows": lambda x: x.sum(-1), "columns": lambda x: x.mean(0),
    "kept": lambda x: x.mean(1, keepdim=True), "max": lambda x: x.max(-1).values, "argmax": lambda x: x.argmax(-1),
    "amax": lambda x: x.amax(-1),
    "largest": lambda x: x.max(),
}  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 128), (17, 33)])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_are_torch_s_to_rounding(name, shape):
    x = torch.rand(LANES, *shape, generator=torch.Generator().manual_seed(1))
    compare(lambda x: (REDUCTIONS[name](x),), x, tolerance=1e-5)


def test_the_largest_element_is_the_first_of_equals_and_nan_counts_as_largest():
    x = torch.tensor([[[1.0, 3, 3], [NAN, 5, NAN], [2, NAN, 9], [-INFINITY, -INFINITY, -INFINITY]]]).repeat(2, 1, 1)
    compare(lambda x: (*x.max(-1), x.argmax(-1)), x)


VIEWS = {
    "view": lambda x: x.view(3, 2, 4) * 2, "transpose": lambda x: x.t() + 1, "slice": lambda x: x[1:, ::2] * 3,
    "select": lambda x: x[:, 2] - x[0, 1], "expand": lambda x: x[0].expand(5, 4) + 1,
    "unsqueeze": lambda x: (x + 1).unsqueeze(1) * x, "squeeze": lambda x: (x[:1] * 2).squeeze(0),
    "cat": lambda x: torch.cat([x, x * 2, x[:1]], 0), "cat 1": lambda x: torch.cat([x, x * 2], 1),
    "stack": lambda x: torch.stack([x, -x], -1), "split": lambda x: x.split([2, 4])[1] * 2,
    "flatten": lambda x: x.t().flatten() + 0, "diagonal": lambda x: x.diagonal() * 2,
    "permute": lambda x: x.view(2, 3, 4).permute(2, 0, 1) + 1,
    "unbind": lambda x: x.unbind(1)[3] + 1, "arange": lambda x: torch.arange(4) + x,
    "constants": lambda x: torch.zeros_like(x) + torch.ones(4),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_views_and_joined_tensors_are_torch_s(name):
    compare(lambda x: (VIEWS[name](x),), torch.arange(24.0 * LANES).view(LANES, 6, 4))


def test_elements_chosen_by_index_are_torch_s():
    x = torch.arange(60.0 * LANES).view(LANES, 5, 3, 4)
    row, column = lanes([0, 4, -1, 2, 3, 3, 1]), lanes([2, 0, 1, 1, 2, -3, 0])

    def one_run(x, row, column):
        chosen = x[row, column]
        return x[row], chosen, chosen.gather(-1, (row % 4).unsqueeze(-1)), chosen.to(torch.uint8)[row % 7]

    compare(one_run, x, row, column)


def test_scattered_elements_are_torch_s():
    def one_run(index, added, rows):
        sums = torch.zeros(4, 3).scatter_add(-1, index.unsqueeze(-1), added.unsqueeze(-1))
        return sums, torch.zeros(6, 2).index_copy(0, index + 1, rows)

    compare(one_run, lanes([2, 0, 1, 2]) % 3, lanes([1.0, 2, 3, 4]), torch.arange(8.0 * LANES).view(LANES, 4, 2))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12))
def test_programs_of_operations_that_share_their_results_are_torch_s(steps):
    """Each step takes two earlier results. The results have few forms, so most are broadcast, stored or joined."""

    def one_run(x, y):
        found = [x, y]
        for kind, first, second in steps:
            a, b = found[first % len(found)], found[second % len(found)]
            made = {
                0: lambda a, b: a + b, 1: lambda a, b: a * 0.5 - b, 2: lambda a, b: torch.relu(a) + b.mean(),
                3: lambda a, b: torch.tanh(a.mean(-1, keepdim=True)) + b, 4: lambda a, b: (a @ a.t()).tanh() @ b,
                5: lambda a, b: torch.cat([a, b])[5:][:6] + a, 6: lambda a, b: torch.where(a > b, a, b * 2),
                7: lambda a, b: a.sum(0) * 0.1 + b.view(4, 6).t().contiguous(),
            }[kind](a, b)  # fmt: skip
            found.append(made / (made.abs().mean() + 1))
        return found[-1], found[len(found) // 2], found[-1] + found[-2]

    generator = torch.Generator().manual_seed(0)
    compare(one_run, *(torch.randn(LANES, 6, 4, generator=generator) for _ in range(2)), tolerance=1e-5)


def test_gradients_through_a_network_are_torch_s():
    def one_run(weight, head, x):
        def loss(weight, head):
            hidden = torch.tanh(torch.relu(x @ weight) @ weight[:16])
            return ((hidden @ head) ** 2).mean() + ((hidden - hidden.mean(0)) ** 2).sum()

        return grad(loss, argnums=(0, 1))(weight, head)

    generator = torch.Generator().manual_seed(0)
    sizes = (20, 16), (16, 3), (33, 20)
    compare(one_run, *(0.3 * torch.randn(LANES, *size, generator=generator) for size in sizes), tolerance=1e-5)


def test_a_lane_has_the_bits_that_it_has_alone_and_nan_stays_in_its_lane():
    def one_run(x):
        return (torch.tanh(x @ x.t()).mean(0) / x.abs().sum(),)

    x = torch.randn(4, 9, 9, generator=torch.Generator().manual_seed(0))
    x[2] = NAN
    (together,) = Program("test", one_run, (x,))(x)
    for lane in range(4):
        one = x[lane : lane + 1]
        (alone,) = Program("test", one_run, (one,))(one)
        assert torch.equal(together[lane].view(torch.int32), alone[0].view(torch.int32))
    assert together.isnan().all(1).tolist() == [False, False, True, False]


def test_in_place_the_first_argument_has_the_first_result_also_where_others_read_what_was_there():
    def one_run(state, x):
        first, second = state
        new = second + x, first * 2  # exchanged: nothing may be read after it was overwritten
        return new, (first.sum(), first)

    state = torch.ones(2, 5), torch.arange(10.0).view(2, 5)
    before = [part.clone() for part in state]
    x = torch.full((2, 5), 3.0)
    program = Program("test", one_run, (state, x), in_place=True)
    after, (total, was) = program(state, x)
    assert after is state
    for found, want in (
        (state[0], before[1] + 3),
        (state[1], before[0] * 2),
        (total, before[0].sum(1)),
        (was, before[0]),
    ):
        assert torch.equal(found, want)


def test_an_unknown_operation_is_named():
    with pytest.raises(UnsupportedError, match=r"aten\.cumsum"):
        Program("test", lambda x: (x.cumsum(0),), (torch.ones(2, 3),))


WHOLE, SMALL = torch.tensor([[7, -7, 2]] * 2), torch.tensor([[200, 100, 3]] * 2, dtype=torch.uint8)
TRUE = torch.tensor([[True, True, False]] * 2)


@pytest.mark.parametrize(
    ("one_run", "x"),
    [
        (lambda x: x.double() @ x.double(), torch.ones(2, 3, 3)),
        (lambda x: x @ x, torch.ones(2, 3, 3, dtype=torch.int64)),
        (lambda x: x.to(torch.int32) + 1, WHOLE),
        (lambda x: x.half() + 1, torch.ones(2, 3)),
        (lambda x: x**2, WHOLE),
        (lambda x: x.amax(), WHOLE),
        (lambda x: x.argmax(), WHOLE),
        (lambda x: x + x, TRUE),
        (lambda x: x > ~x, TRUE),
        (lambda x: torch.maximum(x, ~x), TRUE),
        (lambda x: x > 100, SMALL),
        (lambda x: x // 3, SMALL),
        (lambda x: x >> 1, SMALL),
        (lambda x: x // 0.1, torch.ones(2, 3)),
        (lambda x: x + torch.arange(0.5, 3), torch.ones(2, 3)),
        (lambda x: x.index_copy(0, torch.arange(20), x + 1), torch.ones(2, 20)),
    ],
)
def test_an_operation_on_another_dtype_or_form_is_torch_s_or_refused(one_run, x):
    def results(x):
        return (one_run(x),)

    try:
        (found,) = Program("test", results, (x,))(x)
    except UnsupportedError:
        return
    assert torch.equal(found, torch.vmap(results)(x)[0])


def test_a_new_state_that_is_a_view_of_the_old_one_is_written():
    state = torch.arange(18.0).view(2, 3, 3)
    before = state.clone()
    Program("test", lambda s, x: (s.t(), x + 1), (state, state[:, 0].clone()), in_place=True)(state, before[:, 0])
    assert torch.equal(state, before.mT)


def test_a_call_with_another_form_or_an_argument_that_cannot_be_overwritten_is_an_error():
    x = torch.ones(2, 3, 3)
    program = Program("test", lambda s, y: (s + y, y.sum()), (x, x), in_place=True)
    for other in (x[:1], x.double(), x[:, :2]):
        with pytest.raises(ValueError, match="a program for"):
            program(x, other)
    with pytest.raises(ValueError, match="not contiguous"):
        program(x.mT, x)
