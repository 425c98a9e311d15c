"""Test and measure a GPU in at most nine minutes; needs only Python, a driver and the internet (`make bench-gpu`).

It chooses the extra that fits the driver and installs it in an environment of its own, runs the tests that need a GPU,
and measures the environments alone, training, and the official code if it is given. After each phase it writes
bench-gpu.json and bench-gpu.txt: if it is stopped, these have what was measured. A phase that fails or takes too long
leaves its reason instead of numbers. The speeds of training are stored where the planner reads them.

`--device cpu --dry` runs the same phases in about a minute on a machine without a GPU, and stores no speed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from scorer_core import devices
from scorer_core.support.files import replace_file

ROOT = Path(__file__).parents[1]
GPU_TESTS = ("tests/scorer_core/test_gpu.py", "tests/scorer_core/envs/test_compiled.py")
TOTAL_SECONDS = 530
LIMITS = {"install": 180, "tests": 150, "environments": 60, "training": 75, "official": 120}  # seconds of a phase
START_SECONDS = 20  # a phase with less time left is not started
# Lanes, precision and form. The planner needs compiled float32.
LAYOUTS = [(30, "float32", "eager"), (240, "float32", "eager")]
LAYOUTS += [(lanes, matmul, "compiled") for matmul in ("float32", "tf32") for lanes in (30, 120, 240)]
DRY_LAYOUTS = [(1, "float32", "eager"), (2, "float32", "eager"), (1, "tf32", "eager")]
ROUND_SECONDS, DRY_ROUND_SECONDS = 1.0, 0.05
OFFICIAL_SEEDS, OFFICIAL_STEPS = 30, (1_000_000, 2_000_000)  # the difference is without the time of compilation


class PhaseError(Exception):
    """A phase has no result; the message says why, in one line."""


class Bench:
    """The results so far, their files, and the phases."""

    def __init__(self, device: str, dry: bool, out: Path):
        self.device, self.dry, self.out = device, dry, out
        self.python = Path(sys.executable)
        self.started = time.monotonic()
        self.results: dict[str, Any] = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": platform.node(),
            "python": platform.python_version(),
            "device": device,
            "dry": dry,
        }

    def phase(self, name: str, work: Callable[[], Any]) -> bool:
        """Run one phase and write the files; whether it has a result."""
        print(f"[{self.elapsed():3.0f} s] {name}", flush=True)
        begun = time.monotonic()
        try:
            found = {"result": work()}
        except (PhaseError, devices.DeviceError, OSError) as error:
            found = {"missing": str(error)}
            print(f"        {error}", flush=True)
        self.results[name] = found | {"seconds": round(time.monotonic() - begun, 1)}
        for file, text in (
            ("bench-gpu.json", json.dumps(self.results, indent=1)),
            ("bench-gpu.txt", page(self.results)),
        ):
            replace_file(self.out / file, f"{text}\n".encode())
        return "result" in found

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def run(self, phase: str, *words: str | Path, said: str = "", allowed: tuple[int, ...] = (0,)) -> str:
        """The output of a command, within the limit of the phase and of the whole.

        Raises:
            PhaseError: if there is no time left, or as `output_of`.
        """
        left = TOTAL_SECONDS - self.elapsed()
        if left < START_SECONDS:
            raise PhaseError(f"not started: {self.elapsed():.0f} s of {TOTAL_SECONDS} s had passed")
        return output_of(min(LIMITS[phase], left), *words, said=said, allowed=allowed)

    # --- phases ---

    def driver(self) -> dict[str, str]:
        if self.device == "cpu":
            raise PhaseError("not looked for: --device cpu")
        driver = devices.check_driver(devices.OLDEST_CUDA)
        return {"gpu": str(driver), "extra": "cuda13" if driver.cuda >= (13, 0) else "cuda12"}

    def install(self, extra: str) -> dict[str, str]:
        folder = self.out / "venv"
        self.run("install", sys.executable, "-m", "venv", "--clear", folder)
        self.python = folder / "bin" / "python"
        pip = self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"
        index = ("--index-url", devices.INDEX_OF_CUDA_12) if extra == "cuda12" else ()
        self.run("install", *pip, "torch==2.13.0", *index)
        self.run("install", *pip, "-c", "constraints.txt", "-e", f".[dev,{extra}]")
        return {"extra": extra}

    def tests(self) -> dict[str, Any]:
        report = self.out / "tests.xml"
        report.unlink(missing_ok=True)
        words = "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "gpu or graph", f"--junitxml={report}"
        self.run("tests", self.python, *words, *GPU_TESTS, allowed=(0, 1))
        suite = next(iter(ElementTree.parse(report).getroot()))
        numbers = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        failed = [case.get("name", "") for case in suite.iter("testcase") if case.find("failure") is not None]
        skipped = {case.get("message", "") for case in suite.iter("skipped")}
        return numbers | ({"failed": failed} if failed else {}) | ({"reasons": sorted(skipped)} if skipped else {})

    def training(self, lanes: int, matmul: str, form: str) -> dict[str, Any]:
        if matmul == "tf32" and self.device == "cpu":
            raise PhaseError("a CPU has no TF32")
        words = ["-m", "tests.bench_training", "--pack", str(lanes), "--device", self.device, "--matmul", matmul]
        words += ["--round-seconds", str(DRY_ROUND_SECONDS if self.dry else ROUND_SECONDS)] + ["--compiled"] * (
            form == "compiled"
        )
        return json.loads(self.run("training", self.python, *words, said="\n").splitlines()[-1])

    def environments(self) -> dict[str, float]:
        words = "-m", "tests.bench_gpu", "--environments", "--device", self.device, *(["--dry"] * self.dry)
        return json.loads(self.run("environments", self.python, *words).splitlines()[-1])

    def official(self, script: Path | None, python: Path) -> dict[str, float]:
        if script is None:
            raise PhaseError("not measured: give --official SCRIPT and --official-python PYTHON")
        from tests.bench_training import official_rate  # in the Python that starts this, too

        def run(*words: str) -> None:
            self.run("official", python, script, *words)

        rate = official_rate(run, OFFICIAL_SEEDS, OFFICIAL_STEPS)
        return {"seeds": OFFICIAL_SEEDS, "steps_per_second": rate}

    def keep(self) -> dict[str, Any]:
        """Write the speeds where the planner reads them."""
        if self.dry:
            raise PhaseError("not stored: --dry")
        from_rows = "-m", "tests.bench_gpu", "--keep", str(self.out / "bench-gpu.json")
        return json.loads(output_of(START_SECONDS, self.python, *from_rows).splitlines()[-1])


def output_of(limit: float, *words: str | Path, said: str = "", allowed: tuple[int, ...] = (0,)) -> str:
    """The output of a command that takes at most `limit` seconds.

    Raises:
        PhaseError: if it takes longer, or ends with a code that is not `allowed`; with the last line that it wrote.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [str(word) for word in words]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, input=said, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise PhaseError(f"stopped after {limit:.0f} s: {' '.join(command[1:6])} ...") from None
    if done.returncode not in allowed:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise PhaseError(f"exit code {done.returncode}: {last}")
    return done.stdout


