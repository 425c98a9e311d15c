import dataclasses

import numpy as np
import pytest

from analysis.load import ReportError, load_results
from analysis.report import StrictError, make_report
from analysis.summary import Settings
from scorer_core.pack_folders import pack_folders
from scorer_core.support.files import write_json
from sweeps import scores
from sweeps.search import Objective
from tests.analysis.synthetic import LEVELS, definition, logged_steps, make_sweep, rising_return


def test_scores_and_curves_are_what_was_logged(tmp_path):
    results = load_results(make_sweep(tmp_path, parts=3))
    run = next(run for run in definition().runs if run.variant.name == "scorer" and run.config.seed == 3)
    steps = logged_steps(run.config)
    returns = rising_return(run, steps).astype(np.float32)
    late = returns[steps > 90_000]
    assert len(late) == 2
    column = results.tasks.index(run.config.task)
    np.testing.assert_allclose(results.scores()["scorer"][3, column], late.mean(), rtol=1e-6)
    np.testing.assert_allclose(results.scores("best")["scorer"][3, column], returns.max(), rtol=1e-6)
    area = np.trapezoid(returns.astype(float), steps) / (steps[-1] - steps[0])
    np.testing.assert_allclose(results.scores("auc")["scorer"][3, column], area, rtol=1e-6)
    np.testing.assert_array_equal(results.curves()["scorer"][3, column], returns)
    np.testing.assert_array_equal(results.steps, steps)
    assert results.variants == list(LEVELS)
    assert results.count() == {"done": 30}
    assert {run.code_version for run in results.runs} == {"c0ffee0123"}


def test_every_planned_run_has_a_row_and_a_reason(tmp_path):
    folder = make_sweep(
        tmp_path,
        absent=lambda run: run.variant.name == "inverted" and run.config.seed == 4,
        unfinished=lambda run: run.variant.name == "scorer" and run.config.seed == 0,
        diverged=lambda run: run.variant.name == "dqn" and run.config.seed == 1,
    )
    results = load_results(folder)
    assert results.count() == {"done": 24, "missing": 2, "partial": 2, "diverged": 2}
    scores = results.scores()
    assert np.isnan(scores["inverted"][4]).all()
    assert np.isnan(scores["scorer"][0]).all()
    assert np.isfinite(scores["dqn"][1]).all()  # it counts with what it logged
    assert {run.diverged_at for run in results.runs if run.status == "diverged"} == {55_000}


def test_a_run_two_variants_share_stands_in_both(tmp_path):
    variants = {"dqn": {"coupling": "monolithic"}, "fast": {"ratio": 5}, "same": {"follower_lr": 5e-4}}
    results = load_results(make_sweep(tmp_path, {"variants": variants}))
    np.testing.assert_array_equal(results.scores()["fast"], results.scores()["same"])
    assert np.isfinite(results.scores()["fast"]).all()


def test_a_run_in_two_packs_is_taken_where_it_is_finished(tmp_path):
    folder = make_sweep(tmp_path, lanes=16)
    make_sweep(tmp_path, lanes=3, unfinished=lambda _: True)
    assert load_results(folder).count() == {"done": 30}


def test_each_variant_keeps_the_steps_that_it_logged(tmp_path):
    variants = {"dqn": {"coupling": "monolithic"}, "coarse": {"log_points": 10}}
    alone = load_results(make_sweep(tmp_path / "alone", {"variants": {"dqn": {"coupling": "monolithic"}}}))
    results = load_results(make_sweep(tmp_path, {"variants": variants}))
    assert len(results.steps) == 20
    np.testing.assert_array_equal(results.curves()["dqn"], alone.curves()["dqn"])
    assert results.logged["dqn", "minatar/asterix"].sum() == 20
    assert results.logged["coarse", "minatar/asterix"].sum() == 10
    assert results.problems == ()


def early(rows: int):
    """Returns that are missing in the first `rows` rows: no episode has ended yet."""

    def curve(run, steps):
        return np.where(np.arange(len(steps)) < rows, np.nan, -100 - 400 * np.exp(-steps / 30_000))

    return curve


