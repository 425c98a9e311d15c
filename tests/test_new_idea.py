"""`scorer new idea`: from a name to a report that names the idea, in an environment of its own."""

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

from cli.idea_project import fault_of_name, files

ROOT = Path(__file__).parent.parent
SHORT = ["-s", "total_steps=4_000", "-s", "base.learning_starts=200", "-s", "seeds=2"]


@pytest.mark.parametrize("name", ["half", "my_idea2"])
def test_a_project_s_own_tests_pass_and_its_names_fit_together(name, tmp_path):
    for path, content in files(name).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "tests")]
    path = os.pathsep.join([str(tmp_path / "src"), str(ROOT)])
    done = subprocess.run(test, env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["scorer.plugins"] == {name: f"{name}.objective:{name}"}
    assert yaml.safe_load((tmp_path / "sweep.yaml").read_text())["variants"][name] == {"follower_objective": name}


@pytest.mark.parametrize(
    "name",
    ["Half", "my-idea", "2fast", "", "class", "a" * 41, "../up", "torch", "json", "norm", "yes", "null", "nan", "cli"],
)
def test_a_name_that_cannot_be_a_package_or_is_taken_is_refused(name, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, told = call("new", "idea", name)
    assert (code, len(told.splitlines())) == (2, 1)
    assert fault_of_name(name) in told
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("new", "idea", "half")[0] == 0
    (tmp_path / "half" / "src" / "half" / "objective.py").write_text("edited")
    code, _, told = call("new", "idea", "half")
    assert (code, told) == (2, "half: exists already; choose another name\n")
    assert (tmp_path / "half" / "src" / "half" / "objective.py").read_text() == "edited"


@pytest.fixture
def scorer(tmp_path):
    """Runs a command in a folder with a new project `half`, installed by pip in an environment of its own."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    packages = sysconfig.get_paths(vars={"base": str(environment), "platbase": str(environment)})["purelib"]
    shared = [path for path in sys.path if "site-packages" in path]
    (Path(packages) / "shared.pth").write_text("\n".join([str(ROOT), *shared]))
    python = str(environment / "bin" / "python")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [python, "-P", "-m", *words], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith(("waiting for ", "part "))]
        return done.returncode, done.stdout, "\n".join(lines)

    assert run("cli.main", "new", "idea", "half")[0] == 0
    code, out, err = run("pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "-e", "half")
    assert code == 0, out + err
    return lambda *words: run("cli.main", *words)


@pytest.mark.slow
def test_a_new_idea_becomes_a_report_and_an_edited_one_stale_runs(scorer, tmp_path):
    code, out, err = scorer("run", "half/sweep.yaml", *SHORT)
    assert code == 0, out + err
    assert "half minus variance" in " ".join(out.split())
    assert "half" in (tmp_path / "outputs/half/report/report.html").read_text()
    function = tmp_path / "half/src/half/objective.py"
    function.write_text(
        function.read_text().replace("objectives.mean(delta, weight) - delta", "delta - objectives.mean(delta, weight)")
    )
    code, out, err = scorer("plan", "half/sweep.yaml", *SHORT)
    assert code == 0, err
    shown = " ".join(out.split())
    assert "in: half.objective:half (its file)" in shown
    assert "2 finished runs on disk are stale, because half.objective:half has changed since: half on" in shown
    assert "8 distinct runs, 2 to train" in shown
    # Commands on the existing sweep still show what was trained, and train nothing else under its name.
    code, out, _ = scorer("report", "half", "--outputs", "outputs")
    assert (code, "half minus variance" in " ".join(out.split())) == (0, True)
    function.rename(function.with_name("moved.py"))
    code, _, err = scorer("plan", "half/sweep.yaml", *SHORT)
    assert (code, err) == (
        2,
        "half/sweep.yaml: variant 'half': follower_objective: half.objective:half: Python finds no module "
        "half.objective; install its package, or set PYTHONPATH",
    )
