"""What torch.compile made for one kind of pack is compiled once per sweep and type of node, and copied by other jobs.

    <sweep>/compiled/<key>.lock   held by the job that compiles; the others wait for it
    <sweep>/compiled/<key>.zip    a line with the SHA-256 of the rest, and a zip archive of PyTorch's cache folder

Each job compiles in a private folder on its node: PyTorch's cache is damaged where processes of several nodes write to
it, and one damaged file in it makes every later process fail. What is published is one file, which is replaced as a
whole, so no job ever sees a part of it. No torch at import.
"""

import hashlib
import io
import logging
import os
import platform
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scorer_core.provenance import add_training_code
from scorer_core.support.errors import RecordError, reason
from scorer_core.support.files import replace_file
from scorer_core.support.locks import Lock, try_lock
from scorer_core.support.text import count

log = logging.getLogger("scorer")

PATIENCE_SECONDS = 600.0  # for another job that compiles; then this one compiles too
LOOK_SECONDS = 1.0  # between two looks at what the other job has published
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
VARIABLES = FOLDER, "TRITON_CACHE_DIR"  # PyTorch itself sets the second one, to a folder in its cache folder
COMPILED = (".so", ".cubin", ".gch", ".pch")  # each is the result of one run of a compiler
HEADERS = "precompiled_headers"
PREFIX = "scorer-compiled-"  # of the private folder
IN_USE = "in-use.lock"  # in it, held by its process
STALE_SECONDS = 3600.0  # a new folder is not in use for a moment
CHOSEN_BY_USER = FOLDER in os.environ  # at import: PyTorch sets it too, as soon as its compiler is imported
CPU = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")  # in /proc/cpuinfo


def key(shape_id: str, lanes: int, device_name: str, gpu: dict[str, str] | None) -> str:
    """A name for everything that the compiled code of a pack depends on: what it computes, machine and versions.

    Args:
        shape_id: of the runs of the pack.
        lanes: their number.
        device_name: "cpu" or the name of the GPU.
        gpu: properties of the GPU and its driver (`devices.Device`).
    """
    gpu = {name: value for name, value in (gpu or {}).items() if name in ("driver_cuda", "torch_cuda")}
    parts = [shape_id, lanes, device_name, *sorted(gpu.items()), _processor(), platform.libc_ver()]
    parts += [platform.python_version(), _version("torch"), _version("triton")]
    digest = hashlib.sha256(repr(parts).encode())
    add_training_code(digest)
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> list[str]:
    """What identifies the type of the CPU: code for a newer one does not run on an older one."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return [platform.machine(), platform.processor()]
    return [platform.machine(), *(line for line in first.splitlines() if line.startswith(CPU))]


def _remove_stale_folders() -> None:
    """Remove the private folders of processes of this user that were killed. Each may have 150 MB of headers."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, RecordError):
            status = folder.lstat()
            old = time.time() - status.st_mtime > STALE_SECONDS
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and old:
                with try_lock(folder / IN_USE) as free:
                    if free:
                        shutil.rmtree(folder, ignore_errors=True)


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


