import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from analysis import imports
from analysis.csv_runs import Columns, read_runs
from analysis.imports import import_runs
from analysis.load import ReportError, load_results
from analysis.report import make_report
from analysis.run_metrics import read_imported
from analysis.summary import Settings
from scorer_core.records import RecordError, replace_file
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
    found = {key: trace.values[0].tolist() for key, trace in read_imported(folder, problems).items()}
    assert problems == []
    return found


def test_runs_from_elsewhere_are_in_every_figure_and_table(tmp_path):
    folder = make_sweep(tmp_path)
    source = long_csv(tmp_path / "ppo.csv", elsewhere())
    assert import_runs(folder, [source], COLUMNS)[0].runs == {"ppo": 10}
    results = load_results(folder)
    np.testing.assert_allclose(results.scores()["ppo"][3], 6.03)
    report = make_report(folder, Settings(replications=500, curve_replications=100), formats=["png"])
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
    with pytest.raises(ReportError, match="is given twice"):
        import_runs(folder, [good, good])
    import_runs(folder, [good])
    one_seed(good, 7)
    calls = []

    def full_disk(path, content):
        calls.append(path)
        if len(calls) == 2:
            raise RecordError(f"{path}: cannot be written: No space left on device")
        replace_file(path, content)

    monkeypatch.setattr(imports, "replace_file", full_disk)
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


# --- forms of files ---


def read(tmp_path, name, content, columns=Columns(), tasks=BREAKOUT):  # noqa: B008, frozen
    source = tmp_path / name
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_runs(source, columns, tasks)


def test_the_official_codes_csv_is_read_without_an_option(tmp_path):
    content = "timesteps,seed_11,seed_22\n128,0,0\n1000,0.5,0.6\n2000,1.0,1.2\n"
    found = read(tmp_path, "breakout_all_returns.csv", content)
    assert found.rows["breakout_all_returns", BREAKOUT[0], 22, 1000] == 0.6
    assert {row[2] for row in found.rows} == {11, 22}
    assert found.read_as == (
        "wide CSV, one column per seed: variant = breakout_all_returns (from the file's name; another: --variant =NAME)"
        "; task = minatar/breakout (the sweep's only task); step from column 'timesteps'; return from 2 columns"
    )
    named = read(tmp_path, "breakout_all_returns.csv", content, Columns(variant="=paper", step="timesteps"))
    assert {row[0] for row in named.rows} == {"paper"}


def test_progress_csv_of_stable_baselines3(tmp_path):
    content = (
        "rollout/ep_len_mean,rollout/ep_rew_mean,time/fps,time/total_timesteps,train/loss\n"
        ",,400,2048,\n21.5,21.5,390,4096,0.1\n30.0,30.0,380,6144,0.2\n"
    )
    found = read(tmp_path, "s4/progress.csv", content, Columns(variant="=sb3"))
    assert found.rows == {("sb3", BREAKOUT[0], 4, 4096): 21.5, ("sb3", BREAKOUT[0], 4, 6144): 30.0}
    assert "Stable-Baselines3 progress.csv" in found.read_as
    assert "seed = 4 (from the folder's name)" in found.read_as


def test_monitor_csv_of_stable_baselines3(tmp_path):
    content = '#{"t_start": 1.5, "env_id": "minatar/asterix"}\nr,l,t\n1.0,10,0.5\n3.0,20,0.9\n'
    found = read(tmp_path, "seed_2/monitor.csv", content, Columns(variant="=sb3"), TASKS)
    assert found.rows == {("sb3", "minatar/asterix", 2, 10): 1.0, ("sb3", "minatar/asterix", 2, 30): 3.0}
    assert "step from the sum of column 'l'" in found.read_as


