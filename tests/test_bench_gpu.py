"""`make bench-gpu` on a machine without a GPU: what runs first on a GPU must not be the script itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import price
from tests import bench_gpu, stub_driver

ROOT = Path(__file__).parents[1]
OFFICIAL = """
import sys, time
assert sys.argv[1] == "--total_timesteps" and sys.argv[3:5] == ["--num_seeds", "30"]
time.sleep(int(sys.argv[2]) / 1e6)
"""


@pytest.mark.slow
def test_a_dry_run_on_a_cpu_runs_all_phases_and_says_what_is_missing_and_why(tmp_path):
    (tmp_path / "official.py").write_text(OFFICIAL)
    before = price.MEASURED.read_bytes()
    words = "--device", "cpu", "--dry", "--out", tmp_path, "--official", tmp_path / "official.py"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench_gpu", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    results = json.loads((tmp_path / "bench-gpu.json").read_text())
    assert results["tests"]["result"]["failures"] == 0
    assert results["tests"]["result"]["skipped"] > 10
    assert results["training 2 float32 eager"]["result"]["steps_per_second"] > 0
    assert min(results["environments"]["result"].values()) > 0
    assert 0 < results["official"]["result"]["steps_per_second"] < 60e6  # 30 seeds, 1 M steps, a second more
    text = (tmp_path / "bench-gpu.txt").read_text()
    assert text in done.stdout
    _, missing = text.split("Missing:\n")
    assert missing.splitlines() == [
        "  driver: not looked for: --device cpu",
        "  training 1 tf32 eager: a CPU has no TF32",
        "  speeds for the planner: not stored: --dry",
    ]
    assert "no CUDA device on this machine" in text
    assert price.MEASURED.read_bytes() == before


@stub_driver.no_driver
def test_without_a_driver_it_ends_with_the_reason_and_installs_nothing(tmp_path):
    """-S: with the standard library alone, as on a machine where nothing is installed."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tests.bench_gpu", "--out", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "has no NVIDIA driver: libcuda.so.1 was not found" in done.stdout
    assert not (tmp_path / "out" / "venv").exists()


@pytest.mark.parametrize(("version", "extra"), [("13000", "cuda13"), ("12080", "cuda12")])
def test_the_extra_is_chosen_by_the_driver(tmp_path, version, extra):
    code = (
        "from pathlib import Path; from tests.bench_gpu import Bench; "
        f"print(Bench('cuda', False, Path({str(tmp_path)!r})).driver()['extra'])"
    )
    environment = stub_driver.build(tmp_path) | {"STUB_VERSION": version}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{extra}\n", done.stderr


def test_the_planner_gets_the_speed_of_compiled_packs(tmp_path, monkeypatch):
    monkeypatch.setattr(price, "MEASURED", tmp_path / "measured.json")
    (tmp_path / "measured.json").write_text(json.dumps({"machine": "m", "speed": {"cpu": {}}}))
    results: dict = {"driver": {"result": {"gpu": "NVIDIA H100"}}}
    for lanes, form, seconds in ((30, "eager", 0.002), (240, "eager", 0.002), (30, "compiled", 0.001),
                                 (120, "compiled", 0.00145), (240, "compiled", 0.00205)):  # fmt: skip
        row = {"seconds_per_vector_step": seconds, "start_seconds": 20.0}
        results[f"training {lanes} float32 {form}"] = {"result": row}
    results["training 30 tf32 compiled"] = {"missing": "stopped after 75 s"}
    bench_gpu.store_speeds(results)
    kept = json.loads((tmp_path / "measured.json").read_text())
    assert kept["speed"]["cuda"]["dqn"] == {"start": 20.0, "fixed": 0.00085, "lane": 1e-05}
    assert kept["gpu"] == "NVIDIA H100"
    assert kept["speed"]["cpu"] == {}


def test_a_phase_that_takes_too_long_leaves_its_reason(tmp_path, monkeypatch):
    bench = bench_gpu.Bench("cpu", True, tmp_path)
    monkeypatch.setitem(bench_gpu.LIMITS, "tests", 0.5)
    assert not bench.phase("tests", lambda: bench.run("tests", sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(bench_gpu, "TOTAL_SECONDS", 0)
    assert not bench.phase("official", lambda: bench.official(tmp_path / "official.py", Path(sys.executable)))
    assert not bench.phase("install", lambda: bench_gpu.output_of(60, sys.executable, "-c", "raise OSError('no disk')"))
    reasons = {name: phase["missing"] for name, phase in json.loads((tmp_path / "bench-gpu.json").read_text()).items()
               if isinstance(phase, dict)}  # fmt: skip
    assert reasons["tests"].startswith("stopped after 0 s: -c import time")
    assert reasons["official"].startswith("not started: ")
    assert reasons["install"] == "exit code 1: OSError: no disk"
