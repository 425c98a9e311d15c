"""The last job of a submission, `python -m slurm.finalise SUBMISSION`: the report, and what is missing from it."""

import argparse
import fcntl
import subprocess
import sys
from collections import Counter
from pathlib import Path

from scorer_core.records import now, open_lock, write_json
from slurm.board import MISSING, board
from sweeps import streams


def main() -> int:
    streams.protect()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path)
    folder = parser.parse_args().submission.resolve().parent.parent
    with open_lock(folder / "submissions" / "report.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # of two submissions that end at once, one draws after the other
        written = folder / "sweep.yaml"
        standing = board(folder)
        absent = [cell for cell in standing.cells if cell.state not in ("done", "diverged")]
        for (variant, task), count in Counter((cell.run.variant, cell.run.task) for cell in absent).items():
            print(f"missing: {variant} on {task}, {count} runs")
        command = [sys.executable, "-m", "scorer", "report", str(written), "--outputs", str(folder.parent)]
        code = subprocess.run(command).returncode
        runs = {cell.run.run_id: {**cell.run._asdict(), "state": cell.state} for cell in absent}
        write_json(folder / "submissions" / MISSING, {"time": now(), "report": code == 0, "runs": runs})
    return code


if __name__ == "__main__":
    sys.exit(main())