def test_rows_before_the_first_episode_count_in_no_score(tmp_path):
    folder = make_sweep(tmp_path, curve=early(4))
    results = load_results(folder)
    steps = results.steps
    returns = early(4)(None, steps).astype(np.float32)[4:].astype(float)
    scores = results.runs[0].scores
    assert scores["best"] == pytest.approx(returns.max())
    assert scores["auc"] == pytest.approx(np.trapezoid(returns, steps[4:]) / (steps[-1] - steps[4]))
    assert scores["final"] == pytest.approx(returns[-2:].mean())
    curve = results.curves()["dqn"][0, 0]
    assert np.isnan(curve[:4]).all()
    np.testing.assert_allclose(curve[4:], returns, rtol=1e-6)


def test_a_search_and_a_report_give_a_run_with_an_infinite_return_the_same_score(tmp_path):
    def curve(run, steps):
        return np.where(steps == steps[-1], np.inf, rising_return(run, steps))

    folder = make_sweep(tmp_path, curve=curve)
    run = load_results(folder).runs[0]
    logged = scores.read_curves(pack_folders(folder / "packs"), {run.run_id})[run.run_id]
    assert run.config is not None
    steps = run.config.total_steps
    assert scores.of_run(Objective(name="iqm_final"), logged, steps, steps) == run.scores["final"]
    assert scores.of_run(Objective(name="auc"), logged, steps, steps) == run.scores["auc"]
    assert np.isfinite([run.scores["final"], run.scores["auc"]]).all()


def test_a_run_that_never_finished_an_episode_is_done_and_has_no_score(tmp_path):
    def curve(run, steps):
        return np.full(len(steps), np.nan) if run.config.seed == 1 else rising_return(run, steps)

    results = load_results(make_sweep(tmp_path, curve=curve))
    never = [run for run in results.runs if run.seed == 1]
    assert {run.status for run in never} == {"done"}
    assert not any(np.isfinite(list(run.scores.values())).any() for run in never)
    assert np.isfinite(results.scores("best")["dqn"][[0, 2, 3, 4]]).all()
    assert np.isnan(results.curves()["dqn"][1]).all()


def test_a_run_without_an_episode_late_in_training_has_no_final_score(tmp_path):
    def curve(run, steps):
        return np.where(steps > 80_000, np.nan, steps / 1000)

    run = load_results(make_sweep(tmp_path, curve=curve)).runs[0]
    assert run.status == "done"
    assert np.isnan(run.scores["final"])
    assert run.scores["best"] == pytest.approx(80)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 5000])
def test_an_unreadable_part_costs_its_pack_and_no_more(tmp_path, damage):
    folder = make_sweep(tmp_path, lanes=10)
    broken = pack_folders(folder / "packs")[0]
    broken.parts()[-1].write_bytes(damage)
    results = load_results(folder)
    assert results.count()["partial"] == len(broken.run_ids())
    assert results.count()["done"] == 30 - len(broken.run_ids())
    assert [str(broken.parts()[-1]) in problem for problem in results.problems] == [True]


def test_a_truncated_part_costs_its_pack_and_no_more(tmp_path):
    folder = make_sweep(tmp_path, lanes=10)
    part = pack_folders(folder / "packs")[0].parts()[0]
    part.write_bytes(part.read_bytes()[:-40])
    results = load_results(folder)
    assert len(results.problems) == 1
    assert results.count()["done"] > 0


@pytest.mark.parametrize(("name", "content"), [("pack.json", "{"), ("pack.json", "[]"), ("done.json", "nonsense")])
def test_other_unreadable_records_are_listed(tmp_path, name, content):
    folder = make_sweep(tmp_path, lanes=10)
    (pack_folders(folder / "packs")[0].path / name).write_text(content)
    results = load_results(folder)
    assert name in " ".join(results.problems)
    assert results.count()["done"] > 0


