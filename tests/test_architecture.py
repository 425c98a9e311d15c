"""Which package may import which, what must start without torch or a terminal library, and what is pinned."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from cli import console, main
from scorer_core.support.secrets import secret_lines

ROOT = Path(__file__).parent.parent
PACKAGES = ("scorer_core", "sweeps", "slurm", "analysis", "cli")
ALLOWED = {
    "scorer_core": set(),
    "sweeps": {"scorer_core"},
    "slurm": {"scorer_core", "sweeps"},
    "analysis": {"scorer_core", "sweeps"},
    "cli": {"scorer_core", "sweeps", "slurm", "analysis"},
}


def imports(path: Path) -> set[str]:
    """Our modules that `path` imports, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_imports_only_the_packages_below_it(package):
    assert files(package)
    for path in files(package):
        for name in imports(path):
            assert name.split(".")[0] in ALLOWED[package] | {package}, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", ["scorer_core", "sweeps", "slurm", "analysis"])
def test_only_the_command_line_imports_a_terminal_library_or_prints(package):
    """Processes that run as jobs write to their log: they have a `main`."""
    for path in files(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in modules} & {"typer", "click", "rich"}, path
        prints = any(isinstance(node, ast.Name) and node.id == "print" for node in ast.walk(tree))
        is_process = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        assert is_process or not prints, path


def test_only_the_exporters_import_a_tracker_or_are_imported_by_the_command_that_exports():
    for path in (path for package in PACKAGES for path in files(package)):
        ours = any(name.startswith("analysis.exporters") for name in imports(path))
        if path.parent != ROOT / "analysis" / "exporters":
            assert not re.search(r"import (wandb|tensorboard)|from (wandb|tensorboard)", path.read_text()), path
            assert not ours or path in (ROOT / "cli" / "export.py", ROOT / "analysis" / "importers" / "import_csv.py")


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


@pytest.mark.parametrize("package", PACKAGES)
def test_text_is_read_and_written_as_utf_8_whatever_the_locale_is(package):
    found = {path: without_encoding(path) for path in files(package)}
    assert [f"{path.relative_to(ROOT)}:{line}" for path, lines in found.items() for line in lines] == []


PLANNING = "sweeps.definition, sweeps.loading, sweeps.plan, sweeps.timescale"
LIBRARIES = "sweeps.study, sweeps.confirm, analysis.report, analysis.search_report"
JOBS = "slurm.status, slurm.submit, slurm.cluster.script, slurm.jobs.train_packs, slurm.local.supervisor"


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (PLANNING, {"torch", "numba", "typer", "rich", "optuna", "matplotlib"}),
        (LIBRARIES, {"torch", "numba", "typer", "rich"}),
        ("analysis.api", {"torch", "numba", "typer", "rich", "optuna", "pandas", "matplotlib", "rliable", "arch"}),
        (JOBS, {"torch", "numba", "typer", "rich"}),
        ("slurm.jobs.train_pack, slurm.jobs.search_worker, slurm.jobs.draw_report", {"torch", "numba", "typer"}),
        ("analysis.exporters.wandb_runs, analysis.exporters.tensorboard_files", {"torch", "wandb", "tensorboard"}),
        ("scorer_core.train, slurm.jobs.train_packs, cli.run, cli.export", {"wandb", "tensorboard"}),
        ("cli.main", {"torch", "numba", "numpy", "pyarrow", "optuna", "matplotlib", "scipy", "submitit"}),
    ],
)
def test_what_a_login_node_imports_loads_no_torch_and_no_terminal_library(modules, unwanted):
    code = f"import sys, {modules}; print(*(set(sys.modules) & {unwanted}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("command", main.MODULES)
def test_each_module_of_commands_is_found_by_its_name(command):
    assert main.make_app([command]).registered_groups


def test_a_command_loads_the_module_of_no_other_command():
    code = "import sys; from cli import main; sys.argv = ['scorer', 'plan', '--help']\ntry: main.main()\n"
    code += "finally: print(*(f'cli.{name}' for name in main.MODULES if f'cli.{name}' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "cli.plan"


def test_no_module_writes_or_escapes_markup():
    for path in (path for package in PACKAGES for path in files(package)):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"from_markup", "render_str"}, path
        assert "rich.markup" not in path.read_text(), path
        assert not re.search(r"\[/\]|(?<!\w)\[(bold|dim|red|green|yellow|cyan)\]", path.read_text()), path


@pytest.mark.parametrize("name", ["out", "err"])
def test_the_consoles_print_text_as_it_is(name, capsys):
    text = "[red]x[/red] [/y] :smile: " + 100 * "a word "
    getattr(console, name).print(text)
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
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["dev"] + extras["cuda12"] + extras["cuda13"]
    names = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in wanted}
    assert names <= pinned().keys()


def test_the_readme_s_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= mentioned <= targets


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_no_test_has_a_secret_that_scorer_sees_in_the_diff_of_a_changed_checkout(path):
    """Commands then print that it is masked; see tests/fake_secrets.py."""
    text = "".join(f"+{line}\n" for line in path.read_text(encoding="utf-8").splitlines())
    assert secret_lines(text) == []
