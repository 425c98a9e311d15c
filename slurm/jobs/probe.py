"""The first speed of a machine or partition: a pack that is stopped after ten seconds of training at full speed.

`python -m slurm.jobs.probe FILE [--device DEVICE]` adds it to the speeds in FILE, and prints environment steps per
second. `measure_here` starts this process: for `scorer bench`, and for the check job of `scorer profile check`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, as in train_pack

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from scorer_core.config import RunConfig
from scorer_core.devices import DeviceError, use_device
from scorer_core.records import PackFolder
from scorer_core.settings import resolve
from scorer_core.support.errors import RecordError
from slurm.jobs.speed import measured, process_age
from sweeps import speeds

SECONDS = 10.0  # at full speed
LANES = 8
TASK = "minatar/breakout"
STEPS = 10**9  # more than it trains
PACK = "bench"  # in the place of a pack id, so that a second probe replaces the first
START_SECONDS = 300.0  # at most, until the pack trains


def measure_here(path: Path, device: str) -> str:
    """Measure the speed of this machine in a new process, and add it to the speeds in `path`; the result in words.

    Raises:
        RuntimeError: if it cannot be measured; the message is the last line of the process.
    """
    command = [sys.executable, "-m", "slurm.jobs.probe", str(path), "--device", device]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=START_SECONDS + 10 * SECONDS)
    except subprocess.TimeoutExpired as late:
        raise RuntimeError(f"no speed was measured in {late.timeout:.0f} s") from None
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(lines[-1] if lines else f"the process ended with exit code {done.returncode}")
    return lines[-1]


def main() -> int:
    """Measure and print; the exit code."""
    began = time.monotonic() - process_age()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the speeds of the place (sweeps/speeds.py)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU if there is one")
    arguments = parser.parse_args()
    try:
        device = use_device(arguments.device, [TASK])
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 1

    from scorer_core.train import Clock, train

    clock = Clock()

    def enough() -> bool:
        return clock.full_speed is not None and time.monotonic() - clock.full_speed.time >= SECONDS

    with TemporaryDirectory(prefix="scorer-bench-") as folder:
        runs = [{"preset": "paper_minatar", "task": TASK, "seed": seed, "total_steps": STEPS} for seed in range(LANES)]
        pack = PackFolder.create(Path(folder) / "packs", [RunConfig(**resolve([run])) for run in runs])
        train(pack, device.torch_device, commit_seconds=START_SECONDS + 10 * SECONDS, should_stop=enough, clock=clock)
        speed = measured(pack, device.torch_device.type, clock, began)
    if speed is None:
        print("the pack did not train long enough", file=sys.stderr)
        return 1
    try:
        speeds.keep(arguments.file, PACK, speed)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{clock.steps_per_second:,.0f} environment steps/s on {device.name} with {LANES} lanes of paper_minatar; "
        f"{speed.steps:.2g} times the shipped time of a step, {speed.start:.2g} times that of a start"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
