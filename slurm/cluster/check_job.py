"""A short job that checks a node, with the same request, setup and environment as all other jobs.

`run_check_job` waits on the login node; the job runs `python -m slurm.cluster.check_job FOLDER DEVICE SPEEDS`. They
share the folder, next to the sweeps. The job checks that it can read and write there, that it cannot take a lock of the
login node, and that it can train on the device. It also measures how fast it trains.
"""

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

from scorer_core.compiler import compiler_fault
from scorer_core.devices import ANY_GAME, DeviceError, pytorch_build, use_device
from scorer_core.provenance import CODE_ROOT
from scorer_core.support.files import read_json, write_json
from scorer_core.support.locks import locked, try_lock
from slurm.backend import Finding, QueuedJob, SchedulerError
from slurm.cluster import losses, scheduler, script
from slurm.jobs import probe
from slurm.places import speeds_file
from slurm.profile import Profile
from slurm.submissions.snapshot import check_code
from slurm.submissions.submission import JobArray, Submission

POLL_SECONDS = 2.0  # of the folder
ASK_SECONDS = 30.0  # of Slurm
CLOCKS_APART_SECONDS = 5.0  # a smaller difference can be the delay of the file system
NONCE, LOCK, SEEN = "nonce.json", "lock", "seen.json"


def run_check_job(profile: Profile, outputs: Path, timeout: float, on_wait: Callable[[str], None]) -> list[Finding]:
    """Submit the check job under `profile`, wait for it at most `timeout` seconds, and return its findings.

    Raises:
        RecordError: if `outputs` cannot be written here.
    """
    folder = outputs.resolve() / f".probe-{uuid.uuid4().hex[:8]}"
    submission = Submission(folder=folder, profile=profile, code=CODE_ROOT, packs=["probe"])
    request = JobArray(name=f"scorer{folder.name}")
    submission.write()
    write_json(folder / NONCE, folder.name)
    (folder / "logs").mkdir()
    speeds = speeds_file(folder.parent, profile)
    body = shlex.join([sys.executable, "-m", "slurm.cluster.check_job", str(folder), profile.job_device, str(speeds)])
    try:
        with locked(folder / LOCK):
            try:
                job = script.executor(submission, request).send(body)
            except SchedulerError as error:
                return [Finding("problem", "probe", f"refused: {error}", "change the profile as it says")]
            return list(_wait(folder, job, timeout, on_wait))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, job: str, timeout: float, on_wait: Callable[[str], None]) -> Iterator[Finding]:
    started = asked = time.monotonic()
    state = "PENDING"
    while (seen := read_json(folder / SEEN)) is None:
        now = time.monotonic()
        if now - asked > ASK_SECONDS or now - started > timeout:
            asked, state = now, _state(job) or state
        if state == "gone" or now - started > timeout:
            yield from _without_result(folder, job, state, now - started)
            return
        on_wait(f"job {job}: {state}")
        time.sleep(POLL_SECONDS)
    yield from _findings(seen, folder.name, time.time())


def _state(job: str) -> str | None:
    """State and reason of a job; `gone` if it has left the queue, None if Slurm does not answer."""
    try:
        answer = scheduler.run_command("squeue", f"--jobs={job}", f"--format={scheduler.MARK}%T (%r)")
        rows = scheduler.marked("squeue", answer)[1:]
        return rows[0] if rows else "gone"
    except SchedulerError as error:
        return "gone" if "Invalid job id" in str(error) else None


def _without_result(folder: Path, job: str, state: str, seconds: float) -> Iterator[Finding]:
    """The finding if the job wrote no result: it did not start, it failed, or it wrote to another folder."""
    found = [losses.explain(log, last_line=True) for log in (folder / "logs").iterdir()]
    loss = next((loss for loss in found if loss), None)
    if state != "gone":
        scheduler.cancel([QueuedJob("running", job=job)])
        advice = "scorer cancelled it; see the reason, or wait longer with --wait"
        yield Finding("problem", "probe", f"job {job} is {state} after {seconds:.0f} s", advice)
    elif loss:
        advice = loss.advice.partition(", then: ")[0] or "fix `setup` and `environment` in the profile"
        yield Finding("problem", "probe", f"job {job} failed: {loss.line}", advice)
    else:
        advice = "set --outputs to a folder on a file system that the nodes share"
        yield Finding("problem", "probe", f"job {job} ended without a log or a result in {folder.parent}", advice)


def _findings(seen: dict[str, Any], nonce: str, now: float) -> Iterator[Finding]:
    yield Finding("ok", "probe", f"ran on {seen['host']} with Python {seen['python']}, PyTorch {seen['torch']}")
    if seen["device_error"]:
        yield Finding("problem", "device of a job", *seen["device_error"])
    else:
        yield Finding("ok", "device of a job", seen["device"])
    if seen["compiler"]:
        yield Finding("note", "compiler", seen["compiler"], "long runs train without torch.compile, slower")
    elif seen["needs_compiler"]:
        yield Finding("ok", "compiler", "torch.compile has one")
    if seen["speed_error"]:
        yield Finding("note", "speed", f"not measured: {seen['speed_error']}", "times are estimated less exactly")
    elif seen["speed"]:
        yield Finding("ok", "speed", seen["speed"])
    if seen["nonce"] != nonce:
        yield Finding(
            "problem", "output folder", "a job does not see files written on this node", "use another --outputs"
        )
    elif seen["lock_free"]:
        advice = "two jobs could train one pack; use a file system with locks (NFSv4, Lustre with -o flock)"
        yield Finding(
            "problem", "output folder", "jobs can read and write it, but file locks do not work across nodes", advice
        )
    else:
        yield Finding("ok", "output folder", "jobs can read and write it, and file locks work across nodes")
    apart = abs(now - seen["time"])
    if apart > CLOCKS_APART_SECONDS + POLL_SECONDS:
        advice = "ask the administrators; heartbeats are compared across nodes"
        yield Finding("note", "clocks", f"this node and the job's node differ by {apart:.0f} s", advice)


def main(folder: Path, device_name: str, speeds: Path) -> None:
    """Run in the job: write into `folder` what it finds.

    `device_name` is the device on which packs would train, and `speeds` the file of speeds of the profile's partition.
    """
    check_code()
    device, error, speed, speed_error = "", None, "", ""
    needs_compiler, compiler = False, None
    try:
        used = use_device(device_name, list(ANY_GAME))
        device = ", ".join([used.name, *(f"{key} {value}" for key, value in (used.gpu or {}).items())])
        needs_compiler = used.torch_device.type != "cpu"
        compiler = compiler_fault() if needs_compiler else None
    except DeviceError as reason:
        error = reason.found, reason.advice
    if not error:
        try:
            speed = probe.measure_here(speeds, device_name)
        except RuntimeError as reason:
            speed_error = str(reason)
    with try_lock(folder / LOCK) as lock:
        free = lock is not None  # although the login node has locked it
    seen = {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "torch": pytorch_build()[0],
        "device": device,
        "device_error": error,
        "needs_compiler": needs_compiler,
        "compiler": compiler,
        "speed": speed,
        "speed_error": speed_error,
        "nonce": read_json(folder / NONCE),
        "lock_free": free,
        "time": time.time(),
    }
    write_json(folder / SEEN, seen)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
