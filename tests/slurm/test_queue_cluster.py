"""What a user does to the queue of a real Slurm: limits, resume, cancel, --after, throttle, Ctrl-C, usage."""

import json
import re
import signal
from pathlib import Path

import pytest
import yaml

from tests.devcluster.cluster import DevCluster
from tests.slurm.workplace import PATIENCE_SECONDS, Workplace, wait_for
from tests.test_search_commands import SEARCH

pytestmark = pytest.mark.timeout(600)
# Packs of one lane that wait for an hour; the arrays of this cluster have at most 4 tasks.
EIGHT = {
    "name": "eight", "seeds": 4, "total_steps": 2_000, "baseline": "dqn",
    "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}},
}  # fmt: skip
HELD = {"sbatch": {"begin": "now+1hour"}, "lanes": 1}


def names(cluster: DevCluster) -> list[str]:
    return cluster.command("squeue", "--noheader", "--array", "--format=%j").split()


def dependencies(cluster: DevCluster) -> dict[str, str]:
    """What each array waits for, by its number."""
    lines = cluster.command("squeue", "--noheader", "--format=%F|%E|%j").splitlines()
    jobs = [line.split("|") for line in lines]
    return {job: after for job, after, name in jobs if not name.endswith("-report")}


def throttles(cluster: DevCluster, jobs: list[str]) -> list[int]:
    shown = cluster.command("scontrol", "--oneliner", "show", "job").splitlines()
    found = {line.split()[0]: re.search(r"ArrayTaskThrottle=(\d+)", line) for line in shown}
    return [int(match[1]) for job in jobs if (match := found[f"JobId={job}"])]


def shim(folder: Path, command: str, lines: str) -> dict[str, str]:
    """An environment whose `command` is a script of these lines."""
    folder.mkdir()
    (folder / command).write_text(f"#!/bin/bash\n{lines}\n")
    (folder / command).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_resume_submits_only_what_was_submitted_and_is_named_and_asks_first(clean, tmp_path):
    place = Workplace(clean, tmp_path, EIGHT, **HELD)
    place.scorer("submit", "--variant", "scorer")
    clean.command("scancel", *place.jobs())
    wait_for(lambda: not place.jobs())
    wait_for(lambda: place.states() == {"lost": 4, "missing": 4}, every=1)
    refused = place.run("resume")
    assert refused.returncode == 2
    assert "Resubmit 4 packs with 4 runs? Add -y to confirm" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert place.jobs() == []
    assert "To submit: 4 packs" in place.scorer("resume", "--dry-run")
    said = place.scorer("resume", "--seed", "0-1", "-y")
    assert "2 packs submitted" in said
    assert "Skipped 2 runs that were never submitted" in said
    assert f"scorer submit {place.outputs / 'eight'} --profile PROFILE" in said
    clean.command("scontrol", "uhold", place.jobs()[0])
    assert "No matching run is" in place.scorer("resume", "--seed", "3", "--state", "pending", "-y")
    assert "1 held job released" in place.scorer("resume", "--state", "pending", "-y")
    assert place.states() == {"pending": 2, "lost": 2, "missing": 4}


def test_cancel_of_everything_leaves_nothing_in_the_queue(clean, tmp_path):
    place = Workplace(clean, tmp_path, EIGHT, **HELD)
    place.scorer("submit", "--variant", "dqn")
    place.scorer("submit", "--variant", "scorer")
    assert sum(name.endswith("-report") for name in names(clean)) == 2
    place.scorer("cancel", "--variant", "dqn", "-y")
    wait_for(lambda: len(names(clean)) == 5, every=0.3)
    assert sum(name.endswith("-report") for name in names(clean)) == 1, "its report is still to be drawn"
    assert "1 report job cancelled" in place.scorer("cancel", "-y")
    wait_for(lambda: not names(clean), seconds=20)
    assert place.states() == {"cancelled": 8}


@pytest.mark.slow
def test_report_jobs_that_are_left_alone_are_cancelled_too(clean, tmp_path):
    place = Workplace(clean, tmp_path, EIGHT, finaliser={"begin": "now+1hour"}, **HELD)
    place.scorer("submit", "--seed", "0")
    clean.command("scancel", *place.jobs())
    wait_for(lambda: len(names(clean)) == 1)
    place.scorer("cancel", "-y")
    wait_for(lambda: not names(clean), seconds=20)


