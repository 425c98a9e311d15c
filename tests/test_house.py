"""The house's directions: what may import what, and which rooms must start without torch."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ROOMS = ("scorer_core", "sweeps", "slurm", "analysis", "scorer")
ALLOWED = {
    "scorer_core": set(),
    "sweeps": {
        f"scorer_core.{name}"
        for name in ("config", "identity", "records", "registry", "schedules", "scores", "verdicts")
    },
    "slurm": {"sweeps", "scorer_core"},
    "analysis": {
        "scorer_core.config",
        "scorer_core.identity",
        "scorer_core.records",
        "scorer_core.scores",
        "scorer_core.references",
        "scorer_core.verdicts",
        "sweeps.confirm",
        "sweeps.definition",
        "sweeps.left_out",
        "sweeps.scores",
        "sweeps.search",
        "sweeps.study",
        "sweeps.terminal",
    },
    "scorer": {"scorer_core", "sweeps", "slurm", "analysis"},
}


def imports(path: Path) -> set[str]:
    """Our modules that `path` imports, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ROOMS}


def files(room: str) -> list[Path]:
    return [ROOT / "scorer.py"] if room == "scorer" else sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_imports_only_what_lies_below_it(room):
    assert files(room)
    for path in files(room):
        for name in imports(path):
            inside = name.split(".")[0] == room
            below = any(name == lower or name.startswith(f"{lower}.") or lower.startswith(f"{name}.")
                        for lower in ALLOWED[room])  # fmt: skip
            assert inside or below, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    "modules",
    [
        "sweeps.definition, sweeps.plan",
        "sweeps.study, sweeps.confirm",
        "analysis.report",
        "analysis.search_report",
        "scorer",
        "slurm.launch, slurm.watch, slurm.job",
        "slurm.search_launch, slurm.search_worker",
        "slurm.verbs, slurm.script, slurm.finalise",
    ],
)
def test_rooms_of_a_login_node_start_without_torch(modules):
    code = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in ('torch', 'numba')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {_canonical(name): version for name, version in pairs}


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def test_environment_yml_gives_the_versions_of_constraints_txt():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, through_pip = environment["dependencies"]
    assert python.startswith("python=3.")
    assert pip == "pip"
    assert through_pip["pip"] == ["-c constraints.txt", "-e .[dev]"]


def test_what_is_installed_is_what_constraints_txt_pins():
    listed = subprocess.run([sys.executable, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    installed = {_canonical(entry["name"]): entry["version"] for entry in json.loads(listed.stdout)}
    for name, version in pinned().items():
        if name in installed:
            assert installed[name].split("+")[0] == version, name


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in wanted}
    assert names <= pinned().keys()


def test_the_readme_s_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= mentioned <= targets
