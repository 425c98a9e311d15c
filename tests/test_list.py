"""`scorer list`: every sweep in the folder of outputs, whatever its state."""

import json
import os

import pytest

from sweeps.plan import make_plan
from tests.sweeps.minimal import sweep


@pytest.fixture
def outputs(tmp_path):
    """An older sweep with a failed pack, a newer one with a damaged record, and a folder of the user's."""
    for age, name in enumerate(["newer", "older"]):
        planned = make_plan(sweep(name=name, seeds=3), tmp_path, 1)
        planned.write()
        first, second, _ = (pack.folder for pack in planned.packs)
        first.write_state(phase="failed", error="nan")
        if name == "newer":
            (second.path / "pack.json").write_text("{")
        for path in (tmp_path / name).rglob("*.*"):
            os.utime(path, (path.stat().st_mtime - 3600 * age,) * 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "sweep.yaml").write_text("name: notes")
    return tmp_path


def test_each_sweep_is_one_row_with_its_runs_by_state_the_newest_first(call, outputs):
    code, shown, _ = call("list", "--outputs", outputs)
    assert code == 0
    rows = [line.replace("│", " ").split() for line in shown.splitlines() if "│" in line]
    assert [row[:6] for row in rows] == [
        ["newer", "3", "–", "–", "–", "1"],
        ["older", "3", "–", "–", "–", "1"],
    ]
    found = json.loads(call("list", "--outputs", outputs, "--json")[1])
    assert [(row["name"], row["runs"], row["failed"], row["jobs"]) for row in found["sweeps"]] == [
        ("newer", 3, 1, 0),
        ("older", 3, 1, 0),
    ]
    assert found["problems"] == [f"newer: 1 damaged record; scorer status newer --outputs {outputs}"]


def test_a_folder_without_sweeps_names_the_command_that_starts_one(call, tmp_path):
    assert call("list", "--outputs", tmp_path)[:2] == (
        0,
        f"No sweep in {tmp_path}. Start one with: scorer run quickstart\n",
    )
