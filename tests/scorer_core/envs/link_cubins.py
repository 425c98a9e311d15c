"""Run as a program where numba-cuda is installed: the games' kernels, linked to the machine code of GPUs.

Needs neither a GPU nor a driver. Prints, as JSON, numba's target, the libNVVM and nvJitLink that it loaded, and the
size in bytes of each kernel's machine code.
"""

import itertools
import json
from typing import Any
from unittest import mock

from cuda.pathfinder import load_nvidia_dynamic_lib  # pyright: ignore[reportMissingImports]
from numba import cuda as built_in
from numba import types
from numba.cuda.cudadrv import driver as built_in_driver

from scorer_core.envs.compiled import GAMES
from scorer_core.envs.cuda_games import kernels
from scorer_core.envs.rules import rules_of

cuda: Any = built_in  # numba-cuda has put itself in the place of this module
driver: Any = built_in_driver
COMPUTE_CAPABILITIES = ((7, 5), (8, 0), (9, 0), (10, 0))

LANES, ACTIONS = types.int64[::1], types.int64[:, ::1]
PLACE = (LANES, LANES, types.int16[:, :, :], types.uint8[:, :, ::1])
OUTCOME = (ACTIONS, types.int64, ACTIONS, types.float32[:, ::1], types.boolean[:, ::1])


def cubin(kernel: Any, arguments: tuple, cc: tuple[int, int]) -> bytes:
    """The machine code of the kernel for GPUs of compute capability `cc`."""
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=mock.Mock(compute_capability=cc)):
        code, _ = cuda.compile(kernel.py_func, arguments, cc=cc, output="ltoir", abi="numba", device=False)
    linker = driver._Linker(cc=cc, lto=True)
    linker.add_ltoir(code)
    return linker.complete().code


def main() -> None:
    sizes = {}
    for cc, game in itertools.product(COMPUTE_CAPABILITIES, GAMES):
        both = kernels(GAMES[game], rules_of(game, "minatar"))
        for kernel, arguments in zip(both, (PLACE, PLACE + OUTCOME), strict=True):
            code = cubin(kernel, arguments, cc)
            assert code.startswith(b"\x7fELF"), "not machine code"
            sizes[f"{game} {kernel.py_func.__name__} {cc[0]}.{cc[1]}"] = len(code)
    libraries = {name: load_nvidia_dynamic_lib(name).abs_path for name in ("nvvm", "nvJitLink")}
    print(json.dumps({"target": cuda.implementation, "libraries": libraries, "bytes": sizes}))


if __name__ == "__main__":
    main()
