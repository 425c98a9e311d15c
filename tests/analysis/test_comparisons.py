import numpy as np
import pytest

from analysis.comparisons import compare, simultaneous
from analysis.statistics import Bootstrap, tolerance_content

BOOTSTRAP = Bootstrap(4000)


def paired(rho, seeds=20, shift=0.0):
    """Two variants whose runs of one seed correlate."""
    rng = np.random.default_rng(3)
    shared, own = rng.normal(size=(seeds, 3)), rng.normal(size=(2, seeds, 3))
    baseline, variant = np.sqrt(rho) * shared + np.sqrt(1 - rho) * own
    return {"base": baseline, "new": variant + shift}


def only(scores, baselines=None):
    (found,) = compare(scores, baselines or {"base": None, "new": "base"}, BOOTSTRAP)
    return found


def test_pairing_uses_what_seeds_share():
    widths = [only(paired(rho)).difference for rho in (0.0, 0.8)]
    unpaired, together = (float(found.high - found.low) for found in widths)
    assert together < 0.6 * unpaired


def test_a_variant_equal_to_its_baseline_differs_by_nothing():
    scores = paired(0.5)["base"]
    found = only({"base": scores, "new": scores})
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.verdict == "not separated"
    assert found.improvement.value == 0.5


@pytest.mark.parametrize(("shift", "verdict"), [(3.0, "better"), (-3.0, "worse"), (0.0, "not separated")])
def test_verdicts(shift, verdict):
    assert only(paired(0.0, shift=shift)).verdict == verdict


def test_the_family_s_intervals_grow_with_the_family():
    rng = np.random.default_rng(0)
    scores = {str(i): rng.normal(size=(10, 4)) for i in range(9)}
    widths = []
    for size in (1, 3, 8):
        found = compare(scores, {str(i): "0" for i in range(1, size + 1)}, BOOTSTRAP)
        widths.append(float(found[0].family.high - found[0].family.low))
    assert widths[0] < widths[1] < widths[2]


def test_max_t_of_independent_normals_is_the_textbook_s():
    replicates = np.random.default_rng(0).normal(size=(5, 200_000)) * np.array([[1], [2], [3], [4], [5]])
    half = simultaneous(np.zeros(5), replicates, 0.95)
    np.testing.assert_allclose(half / [1, 2, 3, 4, 5], 2.569, atol=0.02)  # |z| of 1 - (1 - 0.95 ** (1 / 5)) / 2


def test_a_missing_seed_leaves_both_sides_of_its_pair_out():
    scores = paired(0.5)
    scores["base"][0, 0] = np.nan
    found = only(scores)
    assert found.pairs == 59
    whole = {name: matrix[1:] for name, matrix in scores.items()}
    assert found.difference.value == pytest.approx(only(whole).difference.value, abs=0.1)


def test_without_a_common_seed_there_is_no_comparison():
    scores = paired(0.0)
    scores["base"][:10], scores["new"][10:] = np.nan, np.nan
    assert compare(scores, {"base": None, "new": "base"}, BOOTSTRAP) == []


def test_one_seed_is_compared_without_an_interval():
    found = only({name: matrix[:1] for name, matrix in paired(0.0).items()})
    assert np.isnan(found.family.low)
    assert np.isnan(found.difference.low)
    assert found.verdict == "not separated"


@pytest.mark.parametrize(("runs", "share"), [(8, 0.5), (14, 0.7), (46, 0.9), (93, 0.95)])
def test_tolerance_contents_are_the_known_ones(runs, share):
    assert tolerance_content(runs) >= share > tolerance_content(runs - 1)