class CompileCache:
    """A private compile cache of this process while the `with` block lasts, filled from and published for the sweep."""

    def __init__(self, shared: Path, name: str):
        """The folder `shared` has the published caches; `name` is the `key` of this one."""
        self.published = shared / f"{name}.zip"
        self.copied = False
        self._complete = False  # nothing more has to be compiled
        self._lock = Lock(shared / f"{name}.lock")
        self._undo = ExitStack()
        self._copied_results = 0

    def __enter__(self) -> "CompileCache":
        _remove_stale_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        in_use = Lock(self.folder / IN_USE)
        self._undo.callback(in_use.release)
        with suppress(RecordError):
            in_use.acquire(patience=0)
        self._undo.callback(self._lock.release)
        for name in VARIABLES:
            self._undo.callback(_set_variable, name, os.environ.get(name))
        os.environ[FOLDER] = str(self.folder)
        self._keep_headers_here()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _keep_headers_here(self) -> None:
        """Precompile C++ headers (150 MB) in the private folder too, until everything is compiled or copied.

        PyTorch does it in <tmp>/torchinductor_<user>, in place: if the compiler is killed meanwhile, no later job of
        the node can compile. It also does it where everything else was found in the cache, which takes longer than all
        other work there.
        """
        from torch._inductor import codecache

        if not hasattr(codecache, "_precompile_header"):  # private in PyTorch; a version without it is only slower
            return
        precompile = codecache._precompile_header
        folder = self.folder / HEADERS

        def header_to_include(header: str, *arguments: Any, **options: Any) -> str:
            return header if self._complete else precompile(header, *arguments, **options)

        replaced = {"_HEADER_DIR": str(folder), "_HEADER_LOCK_DIR": str(folder / "locks")}
        for name, value in {**replaced, "_precompile_header": header_to_include}.items():
            self._undo.callback(setattr, codecache, name, getattr(codecache, name))
            setattr(codecache, name, value)
        self._undo.callback(precompile.cache_clear)  # it returns paths in this folder

    def fetch(self, should_stop: Callable[[], bool], beat: Callable[[], None], beat_seconds: float) -> bool:
        """Copy what is published. If nothing is, this job compiles, or waits for the one that does; False to stop.

        Args:
            should_stop: called while it waits; True ends that.
            beat: called every `beat_seconds` while it waits.
            beat_seconds: seconds.
        """
        end = beaten = None
        try:
            while not self._copy():
                if self._lock.acquire(patience=0):  # free if the job that held it was killed
                    if self._copy():  # published since the last look
                        self._lock.release()
                    break
                now = time.monotonic()
                if end is None:
                    log.info("waiting for another job to compile this kind of pack (it holds %s)", self._lock.path)
                    end = now + PATIENCE_SECONDS
                if should_stop():
                    return False
                if now >= end:
                    log.warning("the other job has not compiled in %.0f s; compiling here too", PATIENCE_SECONDS)
                    break
                if beaten is None or now - beaten >= beat_seconds:
                    beat()
                    beaten = now
                time.sleep(LOOK_SECONDS)
        except RecordError as error:  # for example a file system without locks
            log.warning("what other jobs compiled cannot be used; compiling here: %s", error)
        return True

    def _copy(self) -> bool:
        """Copy what is published to the private folder. If it is damaged it is removed, as if it had not been there.

        Raises:
            RecordError: if it cannot be read.
        """
        try:
            content = self.published.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RecordError(f"{self.published}: cannot be read: {error.strerror}") from error
        checksum, _, archive = content.partition(b"\n")
        if checksum.decode(errors="replace") != hashlib.sha256(archive).hexdigest():
            self._drop("damaged")
            return False
        try:
            with zipfile.ZipFile(io.BytesIO(archive)) as files:
                files.extractall(self.folder)
        except (OSError, zipfile.BadZipFile) as error:  # for example a full disk; a part would be worse than nothing
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
            raise RecordError(f"{self.published}: cannot be copied to {self.folder}: {error}") from error
        self.copied = self._complete = True
        self._copied_results = self._results()
        return True

    def _drop(self, why: str) -> None:
        """Remove what is published.

        Raises:
            RecordError: if it cannot be removed.
        """
        log.warning("%s: %s; it is removed, and everything is compiled again", self.published, why)
        try:
            self.published.unlink(missing_ok=True)
        except OSError as error:
            raise RecordError(f"{self.published}: cannot be removed: {error.strerror}") from error

    def recover(self, error: Exception) -> bool:
        """If `error` is PyTorch's, from code that was copied, remove what is published; True: compile once more."""
        if not self.copied:
            return False
        from torch._dynamo import reset
        from torch._dynamo.exc import BackendCompilerFailed
        from torch._dynamo.utils import counters
        from torch._inductor.utils import clear_caches

        if not isinstance(error, BackendCompilerFailed):
            return False
        with suppress(RecordError):
            self._drop(reason(error))
        reset()
        clear_caches()
        counters.clear()
        return True

    def publish(self) -> dict[str, Any]:
        """Once everything is compiled: publish it unless it was copied, let the others go on, and count.

        Returns:
            copied: whether the cache was copied; graphs_found and graphs_compiled: graphs that were in it and that
            were not; compiler_runs: results of a compiler that were not in it.
        """
        from torch._dynamo.utils import counters

        graphs = counters["inductor"]
        counts = {
            "copied": self.copied,
            "graphs_found": graphs.pop("fxgraph_cache_hit", 0),  # removed: the next pack of this process counts from 0
            "graphs_compiled": graphs.pop("fxgraph_cache_miss", 0),
            "compiler_runs": self._results() - self._copied_results,
        }
        found = f"{count(counts['graphs_found'], 'graph')} found, {counts['graphs_compiled']} compiled, "
        found += f"{count(counts['compiler_runs'], 'run')} of a compiler"
        log.info("compiled code %s: %s", "copied from another job" if self.copied else "of this job", found)
        self._complete = True
        shutil.rmtree(self.folder / HEADERS, ignore_errors=True)
        if not self.copied and not self.published.exists():
            try:
                replace_file(self.published, self._archive())
            except (OSError, RecordError) as error:  # the pack trains all the same
                log.warning("the compiled code is not published for other jobs: %s", error)
        self._lock.release()
        return counts

    def _files(self) -> list[Path]:
        """The finished files in the private folder: no locks, and no temporary files of PyTorch (.*.tmp) or Triton."""
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
        return [path for path in found if path.suffix != ".tmp" and not path.parent.name.startswith("tmp.pid_")]

    def _results(self) -> int:
        try:
            return sum(path.suffix in COMPILED for path in self._files())
        except OSError:  # PyTorch's processes may remove temporary files meanwhile
            return 0

    def _archive(self) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as files:
            for path in self._files():
                files.write(path, path.relative_to(self.folder))
        return hashlib.sha256(content.getvalue()).hexdigest().encode() + b"\n" + content.getvalue()
