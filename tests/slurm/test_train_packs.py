"""One job that trains several packs: each on its own GPU and cores, and with the metrics of an uninterrupted run.

The packs train on the CPU; the names of GPUs are made up. That all packs stop when their job is told to, and what they
compute afterwards, is in test_whole_nodes.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from slurm.jobs.train_packs import slots
from tests.slurm.test_job import CONFIGS, SETTINGS, computed, finish, same_metrics, wait_for

TOKENS = "GPU-1a,MIG-2b"  # verbatim: an index would not do for MIG
LONG = 40_000  # steps of a pack that is interrupted
SHORT = 160  # of one that only comes to its end: it has no update, which takes seconds to trace


def packs(folder: Path, count: int, steps: int = LONG) -> list[PackFolder]:
    """Packs of one run each."""
    settings = {**SETTINGS, "total_steps": steps}
    return [PackFolder.create(folder, [RunConfig(**settings, seed=seed)]) for seed in range(count)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> list[pa.Table]:
    """The metrics of two `packs`, trained one after the other."""
    folders = packs(tmp_path_factory.mktemp("uninterrupted"), 2)
    assert [finish(pack) for pack in folders] == [0, 0]
    return [computed(pack) for pack in folders]


class Job:
    """The process of a job that trains `folders`, two at a time."""

    def __init__(self, folders: list[PackFolder], tokens: str | None = TOKENS, device: str = "cpu"):
        self.folders = folders
        words = "--at-once", "2", "--device", device, "--commit-seconds", "0.3", "--submission", "1"
        environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slurm.jobs.train_packs", *words, *[str(folder.path) for folder in folders]],
            env=environment | ({} if tokens is None else {"CUDA_VISIBLE_DEVICES": tokens}),
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log = ""

    def code(self) -> int:
        _, self.log = self.process.communicate()
        assert "Traceback" not in self.log, self.log
        return self.process.returncode

    def workers(self) -> dict[int, PackFolder]:
        """The processes that it has started, by their ids."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().decode().split("\0")
                if "slurm.jobs.train_pack" in words and words[-1:] == [""] and "--parent" in words:
                    found |= {int(path.parent.name): pack for pack in self.folders if str(pack.path) in words}
        return found

    def training(self) -> dict[int, PackFolder]:
        """Those workers that train, and have committed."""
        return {
            pid: pack for pid, pack in self.workers().items()
            if pack.state().get("pid") == pid and pack.state().get("phase") == "training" and pack.committed_step()
        }  # fmt: skip

    def wait_until_two_train(self) -> dict[int, PackFolder]:
        wait_for(lambda: len(self.training()) == 2 or self.process.poll() is not None)
        found = self.training()
        assert len(found) == 2, "a machine so fast needs longer packs"
        return found


