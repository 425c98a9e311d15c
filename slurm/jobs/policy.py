"""When a pack gets another attempt, and when it is split in half after running out of memory.

The same policy applies on a cluster and on this machine. This file imports no torch and calls no scheduler.
"""

from typing import Any

from scorer_core.config import RunConfig
from scorer_core.record_forms import HalvedRecord, read_record
from scorer_core.records import HALVED, PackFolder
from scorer_core.support.errors import RecordError, UserCodeError, reason
from scorer_core.support.files import write_json
from scorer_core.support.text import count

MAX_ATTEMPTS_WITHOUT_PROGRESS = 2  # attempts that commit no new step


def attempt_history(folder: PackFolder, submission: str) -> dict[str, Any]:
    """The part of a pack's state that all attempts of one submission share: the step at which each of them started."""
    before = folder.state()
    starts = before.get("starts", []) if before.get("submission") == submission else []
    return {"submission": submission, "starts": [*starts, folder.committed_step()]}


def reason_to_stop_retrying(folder: PackFolder, starts: list[int], max_attempts: int) -> str | None:
    """Why the attempt that starts last in `starts` would not help; None if it may start.

    `starts` has the first step of each attempt of a submission.
    """
    error = folder.state().get("error")
    why = f"; the last one: {error}" if error else ""
    if len(starts) > max_attempts:
        return f"not finished in {count(max_attempts, 'attempt')} (max_attempts){why}"
    recent = starts[-1 - MAX_ATTEMPTS_WITHOUT_PROGRESS :]
    if len(recent) > MAX_ATTEMPTS_WITHOUT_PROGRESS and len(set(recent)) == 1:
        return f"no progress in {MAX_ATTEMPTS_WITHOUT_PROGRESS} attempts, both from step {recent[0]:,}{why}"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Is it an out-of-memory error of a GPU or of the host, raised by Python, numpy or torch?"""
    if isinstance(error, UserCodeError) and error.__cause__:
        error = error.__cause__
    messages = ("DefaultCPUAllocator", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(word in reason(error) for word in messages)


def is_device_fault(error: BaseException) -> bool:
    """Is it an error of the GPU while it trains: ECC, an illegal access, ...?"""
    return "CUDA error" in reason(error)


def has_ended(folder: PackFolder, submission: str) -> bool:
    """Is this pack done, cancelled, failed or started by a later submission, so that `submission` must not start it?

    If its records cannot be read, it is started: the attempt says what is wrong.
    """
    try:
        state = folder.state()
        last = state.get("submission", "")
        failed = last == submission and state.get("phase") == "failed"
        later = last.isdecimal() and submission.isdecimal() and int(last) > int(submission)
        return failed or later or folder.cancelled or bool(folder.done())
    except (OSError, RecordError):
        return False


def halves(folder: PackFolder) -> list[PackFolder]:
    """The two packs that this one was split into; empty if it was not split."""
    halved = read_record(folder.path / HALVED, HalvedRecord)
    return [PackFolder(folder.path.parent / name) for name in halved.into] if halved else []


def halve(folder: PackFolder) -> bool:
    """Replace `folder` by two packs of half the lanes; False if it has one lane or is itself a half.

    The halves start at step 0. Runs are deterministic, so only time is lost. A second call changes nothing, and the old
    `pack.json` is removed last, so that each run is in a pack even if this process is killed.
    """
    configs = folder.configs()
    if len(configs) == 1 or folder.run_ids_and_origin()[1]:
        return False
    middle = (len(configs) + 1) // 2
    packs, compiled, allowed = folder.path.parent, folder.compiled(), folder.eager_allowed()
    parts: list[list[RunConfig]] = [configs[:middle], configs[middle:]]
    into = [
        PackFolder.create(packs, part, compiled, eager_allowed=allowed, halved_from=folder.pack_id).pack_id
        for part in parts
    ]
    write_json(folder.path / HALVED, {"into": into, "lanes": len(configs), "because": "out of memory"})
    (folder.path / "pack.json").unlink()
    return True