@pytest.fixture
def capped(clean):
    """A QOS under which a user may have three jobs in the queue."""
    clean.command("sacctmgr", "-i", "add", "qos", "capped")
    clean.command("sacctmgr", "-i", "modify", "qos", "capped", "set", "MaxSubmitJobsPerUser=3")
    clean.command("sacctmgr", "-i", "modify", "user", "root", "set", "qos+=capped")
    yield clean
    clean.cancel_all()
    wait_for(lambda: not clean.command("squeue", "--noheader"))
    clean.command("sacctmgr", "-i", "delete", "qos", "capped")


def test_at_the_limit_of_a_qos_what_fits_is_submitted_and_the_limit_is_named(capped, tmp_path):
    place = Workplace(capped, tmp_path, EIGHT, qos="capped", **HELD)
    said = place.scorer("submit")
    assert "2 packs submitted" in said
    assert "MaxSubmitJobsPerUser of QOS capped: 3" in said
    assert len(names(capped)) == 3
    assert "To submit: 0 packs" in place.scorer("submit")
    unknown = Workplace(capped, tmp_path / "unknown", EIGHT | {"name": "unknown"}, qos="capped", **HELD)
    refused = unknown.run("submit", environment=shim(tmp_path / "bin", "sacctmgr", "exit 1"))
    assert refused.returncode == 1
    assert "set `max_submit` in the profile" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_after_a_job_or_after_all_jobs_of_another_sweep(clean, tmp_path):
    first = Workplace(clean, tmp_path, EIGHT | {"name": "first", "seeds": 1}, **HELD)
    second = Workplace(clean, tmp_path, EIGHT | {"name": "second", "seeds": 1}, **HELD)
    (tmp_path / "first.yaml").write_text(second.sweep.read_text().replace("second", "first"))
    missing = second.run("submit", "--after", "99999")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    assert "Slurm has no job 99999" in missing.stderr
    absent = second.run("submit", "--after", "first")
    assert (absent.returncode, len(absent.stderr.splitlines())) == (2, 1), "never submitted"
    assert "first: not a file, not a built-in sweep, and not a sweep in" in absent.stderr
    first.run_words(
        "submit", str(tmp_path / "first.yaml"), "--profile", str(first.profile), "--outputs", str(first.outputs)
    )
    jobs = clean.command("squeue", "--noheader", "--format=%F").split()
    assert len(jobs) == 2, "an array and the report"
    second.scorer("submit", "--after", "first", "--variant", "dqn")
    (array,) = {job.partition("_")[0] for job in second.jobs()}
    assert set(re.findall(r"afterany:(\d+)", dependencies(clean)[array])) == set(jobs)
    record = json.loads((second.outputs / "second" / "submissions" / "1" / "submission.json").read_text())
    assert record["after"] == sorted(jobs, key=int)
    second.scorer("submit", "--after", array, "--variant", "scorer")
    (newest,) = {job.partition("_")[0] for job in second.jobs()} - {array}
    assert re.findall(r"afterany:(\d+)", dependencies(clean)[newest]) == [array]
    clean.cancel_all()
    wait_for(lambda: not names(clean))
    ended = second.run("retry", "--after", "first")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "no job of first is in the queue" in ended.stderr


def test_the_workers_of_a_search_are_waited_for_by_after_and_cancelled_by_its_name(clean, tmp_path):
    place = Workplace(clean, tmp_path, EIGHT, **HELD)
    definition, out = tmp_path / "sought.yaml", ("--outputs", str(place.outputs))
    definition.write_text(yaml.safe_dump(SEARCH | {"name": "sought"}))
    started = place.run_words("search", str(definition), "--profile", str(place.profile), "--workers", "3", *out)
    assert "3 workers submitted" in started.stdout, started.stderr
    (workers,) = set(clean.command("squeue", "--noheader", "--format=%F").split())
    place.scorer("submit", "--after", "sought", "--seed", "0")
    (array,) = dependencies(clean).keys() - {workers}
    assert set(re.findall(r"afterany:(\d+)", dependencies(clean)[array])) == {workers}
    assert "Cancel 3 workers of sought?" in place.run_words("cancel", "sought", *out).stderr
    refused = place.run_words("cancel", "sought", "--seed", "0", "-y", *out)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "sought: filters are not used with a search" in refused.stderr
    assert len(names(clean)) == 6, "three workers, two packs and their report"
    assert "3 workers cancelled" in place.run_words("cancel", "sought", "-y", *out).stdout
    wait_for(lambda: len(names(clean)) == 3, every=0.3)
    assert "Slurm has no worker of sought" in place.run_words("cancel", "sought", "-y", *out).stdout
    ended = place.run("submit", "--after", "sought", "--seed", "1")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "no job of sought is in the queue" in ended.stderr


