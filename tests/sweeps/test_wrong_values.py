"""Every field with values of every wrong type: each value is accepted for a reason, or refused in one line."""

import math
from typing import Any

import pytest
import yaml

from scorer_core.config import DEFAULTS
from slurm.profile import Profile, load_profile
from sweeps import definition, loading, search
from sweeps.definition import Sweep
from sweeps.errors import MAX_MESSAGE, DefinitionError
from sweeps.search import Search

VALUES: list[Any] = [
    None, True, 0, -1, 1.5, math.nan, math.inf, "", "x", [], [1], [[]], [math.nan], {}, {"a": 1}, {"a": {"b": [None]}},
    10**22, 10**400, -(10**400), "x" * 9_000,
]  # fmt: skip
SWEEP = {
    "name": "mine", "question": "why?", "tasks": ["minatar/breakout"], "total_steps": 10_000, "seeds": 2,
    "baseline": "a", "variants": {"a": {}, "b": {"ratio": 2}},
}  # fmt: skip
SEARCH = {
    "name": "mine", "question": "why?", "tasks": ["minatar/breakout"], "total_steps": 10_000, "seeds": 5, "trials": 2,
    "space": {"ratio": {"log": [1, 10]}}, "pruner": "wilcoxon", "base": {"log_points": 10},
}  # fmt: skip


def accepted(load, *arguments) -> Any:
    """What is loaded, or None if it is refused in one line."""
    try:
        return load(*arguments)
    except DefinitionError as error:
        message = str(error)
        assert message.startswith("mine.yaml: "), message
        assert len(message.splitlines()) == 1
        assert len(message) <= MAX_MESSAGE + 10
        return None


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, int | float) or (math.isfinite(value) if isinstance(value, float) else value < 2**62)


@pytest.mark.parametrize("field", Sweep.model_fields)
def test_a_sweep_takes_no_nonsense(field):
    for value in VALUES:
        key = Sweep.model_fields[field].alias or field
        sweep = accepted(loading.parse, SWEEP | {key: value}, "mine.yaml")
        assert sweep is None or finite(sweep.model_dump())


@pytest.mark.parametrize("field", sorted(definition.SETTINGS))
def test_a_setting_takes_no_nonsense_in_any_layer(field):
    for value in VALUES:
        layers = [
            {"base": {field: value}},
            {"variants": {"a": {}, "b": {field: value}}},
            {"axes": {field: [value]}},
            {"ablate": {"from": "a", "toggle": [{field: value}]}},
            {"exclude": [{field: value}]},
            {"exclude": [{field: [value]}]},
        ]
        for layer in layers:
            sweep = accepted(loading.parse, SWEEP | layer, "mine.yaml")
            configs = [run.config for run in sweep.runs] if sweep else []
            for config in configs:
                assert finite(config.model_dump())
                assert config.leader_lr > 0
                assert len(config.log_steps) <= 10_000
            if configs and field in DEFAULTS and "exclude" not in layer:
                assert not isinstance(value, bool) or isinstance(DEFAULTS[field], bool)


@pytest.mark.parametrize("field", Search.model_fields)
def test_a_search_takes_no_nonsense(field):
    for value in VALUES:
        found = accepted(search.parse, SEARCH | {field: value}, "mine.yaml")
        assert found is None or finite(found.model_dump())


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_space_takes_no_nonsense(value):
    for dimension in (
        value, {"log": value}, {"log": [value, 10]}, {"uniform": [0.1, value]}, {"choice": value}, [value, 2],
        {"log": [1, 2], "when": value}, {"log": [1, 2], "when": {"gamma": value}},
    ):  # fmt: skip
        found = accepted(search.parse, SEARCH | {"space": {"gamma": [0.9, 0.8], "ratio": dimension}}, "mine.yaml")
        assert found is None or finite(found.model_dump())


@pytest.mark.parametrize("field", Profile.model_fields)
def test_a_profile_takes_no_nonsense(tmp_path, monkeypatch, field):
    monkeypatch.chdir(tmp_path)
    written = {"scheduler": "slurm"}
    for value in VALUES:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(written | {field: value}))
        profile = accepted(load_profile, "mine.yaml")
        assert profile is None or finite(profile.model_dump())
