"""Imported runs in a sweep: how they are stored, replaced and reported."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from analysis.importers import import_csv
from analysis.importers.csv_runs import Columns
from analysis.importers.import_csv import import_runs
from analysis.load import ReportError, load_results
from analysis.report import make_report
from analysis.run_metrics import read_imported
from analysis.summary import Settings
from scorer_core.support.errors import RecordError
from scorer_core.support.files import replace_file
from sweeps.loading import dump
from tests.analysis.synthetic import definition, make_sweep

BREAKOUT = ["minatar/breakout"]
TASKS = ["minatar/breakout", "minatar/asterix"]


def long_csv(path, rows, header="agent,game,seed,frames,score"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def elsewhere(seeds=5, level=6.0):
    return [
        f"ppo,minatar/{game},{seed},{step},{level * step / 100_000 + 0.01 * seed}"
        for game in ("breakout", "asterix")
        for seed in range(seeds)
        for step in range(10_000, 100_001, 10_000)
    ]


COLUMNS = Columns(variant="agent", task="game", step="frames", score="score")


@pytest.fixture
def folder(tmp_path):
    """A sweep's folder without runs, on breakout only."""
    sweep = definition(tasks=BREAKOUT)
    replace_file(tmp_path / "outputs" / sweep.name / "sweep.yaml", dump(sweep).encode())
    return tmp_path / "outputs" / sweep.name


def one_seed(path, value=1.0):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"step,return\n500,{value}\n1000,{value}\n")
    return path


def kept(folder):
    problems = []
    found = {key: run.values[0].tolist() for key, run in read_imported(folder, problems).items()}
    assert problems == []
    return found


def test_runs_from_elsewhere_are_in_every_figure_and_table(tmp_path):
    folder = make_sweep(tmp_path)
    source = long_csv(tmp_path / "ppo.csv", elsewhere())
    assert import_runs(folder, [source], COLUMNS)[0].runs == {"ppo": 10}
    results = load_results(folder)
    np.testing.assert_allclose(results.scores()["ppo"][3], 6.03)
    report = make_report(folder, Settings(reps=500, curve_reps=100), formats=["png"])
    assert "ppo" in report.answer
    assert "ppo" in (report.folder / "table.md").read_text()
    assert f"imported from {tmp_path.name}/ppo.csv" in (report.folder / "report.html").read_text()
    assert not any("code versions" in warning for warning in report.warnings)


# --- names under which imports are kept ---


def test_files_whose_names_differ_after_a_dot_are_both_kept(tmp_path, folder):
    for gamma in ("0.9", "0.99"):
        rows = [f"gamma{gamma},minatar/breakout,0,500,1.0"]
        import_runs(folder, [long_csv(tmp_path / f"gamma{gamma}.csv", rows, "variant,task,seed,step,return")])
    assert {key[0] for key in kept(folder)} == {"gamma0.9", "gamma0.99"}


def test_files_of_one_name_in_two_folders_are_both_kept(tmp_path, folder):
    for seed in (0, 1):
        source = one_seed(tmp_path / f"s{seed}" / "progress.csv", float(seed))
        import_runs(folder, [source], Columns(variant="=sb3", task="=minatar/breakout", seed=f"={seed}"))
    assert kept(folder) == {("sb3", BREAKOUT[0], 0): [0, 0], ("sb3", BREAKOUT[0], 1): [1, 1]}


def test_seeds_of_one_variant_come_from_several_files_in_one_call(tmp_path, folder):
    sources = [one_seed(tmp_path / f"ppo_seed{seed}.csv", float(seed)) for seed in (3, 4)]
    found = import_runs(folder, sources)
    assert [one.runs for one in found] == [{"ppo": 1}, {"ppo": 1}]
    assert "seed = 3 (from the file's name)" in found[0].read_as
    assert set(kept(folder)) == {("ppo", BREAKOUT[0], 3), ("ppo", BREAKOUT[0], 4)}