def page(results: dict[str, Any]) -> str:
    """The results as one page of text, with the reason for each number that is missing."""
    phases = {name: phase for name, phase in results.items() if isinstance(phase, dict)}
    found = {name: phase["result"] for name, phase in phases.items() if "result" in phase}
    lines = [f"bench-gpu, {results['started']}, {results['host']}, Python {results['python']}, {results['device']}"]
    if results["dry"]:
        lines += ["A dry run: the numbers show only that the phases run."]
    if "driver" in found:
        lines += ["", f"GPU: {found['driver']['gpu']}; extra {found['driver']['extra']}"]
    if tests := found.get("tests"):
        failures = tests["failures"] + tests["errors"]
        passed = tests["tests"] - failures - tests["skipped"]
        lines += ["", f"Tests: {passed} passed, {failures} failed, {tests['skipped']} skipped"]
        lines += [f"  {line}" for line in (*tests.get("failed", ()), *tests.get("reasons", ()))]
    if "environments" in found:
        lines += ["", "Environments alone, steps/s:"]
        lines += [f"  {game:<15}{rate:>16,.0f}" for game, rate in found["environments"].items()]
    head = "lanes", "matmul", "form", "steps/s", "of ceiling", "GPU GiB", "start s"
    rows = [
        (*name.split()[1:], f"{row['steps_per_second']:,.0f}", f"{row['fraction_of_matmul']:.1%}",
         f"{row['device_gib']:.2f}", f"{row['start_seconds']:.0f}")
        for name, row in found.items() if name.startswith("training")
    ]  # fmt: skip
    if rows:
        lines += ["", "Training (gymnax/breakout); the ceiling is a matrix product of the same precision:"]
        lines += ["  " + "".join(f"{cell:>12}" for cell in row) for row in (head, *rows)]
    if "official" in found:
        official = found["official"]
        lines += ["", f"Official code: {official['steps_per_second']:,.0f} steps/s with {official['seeds']} seeds"]
    if missing := [f"  {name}: {phase['missing']}" for name, phase in phases.items() if "missing" in phase]:
        lines += ["", "Missing:", *missing]
    return "\n".join(lines)


