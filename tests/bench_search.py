"""Trials an hour with packs against one run a process; what pruning saves and costs: `python -m tests.bench_search`.

Both halves search the ratio of MinAtar Breakout on this machine (or --device cuda) with the same trials, seeds and
budget. Pruning is measured on the synthetic objective, where the regret of a choice is known.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slurm.jobs.search_worker import Worker
from sweeps import search
from sweeps.study import Study
from tests.search_synthetic import SyntheticTrainer, search_of, worth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pruning-only", action="store_true")
    arguments = parser.parse_args()
    if not arguments.pruning_only:
        lanes = arguments.seeds * -(-arguments.trials // arguments.workers)
        packed = trials_an_hour(arguments, lanes=lanes, workers=arguments.workers)
        alone = trials_an_hour(arguments, lanes=1, workers=arguments.workers)
        print(f"packs of up to {lanes} runs: {packed:,.0f} trials an hour; one run at a time: {alone:,.0f}")
        print(f"a pack is {packed / alone:.1f} times as fast, starting included")
    pruning()


def trials_an_hour(arguments: argparse.Namespace, lanes: int, workers: int) -> float:
    """Of a whole search from the command line, by the clock."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cli.main", "search", "ratio_search", "--outputs", folder]
        command += ["--trials", str(arguments.trials), "--workers", str(workers), "--lanes", str(lanes)]
        command += ["--device", arguments.device, "-s", f"seeds={arguments.seeds}", "-s", "sampler=random"]
        command += ["-s", f"total_steps={arguments.steps}"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
    return 3600 * arguments.trials / seconds


def pruning() -> None:
    """Environment steps and regret of each pruner, over eight sampler seeds of 32 trials of six seeds."""
    print("pruner      environment steps   saved   regret (of 10)")
    whole = 0
    for pruner in ("none", "wilcoxon", "halving"):
        steps, regrets = 0, []
        for seed in range(8):
            one: search.Search = search_of(pruner=pruner, seeds=6, trials=32, sampler_seed=seed)
            with tempfile.TemporaryDirectory() as folder:
                study, trainer = Study(one, Path(folder) / one.name), SyntheticTrainer()
                Worker(study, trainer, trials_per_batch=8).work()
                regrets.append(10 - worth(one.runs(study.optuna.best_params)[0]))
                steps += trainer.steps
        whole = whole or steps
        print(f"{pruner:10} {steps:18,} {1 - steps / whole:7.0%}   {statistics.mean(regrets):.3f}")


if __name__ == "__main__":
    main()
