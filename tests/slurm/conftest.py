"""Real Slurm clusters for the tests, skipped, with the reason, where none can run."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.devcluster.cluster import DevCluster, why_not
from tests.devcluster.settings import Partition, Settings, Wrapper
from tests.slurm.workplace import long_sweep, metrics, train_here, wait_for


def _running(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Iterator[DevCluster]:
    reason = why_not(settings.accounting)
    if reason:
        pytest.skip(f"no Slurm here: {reason}")
    cluster = DevCluster(tmp_path_factory.mktemp("slurm"))
    cluster.start(settings, while_alive=os.getpid())
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def accounted(tmp_path_factory) -> Iterator[DevCluster]:
    """A cluster with slurmdbd. Its arrays are short, so that few jobs are too many for one."""
    yield from _running(tmp_path_factory, Settings(max_array_size=4, grace=15, kill_wait=2))


@pytest.fixture(scope="session")
def unaccounted(tmp_path_factory) -> Iterator[DevCluster]:
    """A cluster that keeps no accounts: a job that has ended is forgotten after a while, and sacct only fails."""
    yield from _running(tmp_path_factory, Settings(accounting=False, grace=4, kill_wait=20))


GPU_NODES = ("gn-a100-01", "gn-a100-02")
FOREIGN = Settings(
    accounting=False,
    max_array_size=50,
    node_timeout=5,
    kill_wait=2,
    nodes={"gn-a100-01": 2, "gn-a100-02": 2, "cpu07": 0},
    partitions={
        "gpu": Partition(nodes=GPU_NODES, grace=15),
        "cpu": Partition(nodes=("cpu07",)),
        "gpu_urgent": Partition(nodes=GPU_NODES, tier=20, preempt_mode="OFF"),
    },
    preempt_mode="CANCEL",
    job_requeue=False,
    slurm_conf=(
        "SelectTypeParameters=CR_Core_Memory",
        "DefMemPerCPU=2000",
        "JobAcctGatherFrequency=1",
        "JobAcctGatherParams=OverMemoryKill",
    ),
    wrappers={
        "sbatch": Wrapper(before="HELIOS: 3|4 filesystems ok", after="Used 3412 of 10000 core-hours (34%)\n17"),
        "squeue": Wrapper(before="HELIOS: maintenance on 2026-12-01", after="a|b|c|d|e|f\n\n(end of the queue)"),
    },
    home="home of ann",
    locale="de_DE.UTF-8",
)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory) -> Iterator[DevCluster]:
    """A cluster that another site configured: little in it is as in the other two."""
    yield from _running(tmp_path_factory, FOREIGN)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> dict[str, bytes]:
    """What the small sweep computes where nothing happens to it."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_here(folder)
    return metrics(folder / "small" / "packs")


@pytest.fixture(scope="session")
def long(tmp_path_factory) -> dict[str, bytes]:
    """The same of the sweep that lasts long enough to be interrupted often."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_here(folder, long_sweep())
    return metrics(folder / "small" / "packs")


@pytest.fixture
def clean(accounted) -> Iterator[DevCluster]:
    """The cluster with accounting; afterwards its queue is emptied."""
    yield accounted
    accounted.cancel_all()
    wait_for(lambda: not accounted.command("squeue", "--noheader"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails on a cluster shows the cluster, and leaves no job behind that would disturb the next test."""
    report = yield
    arguments = getattr(item, "funcargs", {}).values() if report.failed else ()
    for cluster in {argument for argument in arguments if isinstance(argument, DevCluster)}:
        report.sections.append((f"Slurm in {cluster.folder}", cluster.described()))
        cluster.cancel_all()
        cluster.resume_nodes()
    return report


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Puts a script in front of PATH; each line of its `arguments` file is one call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(name: str, body: str) -> Path:
        (folder / name).write_text(f'#!/bin/bash\necho "$@" >> "{folder}/{name}.calls"\n{body}\n')
        (folder / name).chmod(0o755)
        return folder / f"{name}.calls"

    return put
