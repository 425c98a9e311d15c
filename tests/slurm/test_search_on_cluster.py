"""A search whose workers are jobs of a real Slurm."""

import json

import pytest
import yaml

from tests.slurm.workplace import Workplace, wait_for
from tests.test_search_commands import SEARCH

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRIALS, WORKERS = 8, 4


def test_four_jobs_search_together_and_what_a_cancelled_one_held_another_finishes(unaccounted, tmp_path):
    place = Workplace(unaccounted, tmp_path, commit_seconds=0.5)
    definition = tmp_path / "mine.yaml"
    definition.write_text(yaml.safe_dump(SEARCH | {"trials": TRIALS, "total_steps": 8_000}))
    out = ["--outputs", str(place.outputs)]
    search = ["search", str(definition), "--profile", str(place.profile), "--workers", str(WORKERS), *out]
    started = place.run_words(*search, "--lanes", "2")
    assert (started.returncode, started.stderr) == (0, "")
    assert f"{WORKERS} workers submitted" in started.stdout
    assert f"0 workers submitted to dev ({WORKERS} already running or pending)" in place.run_words(*search).stdout
    folder = place.outputs / "mine"

    def jobs() -> list[str]:
        lines = unaccounted.command("squeue", "--noheader", "--array", "--format=%i|%j").splitlines()
        return [job for job, name in (line.split("|") for line in lines) if name.startswith("scorer-mine-")]

    def logs() -> list[str]:
        return [path.read_text() for path in (folder / "submissions").glob("*/logs/*.log")]

    wait_for(lambda: sum("trials" in log for log in logs()) == WORKERS, every=0.2)
    unaccounted.command("scancel", "--signal=KILL", "--full", jobs()[0])
    wait_for(lambda: not jobs(), seconds=600, every=0.5)
    if any(trial["state"] == "running" for trial in trials(place, out)):
        place.run_words(*search)  # nobody was left to take over what the killed one held
        wait_for(lambda: not jobs(), seconds=600, every=0.5)
    found = trials(place, out)
    assert [trial["number"] for trial in found] == list(range(TRIALS))
    assert {trial["state"] for trial in found} <= {"complete", "pruned"}
    assert sum(log.count("taken over") for log in logs()) >= 1
    assert not any("Traceback" in log for log in logs())
    assert "All trials are finished" in place.run_words(*search).stdout


def trials(place: Workplace, out: list[str]) -> list[dict[str, object]]:
    return json.loads(place.run_words("search", "show", "mine", "--json", *out).stdout)["trials"]
