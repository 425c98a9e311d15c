"""`scorer profile check` on clusters whose commands print other text; the commands are small scripts here."""

import pytest

from slurm.backend import Finding
from slurm.cluster.profile_check import check_profile
from slurm.profile import Profile
from tests.slurm.workplace import says

SLURM = Profile(name="cluster", scheduler="slurm")

PARTITIONS = """Welcome to HELIOS
PartitionName=normal Default=YES PriorityTier=1 MaxTime=UNLIMITED State=UP PreemptMode=CANCEL GraceTime=0
PartitionName=gpu_urgent Default=NO PriorityTier=20 MaxTime=UNLIMITED State=UP PreemptMode=CANCEL GraceTime=0"""
CONFIG = """PreemptType = preempt/partition_prio
PreemptMode = CANCEL
MaxArraySize = 1001
AccountingStorageType = accounting_storage/slurmdbd"""
NODES = "scorer|PARTITION|NODELIST|GRES|STATE\nscorer|normal|cpu07|(null)|idle\nscorer|gpu_urgent|{}|gpu:2|idle"


def cluster(commands, nodes: str, partitions: str = PARTITIONS, config: str = CONFIG) -> None:
    commands("scontrol", f"case $* in *partition*) {says(partitions)}\n;; *) {says(config)}\n;; esac")
    commands("sinfo", says(nodes))
    associations, qos = says("Guten Tag", "lab||normal|", "a|b"), says("x", "normal|n/a")
    commands("sacctmgr", f"case $* in *assoc*) {associations}\n;; *) {qos}\n;; esac")


@pytest.mark.parametrize(
    ("node", "level", "found"),
    [
        ("gn-01", "ok", "jobs in normal are not preempted"),
        ("cpu07", "problem", "jobs in gpu_urgent can preempt yours (PreemptMode=CANCEL)"),
    ],
)
def test_only_a_partition_with_nodes_of_ours_preempts(commands, node, level, found):
    cluster(commands, NODES.format(node))
    (finding,) = [finding for finding in check_profile(SLURM) if finding.subject == "preemption"]
    assert (finding.level, finding.found) == (level, found)


def test_words_where_numbers_are_expected_do_not_stop_the_profile_check(commands):
    odd = PARTITIONS.replace("Tier=1 ", "Tier=eins ").replace("MaxTime=UNLIMITED", "MaxTime=unbegrenzt")
    cluster(commands, f"Hallo\n{NODES.format('cpu07')}\nscorer|normal", odd, CONFIG.replace("1001", "n/a"))
    findings = {finding.subject: finding for finding in check_profile(SLURM)}
    assert findings["time"].level == "note"
    assert findings["MaxArraySize"].level == "note"
    assert findings["MaxSubmitJobs"] == Finding("ok", "MaxSubmitJobs", "scorer found no limit")
    assert findings["accounting"].found == "on; account lab"


def test_gpus_without_a_number_mean_one(commands):
    cluster(commands, NODES.format("gn-01").replace("(null)", "gpu:a100:4"))
    (finding,) = [f for f in check_profile(SLURM.model_copy(update={"gpus": "a100"})) if f.subject == "gpus"]
    assert finding == Finding("ok", "gpus", "a100 of a100:4 per node")
    (finding,) = [f for f in check_profile(SLURM.model_copy(update={"gpus": "h100"})) if f.subject == "gpus"]
    assert finding.found == "normal has a100:4 per node, the profile requests h100"
