import pytest

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder


@pytest.fixture
def folder(tmp_path) -> PackFolder:
    """A new pack of two runs."""
    return PackFolder.create(tmp_path / "packs", [RunConfig(task="minatar/breakout", seed=seed) for seed in range(2)])
