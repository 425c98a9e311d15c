"""Which runs a CSV file contains, by its format, and the messages for files that cannot be understood."""

import pytest

from analysis.importers.csv_runs import Columns, read_runs
from analysis.load import ReportError

BREAKOUT = ["minatar/breakout"]
TASKS = ["minatar/breakout", "minatar/asterix"]


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
        "wide CSV, one column per seed: variant = breakout_all_returns (from the file's name; to change it: --variant "
        "=NAME); task = minatar/breakout (the sweep's only task); step from column 'timesteps'; return from 2 columns"
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
        ("", "is empty"),
        (HEADER, "has no rows below its header"),
        (row(value="abc"), "line 2: 'abc' in column 'return' is not a number"),
        (row(value="1_000"), "line 2: '1_000' in column 'return' is not a number"),
        (row(value="nan"), "line 2: 'nan' in column 'return' is not finite; leave the cell empty"),
        (row(value="-inf"), "line 2: '-inf' in column 'return' is not finite"),
        (row(value="1e300"), "line 2: '1e300' in column 'return' is out of range"),
        (row(value="1e" + "9" * 25), "line 2: .* is out of range"),
        (row(value="9" * 5000), r"line 2: '9{20}\.\.\.' in column 'return' is not a number"),
        (row(value=""), "no row has a return"),
        (row(seed=""), "line 2: no value in column 'seed'"),
        (row(seed="0.5"), "line 2: '0.5' in column 'seed' is not a whole number"),
        (row(seed="1e19"), "line 2: '1e19' in column 'seed' is out of range"),
        (row(seed="-1"), "line 2: '-1' in column 'seed' is out of range"),
        (row(step="100.7"), "line 2: '100.7' in column 'step' is not a whole number"),
        (row(step="9223372036854775808"), "line 2: '9223372036854775808' in column 'step' is out of range"),
        (row(step="1e300"), "line 2: '1e300' in column 'step' is out of range"),
        (row(step="1e999999999"), "line 2: '1e999999999' in column 'step' is out of range"),
        (row(step="0"), "seed 0: has no step above 0"),
        (row(task="minatar/pong"), "line 2: 'minatar/pong' is not a task of this sweep .* --task =minatar/breakout"),
        (row() + "ppo,minatar/breakout,0,10,1\n", "line 3: ppo on minatar/breakout, seed 0, step 10 appears twice"),
        (row() + "ppo,minatar/breakout,0\n", "line 3: 3 cells, but the header has 5"),
        (row() + "ppo,minatar/breakout,0,20,1,5\n", "line 3: 6 cells, but the header has 5"),
        (row() + 'ppo,minatar/breakout,0,20,"1\n', "line 3: is not CSV"),
        (row(variant='"a\nb"'), r"line 3: the variant 'a\\nb' contains a control character"),
        (row(variant="a\x1b[31m"), "line 2: .* contains a control character"),
        (row(variant=""), "line 2: no value in column 'variant'"),
        (row(variant="x" * 500), "line 2: the variant's name has 500 characters"),
        ("step,step,return\n1,2,3\n", "line 1: the column 'step' appears twice"),
        ("a,b\n1,2\n", "no column of environment steps; the columns are a, b; name it with --step COLUMN"),
        ("step,b\n1,2\n", "no column of returns; expected 'return', one column 'seed_<n>' per seed"),
        ("step,return\n1,2\n", r"no column 'seed'; .* --seed =0"),
        ("step,return,seed\n1,2,3\n", r"no column 'variant'; .* --variant =NAME"),
        ("#{\nr,l,t\n", "line 1: expected a header"),
        ("#{}\nr,t\n1,2\n", "line 2: no column 'l'"),
        ("#{}\nr,l,seed,variant\n1,0,1,x\n", "line 3: 0 in column 'l' is not the length"),
        ('#{"env_id": "Pong-v5"}\nr,l,t\n1,5,1\n', "line 1: env_id 'Pong-v5' is not a task of this sweep"),
        ("step,a - x,a - y\n1,2,3\n", "line 1: several metrics: x, y; choose one: --return METRIC"),
        ("step,episodic_return,episode_return\n1,2,3\n", "several columns hold returns"),
        ("variant;task;seed;step;return\nppo;minatar/breakout;0;100,000;1\n", "line 2: '100,000' in column 'step'"),
        (
            "variant;task;seed;step;return\nppo;minatar/breakout;0;1;1.000,5\n",
            "line 2: '1.000,5' in .* is not a number",
        ),
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
    with pytest.raises(ReportError, match="contains one of the 2 environments"):
        read(tmp_path, "seed1/1.monitor.csv", content, Columns(variant="=sb3"))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(ReportError, match="cannot be read: No such file"):
        read_runs(tmp_path / "x.csv", Columns(), BREAKOUT)
    with pytest.raises(ReportError, match="cannot be read: Is a directory"):
        read_runs(tmp_path, Columns(), BREAKOUT)