def test_all_arrays_of_a_sweep_keep_to_one_throttle(clean, tmp_path):
    place = Workplace(clean, tmp_path, EIGHT, throttle=1, **HELD)
    place.scorer("submit", "--seed", "0-2")
    waits = dependencies(clean)
    first, second = sorted(waits, key=int)
    assert "afterany" not in waits[first]
    assert f"afterany:{first}" in waits[second]
    assert throttles(clean, [first, second]) == [1, 1]
    said = place.scorer("submit")
    assert f"These jobs start after jobs {first}, {second}." in said
    third = max(dependencies(clean), key=int)
    assert set(re.findall(r"afterany:(\d+)", dependencies(clean)[third])) == {first, second}
    assert "3 arrays changed: at most 8 jobs of eight at once" in place.scorer("throttle", "8")
    assert throttles(clean, [first, second, third]) == [3, 3, 2]
    assert not any("afterany" in after for after in dependencies(clean).values())
    place.scorer("throttle", "2")
    assert throttles(clean, [first, second, third]) == [1, 1, 1]
    assert f"afterany:{first}" in dependencies(clean)[third]


@pytest.fixture
def interruptible():
    """Ctrl-C reaches the commands, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("is_taken", [pytest.param(True, marks=pytest.mark.slow), False])
def test_ctrl_c_prints_what_was_submitted_and_resume_submits_the_rest(clean, tmp_path, is_taken):
    """The second sbatch is interrupted, before or after Slurm took the array."""
    place = Workplace(clean, tmp_path, EIGHT, **HELD)
    real = '/usr/bin/sbatch "$@"'
    interrupt = f"{real if is_taken else ':'}; kill -INT $PPID; sleep 20"
    once = f"if [ -e {tmp_path}/once ]; then {interrupt}; else touch {tmp_path}/once; {real}; fi"
    stopped = place.run("submit", environment=shim(tmp_path / "bin", "sbatch", once))
    assert stopped.returncode == 75
    arrays = sorted({job.partition("_")[0] for job in place.jobs()})
    assert len(arrays) == 1 + is_taken
    for array in arrays:
        assert f"array {array} (4 packs)" in stopped.stderr
    assert f"not submitted: {0 if is_taken else 4} packs" in stopped.stderr
    assert "scorer resume eight" in stopped.stderr
    assert "scorer cancel eight" in stopped.stderr
    assert place.states() == ({"pending": 8} if is_taken else {"pending": 4, "missing": 4})
    if not is_taken:
        assert "4 packs submitted" in place.scorer("resume", "-y")
    assert place.states() == {"pending": 8}


def test_submit_prints_that_it_waits_for_sbatch(clean, tmp_path):
    place = Workplace(clean, tmp_path, EIGHT, **HELD)
    slow = shim(tmp_path / "bin", "sbatch", '[ -e "$0.once" ] || { touch "$0.once"; sleep 5; }; /usr/bin/sbatch "$@"')
    with place.start("submit", "--seed", "0", environment=slow) as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert "waiting for sbatch (4 s) ...\n" in errors


@pytest.mark.slow
def test_usage_compares_with_the_request_where_there_is_accounting(clean, tmp_path):
    place = Workplace(clean, tmp_path, {"name": "used", "seeds": 1, "total_steps": 2_000}, memory="900M")
    place.scorer("submit")
    place.wait_until_done(1)
    place.wait_until_empty()

    def recorded() -> bool:
        return bool(json.loads(place.scorer("status", "--usage", "--json"))["variants"])

    wait_for(recorded, every=0.5)
    found = json.loads(place.scorer("status", "--usage", "--json"))
    ((used,),) = found["variants"].values()
    assert used["asked_megabytes"] == 900
    assert used["limit_seconds"] == 1800
    assert used["seconds"] > 0
    assert found["proposal"]["time"] == "0:05:00"
    shown = place.scorer("status", "--usage")
    assert "from accounting (sacct)" in shown
    assert "For the next profile" in shown


@pytest.mark.slow
def test_usage_without_accounting_is_the_wall_time_of_the_files(unaccounted, tmp_path):
    place = Workplace(unaccounted, tmp_path, {"name": "used", "seeds": 1, "total_steps": 2_000})
    place.scorer("submit")
    place.wait_until_done(1)
    place.wait_until_empty()
    shown = place.scorer("status", "--usage")
    assert "there is no accounting" in shown
    assert 'time: "0:05:00"' in shown
