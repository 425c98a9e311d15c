"""What a dev cluster is made of: its settings, and the configuration files Slurm reads."""

import json
import shutil
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

NODES = ("n1", "n2")
GPUS_PER_NODE = 2
ACCOUNT = "lab"  # the one account of a cluster with accounting, and the user's default

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"


class ClusterError(Exception):
    """The cluster cannot be started or reached; the message says what to look at."""


@dataclass(frozen=True)
class Settings:
    accounting: bool = True
    max_array_size: int = 1001  # Slurm's default; the largest array index is one less
    grace: int = 10  # seconds a preempted job of the partition `low-grace` has before it is killed
    kill_wait: int = 5  # seconds between SIGTERM and SIGKILL
    node_timeout: int = 10  # seconds after which a silent node is down

    def write(self, folder: Path) -> None:
        (folder / "cluster.json").write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        try:
            return cls(**json.loads((folder / "cluster.json").read_text()))
        except FileNotFoundError:
            raise ClusterError(f"{folder}: no dev cluster was started here") from None


def missing_programs(accounting: bool) -> list[str]:
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    return [program for program in wanted if shutil.which(program, path=SEARCHED) is None]


SEARCHED = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"


@dataclass(frozen=True)
class Ports:
    slurmctld: int
    slurmdbd: int
    mariadbd: int
    n1: int
    n2: int

    @classmethod
    def free(cls) -> "Ports":
        """Ports of 127.0.0.1 that nobody listens on, held together while they are found so that they differ."""
        sockets = [socket.socket() for _ in range(5)]
        try:
            for found in sockets:
                found.bind(("127.0.0.1", 0))
            return cls(*(found.getsockname()[1] for found in sockets))
        finally:
            for found in sockets:
                found.close()


def slurm_conf(folder: Path, settings: Settings, ports: Ports) -> str:
    """Two nodes of this host; jobs of `low` and `low-grace` give way to jobs of `high`."""
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={getattr(ports, node)} CPUs=8 RealMemory=8000"
        f" Gres=gpu:{GPUS_PER_NODE} State=UNKNOWN"
        for node in NODES
    )
    accounting = "AccountingStorageType=accounting_storage/none"
    if settings.accounting:
        accounting = f"""AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports.slurmdbd}
AccountingStoragePass={folder}/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=limits"""
    every = f"Nodes={','.join(NODES)} MaxTime=INFINITE DefaultTime=60 State=UP"
    return f"""ClusterName=devcluster
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports.slurmctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.own.pid
SlurmdPidFile={folder}/%n.own.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
GresTypes=gpu
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=1
MaxArraySize={settings.max_array_size}
MaxJobCount=20000
KillWait={settings.kill_wait}
SlurmdTimeout={settings.node_timeout}
{accounting}
{nodes}
PartitionName=low Default=YES PriorityTier=1 GraceTime=0 {every}
PartitionName=low-grace PriorityTier=1 GraceTime={settings.grace} {every}
PartitionName=high PriorityTier=10 PreemptMode=OFF {every}
"""


def gres_conf(folder: Path) -> str:
    gpus = f"nvidia[0-{GPUS_PER_NODE - 1}]"
    return "".join(f"NodeName={node} Name=gpu File={folder}/{node}/{gpus}\n" for node in NODES)


def slurmdbd_conf(folder: Path, ports: Ports) -> str:
    return f"""DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports.slurmdbd}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
PidFile={folder}/slurmdbd.own.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports.mariadbd}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
