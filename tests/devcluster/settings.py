"""What a dev cluster is made of: its settings, and the configuration files Slurm reads."""

import shutil
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sweeps.errors import DefinitionError, one_line
from sweeps.reading import Loader, read_mapping

ACCOUNT = "lab"  # the one account of a cluster with accounting, and the user's default
DAEMONS = ("guard", "slurmctld", "slurmdbd", "mariadbd", "munged")  # nodes come before them, with names of their own
FOLDERS = ("state", "spool", "munge", "mariadb", "bin", "locale")

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"


class ClusterError(Exception):
    """The cluster cannot be started or reached; the message names what to check."""


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Line = Annotated[str, Field(pattern=r"^[^\n]*$")]
Seconds = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Partition(_Strict):
    """Jobs of a partition with a higher tier preempt jobs of a lower one on the nodes that both have."""

    nodes: tuple[Name, ...] = ()  # empty: every node
    tier: Annotated[int, Field(ge=1)] = 1
    grace: Seconds | None = None  # between SIGTERM and the end of a preempted job
    preempt_mode: Literal["REQUEUE", "CANCEL", "OFF"] | None = None  # None: the cluster's


class Wrapper(_Strict):
    """What a site's own version of a Slurm command does before and after it calls the real one."""

    before: str = ""  # text on stdout
    after: str = ""
    delay: Annotated[float, Field(ge=0)] = 0.0  # seconds before the call


class Settings(_Strict):
    """A dev cluster. Without any setting: two nodes of two GPUs, and jobs of `high` preempt jobs of the others."""

    accounting: bool = True
    enforce: Annotated[str, Field(pattern=r"^[a-z]+(,[a-z]+)*$")] = "limits"  # AccountingStorageEnforce
    max_array_size: Annotated[int, Field(ge=2)] = 1001  # Slurm's default; the largest array index is one less
    grace: Seconds = 10  # of the partition `low-grace`, where `partitions` is not given
    kill_wait: Seconds = 5  # between SIGTERM and SIGKILL
    node_timeout: Seconds = 10  # after which a silent node is down

    nodes: dict[Name, Annotated[int, Field(ge=0, le=8)]] = Field(default={"n1": 2, "n2": 2}, min_length=1)  # their GPUs
    partitions: dict[Name, Partition] = {}  # the first is the default; empty: low, low-grace and high
    preempt_mode: Literal["REQUEUE", "CANCEL"] = "REQUEUE"
    job_requeue: bool = True  # is a job requeued that does not ask for it?
    slurm_conf: tuple[Line, ...] = ()  # more lines of it

    wrappers: dict[Literal["sbatch", "squeue"], Wrapper] = {}
    home: Annotated[str, Field(pattern=r"^[^/\n]+$")] | None = None  # HOME: a folder of this name
    locale: Annotated[str, Field(pattern=r"^[A-Za-z_]+\.[A-Za-z0-9-]+$")] | None = None  # LANG, LC_ALL: de_DE.UTF-8

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for node in self.nodes:
            if node in (*DAEMONS, *FOLDERS, self.home):
                raise ValueError(f"nodes: {node} is a name that the cluster needs itself; use another")
        if self.home in (*DAEMONS, *FOLDERS):
            raise ValueError(f"home: {self.home} is a name that the cluster needs itself; use another")
        for name, partition in self.partitions.items():
            for node in partition.nodes:
                if node not in self.nodes:
                    raise ValueError(
                        f"partitions.{name}.nodes: there is no node {node} (nodes: {', '.join(self.nodes)})"
                    )
        return self

    @classmethod
    def load(cls, path: Path | None, **options: Any) -> "Settings":
        """The settings of a YAML or JSON file, if one is given; `options` override the file.

        Raises:
            DefinitionError: if the file cannot be read, or a setting is not valid.
        """
        raw = read_mapping(path, Loader) if path else {}
        try:
            return cls.model_validate(raw | options)
        except ValidationError as error:
            raise DefinitionError(f"{path or 'options'}: {one_line(error)}") from None

    def write(self, folder: Path) -> None:
        (folder / "cluster.json").write_text(self.model_dump_json() + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """The settings of the cluster that was started in `folder`.

        Raises:
            ClusterError: if there is none.
        """
        try:
            return cls.model_validate_json((folder / "cluster.json").read_text())
        except FileNotFoundError:
            raise ClusterError(f"{folder}: no dev cluster was started here") from None

    def all_partitions(self) -> dict[str, Partition]:
        """Those that were given, or those of the default cluster."""
        return self.partitions or {
            "low": Partition(grace=0),
            "low-grace": Partition(grace=self.grace),
            "high": Partition(tier=10, preempt_mode="OFF"),
        }


def missing_programs(accounting: bool) -> list[str]:
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    return [program for program in wanted if shutil.which(program, path=SEARCHED) is None]


SEARCHED = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"


class Ports(NamedTuple):
    slurmctld: int
    slurmdbd: int
    mariadbd: int
    nodes: list[int]

    @classmethod
    def free(cls, nodes: int) -> "Ports":
        """Ports of 127.0.0.1 that nobody listens on, held together while they are found so that they differ."""
        sockets = [socket.socket() for _ in range(3 + nodes)]
        try:
            for found in sockets:
                found.bind(("127.0.0.1", 0))
            first, second, third, *rest = (found.getsockname()[1] for found in sockets)
            return cls(first, second, third, rest)
        finally:
            for found in sockets:
                found.close()


def slurm_conf(folder: Path, settings: Settings, ports: Ports) -> str:
    """All nodes are this host."""
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=8000"
        f"{f' Gres=gpu:{gpus}' if gpus else ''} State=UNKNOWN"
        for (node, gpus), port in zip(settings.nodes.items(), ports.nodes, strict=True)
    )
    partitions = "\n".join(
        _partition(name, partition, settings, default=index == 0)
        for index, (name, partition) in enumerate(settings.all_partitions().items())
    )
    accounting = "AccountingStorageType=accounting_storage/none"
    if settings.accounting:
        accounting = f"""AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports.slurmdbd}
AccountingStoragePass={folder}/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce={settings.enforce}"""
    more = [] if settings.job_requeue else ["JobRequeue=0"]
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
PreemptMode={settings.preempt_mode}
ReturnToService=1
MaxArraySize={settings.max_array_size}
MaxJobCount=20000
KillWait={settings.kill_wait}
SlurmdTimeout={settings.node_timeout}
{accounting}
{nodes}
{partitions}
""" + "".join(f"{line}\n" for line in [*more, *settings.slurm_conf])


def _partition(name: str, partition: Partition, settings: Settings, default: bool) -> str:
    words = [f"PartitionName={name}", "Default=YES" if default else "", f"PriorityTier={partition.tier}"]
    words.append("" if partition.grace is None else f"GraceTime={partition.grace}")
    words.append(f"PreemptMode={partition.preempt_mode}" if partition.preempt_mode else "")
    words.append(f"Nodes={','.join(partition.nodes or settings.nodes)}")
    return " ".join([*filter(None, words), "MaxTime=INFINITE DefaultTime=60 State=UP"])


def gres_conf(folder: Path, settings: Settings) -> str:
    """The device files that stand for GPUs, `DevCluster` makes them."""
    return "".join(
        f"NodeName={node} Name=gpu File={folder}/{node}/nvidia{'0' if gpus == 1 else f'[0-{gpus - 1}]'}\n"
        for node, gpus in settings.nodes.items()
        if gpus
    )


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
