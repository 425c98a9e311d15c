"""A user's own function on a real Slurm: jobs run the function as it was when they were submitted."""

import json
from pathlib import Path

import pytest

from tests.slurm.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FUNCTION = """\
from own_idea.helpers import total


def half(delta, z, weight):
    return total(delta * delta) / 2
"""
SWEEP = {
    "name": "own", "total_steps": 4_000, "baseline": "variance",
    "variants": {"variance": {}, "half": {"follower_objective": "own_idea.objective:half"}},
}  # fmt: skip


@pytest.fixture
def project(tmp_path) -> Path:
    """A package that no job would find without the snapshot."""
    folder = tmp_path / "project" / "own_idea"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "objective.py").write_text(FUNCTION)
    (folder / "helpers.py").write_text("def total(x):\n    return x.sum()\n")
    return folder


def test_jobs_run_the_function_as_it_was_when_they_were_submitted(clean, tmp_path, project):
    place = Workplace(clean, tmp_path / "place", SWEEP, sbatch={"begin": "now+1hour"})
    here = {"PYTHONPATH": str(project.parent)}
    place.scorer("submit", environment=here)
    (project / "objective.py").write_text("raise RuntimeError('edited after the submission')\n" + FUNCTION)
    (project / "helpers.py").unlink()
    for job in set(clean.command("squeue", "--noheader", "--format=%F").split()):  # that of the report too
        clean.command("scontrol", "update", f"jobid={job}", "starttime=now")
    place.wait_until_done(4)
    place.wait_until_empty()
    provenance = next(json.loads(path.read_text()) for path in place.packs.glob("*/attempts/1/provenance.json"))
    assert {"git_commit", "git_diff"} <= provenance["user_code"].get("own_idea", {}).keys()
    assert "half" in (place.outputs / "own" / "report" / "report.html").read_text()
    # The function can no longer be imported: one line, and no job.
    refused = place.run("submit", environment=here)
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        f"part own_idea.objective:half: imports {project / 'objective.py'}",
        "own_idea.objective:half cannot be imported: RuntimeError: edited after the submission",
    ]
