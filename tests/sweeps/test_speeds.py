"""Estimates after packs have trained: they follow the machine's start and speed, and nothing damaged stops a plan."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scorer_core.config import RunConfig
from scorer_core.settings import resolve
from scorer_core.support.errors import RecordError
from sweeps import price, speeds
from sweeps.loading import parse
from sweeps.plan import make_plan
from sweeps.speeds import SHIPPED, PackSpeed, Speeds, basis

START, STEPS = 0.6, 2.5  # how many times the shipped figures a machine of these tests takes
SHAPES: dict[str, dict[str, Any]] = {
    "dqn": {"preset": "paper_minatar"},
    "scorer": {"preset": "paper_minatar", "coupling": "scorer", "follower_steps": 3},
    "pqn": {"preset": "paper_minatar_pqn"},
    "small": {"phi_widths": [16], "theta_widths": [16], "num_envs": 8, "total_steps": 100_000},
    "gymnasium": {"task": "CartPole-v1", "phi_widths": [32], "theta_widths": [32], "learning_starts": 50_000},
}


def config(name: str = "dqn", **settings: Any) -> RunConfig:
    return RunConfig(**resolve([{"task": "minatar/breakout", "total_steps": 300_000, **SHAPES[name], **settings}]))


def taken(one: RunConfig, lanes: int) -> float:
    """Seconds of a pack on the machine of these tests."""
    cost = price.cost(one, lanes)
    return START * cost.start + STEPS * cost.steps


def measured(one: RunConfig, lanes: int, slower: float = 1.0, **conditions: str) -> PackSpeed:
    """What an attempt on the machine of these tests measures; it learns from the first step after `learning_starts`."""
    cost = price.cost(one, lanes)
    found = speeds.measure(
        one, lanes, "cpu",
        start=(cost.acting_steps, START * cost.start + cost.acting_steps * STEPS * cost.acting),
        full_speed=(cost.learning_steps, slower * cost.learning_steps * STEPS * cost.learning),
        **{"threads": "1", "cpu": "EPYC", **conditions},
    )  # fmt: skip
    assert found
    return found


def known(*packs: PackSpeed) -> Speeds:
    return Speeds({str(number): pack for number, pack in enumerate(packs)}, speeds.code_digest())


@pytest.mark.parametrize("lanes", [1, 8, 30])
@pytest.mark.parametrize("shape", SHAPES)
def test_after_one_pack_others_of_any_length_and_size_are_estimated_with_its_start_and_its_speed(shape, lanes):
    learned = known(measured(config(shape), 4))
    other = config(shape, total_steps=3_000_000, seed=7)
    assert learned.estimate(other, lanes).seconds == pytest.approx(taken(other, lanes))
    assert basis([learned.estimate(other, lanes)], "here").startswith("speeds measured here, on 1 pack")


def test_where_nothing_has_trained_the_shipped_figures_are_used_and_named():
    one = config()
    assert Speeds().estimate(one, 8).seconds == price.cost(one, 8).seconds
    assert basis([Speeds().estimate(one, 8)], "here") == SHIPPED
    assert basis([known(measured(one, 4)).estimate(one, 8, "cuda")], "here") == SHIPPED, "it was on a CPU"


def test_packs_of_the_same_shape_count_before_others_and_of_these_the_most_similar_number_of_lanes():
    one, other = config(), config("scorer")
    learned = known(measured(one, 2), measured(one, 30, slower=2.0), measured(other, 2, slower=5.0))
    steps = price.cost(one, 2).learning_steps
    assert learned.estimate(one, 2).seconds == pytest.approx(taken(one, 2))
    few, many = (learned.estimate(one, lanes).seconds - taken(one, lanes) for lanes in (3, 24))
    assert few == pytest.approx(0, abs=1e-6)
    # Not exact: with 30 lanes, the steps before learning took longer, and are a part of what is measured as the start.
    assert many == pytest.approx(STEPS * steps * price.cost(one, 24).learning, rel=5e-3)


def test_the_median_of_equal_packs_counts_so_one_on_a_busy_machine_changes_little():
    one = config()
    learned = known(measured(one, 4), measured(one, 4, slower=3.0), measured(one, 4, slower=1.0))
    assert learned.estimate(one, 4).seconds == pytest.approx(taken(one, 4))
    assert basis([learned.estimate(one, 4)], "here") == "speeds measured here, on 3 packs"


def test_it_is_said_if_the_packs_had_other_settings_or_another_version_of_the_code():
    one = config()
    estimate = known(measured(one, 4)).estimate(config("pqn"), 4)
    assert basis([estimate], "in partition low") == "speeds measured in partition low, on 1 pack of other settings"
    old = measured(one, 4).model_copy(update={"code": "older"})
    text = basis([known(old).estimate(one, 4)], "here")
    assert text == "speeds measured here, on 1 pack with another version of the code"
    both = known(old.model_copy(update={"steps": 9.0}), measured(one, 4)).estimate(one, 4)
    assert (both.seconds, both.same_code) == (pytest.approx(taken(one, 4)), True), "the old one does not count"


def test_what_is_kept_is_read_for_the_same_threads_and_the_same_cpu(tmp_path):
    one, path = config(), speeds.speeds_file(tmp_path, "host-a")
    speeds.keep(path, "p", measured(one, 4))
    for threads, cpu, found in [("1", "EPYC", 1), ("1", None, 1), ("4", "EPYC", 0), ("1", "Xeon", 0)]:
        assert len(speeds.read(path, threads, cpu).estimate(one, 4).packs) == found


def test_an_attempt_that_trained_for_a_moment_tells_nothing():
    assert speeds.measure(config(), 4, "cpu", (10, 5.0), (20, 0.9), "1", "EPYC") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"shipped": "x", "packs": {"a": {"lanes": -1}}}', b"\xff\x00"])
def test_a_damaged_file_costs_only_what_it_knew_and_the_next_pack_replaces_it(tmp_path, content):
    one, path = config(), speeds.speeds_file(tmp_path, "host-a")
    path.parent.mkdir()
    path.write_bytes(content)
    assert speeds.read(path, "1").estimate(one, 4) == Speeds().estimate(one, 4)
    speeds.keep(path, "p", measured(one, 4))
    assert speeds.read(path, "1").estimate(one, 4).packs == {"p"}


def test_factors_of_other_shipped_figures_do_not_count(tmp_path):
    path = speeds.speeds_file(tmp_path, "host-a")
    speeds.keep(path, "p", measured(config(), 4))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shipped": "of an older version"}))
    assert not speeds.read(path, "1").estimate(config(), 4).packs


def _keep(path: Path, first: int) -> None:
    for number in range(first, first + 10):
        speeds.keep(path, str(number), measured(config("small", seed=1), 1 + number))


def test_packs_that_end_at_the_same_time_are_all_kept(tmp_path):
    path = speeds.speeds_file(tmp_path, "host-a")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_keep, args=(path, first)) for first in (0, 10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert json.loads(path.read_text())["packs"].keys() == {str(number) for number in range(20)}


def test_the_file_stays_small_and_has_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(speeds, "MOST", 12)
    path = speeds.speeds_file(tmp_path, "host-a")
    for number in range(10):
        speeds.keep(path, f"alike-{number}", measured(config(), 4))
    kept = json.loads(path.read_text())["packs"]
    assert list(kept) == [f"alike-{number}" for number in range(2, 10)]
    for number in range(10):
        speeds.keep(path, f"other-{number}", measured(config(), 5 + number))
    kept = json.loads(path.read_text())["packs"]
    assert list(kept) == ["alike-8", "alike-9", *(f"other-{number}" for number in range(10))]


def test_of_two_attempts_of_one_pack_the_longer_one_counts(tmp_path):
    one, path = config(), speeds.speeds_file(tmp_path, "host-a")
    long, short = measured(one, 4), measured(one, 4, slower=3.0).model_copy(update={"seconds": 2.0})
    speeds.keep(path, "p", long)
    speeds.keep(path, "p", short)
    assert speeds.read(path, "1").estimate(one, 4).seconds == pytest.approx(taken(one, 4))


def test_a_file_that_cannot_be_written_is_an_error_for_the_caller(tmp_path):
    (tmp_path / speeds.FOLDER).write_text("a file, not a folder")
    with pytest.raises(RecordError, match=speeds.FOLDER):
        speeds.keep(speeds.speeds_file(tmp_path, "host-a"), "p", measured(config(), 4))
    assert not speeds.read(speeds.speeds_file(tmp_path, "host-a"), "1").estimate(config(), 4).packs


SWEEP = {
    "name": "mine", "question": "?", "tasks": ["minatar/breakout"], "total_steps": 300_000, "seeds": 24,
    "baseline": "dqn", "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}},
}  # fmt: skip


def test_a_sweep_that_was_written_keeps_its_packs_whatever_is_measured_later(tmp_path):
    sweep = parse(SWEEP, "mine.yaml")
    before = make_plan(sweep, tmp_path, processes=2)
    before.write()
    start = measured(before.packs[0].configs[0], len(before.packs[0].configs))
    slow = Speeds({"a": start.model_copy(update={"steps": 0.1, "start": 100.0})}, speeds.code_digest())
    fresh = make_plan(sweep, tmp_path / "elsewhere", processes=2, speeds=slow)
    assert fresh.layout.lanes != before.layout.lanes, "what was measured does choose the layout of a new sweep"
    after = make_plan(sweep, tmp_path, processes=2, speeds=slow)
    assert {p.folder.pack_id for p in after.packs} == {p.folder.pack_id for p in before.packs}
    assert after.seconds != before.seconds
    more = make_plan(parse(SWEEP | {"seeds": 30}, "mine.yaml"), tmp_path, processes=2, speeds=slow)
    assert {p.folder.pack_id for p in more.packs} > {p.folder.pack_id for p in before.packs}


def test_the_runs_of_a_pack_that_cannot_be_read_are_not_put_into_packs_of_another_size(tmp_path):
    sweep = parse(SWEEP, "mine.yaml")
    before = make_plan(sweep, tmp_path, 8, processes=2)
    before.write()
    lost = before.packs[0]
    (lost.folder.path / "pack.json").write_text("{")
    after = make_plan(sweep, tmp_path, 5, processes=2)
    assert after.damaged == {config.run_id for config in lost.configs}
    assert len(after.packs) == len(before.packs) - 1


def test_more_processes_than_cores_share_them(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.plan.usable_cores", lambda: 2)
    sweep = parse(SWEEP, "mine.yaml")
    two, four = (make_plan(sweep, tmp_path, 6, processes=processes) for processes in (2, 4))
    assert four.seconds == pytest.approx(two.seconds, rel=0.3)
    alone = make_plan(sweep, tmp_path, 48, processes=4)
    assert alone.seconds == max(pack.seconds for pack in alone.packs), "its packs are not more than the cores"


def test_the_median_of_a_partition_with_two_kinds_of_nodes_is_of_both(tmp_path):
    one, path = config(), speeds.speeds_file(tmp_path, "partition-low")
    speeds.keep(path, "a", measured(one, 4, cpu="EPYC"))
    speeds.keep(path, "b", measured(one, 4, cpu="Xeon", slower=3.0))
    estimate = speeds.read(path, "1").estimate(one, 4)
    assert estimate.packs == {"a", "b"}
    assert estimate == replace(estimate, similar=True, same_code=True)
