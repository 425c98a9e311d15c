"""Matrix products as machine code: right for all sizes and strides, and the sparse one has the dense one's bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer_core.native.program import Program

SIZES = st.sampled_from([1, 2, 3, 5, 6, 7, 8, 13, 16, 24, 31, 64])


def product(left: torch.Tensor, right: torch.Tensor, transposed: tuple[bool, bool], sparse: bool) -> torch.Tensor:
    """The product of lanes of matrices; each factor is stored as it is or `transposed`."""

    def one_run(x, y):
        return ((x.t() if transposed[0] else x) @ (y.t() if transposed[1] else y),)

    stored = [
        factor.transpose(1, 2).contiguous() if t else factor
        for factor, t in zip((left, right), transposed, strict=True)
    ]
    return Program("product", one_run, tuple(stored), sparse=[0] if sparse else [])(*stored)[0]


@settings(max_examples=25, deadline=None)
@given(m=SIZES, k=SIZES, n=SIZES, left=st.booleans(), right=st.booleans(), seed=st.integers(0, 99))
def test_a_dense_product_is_right_to_rounding_for_every_size_and_transposition(m, k, n, left, right, seed):
    random = np.random.default_rng(seed)
    x, y = (torch.from_numpy(random.standard_normal((2, *shape)).astype(np.float32)) for shape in ((m, k), (k, n)))
    exact = x.double() @ y.double()
    bound = (k + 1) * 2.0**-24 * (x.double().abs() @ y.double().abs())  # of a chain of fused multiply-adds
    assert ((product(x, y, (left, right), sparse=False).double() - exact).abs() <= bound).all()


@settings(max_examples=15, deadline=None)
@given(
    m=SIZES, k=SIZES, n=st.sampled_from([32, 40, 63, 64, 128, 131]), transposed=st.booleans(),
    density=st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_sparse_product_has_the_bits_of_the_dense_one_at_every_density(m, k, n, transposed, density, seed):
    random = np.random.default_rng(seed)
    x = random.standard_normal((2, m, k)) * (random.random((2, m, k)) < density)
    y = random.standard_normal((2, k, n))
    x, y = (torch.from_numpy(values.astype(np.float32)) for values in (x, y))
    sparse, dense = (product(x, y, (transposed, False), sparse) for sparse in (True, False))
    assert torch.equal(sparse.view(torch.int32), dense.view(torch.int32))


def test_a_sparse_product_keeps_nan_and_infinity_of_the_observations():
    x = torch.zeros(1, 3, 9)
    x[0, 0, 4], x[0, 2, 8] = float("nan"), float("inf")
    found = product(x, torch.ones(1, 9, 32), (False, False), sparse=True)[0]
    assert found.isnan().all(1).tolist() == [True, False, False]
    assert found[2].isposinf().all()


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
def test_each_lane_of_a_product_has_the_bits_of_that_lane_alone(transposed):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 64, 24, generator=generator), torch.randn(5, 24, 40, generator=generator)
    together = product(x, y, transposed, sparse=False)
    for lane in range(5):
        alone = product(x[lane : lane + 1], y[lane : lane + 1], transposed, sparse=False)
        assert torch.equal(together[lane], alone[0])
