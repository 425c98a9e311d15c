"""Environment steps a second of training at the paper's MinAtar settings of DQN and PQN, for packs of many sizes.

Run as `python -m tests.bench_training [--json PATH] [--keep]`; `--keep` writes what the planner reads. Each pack trains
in processes of its own, one thread each. A round measures the machine's matrix multiplication first, in the same
process, so that the fraction of it that training reaches is of the same moment. Medians of rounds.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scorer_core.config import RunConfig
from scorer_core.settings import resolve
from scorer_core.support.cores import usable_cores
from sweeps import price

LANES = (1, 4, 8, 30, 120, 240)
EAGER_LANES = (1, 16)
PQN_LANES = (1, 6, 16)  # eager and compiled
LANES_A_CORE = (1, 8, 30)  # of packs on every core at a time
ROUNDS, ROUND_SECONDS = 5, 3.0
CEILING_SIZE = {"cpu": 512, "cuda": 8192}  # of the matrices whose product suits the device


def settings(seed: int, matmul: str = "float32", family: str = "dqn") -> RunConfig:
    start = {"task": "gymnax/breakout", "seed": seed, "learning_starts": 1_000, "matmul": matmul}
    return RunConfig(**resolve([{"preset": price.PRESETS_MEASURED[family], **start}]))


def ceiling(device: str) -> float:
    """Floating-point operations a second of a matrix product that suits the device; of a CPU, on one thread."""
    import torch

    size = CEILING_SIZE[device]
    a, b = torch.randn(2, size, size, device=device)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)


def wait(device: str) -> None:
    """Until the device has done all that was asked of it."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def train(
    lanes: int,
    compiled: bool,
    device: str = "cpu",
    matmul: str = "float32",
    round_seconds: float = ROUND_SECONDS,
    family: str = "dqn",
) -> dict[str, Any]:
    """In a process of its own: says `ready`, waits for a line, and measures."""
    started = time.perf_counter()
    import torch
    from torch.profiler import ProfilerActivity, profile

    from scorer_core.devices import open_device
    from scorer_core.pack import Pack
    from scorer_core.train import keep_freed_memory

    keep_freed_memory()
    on = open_device(device, ["gymnax/breakout"]).torch_device
    pack = Pack([settings(seed, matmul, family) for seed in range(lanes)], on, compiled)
    while pack.updates_since_log < 2 or pack.part:
        pack.step()
    rollout = pack.config.rollout_steps if family == "pqn" else 1  # a round is whole rollouts
    wait(device)
    start_seconds = time.perf_counter() - started
    print("ready", flush=True)
    sys.stdin.readline()
    rates, fractions = [], []
    for _ in range(ROUNDS):
        most = ceiling(device)
        before, begun = pack.vector_step, time.perf_counter()
        while time.perf_counter() - begun < round_seconds or pack.part or pack.vector_step % rollout:
            pack.step()
        wait(device)
        rate = (pack.vector_step - before) / (time.perf_counter() - begun)
        rates.append(rate)
        fractions.append(rate * lanes * price.flop_per_vector_step(pack.config) / most)
    rate = statistics.median(rates)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        begin = pack.vector_step
        while pack.vector_step < begin + rollout or pack.part:
            pack.step()
    events = profiled.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    operations = {
        name: sum(event.self_cpu_time_total for event in events if event.key == key) / total
        for name, key in (("matrix products", "aten::bmm"), ("Adam", "scorer::moment_update"))
    }
    return {
        "steps_per_second": rate * lanes * pack.config.num_envs,
        "seconds_per_vector_step": 1 / rate,
        "fraction_of_matmul": statistics.median(fractions),
        "start_seconds": start_seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "device_gib": torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else 0.0,
        "parts": shares(pack, max(20, rollout)) | operations,
    }