@pytest.fixture
def job() -> Iterator[Callable[..., Job]]:
    started: list[Job] = []

    def start(*arguments, **options) -> Job:
        started.append(Job(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        for pid in one.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if one.process.stderr and not one.process.stderr.closed:
            one.process.communicate()


def test_each_slot_has_a_token_as_it_is_written_and_cores_of_its_own():
    found = slots(4, ["GPU-1a", "MIG-2b", "0", "3"], list(range(10)))
    assert [slot.gpu for slot in found] == ["GPU-1a", "MIG-2b", "0", "3"]
    assert [sorted(slot.cores or ()) for slot in found] == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    assert [slot.gpu for slot in slots(2, ["0"], [4, 5])] == [None, None], "no two packs share a GPU"
    assert [slot.cores for slot in slots(3, [], [4, 5])] == [None] * 3


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only")
def test_two_packs_at_a_time_have_their_own_gpu_and_cores_and_the_next_starts_when_one_ends(job, tmp_path):
    folders = packs(tmp_path, 3, steps=SHORT)
    running = job(folders)
    seen: dict[int, tuple[str, str]] = {}
    most = 0
    while running.process.poll() is None:
        now = running.workers()
        most = max(most, len(now))
        for pid in now:
            with suppress(OSError):
                environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
                (gpu,) = [entry for entry in environment if entry.startswith("CUDA_VISIBLE_DEVICES=")]
                status = Path(f"/proc/{pid}/status").read_text()
                (cores,) = [line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list")]
                seen[pid] = gpu, cores
        time.sleep(0.2)
    assert running.code() == 0
    assert most == 2
    assert len(seen) == 3
    assert {gpu for gpu, _ in seen.values()} == {"CUDA_VISIBLE_DEVICES=GPU-1a", "CUDA_VISIBLE_DEVICES=MIG-2b"}
    assert len({cores for _, cores in seen.values()}) == 2, "the third one has what the first of the two had"
    for folder in folders:
        assert folder.done()
        assert f"pack {folder.pack_id} starts on GPU " in running.log
        assert f"pack {folder.pack_id}: finished" in running.log


@pytest.mark.slow
def test_a_gpu_on_which_two_processes_were_killed_is_named_and_not_used_any_more(job, tmp_path, uninterrupted):
    folders = packs(tmp_path, 2)
    running = job(folders)
    pid, pack = min(running.wait_until_two_train().items())
    token = [entry for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if entry.startswith("CUDA_VIS")]
    gpu = token[0].partition("=")[2]
    for attempt in (1, 2):
        wait_for(lambda attempt=attempt: pack.state().get("attempt") == attempt and pack.state()["phase"] == "training")
        os.kill(pack.state()["pid"], signal.SIGKILL)
    assert running.code() == 0
    assert f"GPU {gpu} of {os.uname().nodename} is not used any more: 2 processes failed on it" in running.log
    starts = [line for line in running.log.splitlines() if f"pack {pack.pack_id} starts on GPU {gpu}" in line]
    assert len(starts) == 2, "after the first time it starts again on the same GPU: the other one is in use"
    assert running.log.count(f"pack {pack.pack_id}: starts again: killed by SIGKILL") == 2
    last = [line for line in running.log.splitlines() if f"pack {pack.pack_id} starts on GPU" in line][-1]
    (other,) = set(TOKENS.split(",")) - {gpu}
    assert f"starts on GPU {other}" in last
    assert all(map(same_metrics, folders, uninterrupted))


@pytest.mark.slow
def test_a_pack_that_is_cancelled_stops_alone_and_the_next_one_takes_its_place(job, tmp_path, uninterrupted):
    folders = packs(tmp_path, 2)
    third = PackFolder.create(tmp_path, [CONFIGS[1]])
    running = job([*folders, third])
    stopped = min(running.wait_until_two_train().values(), key=folders.index)
    stopped.mark_cancelled(True)
    assert running.code() == 0
    assert [bool(folder.done()) for folder in folders] == [folder != stopped for folder in folders]
    assert third.done()
    assert stopped.state()["phase"] == "interrupted"
    assert f"pack {stopped.pack_id}: cancelled" in running.log
    assert job(folders).code() == 0, "a cancelled pack is not started again"
    assert not stopped.done()
    stopped.mark_cancelled(False)
    assert job(folders).code() == 0
    assert all(map(same_metrics, folders, uninterrupted))


def test_a_pack_that_failed_is_not_started_again_by_the_same_submission(job, tmp_path):
    bad, good = packs(tmp_path, 2, steps=SHORT)
    (bad.path / "pack.json").write_text(json.dumps({"configs": "damaged"}))
    assert job([bad, good]).code() == 1
    assert good.done()
    bad.write_state(phase="failed", error="x", submission="1")
    assert job([bad, good]).code() == 0, "nothing is left to do"
    assert bad.state()["phase"] == "failed"


def test_packs_that_a_later_submission_has_are_left_to_it(job, tmp_path):
    waits, ran = packs(tmp_path / "sweep" / "packs", 2)
    later = tmp_path / "sweep" / "submissions" / "2"
    later.mkdir(parents=True)
    (later / "packs.txt").write_text(f"{waits.pack_id}\n")
    ran.write_state(phase="interrupted", submission="2")
    running = job([waits, ran])
    assert running.code() == 0
    assert "starts" not in running.log
    assert not waits.attempts() + ran.attempts()


@pytest.mark.parametrize(
    ("device", "tokens"), [("cuda", None), ("cuda", "GPU-1a"), ("cuda", "GPU-1a,GPU-1a"), ("auto", "GPU-1a")]
)
def test_with_fewer_gpus_than_packs_nothing_starts_and_each_pack_says_why(job, tmp_path, device, tokens):
    folders = packs(tmp_path, 2)
    running = job(folders, tokens, device)
    assert running.code() == 78
    for folder in folders:
        state = folder.state()
        assert state["phase"] == "failed"
        assert "gave this job too few GPUs for packs_per_job: 2; CUDA_VISIBLE_DEVICES" in state["error"]
        assert not folder.attempts()
