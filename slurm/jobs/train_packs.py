"""The process of a job that trains several packs: `python -m slurm.jobs.train_packs --at-once N PACK_FOLDER...`

Each pack has a process, with a GPU (a token of CUDA_VISIBLE_DEVICES) and CPU cores of its own. When a pack ends, the
next one starts in its place. A signal is forwarded to all of them.

Exit codes: 0 all packs have ended, 75 some can continue (start it again), 1 some have failed, 78 too few usable GPUs.
"""

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from scorer_core.devices import visible_devices
from scorer_core.records import PackFolder
from scorer_core.support import streams
from scorer_core.support.errors import RecordError
from scorer_core.support.files import numbered
from slurm.jobs import train_pack
from slurm.jobs.launcher import Launcher, Slot
from slurm.jobs.policy import has_ended
from slurm.jobs.train_pack import FAILED, FINISHED, INTERRUPTED, NO_DEVICE
from slurm.submissions.snapshot import check_code

log = logging.getLogger("scorer")


def main() -> int:
    """Train the packs named on the command line; the exit code."""
    streams.protect()
    common = train_pack.options()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[common]
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder", help="the folder of a pack")
    parser.add_argument("--at-once", type=int, required=True, help="how many packs are trained at once")
    parser.add_argument("--submission", required=True, help="the submission, whose attempts --max-attempts limits")
    arguments = parser.parse_args()
    check_code()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    taken = _taken_over(arguments.folders[0].parent.parent, arguments.submission)
    packs = [pack for pack in map(PackFolder, arguments.folders) if pack.pack_id not in taken]
    packs = [pack for pack in packs if not has_ended(pack, arguments.submission)]
    tokens = [token for token in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if token]
    on_gpu = arguments.device.startswith("cuda") or (
        arguments.device == "auto" and bool(tokens or os.environ.get("SLURM_JOB_GPUS"))
    )
    if on_gpu and len(set(tokens)) < arguments.at_once:
        fault = (
            f"{socket.gethostname()} gave this job too few GPUs for packs_per_job: {arguments.at_once}; "
            f"{visible_devices()}. Request one per pack (`gpus: {arguments.at_once}` in the profile)"
        )
        log.error(fault)
        for pack in packs:
            pack.write_state(phase="failed", error=fault, submission=arguments.submission)
        return NO_DEVICE
    values = {action.option_strings[0]: getattr(arguments, action.dest) for action in common._actions}
    options = [f"{option}={value}" for option, value in values.items() if value is not None]
    parts = slots(arguments.at_once, tokens, sorted(os.sched_getaffinity(0)))
    outcome = Launcher(parts, options, arguments.submission).run(packs, lambda _: None)
    if not any(slot.usable for slot in parts):
        return NO_DEVICE
    if outcome.waiting or outcome.interrupted:
        return INTERRUPTED
    return FAILED if outcome.failed else FINISHED


def slots(count: int, tokens: Sequence[str], cores: Sequence[int]) -> list[Slot]:
    """`count` slots with a GPU each, if there are `tokens` for all of them, and equal parts of `cores`.

    If there are fewer cores than slots, the slots share all cores.
    """
    gpus = tokens[:count] if len(tokens) >= count else [None] * count
    if len(cores) < count:
        return [Slot(gpu) for gpu in gpus]
    parts = [cores[len(cores) * i // count : len(cores) * (i + 1) // count] for i in range(count)]
    return [Slot(gpu, frozenset(part)) for gpu, part in zip(gpus, parts, strict=True)]


def _taken_over(sweep: Path, submission: str) -> set[str]:
    """The packs that a later submission has, which waits or runs: `retry` and `resume` submitted them."""
    taken: set[str] = set()
    with suppress(RecordError):
        for folder in numbered(sweep / "submissions"):
            if int(folder.name) > int(submission):
                with suppress(OSError):
                    taken.update((folder / "packs.txt").read_text(encoding="utf-8").split())
    return taken


if __name__ == "__main__":
    sys.exit(main())
