"""The `scorer` commands of README.md and of the pages in PAGES, executed as written, on a real Slurm, in reading order.

The definitions that the commands name are replaced by small ones: a file in the current folder wins over a built-in
sweep of its name.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scorer_core.pack_folders import pack_folders
from tests.devcluster.cluster import DevCluster
from tests.slurm.workplace import PROFILE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
ROOT = Path(__file__).parent.parent.parent
PAGES = ("README", "tutorial", "sweeps", "cluster", "results", "api", "exporting", "extending")
SMALL: dict[str, Any] = {
    "question": "?", "tasks": ["minatar/breakout"], "total_steps": 4_000, "seeds": 2, "baseline": "dqn",
    "base": {"num_envs": 8, "update_every": 8, "learning_starts": 200, "batch_size": 16, "replay_size": 1_600,
             "log_points": 10, "phi_widths": [16], "theta_widths": [16]},
    "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}},
}  # fmt: skip
SEARCH = {key: SMALL[key] for key in ("question", "tasks", "total_steps", "seeds", "base")} | {
    "trials": 4, "space": {"ratio": {"log": [0.1, 100]}},
}  # fmt: skip
RATIO = SMALL | {"axes": {"ratio": [1, 5]}}
SMALLER = "-s total_steps=4000 -s base.log_points=10"  # for a command that names a large definition of a page
# What a reader does elsewhere before this command.
BEFORE = {
    "scorer submit next.yaml": "scorer submit my-sweep.yaml -s seeds=4 --profile later",
    "scorer new idea half": "rm -rf half",
    "scorer run half/sweep.yaml": f"{shlex.quote(sys.executable)} -m pip install --quiet --no-deps "
    "--no-build-isolation --target lib ./half",
}


def commands(page: str) -> list[str]:
    """The commands in the code blocks of a page, without comments; a command with an open quote goes on."""
    path = ROOT / ("README.md" if page == "README" else f"docs/{page}.md")
    blocks: list[list[str]] = [[]]
    language: str | None = None  # of the code block; None outside of one
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("```"):
            language = line.strip("` ") if language is None else None
            blocks.append([])
        elif language in ("", "bash") or (language is None and line.startswith("    ")):
            blocks[-1].append(line)
    found: list[str] = []
    for block in blocks:
        line = ""
        for part in block:
            line = f"{line} {part.strip()}" if line else part.strip().removeprefix("$ ")
            if not line.startswith("scorer "):
                line = ""
                continue
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a quote is open
                continue
            if words[1:2] and not line.endswith("\\"):
                found.append(shlex.join(words))
                line = ""
    return found


def test_the_pages_have_the_commands_that_users_look_for():
    first_words = {shlex.split(command)[1] for page in PAGES for command in commands(page)}
    assert {"plan", "run", "submit", "status", "report", "list", "export", "import", "search", "new", "logs",
            "show", "throttle", "clean", "profile"} <= first_words  # fmt: skip


@pytest.fixture
def reader(clean: DevCluster, tmp_path) -> "Reader":
    return Reader(clean, tmp_path)


class Reader:
    """Somebody with an empty folder and a profile `mycluster`, who types what the pages say."""

    def __init__(self, cluster: DevCluster, folder: Path):
        self.cluster, self.folder = cluster, folder
        profiles = folder / "config" / "scorer" / "profiles"
        profiles.mkdir(parents=True)
        profile = {key: value for key, value in PROFILE.items() if key != "gpus"}
        (profiles / "mycluster.yaml").write_text(yaml.safe_dump(profile))
        (profiles / "later.yaml").write_text(yaml.safe_dump(profile | {"sbatch": {"begin": "now+1hour"}, "lanes": 1}))
        for name in ("my-sweep.yaml", "next.yaml", "quickstart"):
            (folder / name).write_text(yaml.safe_dump(SMALL | {"name": name.removesuffix(".yaml")}))
        (folder / "ratio").write_text(yaml.safe_dump(RATIO | {"name": "ratio"}))
        (folder / "ratio_search").write_text(yaml.safe_dump(SEARCH | {"name": "ratio_search"}))
        (tutorial,) = re.findall(r"```yaml\n(name: first.*?)```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL)
        (folder / "first.yaml").write_text(tutorial)
        for seed in range(2):
            rows = "\n".join(f"{400 * k},{k}" for k in range(1, 11))
            (folder / f"s{seed}.csv").write_text(f"step,return\n{rows}\n")
        (folder / "bin").mkdir()
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m cli.main "$@"\n'
        (folder / "bin" / "scorer").write_text(script)
        (folder / "bin" / "scorer").chmod(0o755)

    def types(self, line: str) -> str:
        """The output of a command that must succeed."""
        environment = self.cluster.environment()
        path = f"{self.folder}/bin:{environment['PATH']}"
        environment |= {"XDG_CONFIG_HOME": str(self.folder / "config"), "PATH": path}
        environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder / "lib")])}
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
        assert done.returncode == 0, f"{line}\n{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}"
        return done.stdout

    def has_no_jobs(self) -> bool:
        return not self.cluster.command("squeue", "--noheader")

    def a_run(self) -> str:
        """The beginning of the id of a run of my-sweep."""
        return pack_folders(self.folder / "outputs" / "my-sweep" / "packs")[0].run_ids()[0][:8]


def as_typed(command: str, reader: Reader) -> str:
    """The command with the reader's own ids in place of those on the page, few trials, and `-y` where it would ask."""
    command = command.replace("--trials 200", "--trials 6")
    command = command.replace(" 83dc", f" {reader.a_run()}" if "83dc" in command else "").replace("SWEEP", "my-sweep")
    command = f"{command} {SMALLER}" if "first.yaml" in command or "half/sweep.yaml" in command else command
    return f"{command} -y" if command.startswith(("scorer clean", "scorer cancel", "scorer resume")) else command


def test_every_command_of_the_pages_works_as_written(reader):
    for page in PAGES:
        if page == "cluster":  # its commands expect the sweep to be trained
            reader.types("scorer run my-sweep.yaml")
        for command in commands(page):
            if "--to wandb" in command and "--offline" not in command:
                continue  # it needs W&B's server; tests/analysis/test_export_wandb.py has one that stands for it
            for beginning, earlier in BEFORE.items():
                if command.startswith(beginning):
                    reader.types(earlier)
            reader.types(as_typed(command, reader))
            if command.startswith("scorer submit") and not {"--dry-run", "--after"} & {*command.split()}:
                wait_for(reader.has_no_jobs)  # the page goes on when they have ended
        if page == "cluster":  # jobs that wait for an hour; the next pages are about a finished sweep
            reader.cluster.cancel_all()
            reader.types("scorer run my-sweep.yaml")
