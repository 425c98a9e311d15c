"""Start, stop and break a Slurm cluster of this machine."""

import fcntl
import os
import secrets
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.devcluster import processes
from tests.devcluster.settings import (
    ACCOUNT,
    DAEMONS,
    FOLDERS,
    PACKAGES,
    SEARCHED,
    ClusterError,
    Ports,
    Settings,
    Wrapper,
    gres_conf,
    missing_programs,
    slurm_conf,
    slurmdbd_conf,
)

ROOT = Path(__file__).parent.parent.parent
START_PATIENCE_SECONDS = 120.0
LONGEST_SOCKET_PATH = 107  # of a Unix socket, in bytes
NULL_DEVICE = os.makedev(1, 3)  # what a pretended GPU is: /dev/null by another name


def why_not(accounting: bool = True) -> str | None:
    """Why no cluster can be started here, None if it can."""
    missing = missing_programs(accounting)
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install {PACKAGES})"
    if os.geteuid() != 0:
        return "only root may make the device files that stand for GPUs"
    return None


class DevCluster:
    """The cluster of one folder; clusters of different folders know nothing of each other."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        """What a user of this cluster has in their shell: `exports` over ours."""
        return self._plain_environment() | self.exports(self._plain_environment()["PATH"])

    def exports(self, path: str) -> dict[str, str]:
        """The variables that reach this cluster and its site's commands, home and language, `path` being PATH."""
        settings, found = Settings.read(self.folder), {"SLURM_CONF": str(self.conf)}
        if settings.wrappers:
            found["PATH"] = f"{self.folder}/bin:{path}"
        if settings.home:
            found["HOME"] = str(self.folder / settings.home)
        if settings.locale:
            found |= {"LANG": settings.locale, "LC_ALL": settings.locale, "LOCPATH": f"{self.folder}/locale"}
        return found

    def _plain_environment(self) -> dict[str, str]:
        """What Slurm's own commands need to reach this cluster; no job's variables, should this run inside a job."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SLURMD_"))}
        return kept | {"SLURM_CONF": str(self.conf), "PATH": f"{kept.get('PATH', '')}:{SEARCHED}"}

    def command(self, *arguments: str) -> str:
        """The output of one of Slurm's own commands, whatever the site wraps around it.

        Raises:
            ClusterError: if it fails, with its output.
        """
        done = subprocess.run(arguments, env=self._plain_environment(), capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise ClusterError(f"{' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    # --- start and stop ---

    def start(self, settings: Settings | None = None, while_alive: int | None = None) -> None:
        """Start every daemon and wait until its nodes are idle; on any failure nothing is left running.

        `while_alive` is a process without which the cluster is not wanted: when it is gone, the cluster stops itself.

        Raises:
            ClusterError: if it cannot be started; the message names the log.
        """
        settings = settings or Settings()
        reason = why_not(settings.accounting)
        if reason:
            raise ClusterError(f"cannot start a dev cluster: {reason}")
        if len(str(self._munge_socket)) > LONGEST_SOCKET_PATH:
            raise ClusterError(f"{self.folder}: this path is too long for the socket in it; use a shorter one")
        with self._alone():
            if self.running():
                raise ClusterError(f"{self.folder}: a cluster is running here; stop it first")
            try:
                self.write_files(settings)
                if while_alive is not None:
                    self._start_guard(while_alive)
                self._start_all(settings)
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """End every process of the cluster, also after a crash; the folder with its logs stays."""
        with self._alone():
            self._stop()

    def running(self) -> list[str]:
        """The daemons that run, by name."""
        return [path.stem for path in sorted(self.folder.glob("*.pid"))
                if not path.name.endswith(".own.pid") and processes.pid_of(self.folder, path.stem)]  # fmt: skip

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One start or stop at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "busy").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _stop(self) -> None:
        """The nodes first, so that no job starts while the others go; the database last."""
        nodes = [name for name in self.running() if name not in DAEMONS]
        for name in ("guard", *nodes, *DAEMONS[1:]):
            pid = processes.pid_of(self.folder, name)
            if pid is not None and pid != os.getpid():
                processes.end([pid])
        while strays := processes.every(self.folder):  # steps and jobs, and daemons of a start that was cut off
            processes.kill(strays)
        for path in self.folder.glob("*.pid"):
            path.unlink()

    def write_files(self, settings: Settings) -> None:
        """All that is in the folder before the first daemon starts."""
        for name in FOLDERS:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("state", "spool", "munge", *settings.nodes, *filter(None, [settings.home])):
            (self.folder / name).mkdir(exist_ok=True)
        ports = Ports.free(len(settings.nodes))
        settings.write(self.folder)
        self.conf.write_text(slurm_conf(self.folder, settings, ports))
        (self.folder / "gres.conf").write_text(gres_conf(self.folder, settings))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
        dbd = self.folder / "slurmdbd.conf"
        dbd.touch(mode=0o600)
        dbd.write_text(slurmdbd_conf(self.folder, ports))
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        for node, gpus in settings.nodes.items():
            for gpu in (self.folder / node / f"nvidia{index}" for index in range(gpus)):
                if not gpu.exists():
                    os.mknod(gpu, stat.S_IFCHR | 0o666, NULL_DEVICE)
        for program, wrapper in settings.wrappers.items():
            self._write_wrapper(program, wrapper)
        if settings.locale:
            self._make_locale(settings.locale)

    def _write_wrapper(self, program: str, wrapper: Wrapper) -> None:
        path = self.folder / "bin" / program
        path.parent.mkdir(exist_ok=True)
        lines = [f"sleep {wrapper.delay:g}"] if wrapper.delay else []
        lines += [f"echo {shlex.quote(wrapper.before)}"] if wrapper.before else []
        lines += [f'{shutil.which(program, path=SEARCHED)} "$@"; code=$?']
        lines += [f"echo {shlex.quote(wrapper.after)}"] if wrapper.after else []
        path.write_text("\n".join(["#!/bin/bash", *lines, "exit $code"]) + "\n")
        path.chmod(0o755)

    def _make_locale(self, locale: str) -> None:
        place, charmap = self.folder / "locale", locale.partition(".")[2]
        place.mkdir()
        self.command("localedef", "-i", locale.partition(".")[0], "-f", charmap, str(place / locale))

    # --- daemons ---

    def start_daemon(self, name: str) -> None:
        """Start one daemon: munged, mariadbd, slurmdbd, slurmctld, or a node by its name."""
        if processes.pid_of(self.folder, name):
            raise ClusterError(f"{name} is running already")
        processes.spawn(self.folder, name, self._daemon(name), self._plain_environment())

    def stop_daemon(self, name: str) -> None:
        pid = processes.pid_of(self.folder, name)
        if pid is not None:
            processes.end([pid])

    def kill_node(self, node: str) -> None:
        """A node dies: its slurmd, and every step and job on it, by SIGKILL."""
        daemon = processes.pid_of(self.folder, node)
        if daemon is None:
            raise ClusterError(f"{node} is not running")
        processes.kill([daemon])  # first, so that it starts and reports nothing any more
        while of_node := [pid for pid in processes.every(self.folder) if _is_of_node(pid, node)]:
            processes.kill(of_node)

    def _start_guard(self, pid: int) -> None:
        environment = self._plain_environment() | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.devcluster", "guard", str(pid)]
        processes.spawn(self.folder, "guard", command, environment)

    def _daemon(self, name: str) -> list[str]:
        if name == "munged":
            files = [f"--{kind}-file={self.folder}/munge/{kind}" for kind in ("key", "pid", "log", "seed")]
            # --force: the folder of a test belongs to one user and may be entered by nobody else, which munged minds.
            return ["munged", "--foreground", "--force", f"--socket={self._munge_socket}", *files]
        if name == "mariadbd":
            place = [f"--datadir={self.folder}/mariadb", f"--socket={self._mariadb_socket}"]
            place += ["--bind-address=127.0.0.1", f"--port={self._mariadb_port()}"]
            place += [f"--pid-file={self.folder}/mariadbd.own.pid"]
            return ["mariadbd", "--no-defaults", "--user=root", "--innodb-flush-log-at-trx-commit=0", *place]
        if name not in DAEMONS:
            return ["slurmd", "-D", "-N", name, "-f", str(self.conf)]
        return [name, "-D"] + (["-f", str(self.conf)] if name == "slurmctld" else [])

    @property
    def _munge_socket(self) -> Path:
        return self.folder / "munge" / "socket"

    @property
    def _mariadb_socket(self) -> Path:
        return self.folder / "mariadb.sock"

    def _mariadb_port(self) -> str:
        lines = (self.folder / "slurmdbd.conf").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("StoragePort="))

    def _start_all(self, settings: Settings) -> None:
        self.start_daemon("munged")
        self._wait("munged", self._munge_socket.exists)
        if settings.accounting:
            self._start_accounting()
        self.start_daemon("slurmctld")
        self._wait("slurmctld", lambda: self._answers("scontrol", "ping"))
        for node in settings.nodes:
            self.start_daemon(node)
        self._wait("slurmctld", lambda: self.node_states() == dict.fromkeys(settings.nodes, "idle"))

    def _start_accounting(self) -> None:
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/mariadb", "--user=root"]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self.command(*install)
        self.start_daemon("mariadbd")
        client = ["mariadb", "--no-defaults", f"--socket={self._mariadb_socket}", "--user=root"]
        self._wait("mariadbd", lambda: self._answers(*client, "-e", "SELECT 1"))
        grant = "CREATE USER slurm@localhost IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm@localhost;"
        self.command(*client, "-e", f"CREATE DATABASE slurm; {grant}")
        self.start_daemon("slurmdbd")
        self._wait("slurmdbd", lambda: self._answers("sacctmgr", "-n", "show", "cluster"))
        for words in ("cluster devcluster", f"account {ACCOUNT}", f"user root account={ACCOUNT}"):
            self.command("sacctmgr", "-i", "add", *words.split())

    def _answers(self, *command: str) -> bool:
        with suppress(ClusterError):
            self.command(*command)
            return True
        return False

    def _wait(self, daemon: str, condition: Callable[[], bool]) -> None:
        """Until `condition` holds; a daemon that ended will never make it hold."""
        deadline, missed = time.monotonic() + START_PATIENCE_SECONDS, 0
        while not condition():
            # In the moment of its exec a process has no environment, and seems to be nobody's.
            missed = missed + 1 if processes.pid_of(self.folder, daemon) is None else 0
            ended = missed > 2
            if ended or time.monotonic() > deadline:
                out = (self.folder / f"{daemon}.out").read_text(errors="replace").splitlines() or ["no output"]
                how = "ended" if ended else "does not answer"
                raise ClusterError(f"{daemon} {how}; see {self.folder}/{daemon}.log and {daemon}.out: {out[-1]}")
            time.sleep(0.1)

    # --- what tests read and do ---

    def node_states(self) -> dict[str, str]:
        """The state of each node as sinfo prints it (idle, mixed, allocated, down, ...)."""
        with suppress(ClusterError):
            lines = self.command("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
            return dict(line.split() for line in lines)
        return {}

    def described(self) -> str:
        """Its nodes, its queue and the end of its controller's log, for whoever asks why a test failed."""
        shown = []
        for command in ("sinfo --Node --long", "sinfo --list-reasons --long", "squeue --array"):
            with suppress(ClusterError):
                shown.append(self.command(*command.split()))
        log = (self.folder / "slurmctld.log").read_text(errors="replace").splitlines()
        return "\n".join([*shown, *log[-60:]])

    def cancel_all(self) -> None:
        """Every job of every user."""
        with suppress(ClusterError):  # a job may end by itself in between
            jobs = self.command("squeue", "--noheader", "--format=%A").split()
            if jobs:
                self.command("scancel", *jobs)

    def resume_nodes(self) -> None:
        """Put nodes back to work that Slurm has drained because a job on them was killed while it started."""
        for node, state in self.node_states().items():
            if state.startswith("drain"):
                self.command("scontrol", "update", f"nodename={node}", "state=resume")


def _is_of_node(pid: int, node: str) -> bool:
    """A step of the node (slurmstepd names its slurmd), or a job's process on it."""
    with suppress(OSError):
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"SLURMD_NODENAME={node}".encode() in entries:
            return True
        return Path(f"/proc/{pid}/comm").read_text().strip() == "slurmstepd"
    return False
