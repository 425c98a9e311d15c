"""The cluster's processes: each has a pid file and the cluster's name in its environment, and nothing else is ended."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "SCORER_DEVCLUSTER"  # in the environment of everything started here: the folder
TERM_PATIENCE_SECONDS = 20.0

_children: list[subprocess.Popen[bytes]] = []  # daemons of this process, to be collected when they have ended


def spawn(folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Start a daemon that outlives this process; its output goes to NAME.out, its id to NAME.pid."""
    with (folder / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            cwd=folder, env={**environment, MARK: str(folder)},
        )  # fmt: skip
    _children.append(process)
    (folder / f"{name}.pid").write_text(f"{process.pid}\n")
    return process.pid


def pid_of(folder: Path, name: str) -> int | None:
    """The living process of a pid file; None if it ended, and if its number now belongs to somebody else."""
    try:
        pid = int((folder / f"{name}.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if pid in alive([pid]) and _belongs(pid, folder) else None


def every(folder: Path) -> list[int]:
    """All processes of the cluster: daemons, also those whose pid file was never written, steps and jobs."""
    own = os.getpid()
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in pids if pid != own and _belongs(pid, folder)]


def _belongs(pid: int, folder: Path) -> bool:
    """Whether the mark is in its environment, or it is (what is left of) a job that this cluster's slurmd started."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    if f"{MARK}={folder}".encode() in entries:
        return True
    of_a_job = any(entry.startswith(b"SLURMD_NODENAME=") for entry in entries)
    return of_a_job and f"SLURM_CONF={folder}/slurm.conf".encode() in entries


def alive(pids: Iterable[int]) -> list[int]:
    """Those that still run; a zombie has ended."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(pid)
    return found


def end(pids: Sequence[int], patience: float = TERM_PATIENCE_SECONDS) -> None:
    """SIGTERM, and SIGKILL for what is still there after `patience` seconds."""
    _signal(pids, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(alive(pids))
    _reap()


def kill(pids: Sequence[int]) -> None:
    """SIGKILL, and wait until they are gone."""
    _signal(pids, signal.SIGKILL)
    while alive(pids):
        time.sleep(0.02)
    _reap()


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
