"""Where runs stand where Slurm does not answer; which of them a filter takes; how packs become arrays."""

import io
import json
import math
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.filters import make_filter
from cli.plan import cluster_estimate
from cli.status_view import status_notes, status_table
from scorer_core.records import PackFolder
from scorer_core.support.files import write_json
from scorer_core.support.text import duration
from slurm.backend import FreeSlots, Limits, SchedulerError
from slurm.cluster import scheduler
from slurm.profile import Profile
from slurm.status import FRESH_SECONDS, SweepStatus, read_status
from slurm.submissions import snapshot
from slurm.submissions.submission import new, read, submissions
from slurm.submit import BY_DEFAULT, Selection, array_sizes, group_by_snapshot, select_packs
from sweeps import price
from sweeps.errors import DefinitionError
from sweeps.grid import GridRun
from sweeps.layout import makespan
from sweeps.loading import parse
from sweeps.plan import Plan, make_plan
from sweeps.speeds import SHIPPED, Estimate
from tests.fake_secrets import fake

SWEEP: dict[str, Any] = {
    "name": "mine", "question": "?", "tasks": ["minatar/breakout", "gymnax/breakout"], "total_steps": 10_000,
    "seeds": 4, "baseline": "dqn", "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}},
    "axes": {"ratio": [1, 5]},
}  # fmt: skip
SLURM = Profile(name="cluster", scheduler="slurm")


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch, tmp_path):
    """Slurm's commands cannot be found: the cluster is silent."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def planned(tmp_path) -> Plan:
    """Six packs of four runs, one for each variant and task, on disk and submitted."""
    sweep = parse(SWEEP, "mine.yaml")
    planned = make_plan(sweep, tmp_path, 4)
    planned.write()
    names = [pack.folder.pack_id for pack in planned.packs]
    submission = new(tmp_path / "mine", SLURM, tmp_path, [len(names)], packs=names)
    submission.arrays[0].job = "17"
    submission.write()
    return planned


def beat(pack: PackFolder, seconds_ago: float = 0, submission: str = "1", **state: Any) -> None:
    from datetime import UTC, datetime, timedelta

    pack.write_state(submission=submission, step=40, total_steps=10_000, lanes=4, **state)
    then = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    write_json(pack.path / "state.json", pack.state() | {"time": then.isoformat(timespec="seconds")})


def test_where_slurm_is_silent_the_files_speak_and_the_rest_is_unknown_never_dead(planned):
    packs = [pack.folder for pack in planned.packs]
    packs[0].finish({run_id: {"status": "done", "verdicts": ["flat"]} for run_id in packs[0].run_ids()})
    beat(packs[1], phase="training")
    beat(packs[2], FRESH_SECONDS + 10, phase="training")
    beat(packs[3], phase="failed", error="out of luck")
    beat(packs[4], phase="failed", error="out of luck", submission="0")
    packs[5].mark_cancelled(True)
    found = read_status(planned.folder)
    assert "squeue: not found" in found.scheduler_error
    states = [found.packs[pack.pack_id].state for pack in packs]
    assert states == ["done", "running", "unknown", "failed", "unknown", "cancelled"]
    chosen = select_packs(planned, found, BY_DEFAULT, None)
    assert chosen.packs == [], "nothing is submitted that may be running"


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
def test_a_cancelled_job_that_slurm_still_has_is_running_and_said_to_be_stopping(planned, tmp_path, monkeypatch, state):
    first, second, *_ = (pack.folder for pack in planned.packs)
    (request,) = submissions(tmp_path / "mine")[0].arrays
    rows = [f"{scheduler.MARK}17|{index}|{state}|None|n1|{request.name}" for index in (0, 1)]
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in ["scorer|ARRAY_JOB_ID", *rows]))
    squeue.chmod(0o755)
    first.mark_cancelled(True)
    found = read_status(planned.folder, accounting=False)
    assert (found.scheduler_error, found.packs[second.pack_id].note) == ("", "on n1")
    stopping = found.packs[first.pack_id]
    assert (stopping.state, stopping.stopping, stopping.note) == ("running", True, "stopping: cancelled")
    assert f"running pack {first.pack_id} (4 runs): stopping: cancelled" in [line.plain for line in status_notes(found)]
    squeue.write_text("#!/bin/sh\necho 'scorer|ARRAY_JOB_ID'\n")
    assert read_status(planned.folder, accounting=False).packs[first.pack_id].state == "cancelled"


def test_the_command_for_the_logs_works_where_a_copy_of_the_sweep_has_the_same_packs(planned, tmp_path, call):
    pack = planned.packs[0].folder
    (pack.new_attempt() / "stderr.log").write_text("out of luck\n")
    beat(pack, phase="failed", error="out of luck")
    shutil.copytree(tmp_path / "mine", tmp_path / "copy")
    (tmp_path / "copy" / "packs" / pack.pack_id / "attempts" / "1" / "stderr.log").write_text("of the copy\n")
    for sweep, log in (("mine", "out of luck"), ("copy", "of the copy")):
        (why,) = (
            line.plain for line in status_notes(read_status(tmp_path / sweep)) if line.plain.startswith("See why: ")
        )
        command, _, _ = why.removeprefix("See why: ").partition(". Resubmit: ")
        code, said, _ = call(*shlex.split(command)[1:])
        assert (code, said.splitlines()[-1]) == (0, log)
        code, said, _ = call("logs", tmp_path / sweep / "packs" / pack.pack_id)
        assert (code, said.splitlines()[-1]) == (0, log)
    assert call("logs", pack.pack_id, "--outputs", tmp_path)[0] == 1, "it does not say which of the two is meant"


def test_the_share_of_runs_with_a_verdict_stands_beside_their_variant_and_task(planned):
    first, second, *_ = (pack.folder for pack in planned.packs)
    sound, *judged = first.run_ids()
    entries: dict[str, Any] = {run_id: {"status": "done", "verdicts": ["collapsed"]} for run_id in judged}
    first.finish(entries | {sound: {"status": "done", "verdicts": []}})
    second.finish({run_id: {"status": "done", "verdicts": []} for run_id in second.run_ids()})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status_table(read_status(planned.folder)))
    run = next(run for run in planned.sweep.runs if run.run_id == sound)
    shown = [line for line in console.export_text().splitlines() if "collapsed" in line]
    assert len(shown) == 1
    assert "collapsed 3 of 4" in shown[0]
    assert run.variant.name in shown[0]
    assert run.config.task in shown[0]


def test_the_price_on_a_cluster_is_that_of_its_jobs_at_the_measured_speed(planned):
    seconds = [price.cost(pack.configs[0], 4).seconds for pack in planned.packs]
    two = Profile(name="mine", scheduler="slurm", time=3, throttle=2)
    shown, basis = cluster_estimate(planned.packs, two)
    assert basis == f"Estimated from {SHIPPED}."
    assert 180 > max(seconds) > 1, "one attempt is enough: no number of attempts is printed"
    assert (
        f"Estimated on mine: longest pack about {duration(max(seconds))}; {duration(sum(seconds))} of one core" in shown
    )
    assert f"about {duration(makespan(seconds, 2))} with 2 packs at once" in shown
    larger = [replace(pack, estimate=Estimate(1000 * pack.seconds)) for pack in planned.packs]
    longest = max(pack.seconds for pack in larger)
    shown, _, unmeasured = cluster_estimate(larger, two.model_copy(update={"gpus": "1", "throttle": None}))
    assert f"{math.ceil(longest / 180)} attempts of 3 min" in shown
    assert "with 6 packs at once" in shown
    assert "no GPU has been measured" in unmeasured
    trained = [replace(pack, estimate=Estimate(60.0, frozenset({"a", "b"}))) for pack in planned.packs]
    shown, basis = cluster_estimate(trained, two.model_copy(update={"gpus": "1", "partition": "fast"}))
    assert "longest pack about 60 s" in shown
    assert "of one GPU in total" in shown
    assert basis == "Estimated from speeds measured in partition fast, on 2 packs."


def test_a_pack_that_slurm_never_took_is_missing_and_one_that_scorer_run_left_is_lost(planned, tmp_path):
    submission = submissions(tmp_path / "mine")[0]
    submission.arrays[0].job = None
    submission.write()
    found = read_status(planned.folder)
    assert {pack.state for pack in found.packs.values()} == {"unknown"}, "it may have taken it: it does not answer"
    shutil.rmtree(submission.folder)
    left = planned.packs[0].folder
    beat(left, phase="interrupted")
    found = read_status(planned.folder)
    assert found.scheduler_error == "", "nothing was submitted: there is nothing to ask"
    assert found.packs[left.pack_id].state == "lost"
    assert found.packs[left.pack_id].note.startswith("stopped by a signal at step 40, ")
    with left.lock() as held:
        assert held
        beat(left, phase="training")
        assert read_status(planned.folder).packs[left.pack_id].state == "running"
    assert read_status(planned.folder).packs[left.pack_id].state == "lost"


def test_the_index_of_a_sweep_is_made_anew_when_the_definition_changes(planned, tmp_path):
    assert len(read_status(planned.folder).cells) == 24
    index = planned.folder / "submissions" / "index.json"
    content = json.loads(index.read_text())
    assert sum(len(cell["run_ids"]) for cell in content["cells"]) == 24
    make_plan(parse(SWEEP | {"seeds": 5}, "mine.yaml"), tmp_path, 4).write()
    assert len(read_status(planned.folder).cells) == 30
    index.write_text("{")
    assert len(read_status(planned.folder).cells) == 30


def test_an_index_made_by_other_code_is_not_believed(planned, tmp_path, monkeypatch):
    read_status(planned.folder)
    index = planned.folder / "submissions" / "index.json"
    cell = {"variant": "dqn", "base_name": "dqn", "task": "minatar/breakout", "run_ids": ["0" * 16], "seeds": [0]}
    stale = json.loads(index.read_text()) | {"cells": [cell]}
    index.write_text(json.dumps(stale))
    assert len(read_status(planned.folder).cells) == 1
    edited = tmp_path / "config.py"
    edited.write_text("# another field")
    monkeypatch.setattr("sweeps.grid.IDENTITY", [edited])
    assert len(read_status(planned.folder).cells) == 24


def snapshot_of(code: Path) -> None:
    """The part of a snapshot that says which commands it can run."""
    (code / "slurm" / "jobs").mkdir(parents=True)
    shutil.copy(snapshot.CODE_ROOT / "slurm" / "jobs" / "__init__.py", code / "slurm" / "jobs")


@pytest.mark.parametrize("old", [{"slurm/job.py": "", "scorer.py": ""}, {"slurm/jobs/__init__.py": ""}])
def test_packs_whose_code_is_of_an_older_version_are_resumed_with_the_current_code(planned, tmp_path, old):
    names = [pack.folder.pack_id for pack in planned.packs]
    snapshot_of(tmp_path / "current")
    for path, text in old.items():
        (tmp_path / "old" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / path).write_text(text)
    for code, packs in (("current", names[:2]), ("old", names[2:5])):
        new(tmp_path / "mine", SLURM, tmp_path / code, [len(packs)], packs=packs).write()
    shutil.rmtree(tmp_path / "mine" / "submissions" / "1")
    found = SweepStatus(planned.folder, "", [], {}, submissions(tmp_path / "mine"))
    parts = group_by_snapshot(Selection(names), found)
    assert [(code and code.name, part.packs, part.outdated) for code, part in parts] == [
        ("current", names[:2], 0), (None, names[2:], 3),
    ]  # fmt: skip


def test_what_is_resumed_runs_the_code_it_was_submitted_with_and_what_is_new_the_code_of_now(planned, tmp_path):
    names = [pack.folder.pack_id for pack in planned.packs]
    for code, packs in (("old", names[:3]), ("newer", names[2:4]), ("removed", names[4:5])):
        submission = new(tmp_path / "mine", SLURM, tmp_path / code, [len(packs)], packs=packs)
        if code != "removed":
            snapshot_of(submission.code)
        submission.write()
    shutil.rmtree(tmp_path / "mine" / "submissions" / "1")
    standing = SweepStatus(planned.folder, "", [], {}, submissions(tmp_path / "mine"))
    parts = group_by_snapshot(Selection(names), standing)
    assert [(code and code.name, part.packs) for code, part in parts] == [
        ("old", names[:2]), ("newer", names[2:4]), (None, names[4:]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 24),
        ({"variants": ["scorer"]}, 16),
        ({"variants": ["scorer ratio=5"]}, 8),
        ({"variants": ["*ratio=5", "dqn"]}, 16),
        ({"variants": ["!dqn"]}, 16),
        ({"tasks": ["gymnax/*"]}, 12),
        ({"tasks": ["breakout"]}, 24),
        ({"seeds": ["1-2"]}, 12),
        ({"seeds": ["!0"], "variants": ["dqn"]}, 6),
        ({"states": ["unknown"]}, 24),
        ({"states": ["!unknown"]}, 0),
    ],
)
def test_a_filter_takes_the_runs_it_names(planned, options, expected):
    given = {"variants": None, "tasks": None, "seeds": None, "states": None} | options
    cells = read_status(planned.folder).cells
    wanted = make_filter(**given).among(cell.run for cell in cells)
    assert sum(wanted.matches_run(cell) for cell in cells) == expected


@pytest.mark.parametrize(("option", "word"), [("variants", "nosuch"), ("variants", "!nosuch"), ("tasks", "freeway")])
def test_a_filter_that_matches_nothing_of_the_sweep_is_refused_with_what_there_is(planned, option, word):
    given = {"variants": None, "tasks": None, "seeds": None, "states": None} | {option: [word]}
    with pytest.raises(DefinitionError, match=f"{word}: matches none of this sweep; choose from:"):
        make_filter(**given).among(cell.run for cell in read_status(planned.folder).cells)


def test_the_name_of_a_variant_is_no_pattern():
    runs = [GridRun(name, name, name, "minatar/breakout", 0) for name in ("x [a]", "x a", "x *", "x b")]
    for name in ("x [a]", "x *"):
        wanted = make_filter([name], None, None).among(runs)
        assert [run.variant for run in runs if wanted.matches_grid_run(run)] == [name]
        wanted = make_filter([f"!{name}"], None, None).among(runs)
        assert name not in [run.variant for run in runs if wanted.matches_grid_run(run)]


@pytest.mark.parametrize("given", [{"seeds": ["a"]}, {"seeds": ["!1-"]}, {"states": ["finished"]}])
def test_a_filter_that_means_nothing_is_refused(given):
    with pytest.raises(DefinitionError):
        make_filter(**{"variants": None, "tasks": None, "seeds": None, "states": None} | given)


@pytest.mark.parametrize(
    ("tasks", "most", "expected"),
    [(0, 4, []), (3, 4, [3]), (4, 4, [4]), (5, 4, [2, 3]), (10_000, 1001, [1000] * 10), (2003, 1001, [667, 668, 668])],
)
def test_arrays_are_even_and_their_last_index_is_below_max_array_size(tasks, most, expected):
    assert array_sizes(tasks, Limits(most, None)) == expected


def test_arrays_together_keep_to_the_throttle(tmp_path):
    profile = SLURM.model_copy(update={"throttle": 7})
    requests = new(tmp_path, profile, tmp_path, [4, 4, 3]).arrays
    assert [request.throttle for request in requests] == [3, 2, 2]
    assert [request.first for request in requests] == [0, 4, 8]
    assert len({request.name for request in requests}) == 3


def test_only_as_many_packs_are_chosen_as_there_is_room_for(planned):
    nothing_yet = SweepStatus(planned.folder, "", [], {}, [])
    chosen = select_packs(planned, nothing_yet, BY_DEFAULT, FreeSlots(4, "max_submit: 5"))
    assert (len(chosen.packs), chosen.over_limit) == (4, 2)
    assert chosen.packs == [pack.folder.pack_id for pack in planned.packs[:4]]


def test_a_submission_is_read_as_it_was_written(planned, tmp_path):
    written = submissions(tmp_path / "mine")[0]
    assert written.profile == SLURM
    assert read(written.folder) == written
    (written.folder / "submission.json").write_text('{"time": 3}')
    with pytest.raises(Exception, match=r"submission\.json: is not a submission"):
        read(written.folder)


def test_a_job_s_variables_do_not_reach_slurm_s_commands_but_its_configuration_does(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_CPU_BIND", "SBATCH_PARTITION", "SLURM_CONF", "SCORER_STORAGE"):
        monkeypatch.setenv(name, "mine")
    seen = scheduler.run_command("env")
    assert [line for line in seen.splitlines() if line.endswith("=mine")] == [
        "SLURM_CONF=mine",
        fake("SCORER¦_STORAGE=mine"),
    ]
    assert os.environ["SLURM_ARRAY_JOB_ID"] == "mine"


def test_a_command_that_hangs_or_fails_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(SchedulerError, match="sleep: no answer in 0 s"):
        scheduler.run_command("sleep", "5", patience=0.1)
    with pytest.raises(SchedulerError, match="ls: cannot access"):
        scheduler.run_command("ls", "/nosuch")


def test_status_states_versions_that_differ_between_attempts_and_between_packs(planned, tmp_path):
    first, second, *_ = (pack.folder for pack in planned.packs)
    for folder, version in ((first, "2.12.0"), (first, "2.13.0"), (second, "2.12.0")):
        provenance = {"git_commit": "c0ffee", "packages": {"torch": version}}
        write_json(folder.new_attempt() / "provenance.json", provenance)
    lines = [line.plain for line in status_notes(read_status(tmp_path / "mine"))]
    assert f"pack {first.pack_id}: torch 2.12.0 -> 2.13.0 between attempts 1 and 2" in lines
    assert "Packs ran with different versions: torch 2.13.0 (1 pack), 2.12.0 (1 pack)." in lines
