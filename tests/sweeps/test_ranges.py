"""Ranges on an axis: their values are those that people write, each once, and mistakes are named."""

from itertools import pairwise

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.ablation import format_value
from sweeps.errors import DefinitionError
from sweeps.loading import dump, load, parse
from sweeps.ranges import LARGEST, MOST_VALUES, axis_values
from tests.sweeps.minimal import MINIMAL, names, sweep


@pytest.mark.parametrize(
    ("field", "written", "values"),
    [
        ("ratio", {"log": [1, 100], "num": 7}, [1, 2.15, 4.64, 10, 21.5, 46.4, 100]),
        ("ratio", {"log": [100, 0.01], "num": 5}, [100, 10, 1, 0.1, 0.01]),
        ("leader_lr", {"log": [1e-5, 1e-3], "num": 5}, [1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3]),
        ("ratio", {"log": [1.2345, 9.8765], "num": 2}, [1.2345, 9.8765]),
        ("gamma", {"linear": [0, 1], "num": 4}, [0, 0.333, 0.667, 1]),
        ("gamma", {"linear": [0.9, 0.999], "num": 4}, [0.9, 0.933, 0.966, 0.999]),
        ("gamma", {"linear": [0, 1], "num": 9}, [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]),
        ("decay_rounds", {"linear": [1, 4001], "num": 5}, [1, 1001, 2001, 3001, 4001]),
        ("decay_rounds", {"linear": [1000, 1010], "num": 4}, [1000, 1003.33, 1006.67, 1010]),
        ("lr_end", {"range": [0.1, 0.5, 0.1]}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("lr_end", {"range": [0.7, 0.1, -0.3]}, [0.7, 0.4, 0.1]),
        ("lr_end", {"range": [0, 1, 0.3]}, [0, 0.3, 0.6, 0.9]),
        ("batch_size", {"log": [16, 256], "num": 6}, [16, 28, 49, 84, 147, 256]),
        ("batch_size", {"linear": [1, 4], "num": 3}, [1, 3, 4]),
        ("batch_size", {"range": [8, 32, 8]}, [8, 16, 24, 32]),
        ("decay_steps", {"linear": [1000.0, 2000.0], "num": 4}, [1000, 1333, 1667, 2000]),
        ("epsilon_steps", {"range": [0.1, 0.3, 0.1]}, [0.1, 0.2, 0.3]),
    ],
)
def test_the_values_of_a_range_are_those_that_a_person_would_write(field, written, values):
    found = axis_values(field, written)
    assert found == values
    assert [type(value) for value in found] == [int if value == int(value) else float for value in values]


ENDS = st.floats(-LARGEST, LARGEST) | st.integers(-1000, 1000) | st.floats(1e-6, 100)


def near(numbers):
    """Pairs of numbers, some of them almost equal."""
    close = st.tuples(numbers, st.sampled_from([1e-9, 1e-4, 0.01, 0.5])).map(lambda p: (p[0], p[0] * (1 + p[1])))
    return st.tuples(numbers, numbers) | close


@settings(deadline=None)
@given(
    st.sampled_from(["log", "linear"]),
    near(ENDS),
    st.integers(2, 60) | st.integers(2, MOST_VALUES),
    st.sampled_from(["ratio", "batch_size"]),
)
def test_rounding_never_repeats_a_value_or_a_name_and_both_ends_are_exact(form, ends, num, field):
    try:
        values = axis_values(field, {form: list(ends), "num": num})
    except ValueError:
        return
    assert len(values) == num
    assert (values[0], values[-1]) == ends
    assert len({format_value(value) for value in values}) == num
    rising = ends[0] < ends[1]
    assert all((one < other) == rising for one, other in pairwise(values))
    if field == "batch_size" and all(end == int(end) for end in ends):
        assert all(isinstance(value, int) for value in values)


@settings(deadline=None)
@given(st.integers(-500, 500), st.integers(1, 999), st.integers(1, 40), st.integers(0, 4), st.booleans())
def test_a_range_by_steps_has_no_float_noise_and_ends_where_a_step_ends(start, step, num, decimals, down):
    sign = -1 if down else 1
    wanted = [float(f"{start + sign * place * step}e-{decimals}") for place in range(num + 1)]
    assert axis_values("ratio", {"range": [wanted[0], wanted[-1], sign * float(f"{step}e-{decimals}")]}) == wanted


RATIO = {"log": [1, 100], "num": 7}


def test_a_sweep_with_a_range_has_the_variants_of_its_values():
    grid = sweep(axes={"ratio": RATIO})
    assert names(grid) == [f"ratio={value}" for value in (1, 2.15, 4.64, 10, 21.5, 46.4, 100)]
    by_hand = sweep(axes={"ratio": [1, 2.15, 4.64, 10, 21.5, 46.4, 100]})
    assert [run.run_id for run in grid.runs] == [run.run_id for run in by_hand.runs]


def test_the_frozen_definition_keeps_what_was_written():
    grid = sweep(axes={"ratio": RATIO, "gamma": [0.9, 0.99]}, baseline={"ratio": 1, "gamma": 0.9})
    assert yaml.safe_load(dump(grid))["axes"] == {"ratio": RATIO, "gamma": [0.9, 0.99]}
    again = parse(yaml.safe_load(dump(grid)), "again.yaml")
    assert [run.run_id for run in again.runs] == [run.run_id for run in grid.runs]


def test_a_range_can_be_given_on_the_command_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    assert names(load(str(path), ["axes.ratio={log: [1, 4], num: 3}"])) == ["ratio=1", "ratio=2", "ratio=4"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"log": [1, 100], "num": 1}, "num: must be from 2 to 1,000, not 1"),
        ({"log": [1, 100], "num": 1001}, "num: must be from 2 to 1,000, not 1001"),
        ({"log": [1, 100], "num": 2.5}, "num: 2.5 is not a whole number"),
        ({"log": [1, 100]}, "log needs `num`, the number of values, such as {log: [1, 100], num: 7}"),
        ({"log": [0, 100], "num": 3}, "log: 0 is not above 0"),
        ({"log": [-1, 100], "num": 3}, "log: -1 is not above 0"),
        ({"log": ["a", 100], "num": 3}, "log: 'a' is not a number of at most 1e+15"),
        ({"log": [1, 2, 3], "num": 3}, "log needs [from, to], not [1, 2, 3]"),
        ({"linear": [2, 2.0], "num": 3}, "linear: both ends are 2"),
        ({"range": [0, 1]}, "range needs [from, to, step], not [0, 1]"),
        ({"range": [0, 1, 0]}, "range: the step is 0"),
        ({"range": [0, 1, -0.1]}, "range: a step of -0.1 does not lead from 0 to 1"),
        ({"range": [1, 0, 0.1]}, "range: a step of 0.1 does not lead from 1 to 0"),
        ({"range": [0, 1, 5]}, "range: a step of 5 leads beyond 1"),
        ({"range": [0, 1, 0.001]}, "range: more than 1,000 values; choose a larger step"),
        ({"range": [0, 1, 0.1], "num": 3}, "range has no key 'num'; its third number is the step"),
        ({"log": [1, 100], "nun": 7}, "log has no key 'nun'"),
        ({"log": [1, 9], "linear": [1, 9], "num": 3}, "give a list of values, or one of log, linear, range, such as"),
        ({}, "give a list of values, or one of log, linear, range, such as {log: [1, 100], num: 7}"),
        (5, "5 is neither a list of values nor a range such as {log: [1, 100], num: 7}"),
        ({"log": [1, 1.01], "num": 5}, "log: 5 values between 1 and 1.01 are not distinct after rounding"),
        ({"log": [1.001, 1.009], "num": 3}, "log: 3 values between 1.001 and 1.009 are not distinct after rounding"),
    ],
)
def test_a_mistake_in_a_range_is_named_in_one_line(written, message):
    with pytest.raises(DefinitionError) as error:
        sweep(axes={"ratio": written})
    assert str(error.value).startswith(f"mine.yaml: axes.ratio: {message}")
    assert "\n" not in str(error.value)


def test_whole_numbers_that_repeat_after_rounding_are_refused():
    with pytest.raises(DefinitionError, match=r"axes.batch_size: log: 9 values between 1 and 4 are not distinct after"):
        sweep(axes={"batch_size": {"log": [1, 4], "num": 9}})
