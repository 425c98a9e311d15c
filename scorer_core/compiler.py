"""Whether torch.compile can work for a GPU here: Triton runs a C compiler, which many nodes lack. No torch."""

import os
import shlex
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAM = "#include <Python.h>\nint one(void) { return 1; }\n"
SECONDS = 60.0  # for the test program


def compiler_fault() -> str | None:
    """Why torch.compile cannot work here, in one line that says what to do; None if it can.

    Triton compiles a C file with $CC, gcc or clang, and needs Python's header files. A test program is compiled: about
    0.2 s.
    """
    host, given = socket.gethostname(), os.environ.get("CC", "").strip()
    help_ = "Install one, load a module that has one (`setup` in a profile), or name one in CC"
    try:
        commands = [shlex.split(name) for name in ((given,) if given else ("gcc", "clang"))]
    except ValueError as error:
        return f"CC={given!r} of {host} is not a command: {error}. {help_}"
    compiler = next((command for command in commands if shutil.which(command[0])), None)
    if compiler is None:
        return f"{host} has no C compiler: did not find {given or 'gcc or clang'}. {help_}"
    named = f"the C compiler {shlex.join(compiler)} of {host}"
    with TemporaryDirectory() as folder:
        source = Path(folder) / "test.c"
        source.write_text(PROGRAM, encoding="utf-8")
        headers = ["-I", sysconfig.get_paths()["include"], "-I", sysconfig.get_paths()["platinclude"]]
        command = [*compiler, "-shared", "-fPIC", *headers, str(source)]
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
