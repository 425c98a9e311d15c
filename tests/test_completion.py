"""Tab in a shell: the names that a command takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.plan import make_plan
from tests.sweeps.minimal import sweep

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a sweep in outputs/, a definition, and a file that is none."""
    folder = tmp_path_factory.mktemp("place")
    planned = make_plan(sweep(name="quiet", seeds=1), folder / "outputs")
    planned.write()
    (folder / "my").mkdir()
    (folder / "my" / "sweep.yaml").write_text("name: mine")
    (folder / "my" / "notes.txt").touch()
    (folder / "run_id").write_text(planned.sweep.runs[0].run_id)
    return folder


def offered(place: Path, words: str, shell: str = "bash") -> list[str]:
    """What is offered for the last of `words`, in a new process, as the shell asks."""
    asked = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = {"_SCORER_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | asked
    code = "import sys; sys.argv = ['scorer']; from cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.split() if shell == "bash" else [done.stdout]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("scorer re", ["resume", "retry", "report"]),
        ("scorer run qui", ["quiet", "quickstart"]),
        ("scorer run m", ["my/"]),
        ("scorer plan my/", ["my/sweep.yaml"]),
        ("scorer status nothing --variant x", []),
        ("scorer submit quickstart --variant scor", ["scorer"]),
        ("scorer submit quickstart --profile lo", ["local"]),
    ],
)
def test_tab_offers_commands_sweeps_variants_and_profiles(place, words, names):
    found = offered(place, words)
    assert found[: len(names)] == names
    assert all(name.startswith(words.rpartition(" ")[2]) for name in found)


def test_tab_offers_the_ids_of_runs(place):
    run_id = (place / "run_id").read_text()
    assert offered(place, f"scorer show {run_id[:3]}") == [run_id]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_same_names(place, shell):
    (found,) = offered(place, "scorer run qui", shell)
    assert {"quiet", "quickstart"} <= set(found.replace('"', "\n").split())