def test_chart_export_of_wandb(tmp_path):
    header = ["Step"]
    for run in ("ppo-seed1", "ppo-seed2"):
        header += [f"{run} - charts/episodic_return{end}" for end in ("", "__MIN", "__MAX")]
    content = ",".join(f'"{name}"' for name in header) + '\n"100","1","1","1","","",""\n"200","2","2","2","4","4","4"\n'
    found = read(tmp_path, "wandb_export.csv", content)
    assert found.rows == {
        ("ppo", BREAKOUT[0], 1, 100): 1,
        ("ppo", BREAKOUT[0], 1, 200): 2,
        ("ppo", BREAKOUT[0], 2, 200): 4,
    }
    assert "W&B chart export" in found.read_as
    assert found.notes == []  # no column that was read is called ignored


def test_history_of_wandb_with_the_names_of_cleanrl(tmp_path):
    run = "minatar/breakout__dqn__3__1700000000"
    content = (
        f"Name,_step,global_step,charts/episodic_return,losses/q\n{run},0,,,0.1\n{run},1,100,2.5,\n{run},2,,,0.2\n"
    )
    found = read(tmp_path, "history.csv", content, tasks=TASKS)
    assert found.rows == {("dqn", BREAKOUT[0], 3, 100): 2.5}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfvariant,task,seed,step,return\nppo,minatar/breakout,1,100,1.5\n",
        "variant,task,seed,step,return\r\nppo,minatar/breakout,1,100,1.5\r\n".encode("utf-16"),
        b"variant;task;seed;step;return\r\nppo;minatar/breakout;1;100;1,5\r\n",
        b"sep=;\r\nvariant;task;seed;step;return\r\nppo;minatar/breakout;1;100;1,5\r\n",
        b"variant\ttask\tseed\tstep\treturn\nppo\tminatar/breakout\t1\t100\t1.5\n",
        b'"variant","task","seed","step","return"\n"ppo","minatar/breakout","seed_1","1e2","1.5"\n',
        b"Variant,Task,Seed,Step,Return,note\nppo,minatar/breakout,seed=1,100.0, 1.5 ,\n\n",
        b",variant,task,seed,step,return\n0,ppo,minatar/breakout,1,100,1.5\n1,ppo,minatar/breakout,1,200,\n",
    ],
)
def test_dialects_of_excel_and_pandas(tmp_path, content):
    assert read(tmp_path, "x.csv", content).rows == {("ppo", BREAKOUT[0], 1, 100): 1.5}


def test_columns_and_runs_that_are_left_out_are_reported(tmp_path):
    found = read(tmp_path, "ppo.csv", "step,seed_1,seed_2,mean\n100,1,,1\n")
    assert found.notes == ["ignored the columns mean", "left out ppo on minatar/breakout, seed 2: no row has a return"]


HEADER = "variant,task,seed,step,return\n"


