"""Check a profile against the limits and preemption rules of a cluster, with advice for each problem.

This calls three commands of Slurm and two of its accounting. It submits nothing; `check_job.py` submits a job.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from scorer_core.support.text import count
from slurm.backend import DEFAULT_MAX_ARRAY_SIZE, Finding, Level, SchedulerError
from slurm.cluster.scheduler import MARK, marked, pairs, run_command, user_name
from slurm.profile import Profile, minutes

UNLIMITED = ("UNLIMITED", "INFINITE", "NONE")
SMALL_ARRAY = 100  # with a smaller limit, a large sweep needs hundreds of arrays
SHORT_GRACE_SECONDS = 20  # a commit of a large pack can take this long on a slow file system


def check_profile(profile: Profile) -> list[Finding]:
    """All findings about `profile` that need no job."""
    try:
        config = _config(run_command("scontrol", "show", "config"))
        partitions = [pairs(line) for line in run_command("scontrol", "--oneliner", "show", "partition").splitlines()]
        partitions = [partition for partition in partitions if "PartitionName" in partition]
        nodes = _nodes(run_command("sinfo", "--Node", f"--format={MARK}%R|%N|%G|%T"))
    except SchedulerError as error:
        return [Finding("problem", "slurm", str(error), "run this on a login node; is SLURM_CONF right?")]
    found = [Finding("ok", "slurm", f"version {config.get('SLURM_VERSION', 'unknown')}")]
    partition = _partition(profile, partitions)
    if isinstance(partition, Finding):
        found.append(partition)
    else:
        found += [*_on_partition(profile, partition, nodes), _preemption(profile, config, partition, partitions, nodes)]
    found += [_array_size(config), _requeue(config)]
    return found + list(_accounting(profile, config))


def _config(answer: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S+)\s*=\s*(.*?)\s*$", answer, re.MULTILINE))


@dataclass(frozen=True)
class Node:
    """One node in one partition."""

    partition: str
    name: str
    gres: str
    state: str


def _nodes(answer: str) -> list[Node]:
    rows = [line.split("|") for line in marked("sinfo", answer)[1:]]
    return [Node(*row) for row in rows if len(row) == 4]


def _number(text: str | None, otherwise: int) -> int:
    """`text` as a number, or `otherwise` if it is a word (UNLIMITED, N/A)."""
    return int(text) if text and text.isdecimal() else otherwise


# --- the partition ---


def _partition(profile: Profile, partitions: list[dict[str, str]]) -> dict[str, str] | Finding:
    names = [partition["PartitionName"] for partition in partitions]
    if profile.partition is None:
        default = [partition for partition in partitions if partition.get("Default") == "YES"]
        nothing = Finding(
            "problem", "partition", "the cluster has no default", f"set `partition` to one of: {', '.join(names)}"
        )
        return default[0] if default else nothing
    wanted = profile.partition.split(",")
    unknown = [name for name in wanted if name not in names]
    if unknown:
        return Finding(
            "problem", "partition", f"there is no {unknown[0]}", f"set `partition` to one of: {', '.join(names)}"
        )
    return partitions[names.index(wanted[0])]


def _on_partition(profile: Profile, partition: dict[str, str], nodes: list[Node]) -> Iterator[Finding]:
    name = partition["PartitionName"]
    ours = [node for node in nodes if node.partition == name]
    down = sum(node.state.startswith(("down", "drain", "fail")) for node in ours)
    alive = len(ours) - down
    if partition.get("State") != "UP" or not alive:
        advice = "jobs will not start; ask the administrators or set another `partition`"
        yield Finding(
            "problem", "partition", f"{name} is {partition.get('State')} with {count(alive, 'working node')}", advice
        )
    else:
        yield Finding("ok", "partition", f"{name} is up: {count(alive, 'working node')}, {down} down or drained")
    limit = partition.get("MaxTime", "UNLIMITED")
    if limit not in UNLIMITED and not _is_time(limit):
        yield Finding("note", "time", f"{name} has MaxTime {limit}", "scorer cannot read this time")
    elif limit not in UNLIMITED and minutes(limit) < profile.time:
        advice = f"set `time: {limit}`; a longer pack is requeued and continues from its checkpoint"
        yield Finding("problem", "time", f"{name} allows {limit}, the profile requests {profile.time} min", advice)
    else:
        yield Finding("ok", "time", f"{profile.time} min of {limit.lower() if limit in UNLIMITED else limit} allowed")
    yield _gpus(profile, name, [node.gres for node in ours])


def _is_time(text: str) -> bool:
    try:
        return minutes(text) > 0
    except ValueError:
        return False


def _gpus(profile: Profile, name: str, offers: list[str]) -> Finding:
    """Compare `gpus`, a number or type:number, with what nodes offer, e.g. gpu:a100:4(S:0-1),gpu:1."""
    found = [match for offer in offers for match in re.findall(r"gpu:(?:([a-zA-Z_][\w.-]*):)?(\d+)", offer)]
    offered = [(kind, int(number)) for kind, number in found]
    shown = ", ".join(sorted({f"{kind}:{number}" if kind else str(number) for kind, number in offered})) or "none"
    if profile.gpus is None:
        if offered:
            return Finding(
                "note",
                "gpus",
                f"{name} has {shown} per node, the profile requests none",
                "set `gpus: 1` to use one",
            )
        return Finding("ok", "gpus", "none requested, none available")
    kind, _, number = profile.gpus.rpartition(":")
    if not number.isdecimal():  # a type alone is one GPU of it
        kind, number = profile.gpus, "1"
    if any(int(number) <= most and kind in ("", there) for there, most in offered):
        if int(number) > profile.packs_per_job:
            advice = f"set `packs_per_job: {number}`, which trains a pack on each"
            return Finding("note", "gpus", f"a job requests {number} and uses {profile.packs_per_job}", advice)
        return Finding("ok", "gpus", f"{profile.gpus} of {shown} per node")
    return Finding(
        "problem", "gpus", f"{name} has {shown} per node, the profile requests {profile.gpus}", "change `gpus`"
    )


# --- what happens to jobs ---


def _preemption(
    profile: Profile,
    config: dict[str, str],
    partition: dict[str, str],
    partitions: list[dict[str, str]],
    nodes: list[Node],
) -> Finding:
    """Whether jobs can be preempted, whether they have time to write a checkpoint, and whether Slurm requeues them."""
    kind = config.get("PreemptType", "preempt/none")
    if kind == "preempt/none":
        return Finding("ok", "preemption", "off: jobs are not preempted")
    if kind == "preempt/qos":
        advice = "sacctmgr show qos format=name,preempt,preemptmode,gracetime; CANCEL needs `scorer resume` afterwards"
        return Finding("note", "preemption", "decided by QOS", advice)
    name, tier = partition["PartitionName"], _number(partition.get("PriorityTier"), 1)
    ours = {node.name for node in nodes if node.partition == name}
    sharing = {node.partition for node in nodes if node.name in ours}
    higher = [p["PartitionName"] for p in partitions if _number(p.get("PriorityTier"), 1) > tier]
    above = [other for other in higher if other in sharing]
    mode = partition.get("PreemptMode") or config.get("PreemptMode", "OFF")
    if mode.startswith("OFF") or not above:
        return Finding("ok", "preemption", f"jobs in {name} are not preempted")
    who = f"jobs in {', '.join(above)} can preempt yours (PreemptMode={mode})"
    if "CANCEL" in mode:
        advice = "preempted jobs are cancelled, not requeued: run `scorer resume` to continue them"
        return Finding("problem", "preemption", who, advice)
    grace = _number(partition.get("GraceTime"), 0)
    if grace < SHORT_GRACE_SECONDS:
        advice = f"each preemption loses at most {profile.commit_seconds:.0f} s of work (`commit_seconds`)"
        return Finding("note", "preemption", f"{who} after {grace} s", advice)
    return Finding("ok", "preemption", f"{who} after {grace} s, which is enough to write a checkpoint")


def _array_size(config: dict[str, str]) -> Finding:
    if not config.get("MaxArraySize", "").isdecimal():
        return Finding("note", "MaxArraySize", "not reported by scontrol", f"{DEFAULT_MAX_ARRAY_SIZE:,} is assumed")
    size = int(config["MaxArraySize"])
    if size < 2:
        return Finding(
            "problem",
            "MaxArraySize",
            f"{size}: job arrays are off",
            "ask the administrators; scorer submits only job arrays",
        )
    advice = f"{10 * size:,} packs need ten arrays; with more `lanes` there are fewer jobs"
    return Finding("note" if size < SMALL_ARRAY else "ok", "MaxArraySize", f"{size:,} tasks per array",
                   advice if size < SMALL_ARRAY else "")  # fmt: skip


def _requeue(config: dict[str, str]) -> Finding:
    if config.get("JobRequeue") == "1":
        return Finding("ok", "requeue", "jobs are requeued after preemption and node failure")
    return Finding("ok", "requeue", "off by default (JobRequeue=0), but scorer's jobs request it")


# --- accounting ---


def _accounting(profile: Profile, config: dict[str, str]) -> Iterator[Finding]:
    if config.get("AccountingStorageType", "accounting_storage/none").endswith("/none"):
        yield Finding("note", "accounting", "off: scorer reads from files how a job ended", "nothing to do")
        yield _submit_limit(profile, [])
        return
    try:
        user = f"user={user_name()}"
        answer = run_command("sacctmgr", "-nP", "show", "assoc", user, "format=account,partition,qos,maxsubmitjobs")
        limits = run_command("sacctmgr", "-nP", "show", "qos", "format=name,maxsubmitjobsperuser")
    except SchedulerError as error:
        yield Finding("note", "accounting", f"does not answer: {error}", "scorer status works without it")
        yield _submit_limit(profile, [])
        return
    rows = [row for line in answer.splitlines() if len(row := line.split("|")) == 4]
    yield _account(profile, rows, "associations" in config.get("AccountingStorageEnforce", ""))
    rows = [row for row in rows if profile.account in (None, row[0])]
    allowed = {name for row in rows for name in row[2].split(",") if name}
    if profile.qos and profile.qos not in allowed:
        yield Finding(
            "problem",
            "qos",
            f"{profile.qos} is not yours",
            f"set `qos` to one of: {', '.join(sorted(allowed)) or 'none'}",
        )
    of_qos = dict(row for line in limits.splitlines() if len(row := line.split("|")) == 2)
    used = [of_qos.get(profile.qos, "")] if profile.qos else [of_qos.get(name, "") for name in allowed]
    yield _submit_limit(profile, [int(text) for text in (*(row[3] for row in rows), *used) if text.isdecimal()])


def _account(profile: Profile, rows: list[list[str]], enforced: bool) -> Finding:
    accounts = sorted({row[0] for row in rows})
    level: Level = "problem" if enforced else "note"
    if profile.account and profile.account not in accounts:
        advice = f"set `account` to one of: {', '.join(accounts) or 'none; ask the administrators'}"
        return Finding(level, "accounting", f"account {profile.account} is not yours", advice)
    if not accounts:
        return Finding(level, "accounting", "you have no account on this cluster", "ask the administrators for one")
    return Finding("ok", "accounting", f"on; account {profile.account or ' or '.join(accounts)}")


def _submit_limit(profile: Profile, limits: list[int]) -> Finding:
    known = [number for number in (profile.max_submit, min(limits, default=None)) if number is not None]
    if not known:
        return Finding("ok", "MaxSubmitJobs", "scorer found no limit")
    if min(known) < 2:
        return Finding(
            "problem",
            "MaxSubmitJobs",
            f"{min(known)}: too few, a pack and its report are two jobs",
            "ask the administrators",
        )
    advice = "submit the remaining packs with the next `scorer submit`; with more `lanes` there are fewer jobs"
    return Finding("note", "MaxSubmitJobs", f"{min(known):,} queued jobs", advice)
