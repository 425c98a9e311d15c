import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rliable import metrics

from analysis.exchange import Columns, export, import_runs
from analysis.load import ReportError, load_results
from analysis.report import make_report
from analysis.statistics import iqm, ones
from analysis.summary import Settings
from tests.analysis.synthetic import make_sweep


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


def test_what_is_exported_is_what_was_loaded(tmp_path):
    folder = make_sweep(tmp_path, absent=lambda run: run.variant.name == "dqn" and run.config.seed == 0)
    written = {path.name: path for path in export(folder)}
    results = load_results(folder)
    assert pyarrow.csv.read_csv(written["runs.csv"]).num_rows == len(results.runs) == 30
    assert pq.read_table(written["runs.parquet"]).column("status").to_pylist().count("missing") == 2
    curves = pq.read_table(written["curves.parquet"])
    assert pyarrow.csv.read_csv(written["curves.csv"]).num_rows == curves.num_rows == 28 * 20
    one = curves.to_pandas().query("variant == 'scorer' and task == 'minatar/asterix' and seed == 2")
    np.testing.assert_array_equal(one["return"], results.curves()["scorer"][2, results.tasks.index("minatar/asterix")])
    with np.load(written["scores.npz"]) as arrays:
        assert list(arrays["tasks"]) == results.tasks
        assert arrays["final/dqn"].shape == (4, 2)
        scores = results.scores()["scorer"]
        assert metrics.aggregate_iqm(arrays["final/scorer"]) == pytest.approx(iqm(scores, ones(np.isfinite(scores)))[0])


def test_runs_from_elsewhere_stand_in_every_figure_and_table(tmp_path):
    folder = make_sweep(tmp_path)
    source = long_csv(tmp_path / "ppo.csv", elsewhere())
    assert import_runs(folder, source, COLUMNS) == {"ppo": 10}
    results = load_results(folder)
    np.testing.assert_allclose(results.scores()["ppo"][3], 6.03)
    report = make_report(folder, Settings(replications=500, curve_replications=100), formats=["png"])
    assert "ppo" in report.answer
    assert "ppo" in (report.folder / "table.md").read_text()
    assert "imported from ppo.csv" in (report.folder / "report.html").read_text()
    assert not any("code versions" in warning for warning in report.warnings)


def test_importing_again_replaces(tmp_path):
    folder = make_sweep(tmp_path)
    source = long_csv(tmp_path / "ppo.csv", elsewhere())
    import_runs(folder, source, COLUMNS)
    long_csv(source, elsewhere(level=12.0))
    import_runs(folder, source, COLUMNS)
    np.testing.assert_allclose(load_results(folder).scores()["ppo"][0], 12.0)


def test_a_fixed_value_stands_for_a_missing_column(tmp_path):
    folder = make_sweep(tmp_path)
    rows = [line.partition(",")[2] for line in elsewhere()]
    source = long_csv(tmp_path / "x.csv", rows, "task,seed,step,return")
    assert import_runs(folder, source, Columns(variant="=their PPO")) == {"their PPO": 10}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "holds no row"),
        (["ppo,minatar/breakout,0,10,abc"], "line 2: 'abc' in column 'score' is no number"),
        (["ppo,minatar/breakout,0,10,nan"], "line 2: 'nan' in column 'score' is not finite"),
        (["ppo,minatar/breakout,,10,1"], "line 2: nothing in column 'seed'"),
        (["ppo,minatar/pong,0,10,1"], "minatar/pong: not a task of this sweep"),
        (["dqn,minatar/breakout,0,10,1"], "dqn: already the name of a variant"),
        (["ppo,minatar/breakout,0,10,1"] * 2, "line 3: ppo on minatar/breakout, seed 0, step 10 stands twice"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_line_and_changes_nothing(tmp_path, rows, said):
    folder = make_sweep(tmp_path)
    with pytest.raises(ReportError, match=said):
        import_runs(folder, long_csv(tmp_path / "x.csv", rows), COLUMNS)
    assert not (folder / "imported").exists()


def test_a_missing_column_is_named(tmp_path):
    source = long_csv(tmp_path / "x.csv", elsewhere())
    with pytest.raises(ReportError, match="nothing in column 'return'; the columns are agent, game"):
        import_runs(make_sweep(tmp_path), source, Columns(variant="agent", task="game", step="frames"))
