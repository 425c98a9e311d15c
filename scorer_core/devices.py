"""The device that a process trains on, and if it cannot be used, one line: what was found, what is needed, what to do.

The checks run in the order of their cost: the driver (less than a millisecond), PyTorch, numba's CUDA target, and last
a kernel on the device. Importing this file imports neither torch nor numba.
"""

import ctypes
import importlib.util
import logging
import os
import re
import socket
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from scorer_core.registry import SUITES
from scorer_core.support.errors import reason

if TYPE_CHECKING:
    import torch

log = logging.getLogger("scorer")

NUMBA_CUDA = ">=0.30.4,<0.31"  # as in pyproject.toml: without a floor pip takes versions that lack the compiler
DRIVER_OF_CUDA = {12: "525", 13: "580"}  # NVIDIA, CUDA Compatibility, minor version compatibility
OLDEST_CUDA = (12, 0)  # that an extra supports
INDEX_OF_CUDA_12 = "https://download.pytorch.org/whl/cu126"
ANY_GAME = tuple(f"{suite}/" for suite in SUITES)
CUDA_ERROR_NO_DEVICE = 100


class DeviceError(Exception):
    """The device cannot be used. The message is one line: what was `found`, and what to do."""

    def __init__(self, found: str, advice: str = ""):
        super().__init__(f"{found}. {advice}" if advice else found)
        self.found, self.advice = found, advice


