"""The first inputs of the fuzz suite, as ordinary tests; all of them: make fuzz."""

import pytest

from tests.fuzz.harness import run_input
from tests.fuzz.inputs import GENERATORS
from tests.fuzz.outputs import make_outputs

SEED, INPUTS = 0, 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_outputs(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("number", range(INPUTS))
def test_a_bad_input_ends_in_one_message_and_leaves_every_file_whole(made, number):
    result = run_input(made, SEED, number)
    assert not result.faults, f"{result.faults}\nagain: python -m tests.fuzz --seed {SEED} --only {number}"
    assert result.input.kind in GENERATORS
