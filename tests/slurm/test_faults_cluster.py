"""A node that dies, a node set down, a controller that restarts, a cluster without accounts: nothing is lost."""

from contextlib import suppress

import pytest

from tests.devcluster.settings import ClusterError
from tests.slurm.workplace import Workplace, metrics, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def node_of(place: Workplace) -> str:
    (job,) = place.jobs("RUNNING")
    return place.cluster.command("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()


def test_a_node_is_set_down_and_another_dies_and_each_time_the_job_goes_on_on_the_other(unaccounted, small, tmp_path):
    place = Workplace(unaccounted, tmp_path)
    place.scorer("submit")
    place.wait_until_training(step=400)
    node = node_of(place)
    unaccounted.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        place.wait_until_training(attempt=2)
        other = node_of(place)
        assert other != node
    finally:
        unaccounted.command("scontrol", "update", f"nodename={node}", "state=resume")
    place.wait_until_training(attempt=2, step=800)
    unaccounted.kill_node(other)
    try:
        wait_for(lambda: unaccounted.node_states()[other].startswith("down"), every=0.5)
        place.wait_until_training(attempt=3)
        assert node_of(place) == node
    finally:
        unaccounted.start_daemon(other)
    wait_for(lambda: unaccounted.node_states()[other] in ("idle", "mixed"), every=0.5)
    place.wait_until_done(2)
    assert metrics(place.packs) == small


def test_while_the_controller_is_away_nothing_is_called_dead_and_afterwards_all_goes_on(accounted, small, tmp_path):
    place = Workplace(accounted, tmp_path)
    place.scorer("submit")
    place.wait_until_training(step=400)
    waits = Workplace(accounted, tmp_path / "waits", {"name": "waits"}, partition="high", sbatch={"begin": "now+1hour"})
    waits.scorer("submit")
    assert waits.states() == {"pending": 2}
    accounted.stop_daemon("slurmctld")
    try:
        running, waiting = place.status(), waits.status()
        assert running["scheduler"] != "answered"
        assert running["counts"] in ({"running": 2}, {"unknown": 2}, {"done": 2})
        assert waiting["counts"] == {"unknown": 2}
        for verb, *options in (["submit"], ["cancel", "-y"]):
            refused = waits.run(verb, *options)
            assert refused.returncode == 1
            assert "Slurm" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1
        assert "submitted" not in waits.run("resume", "-y").stdout
    finally:
        accounted.start_daemon("slurmctld")
    wait_for(lambda: accounted.node_states(), every=0.5)
    assert waits.states() == {"pending": 2}
    assert "Already running or pending: 1 pack" in waits.scorer("submit")
    waits.scorer("cancel", "-y")
    place.wait_until_done(2)
    assert metrics(place.packs) == small


def accounts_answer(cluster):
    with suppress(ClusterError):
        return "devcluster" in cluster.command("sacctmgr", "-nP", "show", "cluster")


def test_the_database_goes_away_in_mid_sweep(accounted, small, tmp_path):
    place = Workplace(accounted, tmp_path)
    place.scorer("submit")
    place.wait_until_training(step=200)
    accounted.stop_daemon("slurmdbd")
    try:
        assert place.states().keys() <= {"running", "done"}
        accounted.command("scancel", *place.jobs())
        wait_for(lambda: not place.jobs())
        wait_for(lambda: place.states() == {"lost": 2}, every=1)
        place.scorer("resume", "-y")
        place.wait_until_done(2)
    finally:
        accounted.start_daemon("slurmdbd")
    assert metrics(place.packs) == small
    wait_for(lambda: accounts_answer(accounted), every=0.5)


def test_a_killed_job_is_lost_and_resumed_and_a_finished_one_is_done_where_there_is_accounting(
    accounted, small, tmp_path
):
    """Without accounting: test_killed_at_ten_random_moments."""
    place = Workplace(accounted, tmp_path)
    place.scorer("submit")
    place.wait_until_training(step=200)
    accounted.command("scancel", "--signal=KILL", "--full", *place.jobs())
    wait_for(lambda: not place.jobs("RUNNING", "COMPLETING"), every=0.3)
    place.wait_until_done_or_lost()
    if place.states() == {"lost": 2}:
        place.scorer("resume", "-y")
    place.wait_until_done(2)
    assert place.states() == {"done": 2}
    assert metrics(place.packs) == small
