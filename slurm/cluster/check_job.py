"""A small job that looks at a cluster from inside: the same request, setup and environment as every other job.

`look` runs on the login node and waits; the job runs `python -m slurm.cluster.check_job FOLDER`. They meet in a folder
beside the sweeps: can the job see it, write there, and is it kept from locking what the login node has locked?
"""

import fcntl
import os
import platform
import shlex
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scorer_core.provenance import CODE_ROOT
from scorer_core.records import open_lock, read_json, write_json
from slurm.backend import Finding, QueuedJob, SchedulerError
from slurm.cluster import losses, scheduler, script
from slurm.profile import Profile
from slurm.submissions.snapshot import check_code
from slurm.submissions.submission import JobArray, Submission

POLL_SECONDS = 2.0  # of the folder
ASK_SECONDS = 30.0  # of Slurm
CLOCKS_APART_SECONDS = 5.0  # less is how long a file takes to be seen
NONCE, LOCK, SEEN = "nonce.json", "lock", "seen.json"


def run_check_job(profile: Profile, outputs: Path, patience: float, on_wait: Callable[[str], None]) -> list[Finding]:
    """Submit the probe under `profile`, wait for it at most `patience` seconds, and say what it saw.

    Raises:
        RecordError: if `outputs` cannot be written here.
    """
    folder = outputs.resolve() / f".probe-{uuid.uuid4().hex[:8]}"
    submission = Submission(folder=folder, profile=profile, code=CODE_ROOT, packs=["probe"])
    request = JobArray(name=f"scorer{folder.name}")
    submission.write()
    write_json(folder / NONCE, folder.name)
    (folder / "logs").mkdir()
    body = shlex.join([sys.executable, "-m", "slurm.cluster.check_job", str(folder)])
    try:
        with open_lock(folder / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                job = script.executor(submission, request).send(body)
            except SchedulerError as error:
                return [Finding("problem", "probe", f"refused: {error}", "change the profile as it says")]
            return list(_wait(folder, job, profile, patience, on_wait))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(
    folder: Path, job: str, profile: Profile, patience: float, on_wait: Callable[[str], None]
) -> Iterator[Finding]:
    started = asked = time.monotonic()
    told = "PENDING"
    while (seen := read_json(folder / SEEN)) is None:
        now = time.monotonic()
        if now - asked > ASK_SECONDS or now - started > patience:
            asked, told = now, _state(job) or told
        if told == "gone" or now - started > patience:
            yield from _unseen(folder, job, told, now - started)
            return
        on_wait(f"job {job}: {told}")
        time.sleep(POLL_SECONDS)
    yield from _findings(seen, profile, folder.name, time.time())


def _state(job: str) -> str | None:
    """State and reason of a job, `gone` when Slurm has it no more, None when Slurm does not answer."""
    try:
        answer = scheduler.run_command("squeue", f"--jobs={job}", f"--format={scheduler.MARK}%T (%r)")
        rows = scheduler.marked("squeue", answer)[1:]
        return rows[0] if rows else "gone"
    except SchedulerError as error:
        return "gone" if "Invalid job id" in str(error) else None


def _unseen(folder: Path, job: str, told: str, seconds: float) -> Iterator[Finding]:
    """The probe left no word: it never began, it failed, or it wrote to another folder than this one."""
    found = [losses.explain(log, last_line=True) for log in (folder / "logs").iterdir()]
    loss = next((loss for loss in found if loss), None)
    if told != "gone":
        scheduler.cancel([QueuedJob("running", job=job)])
        advice = "it was cancelled; see the reason above, or wait longer with --wait"
        yield Finding("problem", "probe", f"job {job} is {told} after {seconds:.0f} s", advice)
    elif loss:
        advice = loss.advice.partition(", then: ")[0] or "fix `setup` and `environment`"
        yield Finding("problem", "probe", f"job {job} failed: {loss.line}", advice)
    else:
        advice = "put --outputs on a file system that the nodes share"
        yield Finding("problem", "probe", f"job {job} ended, and left neither log nor word in {folder.parent}", advice)


def _findings(seen: dict[str, Any], profile: Profile, nonce: str, now: float) -> Iterator[Finding]:
    yield Finding("ok", "probe", f"ran on {seen['host']} with Python {seen['python']}, PyTorch {seen['torch']}")
    gpu = seen["gpu"] or f"PyTorch sees none (CUDA_VISIBLE_DEVICES={seen['visible']})"
    if profile.gpus and profile.device != "cpu" and not seen["gpu"]:
        yield Finding(
            "problem", "GPU in a job", gpu, "does PyTorch fit the driver? `setup` may need `module load cuda`"
        )
    else:
        yield Finding("ok", "GPU in a job", gpu)
    if seen["nonce"] != nonce:
        yield Finding("problem", "output folder", "a job does not see what is written here", "use another --outputs")
    elif seen["lock_free"]:
        advice = "two jobs on one pack could both write; use a file system with locks (NFSv4, Lustre with -o flock)"
        yield Finding("problem", "output folder", "seen and written by a job, but locks do not reach it", advice)
    else:
        yield Finding("ok", "output folder", "seen, written and locked across nodes")
    apart = abs(now - seen["time"])
    if apart > CLOCKS_APART_SECONDS + POLL_SECONDS:
        advice = "ask the admins; heartbeats are compared across nodes"
        yield Finding("note", "clocks", f"{apart:.0f} s between this node's and the job's", advice)


def main(folder: Path) -> None:
    check_code()
    import torch

    with open_lock(folder / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True  # though the login node holds it
        except BlockingIOError:
            free = False
    seen = {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "nonce": read_json(folder / NONCE),
        "lock_free": free,
        "time": time.time(),
    }
    write_json(folder / SEEN, seen)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
