"""Each record is damaged in each way; each command that only reads says so in one line, and no score changes."""

import contextlib
import csv
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml

from cli import main
from scorer_core.pack_folders import pack_folders
from scorer_core.record_forms import now
from scorer_core.records import PackFolder
from scorer_core.support.files import write_json
from slurm.profile import Profile
from slurm.submissions.submission import new
from sweeps import loading
from sweeps.plan import make_plan
from tests.analysis.synthetic import logged_steps, rows

OLD = Path(__file__).parent / "data" / "outputs-0.1"
SWEEP: dict[str, Any] = {
    "name": "mine", "question": "?", "tasks": ["minatar/breakout"], "total_steps": 800, "seeds": 1,
    "baseline": "dqn",
    "base": {"num_envs": 8, "update_every": 8, "learning_starts": 100, "batch_size": 8, "replay_size": 400,
             "phi_widths": [8], "theta_widths": [8], "log_points": 8},
    "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}, "inverted": {"coupling": "inverted"}},
}  # fmt: skip
FORMS = {
    "state.json": ["[1]", '{"time": "x"}', '{"phase": "failed"}', '{"time": "TIME", "step": "x"}', "null",
                   '{"time": "TIME", "phase": "failed"}'],
    "done.json": ["[1]", "null", '{"runs": 5}', '{"runs": EACH(null)}', '{"runs": EACH({"status": "?"})}',
                  '{"runs": EACH({"status": "done", "verdicts": null})}',
                  '{"runs": EACH({"status": "done", "verdicts": ["new"]})}',
                  '{"runs": EACH({"status": "done"}), "parts": [1]}'],
    "pack.json": ["[1]", "null", '{"runs": 5}', '{"runs": EACH(5)}', '{"runs": EACH({"newer": 1})}'],
    "provenance.json": ["null", "[1]", '{"git_diff": 5}', '{"packages": [1]}'],
    "index.json": ["[1]", '{"of": 5}', '{"of": "x", "name": "", "question": "", "cells": [[1]]}'],
    "missing.json": ["[1]", '{"time": "x", "report": true, "runs": {}}', "5"],
    "submission.json": ["[1]", '{"time": "x"}', "null"],
    "batch.json": ["[1]", '{"points": 5}', "null"],
    "plan-1.json": ["[1]"],
}  # fmt: skip
SHOWN = ("state.json", "done.json", "provenance.json")
NUMBERED = (".parquet", ".ckpt")


def flip(content: bytes) -> bytes:
    """One bit changed, at a place that depends on the content alone."""
    rng = random.Random(len(content))
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def form_of(text: str, run_ids: list[str]) -> str:
    """`text` with the time of now, and with an entry for each run."""
    each = re.sub(r"EACH\((.*)\)", lambda found: json.dumps(dict.fromkeys(run_ids, json.loads(found[1]))), text)
    return each.replace("TIME", now())


