"""Jobs on a GPU whose sweep has a compile cache: the same bits as without it, and nothing is in their way."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from scorer_core import compile_cache
from scorer_core.devices import open_device
from scorer_core.records import PackFolder
from scorer_core.support.locks import locked
from slurm.jobs import train_pack
from slurm.status import read_status
from slurm.submissions import cleaning
from tests.slurm.test_job import CONFIGS, code_of, computed, same_metrics, start, step_of, wait_for
from tests.slurm.test_status import planned  # noqa: F401, a fixture

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
ON_GPU = ("--device", "cuda")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """Where jobs have their private folders. The compile caches of this machine are not used."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv(compile_cache.FOLDER, raising=False)
    return tmp_path / "tmp"


def new(packs: Path) -> PackFolder:
    return PackFolder.create(packs, CONFIGS, compiled=True)


def log(folder: PackFolder, attempt: int = 1) -> str:
    path = folder.path / "attempts" / str(attempt) / "stderr.log"
    return path.read_text() if path.exists() else ""


def counts(folder: PackFolder, attempt: int = 1) -> tuple[bool, int, int, int] | None:
    record = json.loads((folder.path / "attempts" / str(attempt) / "provenance.json").read_text())
    return tuple(record["compile_cache"].values()) if "compile_cache" in record else None


def lock_of_the_compiling_job(shared: Path) -> Path:
    gpu = open_device("cuda", ["minatar/breakout"])
    return shared / f"{compile_cache.key(CONFIGS[0].shape_id, len(CONFIGS), gpu.name, gpu.gpu)}.lock"


@needs_gpu
def test_a_job_that_waits_for_another_stops_on_a_signal_and_one_whose_user_chose_a_folder_does_not_wait(
    tmp_path, temporary, monkeypatch
):
    folder, shared = new(tmp_path / "packs"), tmp_path / "compiled"
    lock = lock_of_the_compiling_job(shared)
    with locked(lock):
        process = start(folder, *ON_GPU, "--compile-cache", str(shared))
        wait_for(lambda: f"waiting for another job to compile this kind of pack (it holds {lock})" in log(folder))
        assert folder.state()["phase"] == "starting"
        process.send_signal(signal.SIGTERM)
        assert code_of(process) == train_pack.INTERRUPTED
        assert folder.state()["phase"] == "interrupted"
        assert list(temporary.glob("scorer-compiled-*")) == []

        monkeypatch.setenv(compile_cache.FOLDER, str(tmp_path / "mine"))
        process = start(folder, *ON_GPU, "--compile-cache", str(shared))
        wait_for(lambda: folder.state()["phase"] == "training")
        os.kill(process.pid, signal.SIGKILL)
        assert "waiting" not in log(folder, 2)
    assert [path.name for path in shared.iterdir()] == [lock.name]


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[PackFolder, bytes]:
    """A pack that was compiled because nothing was published, and what it published."""
    place = tmp_path_factory.mktemp("first")
    folder = new(place / "packs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(compile_cache.FOLDER, raising=False)  # PyTorch sets it in a process that compiles
        assert code_of(start(folder, *ON_GPU, "--compile-cache", str(place / "compiled"))) == 0
    (published,) = (place / "compiled").glob("*.zip")
    return folder, published.read_bytes()


@pytest.fixture
def shared(tmp_path, first) -> Path:
    """A folder in which `first` has published."""
    path = lock_of_the_compiling_job(tmp_path / "compiled").with_suffix(".zip")
    path.parent.mkdir()
    path.write_bytes(first[1])
    return path.parent


@pytest.mark.slow
@needs_gpu
def test_copied_code_gives_the_bits_of_the_job_that_compiled_also_after_a_stop(tmp_path, temporary, first, shared):
    copied, found, compiled, runs = counts(first[0]) or (True, 0, 0, 0)
    assert (copied, found) == (False, 0)
    assert compiled > 0
    assert runs > 0
    assert f"compiled code of this job: 0 graphs found, {compiled} compiled, {runs} runs of a compiler" in log(first[0])

    folder = new(tmp_path / "packs")
    process = start(folder, *ON_GPU, "--compile-cache", str(shared), "--commit-seconds", "0.05")
    wait_for(lambda: step_of(folder) > 400 and counts(folder) is not None)
    process.send_signal(signal.SIGTERM)
    assert code_of(process) in (0, train_pack.INTERRUPTED)
    assert counts(folder) == (True, compiled, 0, 0)
    assert f"compiled code copied from another job: {compiled} graphs found, 0 compiled, 0 runs of a compiler" in log(
        folder
    )
    assert code_of(start(folder, *ON_GPU, "--compile-cache", str(shared))) == 0
    assert same_metrics(folder, computed(first[0]))
    assert [path.read_bytes() for path in shared.iterdir()] == [first[1]]
    assert list(temporary.glob("scorer-compiled-*")) == []


def test_clean_removes_compiled_code_once_all_packs_are_finished(planned, tmp_path):  # noqa: F811
    compiled = planned.folder / "compiled"
    compiled.mkdir()
    (compiled / ".k.zip.1234.tmp").touch()
    *others, last = (pack.folder for pack in planned.packs)
    for pack in others:
        pack.finish({run_id: {"status": "done", "verdicts": []} for run_id in pack.run_ids()})
    assert compiled not in cleaning.leftovers(read_status(planned.folder))
    last.finish({run_id: {"status": "done", "verdicts": []} for run_id in last.run_ids()})
    assert compiled in cleaning.leftovers(read_status(planned.folder))
    compiled.rename(tmp_path / "elsewhere")
    compiled.symlink_to(tmp_path / "elsewhere")
    assert compiled not in cleaning.leftovers(read_status(planned.folder))
