"""What an attempt tells about the speed of its machine or partition, and that plans use it."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cli.progress import ProgressBars
from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.train import Clock, train
from slurm.jobs.launcher import LaunchState, Slot
from slurm.jobs.speed import keep_speed, process_age
from slurm.places import HERE, known_speeds, place_of, speeds_file
from slurm.profile import Profile
from slurm.submissions.submission import new
from sweeps import speeds
from sweeps.loading import parse
from sweeps.plan import make_plan
from tests.slurm.workplace import SMALL, Workplace, wait_for

SETTINGS: dict[str, Any] = SMALL["base"] | {"task": "minatar/breakout", "total_steps": 2_000}
CLUSTER = Profile(name="mine", scheduler="slurm", partition="low")


@pytest.fixture
def trained(tmp_path, monkeypatch, untraced):
    """A pack of two runs that was trained in this process, and its clock."""
    monkeypatch.setattr(speeds, "LEAST_SECONDS", 0.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    configs = [
        RunConfig(**{name: value for name, value in SETTINGS.items() if name != "ratio"}, seed=s) for s in (0, 1)
    ]
    folder, clock = PackFolder.create(tmp_path / "mine" / "packs", configs), Clock()
    train(folder, torch.device("cpu"), 60.0, lambda: False, clock=clock)
    return folder, clock


def test_an_attempt_tells_the_speed_of_this_machine_and_a_later_pack_is_estimated_with_it(trained, tmp_path):
    folder, clock = trained
    began = clock.begun.time - 3.0
    keep_speed(folder, "cpu", clock, began)
    whole = time.monotonic() - began
    config = folder.configs()[0]
    estimate = known_speeds(tmp_path, HERE).estimate(config, 2)
    assert estimate.packs == {folder.pack_id}
    assert estimate.seconds == pytest.approx(whole, rel=0.05), "the same pack again would take as long"
    assert clock.full_speed.vector_step == 26, "the first update is after 200 steps of 8 environments"
    assert not known_speeds(tmp_path, CLUSTER).estimate(config, 2).packs, "a partition is another place"


def test_an_attempt_of_a_job_tells_the_speed_of_the_partition_of_its_submission(trained, tmp_path):
    folder, clock = trained
    submission = new(tmp_path / "mine", CLUSTER, tmp_path, [1], packs=[folder.pack_id])
    submission.write()
    keep_speed(folder, "cpu", clock, clock.begun.time, submission.name)
    config = folder.configs()[0]
    assert known_speeds(tmp_path, CLUSTER).estimate(config, 2).packs == {folder.pack_id}
    assert not known_speeds(tmp_path, HERE).estimate(config, 2).packs
    assert (
        not known_speeds(tmp_path, CLUSTER.model_copy(update={"environment": {"OMP_NUM_THREADS": "4"}}))
        .estimate(config, 2)
        .packs
    )


def test_a_process_with_half_a_core_tells_the_speed_of_a_whole_one(trained, tmp_path):
    folder, clock = trained
    began = clock.begun.time - 3.0
    keep_speed(folder, "cpu", clock, began, core_share=0.5)
    estimate = known_speeds(tmp_path, HERE).estimate(folder.configs()[0], 2)
    assert estimate.seconds == pytest.approx((time.monotonic() - began) / 2, rel=0.05)


@pytest.mark.parametrize("harm", ["no submission", "no folder", "a link"])
def test_where_the_speed_cannot_be_kept_the_log_says_so_and_nothing_fails(trained, tmp_path, harm, caplog):
    folder, clock = trained
    if harm == "no folder":
        (tmp_path / speeds.FOLDER).write_text("a file")
    elif harm == "a link":
        (tmp_path / speeds.FOLDER).symlink_to("/proc/nowhere")
    keep_speed(folder, "cpu", clock, clock.begun.time, "7" if harm == "no submission" else "")
    assert "is not kept for later estimates" in caplog.text
    assert folder.done()


def test_places_are_machines_or_kinds_of_nodes():
    assert place_of(HERE).startswith("host-")
    assert place_of(CLUSTER) == "partition-low"
    assert place_of(Profile(name="mine", scheduler="slurm")) == "partition-default"
    kinds = CLUSTER.model_copy(update={"partition": "a,b/c", "constraint": "ice|rome", "gpus": "a100:4"})
    assert place_of(kinds) == "partition-a-b-c-ice-rome-a100"
    assert re.fullmatch(r"[\w.-]+", speeds_file(Path(), kinds).name)


def test_the_age_of_a_process_counts_from_its_start():
    before = process_age()
    assert before == 0 or process_age() >= before


def test_progress_counts_the_packs_that_wait_at_their_estimate(tmp_path, capsys):
    from rich.console import Console

    planned = make_plan(parse({**SMALL, "seeds": 6, "total_steps": 16_000}, "small.yaml"), tmp_path, 2)
    planned.write()
    first, *rest = (pack.folder for pack in planned.packs)
    first.write_state(phase="training", step=8_000, total_steps=16_000, lanes=2, steps_per_second=100.0)
    bars = ProgressBars(planned.packs, Console(width=200, force_terminal=False))
    bars._printed = -1e9  # a line is due
    bars.show(LaunchState(waiting=rest, running={first: Slot()}))
    to_go = 8_000 * 2 / 100 + sum(pack.seconds for pack in planned.packs[1:])
    assert f"17% of the steps, 100 steps/s, about {to_go / 60:.0f} min to go" in capsys.readouterr().out


@pytest.mark.slow
def test_after_scorer_run_the_next_plan_says_that_it_was_measured_here(call, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "total_steps": 40_000}))
    words = path, "--outputs", tmp_path / "outputs"
    assert "from the shipped figures, another machine: may be off by half" in call("plan", *words)[1]
    code, out, err = call("run", *words, "--lanes", 1)
    assert code == 0, out + err
    shown = call("plan", *words, "-s", "name=next")[1]
    assert "Estimated from speeds measured here, on 2 packs." in shown


@pytest.mark.slow
def test_after_jobs_of_a_partition_a_plan_for_it_says_that_it_was_measured_there(unaccounted, tmp_path):
    place = Workplace(unaccounted, tmp_path)
    place.scorer("submit")
    wait_for(lambda: place.states() == {"done": 2}, every=1.0, progress=place.progress)
    shown = place.scorer("plan", "--profile", str(place.profile), "-s", "name=next")
    assert "Estimated from speeds measured in partition low, on 1 pack." in shown


@pytest.mark.slow
def test_scorer_bench_gives_the_first_speed_of_this_machine(call, tmp_path):
    assert os.environ.get("OMP_NUM_THREADS", "1") == "1"
    code, out, err = call("bench", "--outputs", tmp_path, "--device", "cpu")
    assert code == 0, err
    assert "environment steps/s on cpu with 8 lanes of paper_minatar" in out
    planned = make_plan(
        parse({**SMALL, "total_steps": 40_000}, "small.yaml"), tmp_path, speeds=known_speeds(tmp_path, HERE)
    )
    assert planned.packs[0].estimate.packs == {"bench"}
