"""Failures of a job: killed at any time, stopped by a signal, its parent gone. The metrics stay."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer_core.config import RunConfig
from scorer_core.metrics import MEASURED
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder

SETTINGS: dict[str, Any] = {
    "task": "minatar/breakout", "num_envs": 8, "update_every": 8, "total_steps": 24_000, "learning_starts": 200,
    "batch_size": 16, "replay_size": 1_600, "log_points": 20, "phi_widths": (24, 24), "theta_widths": (24,),
    "target_every": 400,
}  # fmt: skip
CONFIGS = [RunConfig(**SETTINGS, seed=seed, leader_lr=1e-3 / (1 + seed)) for seed in range(2)]


STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _nothing_is_left_running():
    yield
    while STARTED:
        kill(STARTED.pop())


def start(folder: PackFolder, *options: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "slurm.jobs.train_pack",
        str(folder.path),
        "--device",
        "cpu",
        "--commit-seconds",
        "0.3",
    ]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE)
    STARTED.append(process)
    return process


def code_of(process: subprocess.Popen[bytes]) -> int:
    """How an attempt ended, once it has; whatever it has to say belongs in its own log."""
    _, complaint = process.communicate(timeout=800)
    assert not complaint, complaint
    return process.returncode


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    if process.stderr and not process.stderr.closed:
        process.communicate()


def finish(folder: PackFolder) -> int:
    return code_of(start(folder))


def computed(folder: PackFolder) -> pa.Table:
    """All committed rows but for what the clock measured."""
    table = pa.concat_tables(pq.read_table(part) for part in folder.parts()).unify_dictionaries().combine_chunks()
    return table.drop_columns(list(MEASURED))


def same_metrics(folder: PackFolder, reference: pa.Table) -> bool:
    """Bit for bit: NaN before learning begins equals NaN."""
    ours = computed(folder)
    return (
        ours.schema == reference.schema
        and all(
            ours[name].to_numpy().tobytes() == reference[name].to_numpy().tobytes()
            for name in reference.column_names
            if name != "run_id"
        )
        and ours["run_id"].to_pylist() == reference["run_id"].to_pylist()
    )


def step_of(folder: PackFolder) -> int:
    return folder.state().get("step", 0)


def wait_for(condition, seconds: float = 500.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[pa.Table, PackFolder]:
    """The metrics of an uninterrupted run."""
    folder = PackFolder.create(tmp_path_factory.mktemp("uninterrupted"), CONFIGS)
    assert finish(folder) == 0
    statuses = {run_id: entry["status"] for run_id, entry in folder.done().items()}
    assert statuses == {config.run_id: "done" for config in CONFIGS}
    table = computed(folder)
    assert table.num_rows == 20 * len(CONFIGS)
    return table, folder


@pytest.fixture
def folder(tmp_path) -> PackFolder:
    return PackFolder.create(tmp_path / "packs", CONFIGS)


def kill_at_random_moments(folder: PackFolder, kills: int, seed: int) -> int:
    """SIGKILL that many attempts, each at a random moment of its life; the attempts that had started to train."""
    dice, trained = random.Random(seed), 0
    for _ in range(kills):
        if folder.done():
            break
        process = start(folder)
        if dice.random() < 0.85:  # most die while training, the others while starting
            attempt = len(list((folder.path / "attempts").glob("*"))) + 1
            wait_for(lambda number=attempt: folder.state().get("attempt") == number
                     and folder.state().get("phase") == "training")  # fmt: skip
            trained += 1
            time.sleep(dice.uniform(0.0, 1.2))
        else:
            time.sleep(dice.uniform(0.0, 3.0))
        kill(process)
    return trained


def test_killed_three_times_it_ends_with_the_metrics_of_an_uninterrupted_run(folder, reference):
    assert kill_at_random_moments(folder, kills=3, seed=0) > 0
    assert finish(folder) == 0
    assert same_metrics(folder, reference[0])


def kill_all(process: subprocess.Popen[bytes], dice: random.Random) -> None:
    """SIGKILL for a process and its children, in any order."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    victims = [process.pid, *map(int, children)]
    for victim in dice.sample(victims, len(victims)):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_scorer_run_killed_at_twenty_random_moments_ends_with_the_metrics_of_an_uninterrupted_run(tmp_path):
    """The command and its jobs die at once, by SIGKILL; then the command is given again."""
    sweep = {"name": "killed", "question": "?", "tasks": [SETTINGS["task"]], "total_steps": 12_000}
    sweep |= {"seeds": [0, 1], "base": {k: v for k, v in SETTINGS.items() if k not in ("task", "total_steps")}}
    sweep["base"] |= {"ratio": 5, "phi_widths": [24, 24], "theta_widths": [24]}
    definition = tmp_path / "killed.yaml"
    definition.write_text(json.dumps(sweep))
    dice, outputs, kills = random.Random(0), tmp_path / "outputs", 0
    command = [sys.executable, "-m", "cli.main", "run", str(definition), "--outputs", str(outputs)]
    command += ["--device", "cpu", "--commit-seconds", "0.3"]

    def run(*overrides: str) -> subprocess.Popen[bytes]:
        nothing = subprocess.DEVNULL
        return subprocess.Popen([*command, *overrides], start_new_session=True, stdout=nothing, stderr=nothing)

    process = run("-s", "name=whole")
    assert process.wait(300) == 0
    uninterrupted = computed(pack_folders(outputs / "whole" / "packs")[0])
    resumed = 0
    while kills < 20 or process.returncode:
        process = run()
        try:
            code = process.wait(dice.uniform(2.0, 15.0) if kills < 20 else 300)
        except subprocess.TimeoutExpired:
            kill_all(process, dice)
            kills += 1
        else:  # it came to its end: begin again, with other moments
            assert code == 0
            folder = pack_folders(outputs / "killed" / "packs")[0]
            assert same_metrics(folder, uninterrupted)
            resumed += len(list((folder.path / "attempts").iterdir())) - 1
            shutil.rmtree(outputs / "killed")
    assert resumed >= 5


