"""Give the command line many bad inputs; none may end in a traceback, hang, or leave half a file.

Example: python -m tests.fuzz --seed 0 --inputs 1000      Reproduce one: python -m tests.fuzz --seed 0 --only 17
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import argparse
import functools
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import track

from tests.fuzz.harness import Result, limit_memory, run_input
from tests.fuzz.outputs import make_outputs


def main() -> int:
    summary, example = (__doc__ or "").strip().split("\n\n")
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=summary, epilog=example)
    parser.add_argument("--seed", type=int, default=0, help="of all inputs (default: 0)")
    parser.add_argument("--inputs", type=int, default=1000, help="how many inputs (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: 0)")
    parser.add_argument("--only", type=int, metavar="N", help="run only input number N")
    parser.add_argument("--processes", type=int, default=2, help="inputs that run at a time (default: 2)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"),
                        help="folder for failing inputs (default: fuzz-failures)")  # fmt: skip
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.inputs) if given.only is None else [given.only]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scorer-fuzz-") as place:
        made = make_outputs(Path(place))
        run = functools.partial(run_input, made, given.seed, keep=given.keep.resolve())
        with multiprocessing.get_context("spawn").Pool(given.processes, limit_memory) as pool:
            each = pool.imap_unordered(run, numbers)
            results = [_print(given.seed, result) for result in track(each, "fuzz", len(numbers))]
    failed = [result for result in results if result.faults]
    known = sum(bool(result.known) for result in results)
    seconds = time.monotonic() - start
    print(f"{len(results)} inputs, {len(failed)} with a fault, {known} with a known one, {seconds:.0f} s")
    if failed:
        print(f"Failing inputs and their faults: {given.keep}/SEED-NUMBER/", file=sys.stderr)
    return int(bool(failed))


def _print(seed: int, result: Result) -> Result:
    for fault in result.faults:
        print(f"input {result.number}: {fault!a}"[:1500])
    for fault in result.known:
        print(f"input {result.number}, known: {fault!a}"[:300])
    if result.faults:
        print(f"  reproduce: python -m tests.fuzz --seed {seed} --only {result.number}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
