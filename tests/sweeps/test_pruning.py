"""Which trials a pruner ends, when some have no score yet and when some are equal."""

import numpy as np
import pytest

from sweeps.pruning import to_prune
from tests.search_synthetic import search_of

NAN = float("nan")
HALVING = search_of(pruner="halving", seeds=6)
WILCOXON = search_of(pruner="wilcoxon", seeds=6)


def runs(value: float) -> np.ndarray:
    return value + np.arange(6) / 10


@pytest.mark.parametrize("search", [HALVING, WILCOXON], ids=["halving", "wilcoxon"])
def test_a_trial_without_a_score_neither_ends_nor_ends_another(search):
    nothing, partly = np.full(6, NAN), np.array([9.0, 9.0, 9.0, 9.0, 9.0, NAN])
    assert to_prune(search, dict.fromkeys(range(4), nothing), set(range(4))) == set()
    assert to_prune(search, {0: nothing, 1: runs(5)}, {0, 1}) == set()
    assert to_prune(search, {0: partly, 1: runs(5)}, {0, 1}) == set()
    assert to_prune(search, {0: runs(1), 1: nothing, 2: runs(5), 3: partly}, {0, 1, 2, 3}) == {0}


@pytest.mark.parametrize("search", [HALVING, WILCOXON], ids=["halving", "wilcoxon"])
@pytest.mark.parametrize("candidates", [{0, 1, 2, 3}, {2, 3}])
def test_of_equal_trials_none_is_ended_by_its_number(search, candidates):
    assert to_prune(search, {number: runs(3) for number in range(4)}, candidates) == set()


def test_halving_keeps_those_that_tie_with_the_last_one_kept():
    worth = {0: 1.0, 1: 2.0, 2: 2.0, 3: 2.0}
    assert to_prune(HALVING, {n: runs(value) for n, value in worth.items()}, {0, 1, 2, 3}) == {0}
    worth = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    assert to_prune(HALVING, {n: runs(value) for n, value in worth.items()}, {0, 1, 2, 3}) == {0, 1}
    slowest = search_of(pruner="halving", seeds=6, objective={"time_to_threshold": 1.0})
    assert to_prune(slowest, {n: runs(value) for n, value in worth.items()}, {0, 1, 2, 3}) == {2, 3}
