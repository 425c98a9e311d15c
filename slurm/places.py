"""Whose speeds a pack's training tells: those of this machine, or those of the partition that a profile names."""

import os
import re
import socket
from pathlib import Path

from scorer_core.support.cores import cpu_model
from slurm.backend import backend_of
from slurm.profile import Profile
from sweeps import speeds
from sweeps.speeds import Speeds

HERE = Profile(name="local", scheduler="local")
THREADS = "OMP_NUM_THREADS"


def place_of(profile: Profile) -> str:
    """A name for the machine, or the kind of nodes, on which the jobs of `profile` run; the name of a file.

    Nodes of one partition may differ: `constraint` and the type in `gpus` choose among them.
    """
    if backend_of(profile).on_this_machine:
        return f"host-{_as_file_name(socket.gethostname())}"
    gpu = (profile.gpus or "").rpartition(":")[0]
    parts = [profile.partition or "default", profile.constraint, gpu]
    return "-".join(["partition", *(_as_file_name(part) for part in parts if part)])


def in_words(profile: Profile) -> str:
    """Where the jobs of `profile` run: "here", or in which partition."""
    if backend_of(profile).on_this_machine:
        return "here"
    return f"in partition {profile.partition}" if profile.partition else "in the default partition"


def speeds_file(outputs: Path, profile: Profile) -> Path:
    return speeds.speeds_file(outputs, place_of(profile))


def known_speeds(outputs: Path, profile: Profile) -> Speeds:
    """The speeds of the packs that have trained where the jobs of `profile` run."""
    threads = profile.environment.get(THREADS) or os.environ.get(THREADS) or "1"  # a job's process sets 1
    cpu = cpu_model() if backend_of(profile).on_this_machine else None
    return speeds.read(speeds_file(outputs, profile), threads, cpu)


def _as_file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text)
