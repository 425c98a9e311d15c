"""Why a GPU cannot be used, in one line. The driver is a stub; no GPU is needed."""

import json
import os
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from scorer_core import devices
from scorer_core.devices import DeviceError, check_installation, resolve
from tests import stub_driver
from tests.stub_driver import no_driver

HOST = socket.gethostname()
BREAKOUT = ["minatar/breakout"]
RESOLVE = """
import json, sys
from scorer_core.devices import DeviceError, resolve
try:
    answer = resolve(sys.argv[1], ["minatar/breakout"])
except DeviceError as error:
    answer = str(error)
assert not {"torch", "numba"} & sys.modules.keys(), "the checks import torch or numba"
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory) -> dict[str, str]:
    return stub_driver.build(tmp_path_factory.mktemp("driver"))


def resolved(environment: dict[str, str], name: str):
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, name], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("answers", "found", "advice"),
    [
        (
            {"STUB_VERSION": "12020"},
            f"the NVIDIA driver of {HOST} is too old: it supports CUDA 12.2, and PyTorch needs 13.0",
            "Use a machine with driver 580 or newer, or PyTorch for CUDA 12: pip install torch --index-url "
            "https://download.pytorch.org/whl/cu126",
        ),
        (
            {"STUB_VERSION": "11040"},
            f"the NVIDIA driver of {HOST} is too old: it supports CUDA 11.4, and PyTorch needs 13.0",
            "Use a machine with driver 580 or newer",
        ),
        *(
            (
                {**no_device, "CUDA_VISIBLE_DEVICES": "7"},
                f"the NVIDIA driver of {HOST} shows no GPU; CUDA_VISIBLE_DEVICES='7'",
                "Request one (`gpus: 1` in the profile of a cluster), or use device: cpu",
            )
            for no_device in ({"STUB_INIT": "100"}, {"STUB_COUNT": "0"})
        ),
        *(
            (
                {"STUB_INIT": code, "STUB_TEXT": text},
                f"the NVIDIA driver of {HOST} does not start: error {code}, {text}",
                "Use another machine (on a cluster `sbatch: {exclude: NODE}` in the profile) and tell the "
                "administrators",
            )
            for code, text in (
                ("803", "system has unsupported display driver / cuda driver combination"),
                ("999", "unknown error"),
            )
        ),
    ],
)
def test_each_fault_of_the_driver_is_one_line_that_says_what_to_do(stub, tmp_path, answers, found, advice):
    environment = {**stub, **answers, "PYTHONPATH": stub_driver.install_packages(tmp_path, "13.0")}
    assert resolved(environment, "cuda") == f"{found}. {advice}"
    assert resolved(environment, "auto") == ["cpu", found]


def test_a_process_that_trains_uses_one_thread_whatever_the_site_has_set():
    code = "from scorer_core.devices import use_device; use_device('cpu', [])\n"
    code += "import torch; print(torch.get_num_threads())"
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@no_driver
def test_the_log_says_what_auto_chose_and_why(caplog):
    with caplog.at_level("INFO", "scorer"):
        assert devices.use_device("auto", BREAKOUT).name == "cpu"
    assert caplog.messages == [f"device: cpu ({HOST} has no NVIDIA driver: libcuda.so.1 was not found)"]


@no_driver
def test_without_a_driver_the_line_says_so():
    found = f"{HOST} has no NVIDIA driver: libcuda.so.1 was not found"
    with pytest.raises(DeviceError) as raised:
        resolve("cuda", BREAKOUT)
    assert str(raised.value) == f"{found}. Use a machine with a GPU, or device: cpu"
    assert resolve("auto", BREAKOUT) == ("cpu", found)


def test_with_a_driver_and_a_pytorch_that_fit_it_is_the_gpu_and_the_reason_names_it(stub, tmp_path):
    environment = {**stub, "PYTHONPATH": stub_driver.install_packages(tmp_path, "13.0")}
    release = devices._driver_release()
    named = f"Stub GPU, GPU-abababab-abab-abab-abab-abababababab, NVIDIA driver {release} for CUDA 13.0"
    assert resolved(environment, "cuda") == ["cuda", named]
    assert resolved(environment, "auto") == ["cuda", named]


def test_a_build_for_cpus_is_named_with_the_commands_that_fit_the_driver(stub, tmp_path):
    stub = {**stub, "PYTHONPATH": stub_driver.install_packages(tmp_path, None)}
    assert resolved({**stub, "STUB_VERSION": "12020"}, "cuda") == (
        "PyTorch 2.13.0+cpu is a build for CPUs. For a GPU: pip uninstall -y torch; pip install "
        'torch --index-url https://download.pytorch.org/whl/cu126; pip install "numba-cuda[cu12]>=0.30.4,<0.31"'
    )
    assert 'pip install torch; pip install "numba-cuda[cu13]' in resolved(stub, "cuda")


def test_a_game_needs_numba_cuda_and_an_environment_on_the_cpu_does_not(monkeypatch):
    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(devices, "pytorch_build", lambda: ("2.13.0+cu126", (12, 6)))
    monkeypatch.setattr(devices, "version", not_installed)
    with pytest.raises(DeviceError) as raised:
        check_installation(BREAKOUT)
    assert str(raised.value) == (
        "numba-cuda, which compiles the games for a GPU, is not installed. "
        'Install it: pip install "numba-cuda[cu12]>=0.30.4,<0.31"'
    )
    check_installation(["CartPole-v1"])


def test_the_extras_have_the_versions_that_the_messages_name():
    """Without a floor, pip installs a version without the compiler, and says so in one line that nobody reads."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for major in devices.DRIVER_OF_CUDA:
        assert project["optional-dependencies"][f"cuda{major}"] == [f"numba-cuda[cu{major}]{devices.NUMBA_CUDA}"]


@pytest.mark.parametrize(("given", "device"), [({"CUDA_VISIBLE_DEVICES": "0"}, "cuda"), ({}, "cpu")])
def test_in_a_slurm_job_auto_is_a_gpu_exactly_if_slurm_gave_it_one(monkeypatch, given, device):
    """Without a driver too: such a job must end, not train on the CPU."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert resolve("auto", BREAKOUT)[0] == device


@no_driver
def test_one_gpu_of_several_is_chosen_by_its_token(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1a,MIG-2b")
    with pytest.raises(DeviceError):  # there is no driver, but the token is set before the driver starts
        devices.open_device("cuda:1", BREAKOUT)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-2b"
    with pytest.raises(DeviceError, match=r"^there is no device cuda:3 on .*; CUDA_VISIBLE_DEVICES='MIG-2b'$"):
        devices.open_device("cuda:3", BREAKOUT)
