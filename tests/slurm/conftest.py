"""A real Slurm for the tests, one with accounting and one without; skipped, with the reason, where it cannot run."""

import os
from collections.abc import Iterator

import pytest

from slurm.devcluster.cluster import DevCluster, why_not
from slurm.devcluster.settings import Settings
from tests.slurm.workplace import LONG, uninterrupted


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
    yield from _running(tmp_path_factory, Settings(accounting=False, grace=4, kill_wait=2))


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> dict[str, bytes]:
    """What the small sweep computes where nothing happens to it."""
    return uninterrupted(tmp_path_factory.mktemp("uninterrupted"))


@pytest.fixture(scope="session")
def long(tmp_path_factory) -> dict[str, bytes]:
    """The same of the sweep that lasts long enough to be interrupted often."""
    return uninterrupted(tmp_path_factory.mktemp("uninterrupted"), LONG)
