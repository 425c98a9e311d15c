"""Runs on disk that the definition no longer has are named so that each differs from every other."""

from pathlib import Path
from typing import Any

import pytest

from scorer_core.records import PackFolder
from sweeps.left_out import left_out, on_disk
from sweeps.loading import parse
from sweeps.plan import make_plan

SWEEP: dict[str, Any] = {
    "name": "mine", "question": "?", "tasks": ["minatar/breakout"], "total_steps": 10_000, "seeds": 2,
    "baseline": "one", "variants": {"one": {"ratio": 1}, "five": {"ratio": 5}},
}  # fmt: skip


def started(outputs: Path, **changes: Any) -> None:
    """Freeze a definition and write its packs."""
    make_plan(parse(SWEEP | changes, "mine.yaml"), outputs, lanes_per_pack=2).write()


def left_out_names(outputs: Path, **changes: Any) -> list[str]:
    """What is said of the runs that are not of a definition, without the hint to delete their packs."""
    sweep = parse(SWEEP | changes, "mine.yaml")
    folder = outputs / "mine"
    lines = left_out(folder, on_disk(folder), {run.run_id for run in sweep.runs}, lambda: sweep, "mine.yaml")
    return [
        line.partition(". To discard them")[0].partition("mine.yaml and will not be trained: ")[2] for line in lines
    ]


def test_runs_of_two_variants_that_differ_from_the_definition_in_the_same_setting_are_two_groups(tmp_path):
    started(tmp_path, base={"gamma": 0.9})
    started(tmp_path, variants={"one": {"ratio": 1}})
    (line,) = left_out_names(tmp_path)
    for ratio in (1, 5):
        words = {"scorer", f"ratio={ratio}", "gamma=0.9", "on", "minatar/breakout"}
        assert any(set(group.partition(" (")[0].split()) == words for group in line.split("), ")), line
    assert line.count("(seeds 0, 1)") == 2


def test_the_frozen_definition_gives_the_variant_s_name_and_a_setting_that_has_changed_since(tmp_path):
    started(tmp_path)
    assert left_out_names(tmp_path, variants={"one": {"ratio": 1}}) == ["five on minatar/breakout (seeds 0, 1)"]
    (line,) = left_out_names(tmp_path, base={"gamma": 0.9})
    assert line == "one gamma=0.99 on minatar/breakout (seeds 0, 1), five gamma=0.99 on minatar/breakout (seeds 0, 1)"
    (line,) = left_out_names(tmp_path, variants={"one": {"ratio": 1}, "five": {"coupling": "monolithic"}})
    assert line.startswith("five coupling=scorer ")


def test_a_run_of_two_packs_is_listed_once(tmp_path):
    started(tmp_path)
    five = [run.config for run in parse(SWEEP, "mine.yaml").runs if run.variant.name == "five"]
    PackFolder.create(tmp_path / "mine" / "packs", five[:1], False)
    assert left_out_names(tmp_path, variants={"one": {"ratio": 1}}) == ["five on minatar/breakout (seeds 0, 1)"]


@pytest.mark.parametrize("field", ["total_steps", "gamma", "batch_size", "follower_lr"])
def test_of_runs_that_differ_in_a_setting_each_has_it_in_its_name(tmp_path, field):
    values = {"total_steps": (20_000, 30_000), "gamma": (0.8, 0.9), "batch_size": (16, 64), "follower_lr": (1e-3, 2e-3)}
    for value in values[field]:
        one = {"ratio": 1, "leader_lr": 1e-3} if field != "follower_lr" else {"leader_lr": 1e-3}
        settings = one | ({field: value} if field != "total_steps" else {})
        started(tmp_path, variants={"one": settings}, **({field: value} if field == "total_steps" else {}))
    started(tmp_path)
    (line,) = left_out_names(tmp_path)
    groups = line.split("), ")
    assert len(set(groups)) == len(groups) == 2, line
