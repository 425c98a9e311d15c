"""Environment steps a second of training at the paper's MinAtar settings of DQN and PQN, for packs of many sizes.

Run as `python -m tests.bench_training [--json PATH] [--keep]`; `--keep` writes what the planner reads. With `--official
SCRIPT --official-python PYTHON`, it measures ours and the official code on one core, in turns. Each pack trains in
a process of its own, with one thread. A round measures the machine's matrix multiplication first, in the same process,
so that the fraction of it that training reaches is of the same moment. Medians of rounds.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scorer_core.config import RunConfig
from scorer_core.settings import resolve
from scorer_core.support.cores import usable_cores
from sweeps import price

LANES = (1, 4, 8, 30, 120, 240)
PQN_LANES = (1, 6, 16)
MOST_FITTED = 30  # lanes
OFFICIAL_PAIRS, OFFICIAL_LANES, OFFICIAL_SEEDS, OFFICIAL_STEPS = 3, 8, 3, (1_000_000, 2_000_000)  # per seed
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
    compiled: bool = False,
    device: str = "cpu",
    matmul: str = "float32",
    round_seconds: float = ROUND_SECONDS,
    family: str = "dqn",
) -> dict[str, Any]:
    """In a process of its own: says `ready`, waits for a line, and measures."""
    started = time.perf_counter()
    import torch

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
    return {
        "steps_per_second": rate * lanes * pack.config.num_envs,
        "seconds_per_vector_step": 1 / rate,
        "fraction_of_matmul": statistics.median(fractions),
        "start_seconds": start_seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "device_gib": torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else 0.0,
        "parts": shares(pack, max(20, rollout)),
    }


def shares(pack: Any, steps: int = 20) -> dict[str, float]:
    """Of the time of a vector step: acting, the environments, storing, learning."""
    spent = dict.fromkeys(["acting", "environments", "storing", "learning"], 0.0)

    def timed(function: Any, part: str) -> Any:
        def outer(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            spent[part] += time.perf_counter() - start
            return result

        return outer

    pack._functions["act"] = timed(pack._functions["act"], "acting")
    pack.environments.step = timed(pack.environments.step, "environments")
    pack.learner.store = timed(pack.learner.store, "storing")
    pack._learn = timed(pack._learn, "learning")
    start, begin = time.perf_counter(), pack.vector_step
    while pack.vector_step < begin + steps or pack.part:
        pack.step()
    total = time.perf_counter() - start
    return {part: seconds / total for part, seconds in spent.items()}


def measure(lanes: int, processes: int, family: str) -> list[dict[str, Any]]:
    """`processes` packs of `lanes` at the same time, a result each."""
    command = [sys.executable, "-m", "tests.bench_training", "--pack", str(lanes), "--family", family]
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


def official_rate(run: Callable[..., object], seeds: int, lengths: tuple[int, int]) -> float:
    """Environment steps a second of the official code, all seeds, without its start: by the difference of two lengths.

    `run` calls its script for MinAtar with the options that it gets.
    """
    seconds = []
    for steps in lengths:
        begun = time.monotonic()
        run("--total_timesteps", str(steps), "--num_seeds", str(seeds), "--seed", "10", "--use_be_variance")
        seconds.append(time.monotonic() - begun)
    return seeds * (lengths[1] - lengths[0]) / (seconds[1] - seconds[0])


def beside_official(script: Path, python: Path) -> dict[str, list[float]]:
    """Environment steps a second on one core, ours and the official code's in turns, and printed."""
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})  # inherited by the processes that are measured

    def run(*words: str) -> None:
        subprocess.run([python, script, *words], check=True, capture_output=True)

    speeds: dict[str, list[float]] = {"ours": [], "official": []}
    for _ in range(OFFICIAL_PAIRS):
        speeds["ours"].append(measure(OFFICIAL_LANES, 1, "dqn")[0]["steps_per_second"])
        speeds["official"].append(official_rate(run, OFFICIAL_SEEDS, OFFICIAL_STEPS))
        print(*(f"{name} {rates[-1]:,.0f} steps/s" for name, rates in speeds.items()), sep="  ", flush=True)
    ratio = statistics.median(a / b for a, b in zip(speeds["ours"], speeds["official"], strict=True))
    print(f"on one core, ours ({OFFICIAL_LANES} lanes) / official ({OFFICIAL_SEEDS} seeds): {ratio:.2f}")
    return speeds


def fitted(points: dict[int, dict[str, Any]]) -> dict[str, float]:
    """The planner's numbers: a line through the seconds of a vector step of packs of these sizes, and the start."""
    lanes = sorted(points)
    few, many = lanes[0], lanes[-1]
    t = {n: points[n]["seconds_per_vector_step"] for n in (few, many)}
    lane = (t[many] - t[few]) / (many - few)
    start = statistics.median(points[n]["start_seconds"] for n in lanes)
    return {"start": round(start, 1), "fixed": round(max(0.0, t[few] - few * lane), 5), "lane": round(lane, 5)}


def alone(rows: list[dict[str, Any]], family: str) -> dict[int, dict[str, Any]]:
    """By number of lanes: the packs of a family that had a core alone."""
    chosen = [row for row in rows if row["family"] == family and row["processes"] == 1]
    return {row["lanes"]: row for row in chosen if row["lanes"] <= MOST_FITTED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="write the planner's figures")
    parser.add_argument("--official", type=Path, metavar="SCRIPT", help="the official code's script for MinAtar")
    parser.add_argument("--official-python", type=Path, metavar="PYTHON", default=Path(sys.executable))
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
    if arguments.official:
        beside_official(arguments.official, arguments.official_python)
        return
    cores = usable_cores()
    heads = f"{'lanes':>5}  {'':3}  {'processes':>9}  {'steps/s':>9}  {'of matmul':>9}"
    print(f"{heads}  {'start s':>7}  {'GiB':>5}  parts")
    layouts = [(n, 1, "dqn") for n in LANES] + [(n, cores, "dqn") for n in LANES_A_CORE]
    layouts += [(n, 1, "pqn") for n in PQN_LANES]
    rows = [row(*layout) for layout in layouts]
    machine = f"{platform.machine()}, {cores} cores, torch {_version()}"
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "setting": "paper_minatar", "rows": rows}, indent=1))
    if arguments.keep:
        kept = json.loads(price.MEASURED.read_text())
        kept["speed"]["cpu"] = {family: fitted(alone(rows, family)) for family in ("dqn", "pqn")}
        price.MEASURED.write_text(json.dumps(kept | {"machine": machine}, indent=1) + "\n")


def row(lanes: int, processes: int, family: str) -> dict[str, Any]:
    """One layout measured, and printed."""
    results = measure(lanes, processes, family)
    found = {"lanes": lanes, "processes": processes, "family": family} | results[0]
    found["steps_per_second"] = sum(result["steps_per_second"] for result in results)
    parts = ", ".join(f"{part} {share:.0%}" for part, share in found["parts"].items())
    print(
        f"{lanes:>5}  {family:3}  {processes:>9}",
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
