"""The definitions in README.md and docs/ are valid, and every built-in choice that they list exists."""

import re
from pathlib import Path

import pytest
import yaml

from sweeps import search
from sweeps.loading import load, parse

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/sweeps.md")


def definitions(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("text", [text for page in PAGES for text in definitions(page) if text.startswith("name:")])
def test_the_sweeps_on_a_page_can_be_planned(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert len(load(str(path)).runs) >= 20


def test_the_keys_of_a_search_on_the_page_are_valid():
    (text,) = [text for text in definitions("docs/sweeps.md") if not text.startswith("name:")]
    raw = yaml.safe_load((ROOT / "sweeps" / "ratio_search.yaml").read_text())
    assert search.parse(raw | yaml.safe_load(text), "docs/sweeps.md").pruner == "halving"


def test_names_of_variants_need_no_quotes(tmp_path):
    definition = yaml.safe_load(definitions("README.md")[0])
    del definition["axes"], definition["variants"], definition["baseline"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(definition) + "baseline: on\nvariants: {on: {}, 1e-4: {ratio: 2}}\n")
    assert [variant.name for variant in load(str(path)).grid_variants] == ["on", "1e-4"]
    assert parse(definition | {"variants": {"null": {}, "b": {"ratio": 2}}, "baseline": "null"}, "mine.yaml").runs
