"""Each record is damaged in each way; each command that only reads says so in one line, and no score changes."""

import contextlib
import csv
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml

import scorer
from scorer_core.records import now, pack_folders, write_json
from slurm.profile import Profile
from slurm.submission import new
from sweeps import definition
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
    "index.json": ["[1]", '{"of": 5}', '{"of": "x", "name": "", "question": "", "runs": [[1]]}'],
    "missing.json": ["[1]", '{"time": "x", "report": true, "runs": {}}', "5"],
    "submission.json": ["[1]", '{"time": "x"}', "null"],
    "batch.json": ["[1]", '{"points": 5}', "null"],
    "plan-1.json": ["[1]"],
}  # fmt: skip
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
    planned = make_plan(definition.load(str(outputs / "mine.yaml")), outputs, 1)
    planned.write()
    for pack, commits in zip(planned.packs, (2, 2, 1), strict=True):
        folder, (config,) = pack.folder, pack.configs
        place = folder.new_attempt()
        (place / "stdout.log").write_text("hello\n")
        write_json(place / "provenance.json", {"git_commit": "c0ffee", "git_diff": "", "packages": {"torch": "2"}})
        for steps in np.split(logged_steps(config), 4)[: 2 * commits]:
            folder.commit(int(steps[-1]), rows(config, steps, steps / 100), b"state")
        folder.write_state(phase="training", step=400, total_steps=800, lanes=1, attempt=1, series="1")
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
    monkeypatch.setattr(scorer, "app", typer.main.get_command(scorer.app))  # made once: it takes as long as a command

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["scorer", *map(str, words)])
        code = 0
        try:
            scorer.main()
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
    """Those of one finished and one unfinished pack, the newest of its checkpoints and parts; and the sweep's own."""
    folder = outputs / name
    packs = {bool(pack.done()): pack.path for pack in pack_folders(folder / "packs")}
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    found = [path for path in found if "packs" not in path.parts or set(path.parents) & set(packs.values())]
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
                code, told[verb] = call(verb, about[verb], "--outputs", work)
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
    assert tried > 50
