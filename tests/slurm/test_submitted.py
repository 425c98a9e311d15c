"""From a definition to figures on a real Slurm, with the commands only: submitted once, requeued by hand, topped up."""

import json

import pytest

from scorer_core.pack_folders import pack_folders
from tests.slurm.workplace import Workplace, metrics, wait_for


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_submitted_and_requeued_by_hand_it_ends_in_the_report_and_is_not_submitted_twice(accounted, small, tmp_path):
    place = Workplace(accounted, tmp_path)
    said = place.scorer("submit")
    assert "1 pack submitted" in said
    assert len(place.jobs()) == 1
    assert "Already running or pending: 1 pack" in place.scorer("submit")
    assert len(place.jobs()) == 1
    place.wait_until_training(step=400)
    (job,) = place.jobs()
    accounted.command("scontrol", "requeue", job)
    wait_for(lambda: place.jobs("PENDING"))
    assert place.states() == {"pending": 2}
    place.wait_until_done(2)
    place.wait_until_empty()
    assert place.attempts() >= 2
    assert metrics(place.packs) == small
    report = place.outputs / "small" / "report"
    assert list(report.glob("*.html"))
    assert list(report.rglob("*.png")) + list(report.rglob("*.svg")) + list(report.rglob("*.pdf"))
    status = place.status()
    assert status["counts"] == {"done": 2}
    assert not status["report_pending"]
    missing = json.loads((place.outputs / "small" / "submissions" / "missing.json").read_text())
    assert missing["report"]
    assert missing["runs"] == {}
    assert "To submit: 0 packs" in place.scorer("submit")
    assert place.jobs() == []
    rehearsed = place.scorer("submit", "-s", "seeds=6", "--dry-run")
    assert "To submit: 1 pack, 4 runs." in rehearsed
    assert "#SBATCH --partition=low" in rehearsed
    assert len(pack_folders(place.packs)) == 1