def row(variant="ppo", task="minatar/breakout", seed="0", step="10", value="1"):
    return f"{HEADER}{variant},{task},{seed},{step},{value}\n"


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        ("", "holds no row"),
        (HEADER, "holds no row below its header"),
        (row(value="abc"), "line 2: 'abc' in column 'return' is no number"),
        (row(value="1_000"), "line 2: '1_000' in column 'return' is no number"),
        (row(value="nan"), "line 2: 'nan' in column 'return' is not finite; leave the cell empty"),
        (row(value="-inf"), "line 2: '-inf' in column 'return' is not finite"),
        (row(value="1e300"), "line 2: '1e300' in column 'return' is out of range"),
        (row(value="1e" + "9" * 25), "line 2: .* is out of range"),
        (row(value="9" * 5000), r"line 2: '9{20}\.\.\.' in column 'return' is no number"),
        (row(value=""), "no row has a return"),
        (row(seed=""), "line 2: nothing in column 'seed'"),
        (row(seed="0.5"), "line 2: '0.5' in column 'seed' is no whole number"),
        (row(seed="1e19"), "line 2: '1e19' in column 'seed' is out of range"),
        (row(seed="-1"), "line 2: '-1' in column 'seed' is out of range"),
        (row(step="100.7"), "line 2: '100.7' in column 'step' is no whole number"),
        (row(step="9223372036854775808"), "line 2: '9223372036854775808' in column 'step' is out of range"),
        (row(step="1e300"), "line 2: '1e300' in column 'step' is out of range"),
        (row(step="1e999999999"), "line 2: '1e999999999' in column 'step' is out of range"),
        (row(step="0"), "seed 0: has no step above 0"),
        (row(task="minatar/pong"), "line 2: 'minatar/pong' is not a task of this sweep .* --task =minatar/breakout"),
        (row() + "ppo,minatar/breakout,0,10,1\n", "line 3: ppo on minatar/breakout, seed 0, step 10 appears twice"),
        (row() + "ppo,minatar/breakout,0\n", "line 3: 3 cells, but the header has 5"),
        (row() + "ppo,minatar/breakout,0,20,1,5\n", "line 3: 6 cells, but the header has 5"),
        (row() + 'ppo,minatar/breakout,0,20,"1\n', "line 3: is not CSV"),
        (row(variant='"a\nb"'), r"line 3: the variant 'a\\nb' holds a control character"),
        (row(variant="a\x1b[31m"), "line 2: .* holds a control character"),
        (row(variant=""), "line 2: nothing in column 'variant'"),
        (row(variant="x" * 500), "line 2: the variant's name has 500 characters"),
        ("step,step,return\n1,2,3\n", "line 1: the column 'step' appears twice"),
        ("a,b\n1,2\n", "no column of environment steps; the columns are a, b; name it with --step COLUMN"),
        ("step,b\n1,2\n", "no column of returns; expected 'return', one column 'seed_<n>' per seed"),
        ("step,return\n1,2\n", r"no column 'seed'; .* --seed =0"),
        ("step,return,seed\n1,2,3\n", r"no column 'variant'; .* --variant =NAME"),
        ("#{\nr,l,t\n", "line 1: expected a header"),
        ("#{}\nr,t\n1,2\n", "line 2: no column 'l'"),
        ("#{}\nr,l,seed,variant\n1,0,1,x\n", "line 3: 0 in column 'l' is no length"),
        ('#{"env_id": "Pong-v5"}\nr,l,t\n1,5,1\n', "line 1: env_id 'Pong-v5' is not a task of this sweep"),
        ("step,a - x,a - y\n1,2,3\n", "line 1: several metrics: x, y; choose one: --return METRIC"),
        ("step,episodic_return,episode_return\n1,2,3\n", "several columns hold returns"),
        ("variant;task;seed;step;return\nppo;minatar/breakout;0;100,000;1\n", "line 2: '100,000' in column 'step'"),
        ("variant;task;seed;step;return\nppo;minatar/breakout;0;1;1.000,5\n", "line 2: '1.000,5' in .* is no number"),
        (
            "variant;task;seed;step;return\nppo;minatar/breakout;0;1;1,5\nppo;minatar/breakout;0;2;1.5\n",
            r"line 3: numbers have a decimal comma \(line 2\) and a point \(line 3\)",
        ),
        (b"variant\n\xff\n", "line 2: is not UTF-8 text"),
        (b"a\0b", "is not text"),
    ],
)
def test_a_file_that_is_not_understood_is_one_line(tmp_path, content, refusal):
    with pytest.raises(ReportError, match=refusal) as error:
        read(tmp_path, "data.csv", content)
    assert str(error.value).startswith(str(tmp_path / "data.csv"))
    assert "\n" not in str(error.value)


def test_one_environment_of_a_vectorised_run_is_refused(tmp_path):
    content = "#{}\nr,l,t\n1,5,1\n"
    read(tmp_path, "seed1/0.monitor.csv", content, Columns(variant="=sb3"))
    with pytest.raises(ReportError, match="holds one of 2 environments"):
        read(tmp_path, "seed1/1.monitor.csv", content, Columns(variant="=sb3"))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(ReportError, match="cannot be read: No such file"):
        read_runs(tmp_path / "x.csv", Columns(), BREAKOUT)
    with pytest.raises(ReportError, match="cannot be read: Is a directory"):
        read_runs(tmp_path, Columns(), BREAKOUT)


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
        "the sweep has a variant ppo too; its imported runs are left out: rename one of the two"
    ]


