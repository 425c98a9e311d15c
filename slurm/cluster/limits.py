"""Limits on the number of queued jobs, of QOS and accounts: which jobs count, and how sbatch refuses more."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from slurm.backend import FreeSlots, Limits, SchedulerError
from slurm.cluster.scheduler import MARK, marked, pairs, run_command, user_name
from slurm.profile import Profile

REFUSED = re.compile(r"Submit\w*Limit|job submit limit|temporarily un(able|available)", re.IGNORECASE)


@dataclass(frozen=True)
class SubmitLimit:
    """At most `most` queued jobs, counting those that squeue lists with the options `counted`."""

    name: str
    most: int
    counted: tuple[str, ...]


def free_slots(profile: Profile, limits: Limits) -> FreeSlots | None:
    """How many packs the smallest limit on jobs allows, minus one job for the report; None if no limit is known.

    Raises:
        SchedulerError: if squeue does not answer.
    """
    mine = ("--user", str(os.getuid()))
    known = [SubmitLimit("max_submit of the profile", profile.max_submit, mine)] if profile.max_submit else []
    if limits.max_submit is not None:
        known.append(SubmitLimit("MaxSubmitJobs of your account", limits.max_submit, mine))
    known += submit_limits(profile)
    queued = {limit.counted: _queued(limit.counted) for limit in known}
    slots = [
        FreeSlots(max(0, limit.most - queued[limit.counted] - 1) * profile.packs_per_job, f"{limit.name}: {limit.most}")
        for limit in known
    ]
    return min(slots, key=lambda free: free.packs, default=None)


def submit_limits(profile: Profile) -> list[SubmitLimit]:
    """The limits of the QOS and the account of a job of `profile`; empty if Slurm enforces none."""
    try:
        enforced = re.search(
            r"^AccountingStorageEnforce\s*=\s*(\S+)", run_command("scontrol", "show", "config"), re.MULTILINE
        )
        if not enforced or not {"limits", "safe", "all"} & set(enforced[1].split(",")):
            return []
        return list(_submit_limits(profile))
    except SchedulerError:
        return []


def _submit_limits(profile: Profile) -> Iterator[SubmitLimit]:
    mine = ("--user", str(os.getuid()))
    fields = "format=DefaultAccount,Account,DefaultQOS,QOS,GrpSubmitJobs"
    ours = _rows(run_command("sacctmgr", "-nP", "show", "user", user_name(), "withassoc", fields), 5)
    ours = [row for row in ours if row[1] == (profile.account or row[0])]
    for _, account, _, _, most in ours:
        if most.isdigit():
            yield SubmitLimit(f"GrpSubmitJobs of your account {account}", int(most), (*mine, "--account", account))
        for member, total in _rows(
            run_command("sacctmgr", "-nP", "show", "assoc", f"account={account}", "format=User,GrpSubmitJobs"), 2
        ):
            if not member and total.isdigit():
                yield SubmitLimit(f"GrpSubmitJobs of account {account}", int(total), ("--account", account))
    account = ours[0][1] if ours else ""
    places = {name: ("--partition", partition) for partition, name in _partition_qos(profile)}
    qos = profile.qos or _default_qos(ours)
    if qos:
        places[qos] = ("--qos", qos)
    fields = "format=Name,MaxSubmitJobsPerUser,MaxSubmitJobsPerAccount,GrpSubmitJobs"
    for name, per_user, per_account, total in _rows(run_command("sacctmgr", "-nP", "show", "qos", fields), 4):
        for limit, most, whose in (
            ("MaxSubmitJobsPerUser", per_user, mine),
            ("MaxSubmitJobsPerAccount", per_account, ("--account", account)),
            ("GrpSubmitJobs", total, ()),
        ):
            if name in places and most.isdigit():
                yield SubmitLimit(f"{limit} of QOS {name}", int(most), (*places[name], *whose))


def _default_qos(ours: list[list[str]]) -> str:
    """The QOS of a job that sets none: the default of the account, or the only allowed one."""
    for _, _, default, allowed, _ in ours:
        if default or "," not in allowed:
            return default or allowed
    return ""


def _partition_qos(profile: Profile) -> Iterator[tuple[str, str]]:
    """The partitions of jobs of `profile` that have a QOS, each with this QOS."""
    wanted = profile.partition.split(",") if profile.partition else []
    for line in run_command("scontrol", "--oneliner", "show", "partition").splitlines():
        partition = pairs(line)
        name = partition.get("PartitionName", "")
        if (name in wanted if wanted else partition.get("Default") == "YES") and partition.get("QoS", "N/A") != "N/A":
            yield name, partition["QoS"]


def _rows(answer: str, fields: int) -> list[list[str]]:
    """The fields of each line of sacctmgr; other lines, which a wrapper may print, are skipped."""
    rows = [line.split("|") for line in answer.splitlines()]
    return [row for row in rows if len(row) == fields]


def _queued(options: tuple[str, ...]) -> int:
    answer = run_command("squeue", "--array", *options, f"--format={MARK}%i")
    return sum(bool(re.match(r"\d+(_\d+)?$", line)) for line in marked("squeue", answer))


def explained(error: SchedulerError) -> SchedulerError:
    """`error` of sbatch, with advice if the reason is a limit on the number of jobs."""
    refusal = str(error)
    if not REFUSED.search(refusal):
        return error
    whose = "the cluster's MaxJobCount, for jobs of all users" if "temporarily" in refusal else "of your account or QOS"
    return type(error)(
        f"{refusal.rstrip('.')}. This is a limit on queued jobs ({whose}): set `max_submit` in the profile to a number "
        "below it, and scorer submits what fits"
    )