@dataclass(frozen=True)
class Device:
    """A device that has been checked."""

    torch_device: "torch.device"
    name: str  # `cpu`, or the product name of the GPU
    gpu: dict[str, str] | None = None  # UUID, driver, CUDA versions, compute capability, memory


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver, and the first GPU that it shows."""

    cuda: tuple[int, int]  # the newest CUDA version that it supports
    gpu: str
    uuid: str

    def __str__(self) -> str:
        return f"{self.gpu}, {self.uuid}, NVIDIA driver {_driver_release()} for CUDA {_dotted(self.cuda)}"


def open_device(name: str, tasks: Sequence[str]) -> Device:
    """Check the device `name` (cpu, cuda, cuda:N) for runs on `tasks`; PyTorch then uses one thread on the CPU.

    Raises:
        DeviceError: if it cannot be used.
    """
    if name == "cpu":
        return Device(_torch_on_one_thread().device(name), "cpu")
    if name.startswith("cuda:"):
        _show_only(int(name.removeprefix("cuda:")))
    driver = check_driver()
    check_installation(tasks, driver.cuda)
    torch = _torch_on_one_thread()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        why = " ".join(str(said[0].message).split()) if said else f"it gives no reason; {visible_devices()}"
        raise DeviceError(f"PyTorch {torch.__version__} cannot use the GPU of {_host()}: {why}")
    device = torch.device("cuda")
    properties = torch.cuda.get_device_properties(device)
    try:
        torch.zeros(1, device=device)
        if any(map(compiled_for_gpu, tasks)):
            from scorer_core.envs import cuda_games

            cuda_games.launch()
    except Exception as error:
        raise DeviceError(f"{properties.name} on {_host()} runs no kernel: {reason(error)}") from error
    gpu = {
        "uuid": driver.uuid,
        "driver": _driver_release(),
        "driver_cuda": _dotted(driver.cuda),
        "torch_cuda": str(torch.version.cuda),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gib": f"{properties.total_memory / 2**30:.1f}",
    }
    return Device(device, properties.name, gpu)


def _torch_on_one_thread() -> Any:
    """The module torch. Two threads per pack are slower than two packs, and a site may set OMP_NUM_THREADS."""
    import torch

    torch.set_num_threads(1)
    return torch


def use_device(name: str, tasks: Sequence[str]) -> Device:
    """The checked device that `name` means here; the log says what `auto` chose and why.

    Raises:
        DeviceError: if it cannot be used.
    """
    if name == "auto":
        name, why = resolve(name, tasks)
        log.info("device: %s (%s)", name, why)
    return open_device(name, tasks)


def resolve(name: str, tasks: Sequence[str]) -> tuple[str, str]:
    """The device that `name` (cpu, cuda, cuda:N, auto) means here, and the reason. Checks the driver and packages only.

    In a Slurm job `auto` is a GPU exactly if Slurm gave the job one: other GPUs of the node belong to other jobs.

    Raises:
        DeviceError: if it is a GPU that cannot be used.
    """
    if name == "cpu":
        return "cpu", "requested"
    if name == "auto" and "SLURM_JOB_ID" in os.environ:
        given = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("SLURM_JOB_GPUS")
        return ("cuda", "Slurm gave this job a GPU") if given else ("cpu", "Slurm gave this job no GPU")
    try:
        driver = check_driver()
        check_installation(tasks, driver.cuda)
    except DeviceError as error:
        if name == "auto":
            return "cpu", error.found
        raise
    return name if name != "auto" else "cuda", str(driver)


def check_driver(needed: tuple[int, int] | None = None) -> Driver:
    """The NVIDIA driver of this machine. `needed`: a version of CUDA (default: that of the installed PyTorch).

    Raises:
        DeviceError: if there is no driver, it is older than PyTorch needs, it does not start or shows no GPU.
    """
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise DeviceError(
            f"{_host()} has no NVIDIA driver: libcuda.so.1 was not found", "Use a machine with a GPU, or device: cpu"
        ) from None
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    found = number.value // 1000, number.value % 1000 // 10
    needed = needed or pytorch_build()[1] or OLDEST_CUDA
    if found[0] < needed[0]:
        advice = f"Use a machine with driver {DRIVER_OF_CUDA.get(needed[0], 'of a later year')} or newer"
        if found[0] in DRIVER_OF_CUDA:
            advice += f", or PyTorch for CUDA {found[0]}: pip install torch --index-url {INDEX_OF_CUDA_12}"
        raise DeviceError(
            f"the NVIDIA driver of {_host()} is too old: it supports CUDA {_dotted(found)}, and PyTorch needs "
            f"{_dotted(needed)}",
            advice,
        )
    code = library.cuInit(0)
    count = ctypes.c_int()
    if code == 0:
        code = library.cuDeviceGetCount(ctypes.byref(count))
    if code == CUDA_ERROR_NO_DEVICE or (code == 0 and count.value == 0):
        raise DeviceError(
            f"the NVIDIA driver of {_host()} shows no GPU; {visible_devices()}",
            "Request one (`gpus: 1` in the profile of a cluster), or use device: cpu",
        )
    if code:
        raise DeviceError(
            f"the NVIDIA driver of {_host()} does not start: error {code}, {_error_text(library, code)}",
            "Use another machine (on a cluster `sbatch: {exclude: NODE}` in the profile) and tell the administrators",
        )
    device, name, uuid = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
    library.cuDeviceGet(ctypes.byref(device), 0)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceGetUuid_v2(ctypes.byref(uuid), device)
    return Driver(found, name.value.decode(errors="replace"), f"GPU-{UUID(bytes=bytes(uuid))}")


def check_installation(tasks: Sequence[str], driver_cuda: tuple[int, int] | None = None) -> None:
    """Check what is installed for training `tasks` on a GPU. Needs neither a GPU nor a driver.

    Args:
        tasks: of the runs. The games are compiled with numba-cuda; other tasks do not need it.
        driver_cuda: what the driver supports, if it is known, to name the right packages.

    Raises:
        DeviceError: if PyTorch is missing, PyTorch is a build for CPUs, or numba-cuda is missing.
    """
    torch_version, cuda = pytorch_build()
    major = cuda[0] if cuda else (driver_cuda or (max(DRIVER_OF_CUDA), 0))[0]
    if cuda is None:
        index = f" --index-url {INDEX_OF_CUDA_12}" if major == 12 else ""
        raise DeviceError(
            f"PyTorch {torch_version} is a build for CPUs",
            f'For a GPU: pip uninstall -y torch; pip install torch{index}; pip install "{_numba_cuda(major)}"',
        )
    if any(map(compiled_for_gpu, tasks)):
        try:
            version("numba-cuda")
        except PackageNotFoundError:
            raise DeviceError(
                "numba-cuda, which compiles the games for a GPU, is not installed",
                f'Install it: pip install "{_numba_cuda(major)}"',
            ) from None


def compiled_for_gpu(task: str) -> bool:
    """Is the environment of this task compiled for the GPU? Others step on the CPU."""
    return task.partition("/")[0] in SUITES


def pytorch_build() -> tuple[str, tuple[int, int] | None]:
    """The version of the installed PyTorch and of its CUDA (None: a build for CPUs), without importing it.

    Raises:
        DeviceError: if PyTorch is not installed.
    """
    spec = importlib.util.find_spec("torch")
    if not spec or not spec.submodule_search_locations:
        raise DeviceError("PyTorch is not installed", "Install it: pip install torch")
    text = (Path(spec.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    release, cuda = (re.search(rf"^{name}\b.*= '([^']+)'", text, re.MULTILINE) for name in ("__version__", "cuda"))
    major, _, minor = cuda.group(1).partition(".") if cuda else ("", "", "")
    return release.group(1) if release else "?", (int(major), int(minor)) if cuda else None


def _numba_cuda(major: int) -> str:
    return f"numba-cuda[cu{major}]{NUMBA_CUDA}"


def _error_text(library: Any, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"unknown").decode(errors="replace")


def _driver_release() -> str:
    """The release of the kernel module, e.g. 580.95.05."""
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        if found := re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", text):
            return found.group(1)
    return "of unknown release"


def _show_only(index: int) -> None:
    """Hide all GPUs but number `index`, before the driver starts. All processes then use their first GPU.

    numba would otherwise use the first of all, and compiled code is cached by the number of the device.
    """
    tokens = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    shown = tokens.split(",") if tokens else [str(number) for number in range(index + 1)]
    if index >= len(shown):
        raise DeviceError(f"there is no device cuda:{index} on {_host()}; {visible_devices()}")
    os.environ["CUDA_VISIBLE_DEVICES"] = shown[index]


def visible_devices() -> str:
    """What CUDA_VISIBLE_DEVICES says, as part of a sentence."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "CUDA_VISIBLE_DEVICES is not set" if value is None else f"CUDA_VISIBLE_DEVICES={value!r}"


def _host() -> str:
    return socket.gethostname()


def _dotted(cuda: tuple[int, int]) -> str:
    return f"{cuda[0]}.{cuda[1]}"