def test_imported_runs_on_a_task_that_the_sweep_has_no_longer_are_left_out(tmp_path):
    folder = make_sweep(tmp_path)
    import_runs(folder, [long_csv(tmp_path / "theirs.csv", elsewhere())], COLUMNS)
    results = load_results(folder, overrides=["tasks=[minatar/breakout]"])
    assert results.tasks == BREAKOUT
    assert "ppo" in results.variants
    assert [problem.partition(": ")[2] for problem in results.problems] == [
        "minatar/asterix is no task of the sweep; its imported runs are left out"
    ]


def test_a_missing_column_is_named(tmp_path, folder):
    source = long_csv(tmp_path / "x.csv", elsewhere())
    with pytest.raises(ReportError, match=r"no column of returns.*the columns are agent, game"):
        import_runs(folder, [source], Columns(variant="agent", task="game", step="frames"))
    with pytest.raises(ReportError, match=r"no column 'nobody'; the columns are agent, game, .*--variant =NAME"):
        import_runs(folder, [source], Columns(variant="nobody"))


# --- curves of runs of unequal lengths ---


def test_an_import_changes_no_curve_and_no_time_of_the_sweep(tmp_path):
    from analysis.summary import summarise

    folder = make_sweep(tmp_path)
    settings = Settings(replications=200, curve_replications=50)
    before = summarise(load_results(folder), settings)
    sparse = [f"paper,{task},{seed},{step},1.0" for task in TASKS for seed in (0, 1) for step in (600_000, 1_200_000)]
    short = [f"short,{task},{seed},{step},1.0" for task in TASKS for seed in (0, 1) for step in (111, 7777)]
    import_runs(folder, [long_csv(tmp_path / "paper.csv", [*sparse, *short], "variant,task,seed,step,return")])
    results = load_results(folder)
    after = summarise(results, settings)
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
    report = make_report(folder, Settings(replications=200, curve_replications=50), formats=["png"])
    short = (
        "1 run ends before the sweep's own step 100,000: crashed on minatar/breakout, seed 1 at step 40,000 "
        f"(imported from {tmp_path.name}/crashed.csv)"
    )
    assert any(warning.startswith(short) for warning in report.warnings)
    assert any(
        "2 runs end after the sweep's own step 100,000: 2 runs of paper at step 800,000" in warning
        for warning in report.warnings
    )
    captions = (report.folder / "captions.md").read_text()
    assert short in captions
    assert "Each step shows the runs that have a value there" in captions
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
    from cli.main import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


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
    assert "s1/progress.csv: replaced what was imported from it before: [red]a[/] on minatar/breakout, seed 1" in (
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
    assert "No run is finished and has a return" in found.output


def test_a_report_prints_an_imported_name_as_it_is(tmp_path):
    folder = make_sweep(tmp_path, {"tasks": BREAKOUT})
    rows = [f"[/],minatar/breakout,{seed},100000,{99 + seed}" for seed in range(5)]
    import_runs(folder, [long_csv(tmp_path / "x.csv", rows, "variant,task,seed,step,return")])
    options = ["--outputs", tmp_path, "--figure", "intervals", "--format", "png", "--replications", 200]
    found = scorer("report", folder / "sweep.yaml", *options)
    assert found.exit_code == 0, found.output
    assert "above dqn: [/] by" in " ".join(found.output.split())


def test_help_has_an_example_and_explains_a_fixed_value():
    found = scorer("import", "--help").output
    assert "=value gives one value for the whole file" in found
    assert "scorer import quickstart" in found
