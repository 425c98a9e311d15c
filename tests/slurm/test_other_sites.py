"""Real Slurm behind scripts that print text, as other sites have them, in a home folder that needs quotes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.workplace import Workplace, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BANNER = "HELIOS: maintenance on 2026-12-01 | 2|3|4|5|6"


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home of ann's 100%"


@pytest.fixture
def site(unaccounted, tmp_path) -> Iterator[dict[str, str]]:
    """The variables of a site that prints text before and after each command, and where LOGNAME is another user."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("squeue", "sbatch", "sinfo", "scontrol"):
        real = f'/usr/bin/{name} "$@"; rc=$?'
        lines = ["#!/bin/bash", f'echo "{BANNER}"', real, 'echo "Used 3412 of 10000 core-hours."', "exit $rc"]
        (folder / name).write_text("\n".join(lines) + "\n")
        (folder / name).chmod(0o755)
    yield {"PATH": f"{folder}:{os.environ['PATH']}:/usr/bin:/bin", "LOGNAME": "games", "USER": "games"}
    jobs = unaccounted.command("squeue", "--noheader", "--format=%A").split()
    if jobs:
        unaccounted.command("scancel", *jobs)
    wait_for(lambda: not unaccounted.command("squeue", "--noheader"))


def test_a_sweep_goes_from_submit_to_report_on_a_site_that_prints_text(unaccounted, site, home):
    place = Workplace(
        unaccounted, home, {"total_steps": 2_000}, setup=["echo SETUP"], environment={"PYTHONSAFEPATH": "1"}
    )
    assert "1 pack submitted" in place.scorer("submit", environment=site)
    again = place.scorer("submit", environment=site)
    assert "Already running or pending: 1 pack" in again or "To submit: 0 packs" in again
    place.wait_until_done(2)
    place.wait_until_empty()
    status = place.scorer("status", environment=site)
    assert "The report was drawn" in status
    (log,) = (place.outputs / "small" / "submissions" / "1" / "logs").glob("*_0.log")
    assert "SETUP" in log.read_text()


def test_where_sbatch_prints_no_number_the_array_and_its_report_are_adopted_at_once(unaccounted, site, home, tmp_path):
    (tmp_path / "bin" / "sbatch").write_text('#!/bin/bash\n/usr/bin/sbatch "$@" > /dev/null && echo "Thank you."\n')
    place = Workplace(unaccounted, home, {"total_steps": 2_000}, sbatch={"begin": "now+1hour"})
    assert "1 pack submitted" in place.scorer("submit", environment=site)
    names = unaccounted.command("squeue", "--noheader", "--format=%j %E").splitlines()
    assert len(names) == 2
    assert any(name.partition(" ")[0].endswith("-report") and "afterany" in name for name in names)
    record = json.loads((place.outputs / "small" / "submissions" / "1" / "submission.json").read_text())
    assert record["requests"][0]["job"]
    assert record["last"]["job"]
    assert "To submit: 0 packs" in place.scorer("submit", environment=site)


def test_a_setup_line_that_fails_is_shown_by_status_logs_and_the_probe(unaccounted, site, home):
    place = Workplace(unaccounted, home, {"total_steps": 2_000}, setup=["echo SETUP; module load cuda/12.8"])
    place.scorer("submit", environment=site)
    place.wait_until_empty()
    wait_for(lambda: place.states() == {"lost": 2}, every=1)
    line = "setup line 1 failed with exit code 127: echo SETUP; module load cuda/12.8"
    status = place.scorer("status", environment=site)
    assert line in status
    assert "Fix `setup` in the profile, then: scorer retry small" in status
    assert line in place.run_words("logs", place.pack.pack_id, "--outputs", str(place.outputs)).stdout
    words = "profile", "check", str(place.profile), "--outputs", str(place.outputs), "--json", "--probe"
    (seen,) = [finding for finding in json.loads(place.run_words(*words).stdout) if finding["subject"] == "probe"]
    assert seen["level"] == "problem"
    assert line in seen["found"]
