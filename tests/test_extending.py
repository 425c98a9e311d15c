"""docs/extending.md, executed: its functions, its lines of registration, its sweep, trained to the end."""

import importlib
import re
from pathlib import Path

import pytest
import torch
import yaml

from scorer_core import networks, registry
from scorer_core.config import RunConfig
from scorer_core.game import Batch, Lane
from scorer_core.train import train
from sweeps.loading import parse
from sweeps.plan import make_plan

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()

TABLES = ("FOLLOWER_OBJECTIVES", "ALGORITHMS", "COUPLINGS", "NETWORKS", "TASKS")


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """What the page adds, importable and registered until the test is over."""
    functions, learner, lines = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "ideas.py").write_text(functions)
    (tmp_path / "expected_sarsa.py").write_text(learner)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    added = {**vars(registry)}
    known = {table: set(getattr(registry, table)) for table in TABLES}
    exec(lines, added)
    yield {table: set(getattr(registry, table)) - names for table, names in known.items()}
    for table, names in known.items():
        for name in set(getattr(registry, table)) - names:
            del getattr(registry, table)[name]


def test_the_page_s_functions_train_after_one_line_each(extended, tmp_path):
    assert [len(names) for names in extended.values()] == [1, 1, 1, 1, 1]
    (definition,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    sweep = parse(yaml.safe_load(definition), "docs/extending.md")
    assert {run.config.coupling for run in sweep.runs} == {"scorer", "alternating"}
    plan = make_plan(sweep, tmp_path)
    plan.write()
    for pack in plan.packs:
        assert train(pack.folder, torch.device("cpu"), 60.0, lambda: False)
        assert {entry["status"] for entry in pack.folder.done().values()} == {"done"}
    assert make_plan(sweep, tmp_path).missing == 0


@pytest.mark.usefixtures("extended")
def test_the_page_s_learner_has_the_expected_value_of_its_policy_as_target():
    config = RunConfig(task="minatar/breakout", algorithm="expected_sarsa", epsilon_end=0.2, gamma=0.5)
    learner = registry.function(registry.ALGORITHMS["expected_sarsa"].learner)(networks.shape_of(config, (4,), 2))
    players, lane = learner.new_players(torch.tensor(1)), Lane(*(getattr(config, name) for name in Lane._fields))
    batch = Batch(torch.zeros(1, 4), torch.tensor([0]), torch.tensor([3.0]), torch.tensor([0.0]), torch.ones(1, 4))
    values = networks.action_values(players.phi, players.theta, batch.next_observation, learner.shape)[0]
    expected = 3.0 + 0.5 * (0.8 * values.max() + 0.1 * values.sum())
    torch.testing.assert_close(learner.target(players, batch, lane), expected[None])
