"""The cluster that the other tests break: it starts, does what Slurm does, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sweeps.errors import DefinitionError
from tests.devcluster import processes
from tests.devcluster.cluster import DevCluster
from tests.devcluster.settings import ClusterError, Settings, Wrapper

MODULE = [sys.executable, "-m", "tests.devcluster"]


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.05)


def submit(cluster: DevCluster, script: str, *options: str) -> str:
    output = f"--output={cluster.folder}/job-%j.txt"
    return cluster.command("sbatch", "--parsable", output, *options, f"--wrap={script}").strip()


def state(cluster: DevCluster, job: str) -> str:
    return cluster.command("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()


def output(cluster: DevCluster, job: str) -> str:
    path = cluster.folder / f"job-{job}.txt"
    return path.read_text() if path.exists() else ""


def test_four_jobs_with_a_gpu_each_run_at_once_and_each_sees_its_own(unaccounted):
    say = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; sleep 300"
    jobs = [submit(unaccounted, say, "--gpus-per-node=1") for _ in range(4)]
    wait_for(lambda: all(output(unaccounted, job) for job in jobs))
    assert sorted(output(unaccounted, job) for job in jobs) == ["n1 0\n", "n1 1\n", "n2 0\n", "n2 1\n"]
    unaccounted.command("scancel", *jobs)


@pytest.mark.slow
@pytest.mark.parametrize(("partition", "warned"), [("low", False), ("low-grace", True)])
def test_a_job_gives_way_to_the_high_partition_and_is_queued_again(unaccounted, partition, warned):
    say = "trap 'echo told' TERM; echo $SLURM_RESTART_COUNT started; while :; do sleep 0.1; done"
    low = submit(unaccounted, say, f"--partition={partition}", "--gpus-per-node=2", "--nodes=2", "--requeue")
    wait_for(lambda: "started" in output(unaccounted, low))
    high = submit(unaccounted, "sleep 300", "--partition=high", "--gpus-per-node=1")
    wait_for(lambda: state(unaccounted, high) == "RUNNING")
    wait_for(lambda: state(unaccounted, low) == "PENDING")
    assert output(unaccounted, low).count("told") >= warned
    unaccounted.command("scancel", high, low)


@pytest.mark.slow
def test_a_node_that_dies_takes_its_jobs_along_and_comes_back(unaccounted):
    job = submit(unaccounted, "sleep 300; sleep 300", "--nodelist=n1", "--requeue")
    wait_for(lambda: state(unaccounted, job) == "RUNNING")
    unaccounted.kill_node("n1")
    wait_for(lambda: unaccounted.node_states()["n1"].startswith("down"))
    wait_for(lambda: state(unaccounted, job) == "PENDING")
    assert "n1" not in unaccounted.running()
    unaccounted.start_daemon("n1")
    wait_for(lambda: unaccounted.node_states()["n1"] == "idle")
    unaccounted.command("scancel", job)


def test_a_user_s_limit_on_queued_jobs_holds(accounted):
    limit = ["sacctmgr", "-i", "modify", "user", "root", "set"]
    accounted.command(*limit, "MaxSubmitJobs=2")
    try:
        with pytest.raises(ClusterError, match="AssocMaxSubmitJobLimit"):
            submit(accounted, "sleep 1", "--array=0-2")
    finally:
        accounted.command(*limit, "MaxSubmitJobs=-1")
    with pytest.raises(ClusterError, match="Invalid job array specification"):
        submit(accounted, "sleep 1", "--array=4")


def test_two_clusters_run_beside_each_other_and_know_nothing_of_each_other(accounted, unaccounted):
    job = submit(unaccounted, "sleep 300", "--hold")
    assert job in unaccounted.command("squeue", "--noheader", "--format=%A").split()
    assert "sleep" not in accounted.command("squeue", "--noheader", "--format=%o")
    assert accounted.command("sacctmgr", "-nP", "show", "cluster", "format=cluster").strip() == "devcluster"
    with pytest.raises(ClusterError, match="accounting"):
        unaccounted.command("sacct")
    unaccounted.command("scancel", job)


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_start_says_what_to_export_status_what_runs_and_stop_ends_all_even_what_lost_its_daemon(tmp_path):
    cluster = DevCluster(tmp_path)
    if (started := subprocess.run([*MODULE, "start", "--no-accounting", tmp_path], capture_output=True)).returncode:
        pytest.skip(f"no Slurm here: {started.stderr.decode()}")
    try:
        assert started.stdout.decode() == f"export SLURM_CONF={tmp_path}/slurm.conf\n"
        again = subprocess.run([*MODULE, "start", "--no-accounting", tmp_path], capture_output=True)
        assert (again.returncode, again.stderr.decode()) == (
            1,
            f"{tmp_path}: a cluster is running here; stop it first\n",
        )
        said = subprocess.run([*MODULE, "status", tmp_path], capture_output=True, text=True)
        assert "running: munged, n1, n2, slurmctld\nn1: idle\nn2: idle\n" in said.stdout
        job = submit(cluster, "sleep 300", "--nodelist=n1")

        def sleeping() -> list[int]:
            """What the job does; it is said to run a moment before it does, and daemons fork for a moment, too."""
            return [pid for pid in processes.every(cluster.folder) if _command(pid) == b"sleep\x00300\x00"]

        wait_for(lambda: state(cluster, job) == "RUNNING" and bool(sleeping()))
        for name in ("n1", "slurmctld"):  # the daemons die, and the job's step continues without them
            processes.kill([int((tmp_path / f"{name}.pid").read_text())])
        assert cluster.running() == ["munged", "n2"]
        assert sleeping()
        assert len(processes.every(cluster.folder)) >= 4
    finally:
        subprocess.run([*MODULE, "stop", tmp_path], check=True)
    assert processes.every(cluster.folder) == []
    assert subprocess.run([*MODULE, "status", tmp_path], capture_output=True).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_start_that_is_cut_off_leaves_nothing_running(unaccounted, tmp_path, number):
    """On a signal it cleans up itself; if it is killed, a guard process cleans up."""
    cluster = DevCluster(tmp_path)
    command = [*MODULE, "start", "--no-accounting", str(tmp_path), "--while-alive"]
    code = f"import os; os.execv({MODULE[0]!r}, {command!r} + [str(os.getpid())])"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as start:
        wait_for(lambda: "munged" in cluster.running())
        start.send_signal(number)
        assert start.wait(60) != 0
    wait_for(lambda: not processes.every(cluster.folder))
    assert cluster.running() == []


def test_a_cluster_ends_with_the_process_that_wanted_it(unaccounted, tmp_path):
    cluster = DevCluster(tmp_path)
    with subprocess.Popen(["sleep", "300"]) as wanted_by:
        cluster.start(Settings(accounting=False), while_alive=wanted_by.pid)
        assert "slurmctld" in cluster.running()
        wanted_by.kill()
    wait_for(lambda: not processes.every(cluster.folder))


def test_a_daemon_that_does_not_come_up_is_named_with_its_log_and_nothing_is_left(unaccounted, tmp_path, monkeypatch):
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "slurmctld").write_text("#!/bin/sh\necho 'no such luck'\nexit 1\n")
    (broken / "slurmctld").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    cluster = DevCluster(tmp_path / "cluster")
    with pytest.raises(ClusterError, match=r"slurmctld ended; see .*slurmctld\.log and slurmctld\.out: no such luck"):
        cluster.start(Settings(accounting=False))
    assert processes.every(cluster.folder) == []


def test_a_folder_too_deep_for_a_socket_is_refused(unaccounted, tmp_path):
    with pytest.raises(ClusterError, match="too long for the socket"):
        DevCluster(tmp_path / ("x" * 100)).start(Settings(accounting=False))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nodes: {n1: 2, n1: 3}", "duplicate key 'n1'"),
        ("node: {n1: 2}", "node: unknown key"),
        ("nodes: {slurmctld: 1}", "nodes: slurmctld is a name that the cluster needs itself; use another"),
        ("nodes: {a b: 1}", "nodes.a b.[key]: String should match pattern"),
        ("partitions: {gpu: {nodes: [n3]}}", "partitions.gpu.nodes: there is no node n3 (nodes: n1, n2)"),
        ("partitions: {gpu: {tier: 0}}", "partitions.gpu.tier: Input should be greater than or equal to 1, not 0"),
        ("preempt_mode: SUSPEND", "preempt_mode: Input should be 'REQUEUE' or 'CANCEL', not 'SUSPEND'"),
        ("wrappers: {scancel: {}}", "wrappers.scancel.[key]: Input should be 'sbatch' or 'squeue'"),
        ("locale: german", "locale: String should match pattern"),
        ("slurm_conf: a line", "slurm_conf: Input should be a valid tuple"),
        ("[]", "not a mapping of keys to values"),
    ],
)
def test_a_wrong_configuration_is_one_line_with_file_and_field(tmp_path, written, message):
    path = tmp_path / "cluster.yaml"
    path.write_text(written)
    with pytest.raises(DefinitionError) as raised:
        Settings.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_an_option_of_the_command_line_comes_before_the_file(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"max_array_size": 50, "grace": 3}))
    assert Settings.load(path, grace=7) == Settings(max_array_size=50, grace=7)
    assert Settings.load(None) == Settings()


def test_start_with_a_wrong_configuration_exits_with_2_and_starts_nothing(tmp_path):
    (tmp_path / "cluster.yaml").write_text("preempt_mode: 3")
    command = [*MODULE, "start", "--config", tmp_path / "cluster.yaml", tmp_path / "cluster"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "cluster").exists()


def test_a_wrapper_waits_and_passes_on_the_exit_code(tmp_path):
    settings = Settings(wrappers={"squeue": Wrapper(after="at the end", delay=0.3)})
    cluster = DevCluster(tmp_path)
    cluster.write_files(settings)
    began = time.monotonic()
    done = subprocess.run(["squeue", "--no-such"], env=cluster.environment(), capture_output=True, text=True)
    assert time.monotonic() - began >= 0.3
    assert (done.returncode, done.stdout) == (1, "at the end\n")
