"""Stand-ins on a machine without a GPU: a library that answers as the NVIDIA driver, and what packages say."""

import os
import shutil
import subprocess
from ctypes.util import find_library
from pathlib import Path

import pytest

SOURCE = """
#include <stdlib.h>
#include <string.h>
static int number(const char *name, int otherwise) { char *text = getenv(name); return text ? atoi(text) : otherwise; }
int cuInit(unsigned flags) { return number("STUB_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = number("STUB_VERSION", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = number("STUB_COUNT", 1); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Stub GPU", length); return 0; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, 0xab, 16); return 0; }
int cuGetErrorString(int error, const char **text) { *text = getenv("STUB_TEXT"); return 0; }
"""


no_driver = pytest.mark.skipif(find_library("cuda") is not None, reason="this machine has an NVIDIA driver")


def build(folder: Path) -> dict[str, str]:
    """The environment of a process that finds the library; skips the test without a C compiler."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler on this machine")
    (folder / "stub.c").write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "stub.c"], check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


def install_packages(folder: Path, cuda: str | None) -> str:
    """A folder for PYTHONPATH with what PyTorch, built for this version of CUDA, and numba-cuda say of themselves.

    None: PyTorch is built for CPUs.
    """
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").touch()
    release = f"2.13.0+cu{cuda.replace('.', '')}" if cuda else "2.13.0+cpu"
    (folder / "torch" / "version.py").write_text(f"__version__ = '{release}'\ncuda: Optional[str] = {cuda!r}\n")
    (folder / "numba_cuda-0.30.4.dist-info").mkdir()
    (folder / "numba_cuda-0.30.4.dist-info" / "METADATA").write_text("Name: numba-cuda\nVersion: 0.30.4\n")
    return str(folder)
