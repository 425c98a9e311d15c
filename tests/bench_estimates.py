"""How long three sweeps of different shape take, against the plan that is made after their first pack has finished.

Run as `python -m tests.bench_estimates [SWEEP...] [--processes N]`. It trains the packs as `scorer run` does. On a
machine on which the load changes, the times change with it; the processor time of the packs is printed for this.
"""

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slurm.jobs.launcher import Launcher, Slot
from slurm.places import HERE, known_speeds
from sweeps.loading import parse
from sweeps.plan import Plan, make_plan

RATIOS: dict[str, Any] = {
    "tasks": ["minatar/breakout", "minatar/space_invaders"], "seeds": 2, "total_steps": 60_000, "baseline": "dqn",
    "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {"ratio": 5}},
}  # fmt: skip
WIDE: dict[str, Any] = {
    "tasks": ["gymnax/breakout"], "seeds": 24, "total_steps": 200_000, "baseline": "one",
    "base": {"phi_widths": [32, 32], "theta_widths": [32], "num_envs": 64, "update_every": 64, "batch_size": 32},
    "variants": {"one": {"ratio": 1}, "ten": {"ratio": 10}},
}  # fmt: skip
ALGORITHMS: dict[str, Any] = {
    "tasks": ["minatar/breakout", "minatar/freeway"], "seeds": 3, "total_steps": 50_000, "baseline": "pqn",
    "base": {"phi_widths": [128], "theta_widths": [64]},
    "variants": {"pqn": {"algorithm": "pqn"}, "ddqn": {"algorithm": "ddqn"}},
}  # fmt: skip
SWEEPS: dict[str, tuple[dict[str, Any], int]] = {  # with the lanes of a pack
    "ratios": (RATIOS, 2),
    "wide": (WIDE, 12),
    "algorithms": (ALGORITHMS, 3),
}


def plan(name: str, outputs: Path, processes: int) -> Plan:
    raw, lanes = SWEEPS[name]
    sweep = parse({"name": name, "question": "how long?", **raw}, f"{name}.yaml")
    return make_plan(sweep, outputs, lanes, processes=processes, device="cpu", speeds=known_speeds(outputs, HERE))


def train(planned: Plan, packs: slice) -> tuple[float, float]:
    """Train these packs of the plan; seconds, and seconds of processor time."""
    slots = [Slot() for _ in range(planned.layout.processes)]
    began, before = time.monotonic(), _processor_seconds()
    outcome = Launcher(slots, ["--device", "cpu", "--commit-seconds", "60"]).run(
        [pack.folder for pack in planned.packs[packs]], lambda _: None
    )
    assert not outcome.failed, outcome.failed
    return time.monotonic() - began, _processor_seconds() - before


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"of {', '.join(SWEEPS)}")
    parser.add_argument("--processes", type=int, default=1, help="packs in parallel")
    arguments = parser.parse_args()
    print(f"{'sweep':10}  {'packs':>5}  {'shipped s':>9}  {'planned s':>9}  {'took s':>6}  {'error':>6}  {'CPU s':>6}")
    for name in arguments.sweeps or SWEEPS:
        with TemporaryDirectory() as outputs:
            first = plan(name, Path(outputs), arguments.processes)
            first.write()
            train(first, slice(1))
            planned = plan(name, Path(outputs), arguments.processes)
            took, used = train(planned, slice(None))
            print(
                f"{name:10}  {len(planned.packs):>5}  {first.seconds:>9.0f}  {planned.seconds:>9.0f}  {took:>6.0f}"
                f"  {planned.seconds / took - 1:>+6.0%}  {used:>6.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
