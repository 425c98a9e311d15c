"""A small folder of outputs with a file of each kind, made once; each input gets a copy of it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from analysis.importers.csv_columns import Columns
from analysis.importers.import_csv import import_runs
from scorer_core.record_forms import now
from scorer_core.support.files import write_json
from slurm.jobs.search_worker import Worker
from slurm.profile import Profile
from slurm.submissions.submission import JobArray, new
from sweeps import loading
from sweeps.plan import make_plan
from sweeps.study import Study
from tests.analysis.synthetic import logged_steps, rows
from tests.search_synthetic import SyntheticTrainer, search_of

SWEEP: dict[str, Any] = {
    "name": "tiny", "question": "Does SCORER learn?", "tasks": ["minatar/breakout"], "total_steps": 800, "seeds": 2,
    "baseline": "dqn",
    "base": {"num_envs": 8, "update_every": 8, "learning_starts": 100, "batch_size": 8, "replay_size": 400,
             "phi_widths": [8], "theta_widths": [8], "log_points": 8},
    "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}},
}  # fmt: skip
SEARCH: dict[str, Any] = {"name": "hunt", "seeds": 2, "trials": 4}
CSV = "variant,task,seed,step,return\n" + "".join(
    f"theirs,minatar/breakout,{seed},{step},{step / 100}\n" for seed in (0, 1) for step in (200, 400, 600, 800)
)


def make_outputs(place: Path) -> Path:
    """`place` with tiny.yaml, hunt.yaml, theirs.csv and outputs/: a sweep with three of four packs finished, a
    submission and an import, and a search of four trials. The writers are the real ones; nothing is trained.
    """
    outputs = place / "outputs"
    (place / "tiny.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    (place / "theirs.csv").write_text(CSV)
    planned = make_plan(loading.load(str(place / "tiny.yaml")), outputs, 1)
    planned.write()
    for number, pack in enumerate(sorted(planned.packs, key=lambda pack: pack.folder.pack_id)):
        folder, (config,) = pack.folder, pack.configs
        attempt = folder.new_attempt()
        (attempt / "stdout.log").write_text("hello\n")
        (attempt / "stderr.log").write_text("a warning\n")
        write_json(attempt / "provenance.json", {"git_commit": "c0ffee", "git_diff": "", "packages": {"torch": "2"}})
        finished = number < 3
        for steps in np.split(logged_steps(config), 4)[: 4 if finished else 2]:
            folder.commit(int(steps[-1]), rows(config, steps, steps / 100), b"state")
        folder.write_state(phase="training", step=400, total_steps=800, lanes=1, attempt=1, submission="1")
        if finished:
            folder.finish({config.run_id: {"status": "done", "verdicts": ["stalled"] if number else []}})
    names = [pack.folder.pack_id for pack in planned.packs]
    submission = new(planned.folder, Profile(name="local", scheduler="local"), outputs, [len(names)], packs=names)
    submission.report_job = JobArray(name="scorer-tiny-report")
    submission.write()
    write_json(planned.folder / "submissions" / "missing.json", {"time": now(), "report": True, "runs": {}})
    import_runs(planned.folder, [place / "theirs.csv"], Columns())

    hunt = search_of(**SEARCH)
    (place / "hunt.yaml").write_text(yaml.safe_dump(hunt.model_dump(mode="json", exclude_defaults=True, exclude={
        "space"}) | {"space": {"ratio": {"log": [0.01, 100]}}}))  # fmt: skip
    study = Study(hunt, outputs / "hunt")
    if code := Worker(study, SyntheticTrainer(), 2).work():
        raise RuntimeError(f"the worker of the search ended with {code}")
    return place


def copy_outputs(made: Path, work: Path) -> None:
    shutil.copytree(made, work, symlinks=True)
