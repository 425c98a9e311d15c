"""Whether torch.compile can work on this machine: it runs a compiler, which compute nodes often lack. No torch."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAM = "#include <Python.h>\nint one(void) { return 1; }\n"
SECONDS = 60.0  # for the test program


def compiler_fault(device: str) -> str | None:
    """Why torch.compile cannot work here for `device`, in one line that says what to do; None if it can.

    For a CPU it compiles C++ with $CXX or g++ (torch._inductor.config.cpp.cxx); for a GPU Triton compiles a C file with
    $CC, gcc or clang. Both need Python's header files. A test program is compiled: about 0.2 s.
    """
    if device.startswith("cuda"):
        language, variable, names, options = "C", "CC", ("gcc", "clang"), []
    elif sys.platform == "darwin":
        language, variable, names, options = "C++", "CXX", ("clang++",), []
    else:
        language, variable, names, options = "C++", "CXX", ("g++",), ["-fopenmp"]
    host, given = socket.gethostname(), os.environ.get(variable, "").strip()
    help_ = f"Install one, load a module that has one (`setup` in a profile), or name one in {variable}"
    try:
        commands = [shlex.split(name) for name in ((given,) if given else names)]
    except ValueError as error:
        return f"{variable}={given!r} of {host} is not a command: {error}. {help_}"
    compiler = next((command for command in commands if shutil.which(command[0])), None)
    if compiler is None:
        return f"{host} has no {language} compiler: did not find {given or ' or '.join(names)}. {help_}"
    named = f"the {language} compiler {shlex.join(compiler)} of {host}"
    with TemporaryDirectory() as folder:
        source = Path(folder) / ("test.c" if language == "C" else "test.cpp")
        source.write_text(PROGRAM, encoding="utf-8")
        headers = ["-I", sysconfig.get_paths()["include"], "-I", sysconfig.get_paths()["platinclude"]]
        command = [*compiler, "-shared", "-fPIC", *options, *headers, str(source)]
        try:
            done = subprocess.run(
                [*command, "-o", f"{source}.so"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{named} does not work: {error}. {help_}"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no message"]
    if any("Python.h" in line for line in lines):
        help_ = "Install the header files of Python (python3-dev or python3-devel), or use a Python that has them"
    return f"{named} fails: {lines[0].strip()}. {help_}"