def test_a_second_import_of_a_path_replaces_its_own_runs_and_reports_them(tmp_path, folder):
    one_seed(tmp_path / "ppo_seed0.csv")
    import_runs(folder, [one_seed(tmp_path / "ppo_seed1.csv", 1), tmp_path / "ppo_seed0.csv"])
    (again,) = import_runs(folder, [one_seed(tmp_path / "ppo_seed1.csv", 2)])
    assert again.replaced == [("ppo", BREAKOUT[0], 1)]
    assert kept(folder)["ppo", BREAKOUT[0], 1] == [2, 2]
    assert ("ppo", BREAKOUT[0], 0) in kept(folder)


def test_a_run_that_another_file_brought_is_refused(tmp_path, folder):
    import_runs(folder, [one_seed(tmp_path / "ppo_seed1.csv")])
    other = one_seed(tmp_path / "copy" / "ppo_seed1.csv")
    with pytest.raises(
        ReportError, match=r"seed 1 was imported from .*/ppo_seed1.csv; to import it again, delete .*--seed =N"
    ):
        import_runs(folder, [other])


def test_an_import_of_several_files_is_all_or_nothing(tmp_path, folder, monkeypatch):
    good, bad = one_seed(tmp_path / "ppo_seed0.csv"), tmp_path / "ppo_seed1.csv"
    bad.write_text("step,return\n500,x\n")
    with pytest.raises(ReportError, match=r"ppo_seed1.csv, line 2: 'x'"):
        import_runs(folder, [good, bad])
    assert kept(folder) == {}
    with pytest.raises(ReportError, match="is also in"):
        import_runs(folder, [good, one_seed(tmp_path / "x" / "ppo_seed0.csv")])
    with pytest.raises(ReportError, match="given twice"):
        import_runs(folder, [good, good])
    import_runs(folder, [good])
    one_seed(good, 7)
    calls = []

    def full_disk(path, content):
        calls.append(path)
        if len(calls) == 2:
            raise RecordError(f"{path}: cannot be written: No space left on device")
        replace_file(path, content)

    monkeypatch.setattr(import_csv, "replace_file", full_disk)
    with pytest.raises(RecordError, match="No space left"):
        import_runs(folder, [good, one_seed(bad)])
    assert kept(folder) == {("ppo", BREAKOUT[0], 0): [1, 1]}


def write_as_version_0_1(folder, name, variant, seed, value):
    keys = {"variant": [variant], "task": BREAKOUT, "seed": [seed], "step": [500], "return": [value]}
    (folder / "imported").mkdir(exist_ok=True)
    pq.write_table(pa.table(keys), folder / "imported" / f"{name}.parquet", compression="zstd")
    (folder / "imported" / f"{name}.json").write_text(json.dumps({"source": f"{name}.csv", "sha256": "0"}))


def test_imports_of_version_0_1_are_read(tmp_path, folder):
    write_as_version_0_1(folder, "ppo", "ppo", 0, 5.0)
    assert kept(folder) == {("ppo", BREAKOUT[0], 0): [5]}
    import_runs(folder, [one_seed(tmp_path / "sac" / "ppo.csv")], Columns(variant="=sac", seed="=0"))
    assert set(kept(folder)) == {("ppo", BREAKOUT[0], 0), ("sac", BREAKOUT[0], 0)}
    with pytest.raises(ReportError, match=r"delete .*imported/ppo.parquet"):
        import_runs(folder, [one_seed(tmp_path / "other.csv")], Columns(variant="=ppo", seed="=0"))


def test_a_file_that_version_0_1_imported_is_replaced_if_all_of_its_runs_come_again(tmp_path, folder):
    write_as_version_0_1(folder, "ppo", "ppo", 0, 5.0)
    (found,) = import_runs(folder, [one_seed(tmp_path / "ppo.csv")], Columns(seed="=0"))
    assert found.replaced == [("ppo", BREAKOUT[0], 0)]
    assert kept(folder) == {("ppo", BREAKOUT[0], 0): [1, 1]}
    assert len(list((folder / "imported").iterdir())) == 1


def test_a_variant_of_the_sweep_is_refused(tmp_path, folder):
    with pytest.raises(ReportError, match=r"the sweep has a variant dqn; .* --variant =NAME"):
        import_runs(folder, [one_seed(tmp_path / "dqn.csv")], Columns(seed="=0"))


