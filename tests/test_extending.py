"""docs/extending.md, executed: its functions by their places in its sweep, trained to the end."""

import importlib
import re
import sys
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


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """The page's modules, importable until the test is over."""
    for name, content in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    registry.function.cache_clear()
    yield
    for name in ("ideas", "expected_sarsa"):
        sys.modules.pop(name, None)
    registry.function.cache_clear()


@pytest.mark.usefixtures("modules")
def test_the_page_s_functions_train_by_their_places_alone(tmp_path):
    (definition,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    sweep = parse(yaml.safe_load(definition), "docs/extending.md")
    assert sweep.sources_now.keys() == {
        "ideas:Corridor", "ideas:residual", "ideas:semivariance", "ideas:alternating", "expected_sarsa:ExpectedSARSA"
    }  # fmt: skip
    plan = make_plan(sweep, tmp_path)
    plan.write()
    for pack in plan.packs:
        assert train(pack.folder, torch.device("cpu"), 60.0, lambda: False)
        assert {entry["status"] for entry in pack.folder.done().values()} == {"done"}
    assert make_plan(sweep, tmp_path).missing == 0


@pytest.mark.usefixtures("modules")
def test_the_page_s_learner_has_the_expected_value_of_its_policy_as_target():
    config = RunConfig(task="minatar/breakout", learner="expected_sarsa:ExpectedSARSA", epsilon_end=0.2, gamma=0.5)
    learner = registry.learner(config)(networks.shape_of(config, (4,), 2))
    players, lane = learner.new_players(torch.tensor(1)), Lane(*(getattr(config, name) for name in Lane._fields))
    batch = Batch(torch.zeros(1, 4), torch.tensor([0]), torch.tensor([3.0]), torch.tensor([0.0]), torch.ones(1, 4))
    values = networks.action_values(players.phi, players.theta, batch.next_observation, learner.shape)[0]
    expected = 3.0 + 0.5 * (0.8 * values.max() + 0.1 * values.sum())
    torch.testing.assert_close(learner.target(players, batch, lane), expected[None])