def shares(pack: Any, steps: int = 20) -> dict[str, float]:
    """Of the time of a vector step: acting, the environments, storing, learning."""
    spent = dict.fromkeys(["acting", "environments", "storing", "learning"], 0.0)

    def timed(place: Any, name: str, part: str) -> None:
        inner = getattr(place, name)

        def outer(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = inner(*arguments)
            spent[part] += time.perf_counter() - start
            return result

        setattr(place, name, outer)

    timed(pack, "_act", "acting")
    timed(pack.environments, "step", "environments")
    timed(pack.learner, "store", "storing")
    timed(pack, "_learn", "learning")
    start, begin = time.perf_counter(), pack.vector_step
    while pack.vector_step < begin + steps or pack.part:
        pack.step()
    total = time.perf_counter() - start
    return {part: seconds / total for part, seconds in spent.items()}


def measure(lanes: int, compiled: bool, processes: int, family: str) -> list[dict[str, Any]]:
    """`processes` packs of `lanes` at the same time, a result each."""
    command = [sys.executable, "-m", "tests.bench_training", "--pack", str(lanes), "--family", family]
    command += ["--compiled"] * compiled
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(processes)
    ]
    for child in children:
        assert child.stdout
        while (line := child.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"a pack of {lanes} ended with {child.wait()}")
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    return [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]


def fitted(points: dict[int, dict[str, Any]]) -> dict[str, float]:
    """The planner's numbers: a line through the seconds of a vector step of the packs measured, and the start."""
    lanes = sorted(points)
    few, many = lanes[0], lanes[-1]
    t = {n: points[n]["seconds_per_vector_step"] for n in (few, many)}
    lane = (t[many] - t[few]) / (many - few)
    start = statistics.median(points[n]["start_seconds"] for n in lanes)
    return {"start": round(start, 1), "fixed": round(max(0.0, t[few] - few * lane), 5), "lane": round(lane, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--pack", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--matmul", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--family", default="dqn", help=argparse.SUPPRESS)
    parser.add_argument("--round-seconds", type=float, default=ROUND_SECONDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pack:
        layout = arguments.pack, arguments.compiled, arguments.device, arguments.matmul, arguments.round_seconds
        print(json.dumps(train(*layout, arguments.family)))
        return
    cores = usable_cores()
    heads = f"{'lanes':>5}  {'':3}  {'':8}  {'processes':>9}  {'steps/s':>9}  {'of matmul':>9}"
    print(f"{heads}  {'start s':>7}  {'GiB':>5}  parts")
    layouts = [(n, False, 1, "dqn") for n in EAGER_LANES] + [(n, True, 1, "dqn") for n in LANES]
    layouts += [(n, True, cores, "dqn") for n in LANES_A_CORE]
    layouts += [(n, compiled, 1, "pqn") for compiled in (False, True) for n in PQN_LANES]
    rows = [row(*layout) for layout in layouts]
    machine = f"{platform.machine()}, {cores} cores, torch {_version()}"
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "setting": "paper_minatar", "rows": rows}, indent=1))
    if arguments.keep:
        kept = json.loads(price.MEASURED.read_text())
        kept["speed"]["cpu"] = {family: fitted_forms(rows, family) for family in ("dqn", "pqn")}
        price.MEASURED.write_text(json.dumps(kept | {"machine": machine}, indent=1) + "\n")


def fitted_forms(rows: list[dict[str, Any]], family: str) -> dict[str, dict[str, float]]:
    """The planner's numbers of eager and of compiled packs of a family, from packs that had a core alone."""
    alone = [row for row in rows if row["family"] == family and row["processes"] == 1]
    eager = {row["lanes"]: row for row in alone if not row["compiled"]}
    # From 4 lanes on: a lone compiled lane is computed twice.
    compiled = {row["lanes"]: row for row in alone if row["compiled"] and 4 <= row["lanes"] <= 30}
    return {"eager": fitted(eager), "compiled": fitted(compiled)}


def row(lanes: int, compiled: bool, processes: int, family: str) -> dict[str, Any]:
    """One layout measured, and printed."""
    results = measure(lanes, compiled, processes, family)
    found = {"lanes": lanes, "compiled": compiled, "processes": processes, "family": family} | results[0]
    found["steps_per_second"] = sum(result["steps_per_second"] for result in results)
    parts = ", ".join(f"{part} {share:.0%}" for part, share in found["parts"].items())
    print(
        f"{lanes:>5}  {family:3}  {'compiled' if compiled else 'eager':8}  {processes:>9}",
        f"{found['steps_per_second']:>9,.0f}  {found['fraction_of_matmul']:>9.0%}  {found['start_seconds']:>7.0f}",
        f"{found['peak_gib']:>5.1f}  {parts}",
        sep="  ",
        flush=True,
    )
    return found


def _version() -> str:
    from importlib.metadata import version

    return version("torch")


if __name__ == "__main__":
    main()