def test_told_to_stop_it_commits_says_75_and_later_goes_on(folder, reference):
    """By SIGUSR2, Slurm's warning; SIGTERM, after which it has a grace period, is in test_faults_killed.py."""
    process = start(folder, "--commit-seconds", "1000", "--heartbeat-seconds", "0.1")
    wait_for(lambda: step_of(folder) > 200)
    process.send_signal(signal.SIGUSR2)
    assert code_of(process) == 75
    assert folder.state()["phase"] == "interrupted"
    stopped_at = step_of(folder)
    assert 200 < stopped_at < SETTINGS["total_steps"]
    assert finish(folder) == 0
    assert same_metrics(folder, reference[0])
    assert len(list((folder.path / "attempts").iterdir())) == 2


def test_it_stops_by_itself_when_the_process_that_wanted_it_is_gone(folder):
    code = "import subprocess,sys,os,time;"
    code += f"subprocess.Popen([sys.executable,'-m','slurm.jobs.train_pack',{str(folder.path)!r},"
    code += "'--device','cpu','--parent',str(os.getpid())]);time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: folder.state().get("phase") == "training")
    parent.kill()
    parent.wait()
    wait_for(lambda: folder.state()["phase"] != "training")
    assert folder.state()["phase"] == "interrupted"


def test_two_processes_on_one_pack_train_it_once(folder, reference):
    first, second = start(folder), start(folder)
    ends = [(process.communicate(timeout=800)[1].decode(), process.returncode) for process in (first, second)]
    refused = f"{folder.path}: another process is training this pack\n", 1
    assert ("", 0) in ends
    assert set(ends) <= {("", 0), refused}
    assert len(list((folder.path / "attempts").iterdir())) == 1
    assert same_metrics(folder, reference[0])


def test_a_folder_that_cannot_be_read_is_a_failure_that_names_the_file(folder):
    (folder.path / "pack.json").write_text("{}")
    assert finish(folder) == 1
    state = folder.state()
    assert state["phase"] == "failed"
    assert "pack.json: missing, or names no run" in state["error"]


def test_provenance_says_what_ran(reference):
    provenance = json.loads((reference[1].path / "attempts" / "1" / "provenance.json").read_text())
    assert provenance["device"] == "cpu"
    assert provenance["packages"]["torch"]
    assert provenance["python"] == ".".join(map(str, sys.version_info[:3]))
    assert Path(provenance["argv"][0]).name == "train_pack.py"
