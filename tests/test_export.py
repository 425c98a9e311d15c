"""`scorer export`: its destinations, options and `--follow`."""

import pytest

from cli import export
from tests.analysis.exporting import half_trained, train_on


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--to", "data"],
            "--to data: not a destination; choose from: csv, wandb, tensorboard (a folder is",
        ),
        (["--follow"], "--follow: not an option of --to csv, but of --to wandb and tensorboard\n"),
        (
            ["--to", "tensorboard", "--project", "x"],
            "--project: not an option of --to tensorboard, but of --to wandb\n",
        ),
        (
            ["--to", "wandb", "--folder", "x"],
            "--folder: not an option of --to wandb, but of --to csv and tensorboard\n",
        ),
    ],
)
def test_an_option_of_another_destination_is_one_line(call, tmp_path, words, message):
    code, _, told = call("export", half_trained(tmp_path), *words)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith(message)


def test_an_unfinished_sweep_says_what_is_left_and_how_to_show_what_is_there(call, tmp_path):
    folder = half_trained(tmp_path)
    code, printed, _ = call("export", folder, "--to", "tensorboard")
    assert code == 0
    assert printed.splitlines() == [
        "Exported 40 new rows of 4 runs.",
        f"4 runs not finished yet; see: scorer status synthetic --outputs {tmp_path}",
        f"Show with: tensorboard --logdir {folder}/report/tensorboard",
    ]


def test_follow_repeats_the_export_until_all_runs_are_done(call, tmp_path, monkeypatch):
    folder, slept = half_trained(tmp_path), []
    monkeypatch.setattr(export, "_is_in_progress", lambda _: True)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            train_on(folder)

    monkeypatch.setattr("time.sleep", sleep)
    code, printed, _ = call("export", folder, "--to", "tensorboard", "--follow")
    assert (code, slept) == (0, [180.0, 180.0])
    exported = [line for line in printed.splitlines() if line.startswith("Exported")]
    assert exported == [f"Exported {rows} new rows of {runs} runs." for rows, runs in ((40, 4), (0, 0), (40, 4))]


def test_follow_ends_when_no_run_is_in_progress(call, tmp_path):
    code, printed, _ = call("export", half_trained(tmp_path), "--to", "tensorboard", "--follow")
    assert code == 0
    assert "4 runs not finished yet" in printed


def test_ctrl_c_ends_follow_with_one_line(call, tmp_path, monkeypatch):
    folder = half_trained(tmp_path)
    monkeypatch.setattr(export, "_is_in_progress", lambda _: True)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    code, _, told = call("export", folder, "--to", "tensorboard", "--follow")
    assert (code, told) == (75, "Interrupted. The same command goes on from here.\n")
