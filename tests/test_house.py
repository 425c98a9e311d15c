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

from sweeps import terminal

ROOT = Path(__file__).parent.parent
ROOMS = ("scorer_core", "sweeps", "slurm", "analysis", "scorer")
ALLOWED = {
    "scorer_core": set(),
    "sweeps": {
        f"scorer_core.{name}"
        for name in (
            "commands",
            "config",
            "errors",
            "identity",
            "provenance",
            "records",
            "registry",
            "schedules",
            "scores",
            "secrets",
            "verdicts",
        )
    },
    "slurm": {"sweeps", "scorer_core"},
    "analysis": {
        "scorer_core.commands",
        "scorer_core.config",
        "scorer_core.errors",
        "scorer_core.identity",
        "scorer_core.records",
        "scorer_core.scores",
        "scorer_core.secrets",
        "scorer_core.references",
        "scorer_core.verdicts",
        "scorer_core.versions",
        "sweeps.confirm",
        "sweeps.definition",
        "sweeps.folders",
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


def without_encoding(path: Path) -> list[int]:
    """The lines of `path` that read or write text in whatever encoding the locale has."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            method = isinstance(node.func, ast.Attribute)
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            system = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "os"
            options = {option.arg for option in node.keywords}
            modes = [ast.unparse(value) for value in (*node.args, *(option.value for option in node.keywords))]
            opens = name in ("open", "fdopen", "NamedTemporaryFile") and not any(
                re.fullmatch(r"'[rwax+]*b\+?'", m) for m in modes
            )
            text = (opens and not (system and name == "open")) or (method and name in ("read_text", "write_text"))
            if (text or {"text", "universal_newlines"} & options) and "encoding" not in options:
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("room", ROOMS)
def test_text_is_read_and_written_as_utf_8_whatever_the_locale_is(room):
    found = {path: without_encoding(path) for path in files(room) if "devcluster" not in path.parts}
    assert [f"{path.relative_to(ROOT)}:{line}" for path, lines in found.items() for line in lines] == []


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


def test_no_module_writes_or_escapes_markup():
    for path in (path for room in ROOMS for path in files(room)):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"from_markup", "render_str"}, path
        assert "rich.markup" not in path.read_text(), path
        assert not re.search(r"\[/\]|\[(bold|dim|red|green|yellow|cyan)\]", path.read_text()), path


@pytest.mark.parametrize("console", ["out", "err"])
def test_the_consoles_print_text_as_it_is(console, capsys):
    text = "[red]x[/red] [/y] :smile: " + 100 * "a word "
    getattr(terminal, console).print(text)
    assert text + "\n" in capsys.readouterr()


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
