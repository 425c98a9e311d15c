"""The definitions in README.md and docs/ are valid, and the Python on docs/api.md runs."""

import inspect
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml

from analysis import api
from sweeps import search
from sweeps.loading import load, parse
from sweeps.ranges import axis_values
from tests.analysis.synthetic import make_sweep

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/sweeps.md")


def definitions(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("text", [text for page in PAGES for text in definitions(page) if text.startswith("name:")])
def test_the_sweeps_on_a_page_can_be_planned(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert len(load(str(path)).runs) >= 20


def test_the_ranges_on_the_page_have_the_values_beside_them():
    page = (ROOT / "docs" / "sweeps.md").read_text()
    rows = re.findall(r"^\| `(\w+): (\{.*?\})` \| ([\d., ]+):", page, re.MULTILINE)
    assert len(rows) == 3
    for field, written, values in rows:
        assert axis_values(field, yaml.safe_load(written)) == [float(value) for value in values.split(", ")]


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


def test_the_python_on_the_page_of_the_api_runs_from_top_to_bottom(tmp_path, monkeypatch):
    make_sweep(tmp_path / "outputs", {"name": "my-sweep"})
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    plt.close("all")
    assert (tmp_path / "figure.pdf").exists()


def test_the_page_of_the_api_names_every_function_with_its_arguments():
    page = (ROOT / "docs" / "api.md").read_text()
    for name in api.__all__:
        assert re.search(rf"\b{name}\b", page) or name.startswith("plot_") or name == "ReportError", name
    for name, arguments in re.findall(r"^\| `(plot_\w+)\((.*)\)` \|", page, re.MULTILINE):
        written = re.sub(r"\(.*?\)", "pair", arguments).split(", ")
        assert written == list(inspect.signature(getattr(api, name)).parameters), name
    assert {name for name in api.__all__ if name.startswith("plot_")} == set(re.findall(r"^\| `(plot_\w+)", page, re.M))