def test_a_variant_that_the_definition_got_after_the_import_keeps_its_own_runs(tmp_path):
    before = make_sweep(tmp_path / "before")
    import_runs(before, [long_csv(tmp_path / "theirs.csv", elsewhere(level=60.0))], COLUMNS)
    variants = definition().model_dump(mode="json")["variants"] | {"ppo": {"ratio": 3}}
    folder = make_sweep(tmp_path / "after", {"variants": variants})
    alone = load_results(folder)
    (before / "imported").rename(folder / "imported")
    results = load_results(folder)
    assert results.runs == alone.runs
    assert np.array_equal(results.scores()["ppo"], alone.scores()["ppo"])
    assert [problem.partition(": ")[2] for problem in results.problems] == [
        "the sweep also has a variant ppo; its imported runs are left out. Rename one of the two"
    ]


def test_imported_runs_on_a_task_that_the_sweep_has_no_longer_are_left_out(tmp_path):
    folder = make_sweep(tmp_path)
    import_runs(folder, [long_csv(tmp_path / "theirs.csv", elsewhere())], COLUMNS)
    results = load_results(folder, overrides=["tasks=[minatar/breakout]"])
    assert results.tasks == BREAKOUT
    assert "ppo" in results.variants
    assert [problem.partition(": ")[2] for problem in results.problems] == [
        "minatar/asterix is not a task of the sweep; its imported runs are left out"
    ]


def test_a_missing_column_is_named(tmp_path, folder):
    source = long_csv(tmp_path / "x.csv", elsewhere())
    with pytest.raises(ReportError, match=r"no column of returns.*the columns are agent, game"):
        import_runs(folder, [source], Columns(variant="agent", task="game", step="frames"))
    with pytest.raises(ReportError, match=r"no column 'nobody'; the columns are agent, game, .*--variant =NAME"):
        import_runs(folder, [source], Columns(variant="nobody"))


# --- curves of runs of unequal lengths ---


def test_an_import_changes_no_curve_and_no_time_of_the_sweep(tmp_path):
    from analysis.summary import summarize

    folder = make_sweep(tmp_path)
    settings = Settings(reps=200, curve_reps=50)
    before = summarize(load_results(folder), settings)
    sparse = [f"paper,{task},{seed},{step},1.0" for task in TASKS for seed in (0, 1) for step in (600_000, 1_200_000)]
    short = [f"short,{task},{seed},{step},1.0" for task in TASKS for seed in (0, 1) for step in (111, 7777)]
    import_runs(folder, [long_csv(tmp_path / "paper.csv", [*sparse, *short], "variant,task,seed,step,return")])
    results = load_results(folder)
    after = summarize(results, settings)
    for key, curve in before.curves.items():
        own = np.isin(results.steps, before.results.steps)
        for found, part in zip(after.curves[key], curve, strict=True):
            np.testing.assert_array_equal(found[own], part)
            assert np.isnan(found[~own]).all()
    assert repr(before.times) == repr({key: found for key, found in after.times.items() if key in before.times})
    assert np.flatnonzero(np.isfinite(after.curves["short", TASKS[0]].value)).tolist() == [0, 2]
    assert results.steps[np.isfinite(after.curves["paper", TASKS[0]].value)].tolist() == [600_000, 1_200_000]