def damages(path: Path, run_ids: list[str]) -> Iterator[tuple[str, Callable[[Path], Any]]]:
    content = path.read_bytes()
    yield "truncated", lambda path: path.write_bytes(content[: len(content) // 2])
    if path.suffix in NUMBERED:
        yield "emptied", lambda path: path.write_bytes(b"")
    yield "a folder", to_folder
    yield "removed", Path.unlink
    if content and path.suffix != ".yaml":  # a definition is not a record: a changed one asks for other runs
        yield "one bit", lambda path: path.write_bytes(flip(content))
    for form in FORMS.get(path.name, ()):
        yield form, lambda path, form=form: path.write_text(form_of(form, run_ids))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """A submitted sweep of three packs of one run; two are finished, one was interrupted. Beside it those of 0.1."""
    outputs = tmp_path_factory.mktemp("outputs")
    (outputs / "mine.yaml").write_text(yaml.safe_dump(SWEEP))
    planned = make_plan(loading.load(str(outputs / "mine.yaml")), outputs, 1)
    planned.write()
    for pack, commits in zip(planned.packs, (2, 2, 1), strict=True):
        folder, (config,) = pack.folder, pack.configs
        place = folder.new_attempt()
        (place / "stdout.log").write_text("hello\n")
        write_json(place / "provenance.json", {"git_commit": "c0ffee", "git_diff": "", "packages": {"torch": "2"}})
        for steps in np.split(logged_steps(config), 4)[: 2 * commits]:
            folder.commit(int(steps[-1]), rows(config, steps, steps / 100), b"state")
        folder.write_state(phase="training", step=400, total_steps=800, lanes=1, attempt=1, submission="1")
        if commits == 2:
            folder.finish({config.run_id: {"status": "done", "verdicts": ["stalled"]}})
    names = [pack.folder.pack_id for pack in planned.packs]
    profile = Profile(name="local", scheduler="local")
    submission = new(planned.folder, profile, outputs, [len(names)], packs=names)
    submission.write()
    write_json(planned.folder / "submissions" / "missing.json", {"time": now(), "report": True, "runs": {}})
    shutil.copytree(OLD, outputs, dirs_exist_ok=True)
    return outputs


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run the command line in this process; its exit code and what it prints."""
    command = typer.main.get_command(main.make_app())
    monkeypatch.setattr(main, "make_app", lambda *_: command)  # made once: it takes as long as a command

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["scorer", *map(str, words)])
        code = 0
        try:
            main.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def scores(folder: Path) -> dict[str, tuple[str, ...]]:
    """Status and scores of each run, as exported."""
    with contextlib.suppress(FileNotFoundError), (folder / "report" / "export" / "runs.csv").open() as file:
        return {row["run_id"]: tuple(row[key] for key in ("status", "final", "best", "auc"))
                for row in csv.DictReader(file)}  # fmt: skip
    return {}


def records(outputs: Path, name: str) -> list[Path]:
    """Of one finished and one unfinished pack, with the newest checkpoint and part; of `mine` the sweep's own too."""
    folder = outputs / name
    packs = {bool(pack.done()): pack.path for pack in pack_folders(folder / "packs")}
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    mine = name == "mine"
    found = [path for path in found if set(path.parents) & set(packs.values()) or (mine and "packs" not in path.parts)]
    return list({(path.parent, path.suffix if path.suffix in NUMBERED else path.name): path for path in found}.values())


@pytest.mark.parametrize("name", ["mine", "old", "cut"])
def test_a_damaged_record_is_named_and_no_command_crashes_and_no_score_changes(outputs, name, call, tmp_path):
    assert call("status", name, "--outputs", outputs)[0] == 0  # writes the index
    verbs = ("plan", "status", "show", "logs", *(("export",) if name != "cut" else ()))  # nothing of `cut` is done
    if "export" in verbs:
        assert call("export", outputs / name / "sweep.yaml", "--outputs", outputs)[0] == 0
    sound = scores(outputs / name)
    shutil.rmtree(outputs / name / "report", ignore_errors=True)
    sweep = shutil.copy(outputs / name / "sweep.yaml", tmp_path / "sweep.yaml")
    run_ids = {pack.path.name: pack.run_ids() for pack in pack_folders(outputs / name / "packs")}
    tried = 0
    for record in records(outputs, name):
        pack = next((parent.name for parent in record.parents if parent.name in run_ids), next(iter(run_ids)))
        for how, damage in damages(record, run_ids[pack]):
            work = tmp_path / "work"
            shutil.copytree(outputs / name, work / name)
            damaged = work / record.relative_to(outputs)
            damage(damaged)
            here = f"{record.relative_to(outputs)}: {how}"
            told = {}
            about = {"plan": sweep, "status": name, "show": run_ids[pack][0], "logs": pack, "export": sweep}
            for verb in verbs:
                tables = verb == "show" and record.name in SHOWN  # they take most of the time
                form = ["--json"] if verb in ("plan", "show") and not tables else []
                code, told[verb] = call(verb, about[verb], "--outputs", work, *form)
                assert code in (0, 1, 2), here
                assert "Traceback" not in told[verb], here
            after = scores(work / name)
            for run_id, row in after.items():
                assert row == sound[run_id] or row[0] in ("partial", "missing"), here
            if after and after != sound and not (record.name == "done.json" and how == "removed"):
                unlisted = name == "old" and how == "removed" and record.suffix == ".parquet"
                assert (pack if unlisted else damaged.name) in told["export"], f"{here}: {told['export']}"
                if name == "mine":
                    assert damaged.name in told["plan"], f"{here}: {told['plan']}"
                    assert damaged.name in told["status"], f"{here}: {told['status']}"
            shutil.rmtree(work)
            tried += 1
    assert tried > 20


CSV = "variant,task,seed,step,return\ntheirs,minatar/breakout,0,400,1\ntheirs,minatar/breakout,0,800,1\n"


def test_a_record_of_another_form_crashes_no_command_that_writes(outputs, call, tmp_path):
    assert call("status", "mine", "--outputs", outputs)[0] == 0  # writes the index
    sweep = shutil.copy(outputs / "mine" / "sweep.yaml", tmp_path / "sweep.yaml")
    (tmp_path / "theirs.csv").write_text(CSV)
    for record in records(outputs, "mine"):
        pack = next((path for path in record.parents if (path / "pack.json").exists()), None)
        run_ids = PackFolder(pack).run_ids() if pack else ["a"]
        for how, damage in damages(record, run_ids):
            if how in ("truncated", "one bit", "emptied", "removed"):  # as in the test above
                continue
            work = tmp_path / "work"
            shutil.copytree(outputs / "mine", work / "mine")
            damage(work / record.relative_to(outputs))
            for words in [
                ("submit", sweep, "--profile", "local", "--dry-run"), ("resume", "mine", "--dry-run"),
                ("retry", "mine", "--dry-run"), ("cancel", "mine", "-y"), ("import", sweep, tmp_path / "theirs.csv"),
                ("clean", "mine", "-y"),
            ]:  # fmt: skip
                code, told = call(*words, "--outputs", work)
                assert code in (0, 1, 2), f"{record.name}, {how}, {words}: {told}"
                assert "Traceback" not in told
            shutil.rmtree(work)


@pytest.mark.parametrize("name", ["search.yaml", "study.journal", "batch.json", "pack.json", "done.json", "state.json"])
def test_a_damaged_record_of_a_search_is_one_line(outputs, call, tmp_path, name):
    (record,) = (outputs / "oldsearch").rglob(name)
    for how, damage in damages(record, ["a"]):
        work = tmp_path / "work"
        shutil.copytree(outputs / "oldsearch", work / "oldsearch")
        damage(work / record.relative_to(outputs))
        code, told = call("search", "show", "oldsearch", "--outputs", work, "--no-figures")
        assert code in (0, 1, 2), how
        assert "Traceback" not in told
        assert code == 0 or told.count("\n") == 1, f"{how}: {told}"
        shutil.rmtree(work)


def test_the_report_says_which_part_is_lost_and_how_to_train_again(outputs, call, tmp_path):
    shutil.copytree(outputs / "mine", tmp_path / "mine")
    sweep = tmp_path / "mine" / "sweep.yaml"
    part = next(pack for pack in pack_folders(tmp_path / "mine" / "packs") if pack.done()).parts()[-1]
    part.unlink()
    code, told = call("report", sweep, "--outputs", tmp_path, "--figure", "intervals", "--format", "png")
    assert code == 0
    assert f"{part}: missing; its run is treated as unfinished" in told
    assert f"scorer clean mine --state damaged --outputs {tmp_path} && scorer resume mine --outputs {tmp_path}" in told


def test_a_damaged_pack_is_trained_again_after_its_user_has_removed_it(outputs, call, tmp_path):
    shutil.copytree(outputs / "mine", tmp_path / "mine")
    sweep = tmp_path / "mine" / "sweep.yaml"
    finished = [pack for pack in pack_folders(tmp_path / "mine" / "packs") if pack.done()]
    for pack in finished:
        pack.parts()[0].unlink()
    (finished[1].path / "pack.json").write_text("{")
    (finished[1].path / "done.json").unlink()  # nothing says which runs it had
    planned = make_plan(loading.load(str(sweep)), tmp_path, 1)
    assert (len(planned.packs), planned.missing, len(planned.damaged)) == (1, 1, 2)
    status = json.loads(call("status", "mine", "--outputs", tmp_path, "--json")[1])
    assert {name: pack["state"] for name, pack in status["packs"].items() if pack["state"] == "damaged"}.keys() == {
        finished[0].pack_id
    }
    assert len(status["problems"]) == 2
    assert call("clean", "mine", "--outputs", tmp_path, "--state", "damaged", "-y")[0] == 0
    assert not any(pack.path.exists() for pack in finished)
    planned = make_plan(loading.load(str(sweep)), tmp_path, 1)
    assert (len(planned.packs), planned.missing, planned.problems) == (3, 3, ())


def test_a_copy_of_a_pack_or_attempt_or_submission_is_ignored_and_that_of_a_pack_is_told(outputs, call, tmp_path):
    shutil.copytree(outputs / "mine", tmp_path / "mine")
    folder = tmp_path / "mine"
    (pack, *_) = pack_folders(folder / "packs")

    def shown() -> list[str]:  # without the age of a heartbeat, which changes
        return [re.sub(r"[\d.]+ \w+ ago", "", str(part)) for part in call("status", "mine", "--outputs", tmp_path)]

    before = shown()
    shutil.copytree(pack.path / "attempts" / "1", pack.path / "attempts" / "1-copy")
    shutil.copytree(pack.path / "attempts" / "1", pack.path / "attempts" / "1.bak")
    shutil.copytree(folder / "submissions" / "1", folder / "submissions" / "1-old")
    shutil.copy(folder / "plan-1.json", folder / "plan-1 copy.json")
    assert shown() == before
    shutil.copytree(pack.path, folder / "packs" / "copy of x")
    (folder / "packs" / ".DS_Store").write_text("")
    for words in (("status", "mine"), ("plan", folder / "sweep.yaml"), ("export", folder / "sweep.yaml")):
        code, told = call(*words, "--outputs", tmp_path)
        assert code == 0
        assert f"{folder}/packs/copy of x: its name is not a pack id, so it is ignored" in told
    assert call("logs", pack.pack_id, "--outputs", tmp_path)[0] == 0
    assert call("clean", "mine", "--outputs", tmp_path, "-y")[0] == 0
    make_plan(loading.load(str(folder / "sweep.yaml")), tmp_path, 1).write()
    assert (folder / "plan-2.json").exists()


def test_clean_removes_a_link_and_never_what_it_points_to(outputs, call, tmp_path):
    shutil.copytree(outputs / "mine", tmp_path / "mine")
    folder, other = tmp_path / "mine", tmp_path / "other"
    linked, pack = [pack.path for pack in pack_folders(folder / "packs") if pack.done()]
    linked.rename(other)
    linked.symlink_to(other)
    (other / "attempts" / "2").mkdir()
    (other / ".state.json.1234.tmp").write_text("x")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "stdout.log").write_text("x")
    (pack / "attempts" / "2").symlink_to(tmp_path / "logs")
    (pack / "attempts" / "3").mkdir()
    (folder / "code").mkdir()
    (folder / "code" / "x").symlink_to(tmp_path / "logs")
    there = sorted(other.rglob("*"))
    code, told = call("clean", "mine", "--outputs", tmp_path, "-y")
    assert code == 0
    assert "4 files deleted" in told  # two of attempt 1, and two links
    assert not (pack / "attempts" / "2").is_symlink()
    assert not (folder / "code" / "x").is_symlink()
    assert (tmp_path / "logs" / "stdout.log").exists()
    assert sorted(other.rglob("*")) == there
    assert call("clean", "mine", "--outputs", tmp_path, "--state", "done", "-y")[0] == 0
    assert not linked.is_symlink()
    assert not pack.exists()
    assert sorted(other.rglob("*")) == there


def test_a_job_names_a_damaged_record_in_one_line_and_replaces_a_damaged_heartbeat(outputs, tmp_path):
    shutil.copytree(outputs / "mine", tmp_path / "mine")
    packs = {bool(pack.done()): pack.path for pack in pack_folders(tmp_path / "mine" / "packs")}

    def job(pack: Path) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "slurm.jobs.train_pack",
            str(pack),
            "--device",
            "nonsense",
            "--submission",
            "1",
        ]
        return subprocess.run(command, capture_output=True, text=True, cwd=OLD.parent.parent.parent)

    (packs[True] / "done.json").write_text("[1]")
    ended = job(packs[True])
    assert ended.returncode == 1
    assert ended.stderr == f"{packs[True]}/done.json: input should be an object\n"
    (packs[False] / "state.json").write_text("[1]")
    ended = job(packs[False])
    assert ended.stderr.startswith(f"{packs[False]}/state.json: input should be an object; it is replaced")
    state = PackFolder(packs[False]).state()
    assert (state["phase"], state["attempt"], state["starts"]) == ("failed", 2, [400])
