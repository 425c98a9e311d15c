"""Draw the report of a sweep after all packs of a submission: `python -m slurm.jobs.draw_report SUBMISSION`."""

import argparse
import subprocess
import sys
from collections import Counter
from pathlib import Path

from scorer_core.record_forms import now
from scorer_core.support import streams
from scorer_core.support.files import write_json
from scorer_core.support.locks import locked
from scorer_core.support.text import count
from slurm.status import MISSING, read_status
from slurm.submissions.snapshot import check_code


def main() -> int:
    """Draw the report and record the runs that it lacks; the exit code."""
    streams.protect()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path, help="the folder of the submission")
    arguments = parser.parse_args()
    check_code()
    folder = arguments.submission.resolve().parent.parent
    with locked(folder / "submissions" / "report.lock"):  # if two submissions end at the same time, the second waits
        found = read_status(folder)
        absent = [cell for cell in found.cells if cell.state not in ("done", "diverged")]
        for (variant, task), number in Counter((cell.run.variant, cell.run.task) for cell in absent).items():
            print(f"missing: {variant} on {task}, {count(number, 'run')}")
        command = [sys.executable, "-m", "cli.main", "report", str(folder), "--outputs", str(folder.parent)]
        code = subprocess.run(command).returncode
        runs = {cell.run.run_id: {**cell.run._asdict(), "state": cell.state} for cell in absent}
        write_json(folder / "submissions" / MISSING, {"time": now(), "report": code == 0, "runs": runs})
    return code


if __name__ == "__main__":
    sys.exit(main())
