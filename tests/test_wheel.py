"""The wheel holds what scorer needs and nothing else, and works where there is no checkout."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.test_scorer import SWEEP

ROOT = Path(__file__).parent.parent
PACKAGES = {"cli", "scorer_core", "sweeps", "slurm", "analysis"}
DATA = {".yaml", ".json", ".css", ".js"}

pytestmark = pytest.mark.slow


class Installed(NamedTuple):
    """A wheel, and a virtual environment outside the checkout that it is installed in."""

    wheel: Path
    bin: Path

    def scorer(self, *words: object, folder: Path) -> str:
        """The output of a command in `folder`; the user's profiles and PYTHONPATH are not seen."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SCORER"))}
        done = subprocess.run(
            [self.bin / "scorer", *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked():  # a copy: setuptools would put what an earlier build left in build/ into the wheel
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / "source" / path)
    isolation = ["--no-build-isolation"] if find_spec("setuptools") else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", *isolation, "-w", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    install = ["--python", venv / "bin" / "python", "install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, *install], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    # The .pth files of these folders, such as that of a checkout, are not read.
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    return Installed(wheel, venv / "bin")


def test_the_wheel_holds_the_five_packages_with_their_data_and_nothing_else(installed):
    held = {Path(name) for name in zipfile.ZipFile(installed.wheel).namelist()}
    held = {path for path in held if not path.parts[0].endswith(".dist-info")}
    wanted = {path for path in tracked() if path.parts[0] in PACKAGES and path.suffix in {".py", *DATA}}
    assert {path.suffix for path in wanted} == {".py", *DATA}
    assert held == wanted


def test_an_installed_wheel_trains_a_sweep_here_and_by_jobs(installed, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SWEEP | {"tasks": ["minatar/breakout"], "seeds": 1}))
    where = [installed.bin / "python", "-c", "import cli; print(cli.__file__)"]
    code = subprocess.check_output(where, cwd=tmp_path, text=True)
    assert Path(code).is_relative_to(installed.bin.parent)
    assert "quickstart" in installed.scorer("sweeps", folder=tmp_path)
    assert "report.html" in installed.scorer("run", "mine.yaml", folder=tmp_path)
    more = ["mine.yaml", "-s", "seeds=2", "--profile", "local"]
    assert "submitted" in installed.scorer("submit", *more, folder=tmp_path)
    counts: dict[str, int] = {}
    for _ in range(300):
        counts = json.loads(installed.scorer("status", "mine", "--json", folder=tmp_path))["counts"]
        if not {"running", "pending", "unknown"} & counts.keys():
            break
        time.sleep(2)
    assert counts == {"done": 4}
    (snapshot,) = (tmp_path / "outputs" / "mine" / "code").glob("[0-9a-f]*")
    assert {path.name for path in snapshot.iterdir() if path.is_dir()} == PACKAGES
