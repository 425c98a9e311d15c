"""An output folder that is full, read-only or damaged in mid-run: a clear failure, the last commit whole, and retry."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.slurm.workplace import Workplace, metrics, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return disk / "filler"


def gone(place: Workplace) -> bool:
    """Slurm has nothing of it any more, or it was queued again for another try."""
    return not place.jobs("RUNNING", "COMPLETING")


def went_on_from_the_last_commit(place: Workplace, small: dict[str, bytes], committed: int) -> None:
    assert committed >= 800
    place.scorer("retry")
    place.wait_until_done(2)
    assert place.pack.state()["starts"][0] == committed
    logs = (path.read_text() for path in (place.pack.path / "attempts").glob("*/stderr.log"))
    assert not any("corrupt checkpoint" in log for log in logs)
    assert metrics(place.packs) == small


def test_a_full_output_folder(unaccounted, small, disk):
    place = Workplace(unaccounted, disk)
    place.scorer("submit")
    place.wait_until_training(step=800)
    filler = fill(disk)
    wait_for(lambda: gone(place), every=0.3)
    committed = place.pack.committed_step()
    standing = place.status()
    assert standing["counts"].keys() <= {"failed", "lost"}
    filler.unlink()
    went_on_from_the_last_commit(place, small, committed)
    if "failed" in standing["counts"]:
        assert "No space left on device" in next(iter(standing["packs"].values()))["note"]


def test_an_output_folder_that_becomes_read_only(unaccounted, small, tmp_path):
    """A read-only mount of the folder comes to lie over it, as files that are open would keep it from being set so."""
    place = Workplace(unaccounted, tmp_path)
    place.scorer("submit")
    place.wait_until_training(step=800)
    mounted = subprocess.run(["mount", "--bind", place.outputs, place.outputs], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place.outputs], check=True)
        wait_for(lambda: gone(place), every=0.3)
        assert place.status()["counts"].keys() <= {"failed", "lost"}
        refused = place.run("retry")
        assert refused.returncode
        assert "Read-only file system" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    finally:
        subprocess.run(["umount", "--lazy", place.outputs], check=True)
    assert "Read-only file system" in (place.pack.path / "attempts" / "1" / "stderr.log").read_text()
    went_on_from_the_last_commit(place, small, place.pack.committed_step())


def test_a_corrupt_checkpoint(unaccounted, small, tmp_path):
    """The newest is damaged and the one before serves; then both are, and it starts at step 0. It is requeued twice."""
    place = Workplace(unaccounted, tmp_path)
    place.scorer("submit")
    damaged: list[list[Path]] = []
    for attempt in (1, 2):
        place.wait_until_training(attempt, step=800)
        (job,) = place.jobs()
        checkpoints = place.pack.path / "checkpoint"
        wait_for(lambda folder=checkpoints: len(list(folder.glob("*.ckpt"))) == 2)
        unaccounted.command("scontrol", "requeue", job)
        wait_for(lambda: place.jobs("PENDING"))
        damaged.append(sorted(checkpoints.glob("*.ckpt"))[-attempt:])
        for path in damaged[-1]:
            path.write_bytes(path.read_bytes()[:1000])
        place.wait_until_training(attempt + 1)
    place.wait_until_done(2)
    for attempt, paths in enumerate(damaged, start=2):
        log = (place.pack.path / "attempts" / str(attempt) / "stderr.log").read_text()
        assert log.count("corrupt checkpoint") == len(paths)
        assert all(f"{path}: corrupt checkpoint" in log for path in paths)
        assert ("training starts again from step 0" in log) == (len(paths) == 2)
    assert metrics(place.packs) == small
