import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rliable import metrics

from analysis.exporters.tables import export
from analysis.load import load_results
from analysis.statistics import iqm, ones
from tests.analysis.synthetic import make_sweep, rising_return


def test_what_is_exported_is_what_was_loaded(tmp_path):
    folder = make_sweep(tmp_path, absent=lambda run: run.variant.name == "dqn" and run.config.seed == 0)
    written = {path.name: path for path in export(folder).files}
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


def test_curves_hold_the_rows_that_have_a_return_at_the_steps_of_each_run(tmp_path):
    def curve(run, steps):
        return np.where(steps < 20_000, np.nan, rising_return(run, steps))

    folder = make_sweep(tmp_path, {"variants": {"dqn": {}, "coarse": {"log_points": 10}}}, curve=curve)
    export(folder, tmp_path / "x")
    curves = pyarrow.csv.read_csv(tmp_path / "x" / "curves.csv").to_pandas()
    steps = curves.query("task == 'minatar/asterix' and seed == 2").groupby("variant")["step"].apply(list)
    assert steps["dqn"] == list(range(20_000, 100_001, 5000))
    assert steps["coarse"] == list(range(20_000, 100_001, 10_000))
    assert np.isfinite(curves["return"]).all()


def test_a_sweep_without_a_finished_run_exports_empty_tables(tmp_path):
    folder = make_sweep(tmp_path, unfinished=lambda _: True)
    exported = export(folder, tmp_path / "x")
    assert exported.curves == 0
    assert (tmp_path / "x" / "curves.csv").read_text() == '"variant","task","seed","step","return"\n'
    assert pq.read_table(tmp_path / "x" / "curves.parquet").num_rows == 0
    runs = pyarrow.csv.read_csv(tmp_path / "x" / "runs.csv")
    assert runs["status"].to_pylist() == ["partial"] * 30
    with np.load(tmp_path / "x" / "scores.npz") as arrays:
        assert arrays["final/dqn"].shape == (0, 2)
