import json

import pytest

from scorer_core.support.errors import RecordError
from sweeps.loading import parse
from sweeps.plan import Compile, find_run, make_plan

RAW = {
    "name": "mine", "question": "why?", "tasks": ["minatar/breakout", "minatar/asterix"], "total_steps": 10_000,
    "seeds": 5, "baseline": "dqn", "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}, "slow": {"ratio": 1}},
}  # fmt: skip


def plan(outputs, lanes_per_pack=16, **changes):
    return make_plan(parse(RAW | changes, "mine.yaml"), outputs, lanes_per_pack)


def lanes(planned) -> list[int]:
    return sorted(len(pack.configs) for pack in planned.packs)


def finish(planned, pack_index: int) -> None:
    pack = planned.packs[pack_index]
    pack.folder.finish({config.run_id: {"status": "done"} for config in pack.configs})


def test_runs_of_equal_shape_share_a_pack_and_no_other_do(tmp_path):
    planned = plan(tmp_path)
    assert lanes(planned) == [5, 5, 10, 10]
    assert all(len({config.shape_id for config in pack.configs}) == 1 for pack in planned.packs)


@pytest.mark.parametrize(("most", "expected"), [(4, [2, 3, 2, 3, 3, 3, 4, 3, 3, 4]), (1, [1] * 30), (7, [5] * 6)])
def test_packs_hold_at_most_the_lanes_asked_for_and_are_even(tmp_path, most, expected):
    assert lanes(plan(tmp_path, most)) == sorted(expected)


def test_planning_writes_nothing_and_writing_puts_everything_on_disk(tmp_path):
    planned = plan(tmp_path)
    assert list(tmp_path.iterdir()) == []
    planned.write()
    folder = tmp_path / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["packs", "plan-1.json", "sweep.yaml"]
    written = json.loads((folder / "plan-1.json").read_text())
    assert {run_id for ids in written["packs"].values() for run_id in ids} == planned.run_ids
    assert {path.name for path in (folder / "packs").iterdir()} == written["packs"].keys()
    plan(tmp_path).write()
    assert (folder / "plan-2.json").exists()


def test_the_finished_runs_of_a_pack_whose_configurations_are_damaged_are_not_planned_again(tmp_path):
    first = plan(tmp_path)
    first.write()
    finish(first, 0)
    record = first.packs[0].folder.path / "pack.json"
    record.write_text("{")
    second = plan(tmp_path, lanes_per_pack=1)  # no pack of one lane has the damaged pack's name
    runs = {config.run_id for config in first.packs[0].configs}
    assert runs.isdisjoint(config.run_id for pack in second.packs for config in pack.configs)
    assert any(str(record) in problem for problem in second.problems)


def test_a_finished_pack_is_not_planned_and_a_started_one_is_continued(tmp_path):
    first = plan(tmp_path)
    first.write()
    finish(first, 0)
    second = plan(tmp_path)
    assert second.missing == first.missing - len(first.packs[0].configs)
    assert {pack.folder.pack_id for pack in second.packs} == {pack.folder.pack_id for pack in first.packs[1:]}
    assert all(pack.started for pack in second.packs)


def test_more_seeds_add_only_the_new_runs(tmp_path):
    first = plan(tmp_path)
    first.write()
    for index in range(len(first.packs)):
        finish(first, index)
    assert plan(tmp_path).packs == []
    more = plan(tmp_path, seeds=7)
    assert more.missing == 2 * 3 * 2
    assert {config.seed for pack in more.packs for config in pack.configs} == {5, 6}


def test_a_run_that_two_variants_share_is_planned_once(tmp_path):
    planned = plan(tmp_path, variants={"dqn": {"coupling": "monolithic"}, "scorer": {}, "same": {"ratio": 5}})
    assert len(planned.run_ids) == planned.missing == 20


def test_the_estimate_grows_with_steps_and_shrinks_with_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.plan.usable_cores", lambda: 2)
    sweep = parse(RAW, "mine.yaml")
    one, two = (make_plan(sweep, tmp_path, 5, processes=processes).seconds for processes in (1, 2))
    assert one / 2 <= two < one
    assert make_plan(parse(RAW | {"total_steps": 100_000}, "mine.yaml"), tmp_path, 5, processes=1).seconds > one


def test_a_run_is_found_by_any_unique_beginning_of_its_id(tmp_path):
    planned = plan(tmp_path)
    planned.write()
    config = planned.packs[0].configs[0]
    folder, found = find_run(tmp_path, config.run_id[:10])
    assert (folder.pack_id, found) == (planned.packs[0].folder.pack_id, config)
    with pytest.raises(RecordError, match="is ambiguous: it matches"):
        find_run(tmp_path, "")
    with pytest.raises(RecordError, match="no such run"):
        find_run(tmp_path, "zzzz")


def test_runs_with_a_damaged_record_are_neither_done_nor_planned_and_the_plan_names_the_file(tmp_path):
    planned = plan(tmp_path)
    planned.write()
    damaged, *others = planned.packs
    (damaged.folder.path / "done.json").write_text("{")
    after = plan(tmp_path)
    assert after.damaged == {config.run_id for config in damaged.configs}
    assert not after.done
    assert [pack.folder.pack_id for pack in after.packs] == [pack.folder.pack_id for pack in others]
    assert f"{damaged.folder.path}/done.json: cannot be read" in after.problems[0]
    assert f"scorer clean {planned.sweep.name} --state damaged" in after.problems[1]


def test_compiling_is_settled_when_planned_by_the_device_and_the_steps_of_a_run_or_by_word(tmp_path):
    cases: list[tuple[Compile, str, int, bool]]
    cases = [
        ("auto", "cuda", 10_000, False), ("auto", "cuda", 128 * 40_000, True), ("auto", "cpu", 128 * 40_000, False),
        ("on", "cuda", 10_000, True), ("off", "cuda", 10**8, False),
    ]  # fmt: skip
    for number, (word, device, total_steps, compiled) in enumerate(cases):
        sweep = parse(RAW | {"total_steps": total_steps}, "mine.yaml")
        planned = make_plan(sweep, tmp_path / str(number), compile=word, device=device)
        planned.write()
        assert {pack.folder.compiled() for pack in planned.packs} == {compiled}