def environments_alone(device: str, dry: bool) -> dict[str, float]:
    """Environment steps a second of each game with 240 lanes of 128 environments, in one loop without training."""
    import torch

    from scorer_core.envs.compiled import GAMES, CompiledEnvironments
    from tests.bench_training import wait

    rates = {}
    for game in GAMES:
        environments = CompiledEnvironments(game, "minatar", torch.arange(2 if dry else 240), 128, device=device)
        environments.reset()
        actions = torch.randint(0, environments.num_actions, (20, 2 if dry else 240, 128), device=device).unbind()
        rates[game] = 0.0
        for _ in range(2):  # the first round compiles
            wait(device)
            begun, steps = time.perf_counter(), 0
            while time.perf_counter() - begun < (0.02 if dry else 1.0):
                for chosen in actions:
                    environments.step(chosen)
                steps += len(actions) * actions[0].numel()
                wait(device)
            rates[game] = steps / (time.perf_counter() - begun)
    return rates


def store_speeds(results: dict[str, Any]) -> dict[str, Any]:
    """What the planner needs to know of this GPU, added to what it knows."""
    from sweeps import price
    from tests.bench_training import fitted

    rows = {}
    for name, phase in results.items():
        if name.startswith("training") and name.endswith("float32 compiled") and "result" in phase:
            rows[int(name.split()[1])] = phase["result"]
    speeds = fitted(rows) if len(rows) >= 2 else {}
    if speeds:
        kept = json.loads(price.MEASURED.read_text(encoding="utf-8"))
        kept["speed"]["cuda"] = {"dqn": speeds}
        kept["gpu"] = results["driver"]["result"]["gpu"]
        price.MEASURED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return speeds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry", action="store_true", help="small and short, with the Python that runs this")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"), help="folder of the results")
    parser.add_argument("--official", type=Path, metavar="SCRIPT", help="the official code's script for MinAtar")
    parser.add_argument("--official-python", type=Path, metavar="PYTHON", default=Path(sys.executable))
    parser.add_argument("--environments", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.environments:
        print(json.dumps(environments_alone(arguments.device, arguments.dry)))
        return 0
    if arguments.keep:
        print(json.dumps(store_speeds(json.loads(arguments.keep.read_text(encoding="utf-8")))))
        return 0
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments.device, arguments.dry, out)
    usable = bench.phase("driver", bench.driver) or arguments.device == "cpu"
    if usable and not arguments.dry:
        extra = bench.results["driver"].get("result", {}).get("extra", "")
        usable = bench.phase("install", lambda: bench.install(extra))
    if usable:
        bench.phase("tests", bench.tests)
        bench.phase("environments", bench.environments)
        for layout in DRY_LAYOUTS if arguments.dry else LAYOUTS:
            bench.phase(" ".join(map(str, ("training", *layout))), lambda layout=layout: bench.training(*layout))
        bench.phase("official", lambda: bench.official(arguments.official, arguments.official_python))
        bench.phase("speeds for the planner", bench.keep)
    print(f"\n{(out / 'bench-gpu.txt').read_text(encoding='utf-8')}\nIn {out}: bench-gpu.json, bench-gpu.txt")
    failed = bench.results.get("tests", {}).get("result", {})
    return 0 if usable and failed and not failed["failures"] + failed["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())