def test_runs_that_end_early_or_late_are_named(tmp_path):
    folder = make_sweep(tmp_path, {"tasks": BREAKOUT})
    whole = [f"crashed,minatar/breakout,0,{step},1.0" for step in range(10_000, 100_001, 10_000)]
    rows = [*whole, "crashed,minatar/breakout,1,10000,1.1", "crashed,minatar/breakout,1,40000,1.1"]
    import_runs(folder, [long_csv(tmp_path / "crashed.csv", rows, "variant,task,seed,step,return")])
    rows = [f"paper,minatar/breakout,{seed},{step},1.0" for seed in (0, 1) for step in (400_000, 800_000)]
    import_runs(folder, [long_csv(tmp_path / "paper.csv", rows, "variant,task,seed,step,return")])
    report = make_report(folder, Settings(reps=200, curve_reps=50), formats=["png"])
    short = (
        "1 imported run ends before step 100,000, the last step of the sweep: crashed on minatar/breakout, seed 1 at "
        f"step 40,000 (imported from {tmp_path.name}/crashed.csv)"
    )
    assert any(warning.startswith(short) for warning in report.warnings)
    assert any(
        "2 imported runs end after step 100,000, the last step of the sweep: 2 runs of paper at step 800,000" in warning
        for warning in report.warnings
    )
    captions = (report.folder / "captions.md").read_text()
    assert short in captions
    assert "Each step uses the runs that have a value there" in captions
    assert {"curves.png", "diagnostics.png"} <= {path.name for path in report.files}


def test_a_long_import_is_drawn_at_few_steps(tmp_path):
    folder = make_sweep(tmp_path, {"tasks": BREAKOUT, "seeds": 2})
    rows = [f"dense,minatar/breakout,{seed},{7 * i + seed},1.0" for seed in (0, 1) for i in range(1, 5000)]
    import_runs(folder, [long_csv(tmp_path / "dense.csv", rows, "variant,task,seed,step,return")])
    results = load_results(folder)
    assert 200 <= results.logged["dense", BREAKOUT[0]].sum() <= 204
    assert len(results.series["dense", BREAKOUT[0], 0].steps) == 4999


# --- the command line ---


def scorer(*arguments):
    from cli.main import make_app

    return CliRunner().invoke(make_app(), [str(argument) for argument in arguments])


def test_the_command_prints_how_files_were_read_and_what_was_replaced(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        one_seed(tmp_path / f"s{seed}" / "progress.csv")
    command = ["import", folder / "sweep.yaml", "s0/progress.csv", "s1/progress.csv", "--variant", "=[red]a[/]"]
    first = scorer(*command, "--outputs", folder.parent)
    assert first.exit_code == 0, first.output
    assert "s0/progress.csv: read as: long CSV, one row per run and step: variant = [red]a[/]" in first.output
    assert "[red]a[/]: 1 run" in first.output
    again = scorer(*command, "--outputs", folder.parent)
    assert "s1/progress.csv: replaced runs of an earlier import: [red]a[/] on minatar/breakout, seed 1" in (
        again.output
    )
    exported = scorer("export", folder / "sweep.yaml", "--outputs", folder.parent)
    assert exported.exit_code == 0, exported.output


def test_a_refused_file_is_one_line_with_the_name_as_it_is(tmp_path, folder):
    source = one_seed(tmp_path / "[red]x[/].csv")
    found = scorer("import", folder / "sweep.yaml", source, "--outputs", folder.parent)
    assert found.exit_code == 1
    assert found.output.startswith(f"{source}: no column 'seed'; the columns are step, return; name it with --seed")
    assert len(found.output.splitlines()) == 1


def test_export_of_a_sweep_without_a_finished_run_says_so(tmp_path):
    folder = make_sweep(tmp_path, unfinished=lambda _: True)
    found = scorer("export", folder / "sweep.yaml", "--outputs", tmp_path)
    assert found.exit_code == 0, found.output
    assert "No finished run has a return" in found.output


def test_a_report_prints_an_imported_name_as_it_is(tmp_path):
    folder = make_sweep(tmp_path, {"tasks": BREAKOUT})
    rows = [f"[/],minatar/breakout,{seed},100000,{99 + seed}" for seed in range(5)]
    import_runs(folder, [long_csv(tmp_path / "x.csv", rows, "variant,task,seed,step,return")])
    options = ["--outputs", tmp_path, "--figure", "intervals", "--format", "png", "--reps", 200]
    found = scorer("report", folder / "sweep.yaml", *options)
    assert found.exit_code == 0, found.output
    assert "above dqn: [/] by" in " ".join(found.output.split())


def test_help_has_an_example_and_explains_a_fixed_value():
    found = scorer("import", "--help").output
    assert "=VALUE gives one value for the whole file" in found
    assert "scorer import quickstart" in found
