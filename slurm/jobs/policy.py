"""When a pack is given another attempt, and what changes in it: budgets of attempts, and lanes halved once.

No torch here, and no scheduler: the same policy holds on a cluster and on this machine.
"""

from typing import Any

from scorer_core.config import RunConfig
from scorer_core.records import HALVED, HalvedRecord, PackFolder, read_record, write_json
from scorer_core.support.errors import UserCodeError, reason

MAX_ATTEMPTS_WITHOUT_PROGRESS = 2  # attempts that end where they began


def attempt_history(folder: PackFolder, submission: str) -> dict[str, Any]:
    """The part of a pack's state that all attempts of one submission share: the step at which each of them started."""
    before = folder.state()
    starts = before.get("starts", []) if before.get("submission") == submission else []
    return {"submission": submission, "starts": [*starts, folder.committed_step()]}


def reason_to_stop_retrying(folder: PackFolder, starts: list[int], max_attempts: int) -> str | None:
    """Why another attempt, the last of `starts`, would be a loop and no help; None if it may go on."""
    last_words = folder.state().get("error")
    why = f"; the last one: {last_words}" if last_words else ""
    if len(starts) > max_attempts:
        return f"not finished in {max_attempts} attempts (max_attempts){why}"
    recent = starts[-1 - MAX_ATTEMPTS_WITHOUT_PROGRESS :]
    if len(recent) > MAX_ATTEMPTS_WITHOUT_PROGRESS and len(set(recent)) == 1:
        return f"no progress in {MAX_ATTEMPTS_WITHOUT_PROGRESS} attempts, both from step {recent[0]:,}{why}"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU or of the host, as Python, numpy and torch say it."""
    if isinstance(error, UserCodeError) and error.__cause__:
        error = error.__cause__
    words = ("DefaultCPUAllocator", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(word in reason(error) for word in words)


def halves(folder: PackFolder) -> list[PackFolder]:
    """The two packs that took the place of this one; none if it was never halved."""
    halved = read_record(folder.path / HALVED, HalvedRecord)
    return [PackFolder(folder.path.parent / name) for name in halved.into] if halved else []


def halve(folder: PackFolder) -> bool:
    """Put two packs of half the lanes in the place of `folder`; False if it has one lane or is itself a half.

    The halves begin anew: runs are deterministic, so nothing but time is lost. Doing it again changes nothing, and the
    old `pack.json` goes last, so that cut off anywhere the runs are in a pack.
    """
    configs = folder.configs()
    if len(configs) == 1 or folder.run_ids_and_origin()[1]:
        return False
    middle = (len(configs) + 1) // 2
    packs, compiled = folder.path.parent, folder.compiled()
    parts: list[list[RunConfig]] = [configs[:middle], configs[middle:]]
    into = [PackFolder.create(packs, part, compiled, halved_from=folder.pack_id).pack_id for part in parts]
    write_json(folder.path / HALVED, {"into": into, "lanes": len(configs), "because": "out of memory"})
    (folder.path / "pack.json").unlink()
    return True
