"""On what the packs of a command will train: the device, whether they can be compiled, and the reasons in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from scorer_core import devices
from scorer_core.compiler import compiler_fault
from scorer_core.devices import DeviceError
from slurm.backend import backend_of
from slurm.profile import Profile
from sweeps.definition import Sweep
from sweeps.plan import Compile, worth_compiling


@dataclass(frozen=True)
class Means:
    """The device of jobs under a profile, and how new packs are compiled."""

    device: str
    why: str  # the reason for the device; "" for a cluster, where the profile says it
    compile: Compile  # `off` if this machine has no compiler
    no_compiler: str | None  # the reason, if packs would otherwise have been compiled
    problem: str = ""  # why the device cannot be used

    def lines(self) -> list[str]:
        """The device with the reason for it, and why new packs are not compiled."""
        lines = [device_line(self.device, self.why)]
        if self.no_compiler:
            lines.append(f"note: new packs are not compiled, so training is slower: {self.no_compiler}.")
        return lines


def device_line(device: str, why: str) -> str:
    """The device and the reason for it."""
    return f"Device: {device} ({why})." if why else f"Device: {device}."


def means_for(profile: Profile, sweep: Sweep, compile: Compile = "auto") -> Means:
    """What the packs of `sweep` train on under `profile`. A device that cannot be used is its `problem`."""
    problem = ""
    try:
        device, why = device_for(profile, sweep.tasks)
    except DeviceError as error:
        device, why, problem = profile.job_device, "", str(error)
    worth = any(worth_compiling(run.config, device) for run in sweep.first_runs)
    wanted = device != "cpu" and (compile == "on" or (compile == "auto" and worth))
    here = backend_of(profile).on_this_machine
    no_compiler = compiler_fault() if here and wanted else None
    return Means(device, why, "off" if no_compiler else compile, no_compiler, problem)


def device_for(profile: Profile, tasks: Sequence[str]) -> tuple[str, str]:
    """The device of jobs under `profile`, and the reason. For a cluster only what is installed is checked: jobs use it.

    Raises:
        DeviceError: if it is a GPU that cannot be used.
    """
    if backend_of(profile).on_this_machine:
        return devices.resolve(profile.job_device, tasks)
    if profile.job_device.startswith("cuda"):
        devices.check_installation(tasks)
    return profile.job_device, ""