def test_mixed_code_versions_are_seen(tmp_path):
    folder = make_sweep(tmp_path, lanes=10, commit=lambda pack: "ab" * 10 if pack else "cd" * 10)
    pack = pack_folders(folder / "packs")[0]
    write_json(pack.new_attempt() / "provenance.json", {"git_commit": "ef" * 10, "git_diff": "- a\n+ b"})
    codes = {run.code_version for run in load_results(folder).runs}
    assert len(codes) >= 2
    assert any(" then " + "efefefefef+" in code for code in codes)


def test_an_upgrade_is_in_the_report_and_strict_refuses_it(tmp_path):
    folder = make_sweep(tmp_path, lanes=10)
    first, second, *_ = pack_folders(folder / "packs")
    commit = {"git_commit": "c0ffee0123456789", "git_diff": ""}
    write_json(first.attempts()[0] / "provenance.json", {**commit, "packages": {"torch": "2.12.0"}})
    write_json(first.new_attempt() / "provenance.json", {**commit, "packages": {"torch": "2.13.0"}})
    write_json(second.attempts()[0] / "provenance.json", {"packages": {"torch": "2.12.0"}, "git_error": "fatal: no"})
    notes = load_results(folder).version_notes
    assert notes == (
        f"Versions changed during training: pack {first.pack_id}: torch 2.12.0 -> 2.13.0 between attempts 1 and 2.",
        "Packs ran with different versions: torch 2.13.0 (1 pack), 2.12.0 (1 pack).",
        "No git commit is recorded for 1 pack: fatal: no.",
    )
    quick = Settings(reps=200, curve_reps=50)
    with pytest.raises(StrictError) as refused:
        make_report(folder, quick, figure="intervals", formats=["png"], strict=True)
    assert all(note in str(refused.value) for note in notes)
    assert set(notes) <= set(make_report(folder, quick, figure="intervals", formats=["png"]).warnings)


def test_no_sweep_and_a_broken_definition_are_one_clear_line(tmp_path):
    with pytest.raises(ReportError, match="not the folder of a sweep"):
        load_results(tmp_path)
    folder = make_sweep(tmp_path)
    (folder / "sweep.yaml").write_text("name: [")
    with pytest.raises(ReportError, match=r"sweep\.yaml"):
        load_results(folder)


def test_a_metric_of_the_records_can_be_read_instead(tmp_path):
    folder = make_sweep(tmp_path)
    alone = load_results(folder, ["msbe"])
    both = load_results(folder, ["return", "msbe"])
    np.testing.assert_array_equal(both.curves("msbe")["scorer"], alone.curves()["scorer"])
    np.testing.assert_allclose(alone.curves()["scorer"][2, 0, -1], 0.5 + 3 * np.exp(-4), rtol=1e-6)
    np.testing.assert_array_equal(both.curves()["scorer"], load_results(folder).curves()["scorer"])
    with pytest.raises(ReportError, match="nonsense: not a metric"):
        load_results(folder, ["return", "nonsense"])


def test_rows_are_frozen(tmp_path):
    row = load_results(make_sweep(tmp_path)).runs[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.seed = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_read_can_be_overridden_but_not_what_was_trained(tmp_path):
    folder = make_sweep(tmp_path)
    results = load_results(folder, overrides=["baseline=scorer", "seeds=2"])
    assert results.baselines == ["scorer"]
    assert results.seeds == [0, 1]
    assert load_results(folder).baselines == ["dqn"]
    with pytest.raises(ReportError, match="baseline: 'nobody' is not a variant"):
        load_results(folder, overrides=["baseline=nobody"])


def test_the_devices_of_the_last_attempts_are_counted(tmp_path):
    folder = make_sweep(tmp_path, lanes=10)
    first, second, *_ = pack_folders(folder / "packs")
    write_json(first.new_attempt() / "provenance.json", {"device": "NVIDIA H100"})
    write_json(second.new_attempt() / "provenance.json", {"device": "NVIDIA H100"})
    assert "NVIDIA H100 (2 packs)" in load_results(folder).devices
