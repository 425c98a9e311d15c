"""Faults that the fuzz suite found, and those that are like them, one test each."""

import json
import shutil
from pathlib import Path

import pytest

from scorer_core.pack_folders import pack_folders
from tests.fuzz.harness import call
from tests.fuzz.outputs import make_outputs


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_outputs(tmp_path_factory.mktemp("found"))


@pytest.fixture
def work(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work" / "outputs"


def run(*words: str) -> tuple[int, str, str]:
    code, out, err, fault = call(list(words))
    assert not fault
    return code, out, err


@pytest.mark.parametrize("content", ["{", "[1]", "null", '{"profile": 5}', '{"time": "x"}'])
def test_status_names_a_damaged_submission_and_shows_the_rest(work, content):
    sound = run("status", "tiny")[1]
    assert "3" in sound
    record = work / "tiny" / "submissions" / "1" / "submission.json"
    record.write_text(content)
    code, out, _ = run("status", "tiny")
    assert code == 0
    assert f"problem: {record}" in out
    status = json.loads(run("status", "tiny", "--json")[1])
    states = sorted(pack["state"] for pack in status["packs"].values())
    assert states == ["done", "done", "done", "unknown"]  # the submission may have the last one
    for words in (("resume", "tiny"), ("cancel", "tiny", "-y"), ("submit", "tiny.yaml", "--profile", "local")):
        code, _, err = run(*words)  # nobody knows what is queued
        assert (code, err.count("\n")) == (1, 1)
        assert str(record) in err


@pytest.mark.parametrize("content", ["[1]", '{"99": "running"}', '{"0": "x"}'])
def test_status_names_a_damaged_local_queue_and_shows_the_rest(work, content, monkeypatch):
    queue = work / "tiny" / "submissions" / "1" / "queue.json"
    queue.write_text(content)
    monkeypatch.setattr("slurm.local.supervisor.alive", lambda _: True)
    code, out, _ = run("status", "tiny")
    assert code == 0
    assert f"problem: {queue}" in out


@pytest.mark.parametrize("parts", [{}, "one removed"])
def test_a_done_json_that_lists_not_all_metrics_parts_is_damaged(work, parts):
    pack = next(pack for pack in pack_folders(work / "tiny" / "packs") if pack.done())
    record = json.loads((pack.path / "done.json").read_text())
    if parts:
        record["parts"].popitem()
    else:
        record["parts"] = parts
    (pack.path / "done.json").write_text(json.dumps(record))
    for words in (("status", "tiny"), ("plan", "tiny.yaml")):
        code, out, _ = run(*words)
        assert code == 0
        assert f"{pack.path.relative_to(work.parent)}/done.json: damaged: does not list the metrics part" in out


def test_a_changed_frozen_definition_is_one_line_in_every_command(work):
    frozen = work / "tiny" / "sweep.yaml"
    assert run("plan", str(frozen))[0] == 0
    frozen.write_bytes(frozen.read_bytes().replace(b"total_steps: 800", b"total_steps: 900"))
    commands = [("status", "tiny"), ("report", "tiny.yaml"), ("export", "tiny.yaml"), ("plan", str(frozen)),
                ("resume", "tiny", "--dry-run"), ("import", "tiny.yaml", "theirs.csv")]  # fmt: skip
    for words in commands:
        code, _, err = run(*words)
        assert code in (1, 2), words
        assert err.count("\n") == 1
        assert f"{frozen.relative_to(work.parent)}: was changed after scorer wrote it" in err
    frozen.write_bytes(frozen.read_bytes().partition(b"\n")[2])  # as the message says
    assert run("plan", str(frozen))[0] == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scores", 5, "scores"), ("scores", [[1.0]], "without a score of each run"),
        ("run_ids", 5, "run_ids"), ("run ids", 5, "run_ids"),
        ("runs", [1], "runs"), ("pruned_at_step", "x", "pruned_at_step"), ("stopped at", "x", "pruned_at_step"),
        ("error", [1], "error"),
        ("rung_0_scores", {"a": 1}, "rung"), ("rung 0", {"a": 1}, "rung"),
    ],
)  # fmt: skip
def test_a_trial_with_damaged_attributes_is_one_line(work, name, value, message):
    journal = work / "hunt" / "study.journal"
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    entries = [e for e in entries if e.get("trial_id") != 1 or not {name, message} & e.get("user_attr", {}).keys()]
    end = next(i for i, e in enumerate(entries) if e["op_code"] == 6)  # a trial that has ended takes no attributes
    entries.insert(end, {"op_code": 8, "worker_id": "a", "trial_id": 1, "user_attr": {name: value}})
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    code, _, err = run("search", "show", "hunt", "--no-figures")
    assert (code, err.count("\n")) == (1, 1), err
    assert "damaged: trial 1" in err
    assert message in err


def test_a_csv_with_a_column_steps_is_imported(work):
    Path("wide.csv").write_text("steps,seed_0,seed_1\n400,1,2\n800,2,3\n")
    code, out, _ = run("import", "tiny.yaml", "wide.csv", "--variant", "=wide")
    assert code == 0
    assert "step from column 'steps'" in out


@pytest.mark.parametrize("name", ["/etc/a", "a**/b", "../x", "*/*"])
def test_logs_of_a_strange_name_is_one_line(work, name):
    code, _, err = run("logs", name)
    assert (code, err) == (1, f"{name}: no such pack or run in outputs\n")


@pytest.mark.parametrize("level", ["=1", "minatar/breakout=nan", "minatar/breakout=inf", "minatar/breakout=", "1"])
def test_a_threshold_is_a_task_and_a_finite_number(work, level):
    code, _, err = run("report", "tiny.yaml", "--threshold", level)
    assert (code, err) == (2, f"--threshold {level}: expected TASK=RETURN with a finite number\n")


def test_a_threshold_for_a_task_that_the_sweep_has_not_is_refused(work):
    code, _, err = run("report", "tiny.yaml", "--threshold", "minatar/asterix=1", "--figure", "intervals")
    assert (code, err) == (
        1,
        "--threshold minatar/asterix=...: not a task of this sweep; choose from: minatar/breakout\n",
    )


@pytest.mark.parametrize("seed", ["9" * 5000, "٣", "1-"])
def test_a_seed_to_filter_by_is_a_number_of_this_machine(work, seed):
    code, _, err = run("status", "tiny", "--seed", seed)
    assert (code, err.count("\n")) == (2, 1)
    assert "is neither a number nor a range" in err


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000])
def test_a_record_or_journal_nested_too_deeply_is_one_line(work, content):
    (work / "tiny" / "submissions" / "1" / "submission.json").write_text(content)
    code, _, err = run("resume", "tiny")
    assert (code, err.count("\n")) == (1, 1)
    (work / "hunt" / "study.journal").write_text(content + "\n")
    code, _, err = run("search", "show", "hunt")
    assert (code, err.count("\n")) == (1, 1)
    assert "study.journal" in err


def test_a_heartbeat_with_a_step_beyond_64_bits_is_named(work):
    pack = next(pack for pack in pack_folders(work / "tiny" / "packs") if not pack.done())
    state = json.loads((pack.path / "state.json").read_text())
    for step in (-1, 10**400):
        (pack.path / "state.json").write_text(json.dumps(state | {"step": step}))
        code, out, _ = run("status", "tiny")
        assert code == 0
        assert "state.json: step: " in out
