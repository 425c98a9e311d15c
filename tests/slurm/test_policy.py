"""When a pack is started again, and with how many lanes."""

import json
import re
import resource
import subprocess
import sys
from typing import Any

import pytest

from scorer_core.config import RunConfig
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder
from slurm.jobs.policy import attempt_history, halve, halves, is_out_of_memory, reason_to_stop_retrying
from tests.slurm.test_job import CONFIGS, SETTINGS, code_of, computed, start, wait_for


@pytest.fixture
def folder(tmp_path) -> PackFolder:
    return PackFolder.create(tmp_path / "packs", CONFIGS)


@pytest.mark.parametrize(
    ("starts", "most", "expected"),
    [
        ([0], 20, None),
        ([0, 0], 20, None),
        ([0, 0, 0], 20, "no progress in 2 attempts, both from step 0"),
        ([0, 8, 8, 8], 20, "no progress in 2 attempts, both from step 8"),
        ([0, 8, 8, 16], 20, None),
        ([0, 8, 16], 2, "not finished in 2 attempts (max_attempts)"),
        ([0, 8], 2, None),
    ],
)
def test_a_pack_is_started_again_as_long_as_it_gets_on_and_has_attempts_left(folder, starts, most, expected):
    assert reason_to_stop_retrying(folder, starts, most) == expected


def test_a_refusal_repeats_the_last_words(folder):
    folder.write_state(phase="killed", error="killed by SIGKILL")
    assert (
        reason_to_stop_retrying(folder, [0, 0, 0], 20)
        == "no progress in 2 attempts, both from step 0; the last one: killed by SIGKILL"
    )


def test_attempts_of_another_submission_do_not_count(folder):
    folder.write_state(phase="failed", submission="1", starts=[0, 0, 0])
    assert attempt_history(folder, "1") == {"submission": "1", "starts": [0, 0, 0, 0]}
    assert attempt_history(folder, "2") == {"submission": "2", "starts": [0]}


def test_a_job_out_of_attempts_fails_at_once_and_a_new_series_trains(folder):
    folder.write_state(phase="killed", attempt=3, error="killed by SIGSEGV", submission="1", starts=[0, 0])
    process = start(folder, "--submission", "1", "--max-attempts", "20")
    assert code_of(process) == 1
    state = folder.state()
    assert (state["phase"], state["attempt"]) == ("failed", 3)
    assert state["error"] == "no progress in 2 attempts, both from step 0; the last one: killed by SIGSEGV"
    assert not (folder.path / "attempts").exists(), "a refused start is no attempt"
    start(folder, "--submission", "2", "--max-attempts", "20")
    wait_for(lambda: folder.state().get("phase") == "training")
    assert folder.state()["starts"] == [0]


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV")])
def test_how_an_attempt_was_killed_is_recorded_and_it_is_to_be_started_again(folder, number, name):
    folder.write_state(phase="training", attempt=1, submission="1", starts=[0], step=40, total_steps=4000, lanes=2)
    assert code_of(start(folder, "--submission", "1", "--record-kill", str(number))) == 75
    state = folder.state()
    assert (state["phase"], state["error"], state["step"]) == ("killed", f"killed by {name}", 40)
    assert state["starts"] == [0]


def test_halving_puts_two_packs_in_the_place_of_one_once(folder, tmp_path):
    assert halve(folder)
    parts = halves(folder)
    assert [part.run_ids() for part in parts] == [[config.run_id] for config in CONFIGS]
    assert {pack.pack_id for pack in pack_folders(tmp_path / "packs")} == {part.pack_id for part in parts}
    assert not any(halve(part) for part in parts), "one lane cannot be halved"
    configs = [RunConfig(**SETTINGS, seed=seed) for seed in range(5)]
    five = PackFolder.create(tmp_path / "five", configs, compiled=True)
    assert halve(five)
    assert [len(part.run_ids()) for part in halves(five)] == [3, 2]
    assert all(part.compiled() for part in halves(five))
    assert not any(halve(part) for part in halves(five)), "a half is not halved"


def test_halving_cut_off_in_the_middle_loses_no_run_and_can_be_done_again(folder, tmp_path):
    content = (folder.path / "pack.json").read_bytes()
    assert halve(folder)
    (folder.path / "pack.json").write_bytes(content)  # as if killed before the last step
    packs = pack_folders(tmp_path / "packs")
    assert {run_id for pack in packs for run_id in pack.run_ids()} == {config.run_id for config in CONFIGS}
    assert halve(folder)
    assert len(pack_folders(tmp_path / "packs")) == 2


def test_errors_of_memory_are_told_from_others():
    import torch

    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_out_of_memory_halves_the_lanes_once_and_says_so(tmp_path):
    """No machine has the memory for these replays: the pack is halved, each half tried, and that is the end."""
    configs = [RunConfig(**{**SETTINGS, "replay_size": 10**13}, seed=seed) for seed in range(4)]
    folder = PackFolder.create(tmp_path / "packs", configs)
    assert code_of(start(folder, "--submission", "1")) == 1
    assert json.loads((folder.path / "halved.json").read_text())["because"] == "out of memory"
    parts = halves(folder)
    assert [len(part.run_ids()) for part in parts] == [2, 2]
    for part in parts:
        assert re.search("alloc.*the pack cannot be split further. Request more memory", part.state()["error"])
        assert len(list((part.path / "attempts").iterdir())) == 1
    log = (folder.path / "attempts" / "1" / "stderr.log").read_text()
    assert "continuing with half the lanes" in log


@pytest.mark.slow
def test_a_pack_that_only_fits_by_halves_ends_with_the_metrics_of_an_unlimited_one(tmp_path):
    """The replays of all take 6.6 GB of address space; all else takes 1.5 GB and, where there is room, up to 3 GB.

    The unlimited pack has smaller ones, which take less time to write. None is ever full, so the metrics are the same.
    """
    big: dict[str, Any] = SETTINGS | {"replay_size": 2_000_000, "total_steps": 2_000, "learning_starts": 200}
    small: dict[str, Any] = big | {"replay_size": 4_000}
    configs, fitting = ([RunConfig(**settings, seed=seed) for seed in range(8)] for settings in (big, small))
    whole, folder = PackFolder.create(tmp_path / "whole", fitting), PackFolder.create(tmp_path / "packs", configs)
    assert code_of(start(whole, "--commit-seconds", "1000")) == 0
    limit = 7 * 10**9
    command = [sys.executable, "-m", "slurm.jobs.train_pack", str(folder.path), "--device", "cpu", "--submission", "1"]
    subprocess.run(command, check=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    parts = halves(folder)
    assert [len(part.run_ids()) for part in parts] == [4, 4]
    seeds = {config.run_id: config.seed for config in configs + fitting}

    def rows(packs: list[PackFolder]) -> dict[tuple[int, int], str]:
        found = [row for pack in packs for row in computed(pack).to_pylist()]
        return {(seeds[row.pop("run_id")], row["step"]): repr(row) for row in found}

    assert rows(parts) == rows([whole])
    assert len(rows(parts)) == 8 * 20
