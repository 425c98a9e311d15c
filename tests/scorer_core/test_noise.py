"""The generator: right, the same in both forms, and uniform."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer_core.noise import Stream, bits, bits_scalar, integers, key_scalar, normal, torch_bits, uniform

WORD = (1 << 64) - 1
int64s = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)


def splitmix64(state: int, outputs: int) -> list[int]:
    """As published, in Python's unbounded integers."""
    drawn = []
    for _ in range(outputs):
        state = (state + 0x9E3779B97F4A7C15) & WORD
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        drawn.append(z ^ (z >> 31))
    return drawn


def expected_key(seed: int, step: int, stream: int) -> int:
    (of_seed,) = splitmix64(seed & WORD, 1)
    (of_stream,) = splitmix64((of_seed + stream) & WORD, 1)
    return splitmix64((of_stream + step) & WORD, 1)[0]


def test_this_splitmix64_gives_the_published_numbers() -> None:
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(deadline=None)  # the first call compiles
@given(seed=int64s, step=st.integers(min_value=0, max_value=1 << 40), stream=st.sampled_from(Stream))
def test_all_three_forms_are_splitmix64_bit_for_bit(seed: int, step: int, stream: Stream) -> None:
    expected = expected_key(seed, step, stream)
    words = [word >> 40 for word in splitmix64(expected, 7)]
    assert bits(torch.tensor(seed), step, stream, (7,)).tolist() == words
    assert torch_bits(torch.tensor([seed]), step, stream, 7).tolist() == words
    scalar_key = np.uint64(key_scalar(seed, step, int(stream)))
    assert int(scalar_key) == expected
    assert [bits_scalar(scalar_key, index) for index in range(7)] == words
    assert uniform(torch.tensor(seed), step, stream, (7,)).tolist() == [word / 2**24 for word in words]


@pytest.mark.parametrize("below", [1, 3, 1000, 99_968, 2**24])
def test_integers_cover_their_range_evenly_and_never_reach_its_end(below: int) -> None:
    drawn = integers(torch.tensor(1), 2, Stream.LEADER_BATCH, (1000, 1000), below)
    assert drawn.min() >= 0
    assert drawn.max() < below
    assert drawn.double().mean().item() == pytest.approx((below - 1) / 2, rel=5e-3)
    assert below > 1000 or len(drawn.unique()) == below


@pytest.mark.parametrize("below", [2**24, 2**24 + 1, 3 * 2**24, 2**38])
def test_integers_reach_even_and_odd_numbers_however_large_the_range(below: int) -> None:
    drawn = integers(torch.tensor(1), 2, Stream.LEADER_BATCH, (300, 1000), below)
    assert drawn.min() >= 0
    assert drawn.max() < below
    assert (drawn % 2).double().mean().item() == pytest.approx(0.5, abs=5e-3)
    assert drawn.double().mean().item() == pytest.approx((below - 1) / 2, rel=5e-3)
    lower, upper = (drawn % 3).double(), drawn.double() / below
    assert abs(torch.corrcoef(torch.stack([lower.flatten(), upper.flatten()]))[0, 1].item()) < 0.01


def test_uniforms_have_the_moments_of_uniforms_and_never_reach_one() -> None:
    drawn = uniform(torch.tensor(1), 2, Stream.EXPLORE, (1000, 1000)).double()
    assert drawn.mean().item() == pytest.approx(1 / 2, abs=2e-3)
    assert drawn.var().item() == pytest.approx(1 / 12, abs=5e-4)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert torch.tensor((2**24 - 1) * 2.0**-24, dtype=torch.float32) < 1


def test_normals_have_the_moments_of_normals() -> None:
    drawn = normal(torch.tensor(1), 2, Stream.INIT_PHI, (1000, 1000)).double()
    assert drawn.isfinite().all()
    assert drawn.mean().item() == pytest.approx(0, abs=5e-3)
    assert drawn.var().item() == pytest.approx(1, abs=1e-2)
    assert (drawn**4).mean().item() == pytest.approx(3, abs=5e-2)


@pytest.mark.parametrize("changed", [(2, 5, 1), (1, 6, 1), (1, 5, 2)])
def test_seeds_steps_and_streams_are_unrelated(changed: tuple[int, int, int]) -> None:
    seed, step, stream = changed
    a = uniform(torch.tensor(1), 5, 1, (10_000,))
    b = uniform(torch.tensor(seed), step, stream, (10_000,))
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 0.05


def test_a_batch_of_seeds_draws_what_each_draws_alone() -> None:
    seeds = torch.tensor([3, 4, -5])
    together = uniform(seeds, 7, Stream.EXPLORE, (5, 2))
    alone = torch.stack([uniform(seed, 7, Stream.EXPLORE, (5, 2)) for seed in seeds])
    assert together.shape == (3, 5, 2)
    assert torch.equal(together, alone)
