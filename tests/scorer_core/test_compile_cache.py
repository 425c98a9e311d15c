"""Jobs of a sweep compile each kind of pack once; what they share is whole, or is not used."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scorer_core import compile_cache, provenance
from scorer_core.compile_cache import CompileCache
from scorer_core.support.errors import RecordError
from scorer_core.support.locks import is_locked, locked

# Forks one job for each mode on the command line. A job compiles one file, with a compiler that counts its runs.
JOBS = """
import json, os, signal, subprocess, sys
from pathlib import Path
import torch._dynamo.utils, torch._inductor.codecache  # takes seconds, and all jobs need it
from scorer_core import compile_cache

compile_cache.LOOK_SECONDS = 0.02
shared, runs = map(Path, sys.argv[1:3])

def say(event, **more):
    os.write(1, (json.dumps({"event": event, "pid": os.getpid(), **more}) + "\\n").encode())

def stop_here(file):
    say("publishing")
    while True:
        signal.pause()

def job(mode):
    with compile_cache.CompileCache(shared, "k") as cache:
        cache.fetch(lambda: False, lambda: say("waiting"), 600.0)
        kernel = cache.folder / "aa" / "kernel.so"
        if not kernel.exists():
            kernel.parent.mkdir()
            subprocess.run(f"echo run >> {runs}; echo compiled > {kernel}", shell=True, check=True)
        if mode == "stuck":
            os.fsync = stop_here
        counts = cache.publish()
        say("done", content=kernel.read_text(), counts=counts)

children = []
for mode in sys.argv[3:]:
    if not (child := os.fork()):
        job(mode)
        os._exit(0)
    children.append(child)
    if mode == "stuck":
        sys.stdin.readline()  # the next job starts when this one publishes
for child in children:
    os.waitpid(child, 0)
"""
# Compiles a function for real.
REAL = """
import json, sys
from pathlib import Path
import torch
from scorer_core.compile_cache import CompileCache

torch.set_num_threads(1)
sys.stdin.readline()  # all start together
for copy in (True, False):
    with CompileCache(Path(sys.argv[1]), "k") as cache:
        if copy:
            cache.fetch(lambda: False, lambda: None, 600.0)
        function = torch.compile(lambda x: (x.sin() + x.cos()).sum(1))
        try:
            values = function(torch.arange(64.0).reshape(8, 8)).tolist()
        except Exception as error:
            if not cache.recover(error):
                raise
        else:
            print(json.dumps({"values": values, "counts": cache.publish()}))
            break
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    """The private folders of this test's jobs; none is left at its end."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv(compile_cache.FOLDER, raising=False)


@pytest.fixture
def jobs(tmp_path):
    """Start JOBS with some modes."""
    started: list[subprocess.Popen[str]] = []

    def start(*modes: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", JOBS, str(tmp_path / "compiled"), str(tmp_path / "runs"), *modes]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_event(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    return json.loads(process.stdout.readline())


def compile_in(shared: Path, stop: bool = False) -> dict[str, Any] | None:
    """A job in this process that compiles one file; its counts, or None if it stopped."""
    with CompileCache(shared, "k") as cache:
        if not cache.fetch(lambda: stop, lambda: None, 600.0):
            return None
        if not cache.copied:
            (cache.folder / "kernel.so").write_bytes(b"code" * 1000)
            (cache.folder / "locks").mkdir()
            (cache.folder / "locks" / "a.lock").touch()
            (cache.folder / ".1.2.tmp").touch()
        assert (cache.folder / "kernel.so").read_bytes() == b"code" * 1000
        return cache.publish()


COLD = {"copied": False, "graphs_found": 0, "graphs_compiled": 0, "compiler_runs": 1}
COPIED = {"copied": True, "graphs_found": 0, "graphs_compiled": 0, "compiler_runs": 0}


def test_if_a_job_is_killed_while_it_publishes_one_of_eight_others_does_it_and_nobody_sees_a_part(tmp_path, jobs):
    process, shared = jobs("stuck", *["plain"] * 8), tmp_path / "compiled"
    killed = next_event(process)
    assert killed["event"] == "publishing"
    process.stdin.write("\n")
    process.stdin.flush()
    assert {next_event(process)["event"] for _ in range(8)} == {"waiting"}
    assert sorted(path.suffix for path in shared.iterdir()) == [".lock", ".tmp"]
    os.kill(killed["pid"], signal.SIGKILL)
    done = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert [(line["event"], line["content"]) for line in done] == [("done", "compiled\n")] * 8
    assert sorted(line["counts"]["compiler_runs"] for line in done) == [0] * 7 + [1]
    assert sorted(line["counts"]["copied"] for line in done) == [False] + [True] * 7
    assert len((tmp_path / "runs").read_text().splitlines()) == 2
    assert compile_cache_content(shared) == {"aa/kernel.so": b"compiled\n"}
    assert sorted(path.suffix for path in shared.iterdir()) == [".lock", ".tmp", ".zip"]  # `scorer clean` removes it
    assert len(list((tmp_path / "tmp").glob("scorer-compiled-*"))) == 1  # of the killed job


def compile_cache_content(shared: Path) -> dict[str, bytes]:
    """The files that a job copies."""
    with CompileCache(shared, "k") as cache:
        assert cache.fetch(lambda: False, lambda: None, 600.0)
        assert cache.copied
        return {str(path.relative_to(cache.folder)): path.read_bytes() for path in cache._files()}


def test_locks_and_temporary_files_are_not_published(tmp_path):
    assert compile_in(tmp_path) == COLD
    assert list(compile_cache_content(tmp_path)) == ["kernel.so"]


DAMAGES = {
    "truncated": lambda content: content[:-100],
    "empty": lambda _: b"",
    "one bit": lambda content: content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
    "another checksum": lambda content: b"0" * 64 + content[64:],
    "not ours": lambda _: b"\xff\xfe{}",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_removed_and_published_again(tmp_path, caplog, damage):
    assert compile_in(tmp_path) == COLD
    (tmp_path / "k.zip").write_bytes(DAMAGES[damage]((tmp_path / "k.zip").read_bytes()))
    assert compile_in(tmp_path) == COLD
    assert f"{tmp_path / 'k.zip'}: damaged; it is removed, and everything is compiled again" in caplog.text
    assert compile_in(tmp_path) == COPIED


def test_what_cannot_be_read_or_written_costs_only_the_copy(tmp_path, caplog):
    (tmp_path / "k.zip").mkdir()
    assert compile_in(tmp_path) == COLD
    assert "k.zip: cannot be read: Is a directory" in caplog.text
    (tmp_path / "file").touch()
    assert compile_in(tmp_path / "file") == COLD
    assert "the compiled code is not published for other jobs: " in caplog.text


def test_a_copy_that_does_not_fit_on_the_disk_leaves_no_part_of_it(tmp_path, caplog, monkeypatch):
    def disk_full(self, folder):
        (folder / "aa").mkdir()
        (folder / "aa" / "kernel.so").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    assert compile_in(tmp_path) == COLD
    monkeypatch.setattr("zipfile.ZipFile.extractall", disk_full)
    with CompileCache(tmp_path, "k") as cache:
        assert cache.fetch(lambda: False, lambda: None, 600.0)
        assert not cache.copied
        assert not (cache.folder / "aa").exists()
    assert "No space left on device" in caplog.text


def test_the_folder_of_a_job_that_was_killed_is_removed_by_a_later_job_and_no_other_folder(tmp_path):
    folders = {name: tmp_path / "tmp" / f"{compile_cache.PREFIX}{name}" for name in ("killed", "used", "new", "link")}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    folders["link"].symlink_to(tmp_path / "elsewhere")
    for name in ("killed", "used", "new"):
        folders[name].mkdir()
        (folders[name] / "kernel.so").touch()
    with locked(folders["used"] / compile_cache.IN_USE):
        for name in ("killed", "used"):
            os.utime(folders[name], (0, 0))
        compile_in(tmp_path)
        assert [name for name, folder in folders.items() if not folder.exists()] == ["killed"]
    assert (tmp_path / "elsewhere" / "file").exists()


def test_where_locks_do_not_work_every_job_compiles(tmp_path, caplog, monkeypatch):
    def no_locks(*_, **__):
        raise RecordError("k.lock: cannot be locked: No locks available")

    monkeypatch.setattr("scorer_core.support.locks.Lock.acquire", no_locks)
    assert compile_in(tmp_path) == COLD
    assert "compiling here: k.lock: cannot be locked: No locks available" in caplog.text
    assert compile_in(tmp_path) == COPIED


def test_a_job_waits_a_limited_time_and_stops_at_once_if_it_is_told_to(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(compile_cache, "LOOK_SECONDS", 0.01)
    with locked(tmp_path / "k.lock"):
        assert compile_in(tmp_path, stop=True) is None
        monkeypatch.setattr(compile_cache, "PATIENCE_SECONDS", 0.05)
        assert compile_in(tmp_path) == COLD
    assert "the other job has not compiled in" in caplog.text
    assert not is_locked(tmp_path / "k.lock")


def test_the_environment_is_as_before_after_an_attempt(tmp_path, monkeypatch):
    from torch._inductor import codecache

    monkeypatch.setenv("TRITON_CACHE_DIR", "/mine")
    before = dict(os.environ), codecache._HEADER_DIR, codecache._precompile_header
    with CompileCache(tmp_path, "k") as cache:
        assert Path(os.environ[compile_cache.FOLDER]) == cache.folder
        assert codecache._HEADER_DIR.startswith(str(cache.folder))
        os.environ["TRITON_CACHE_DIR"] = "set by PyTorch"
    assert (dict(os.environ), codecache._HEADER_DIR, codecache._precompile_header) == before
    assert not cache.folder.exists()


def test_the_key_names_everything_that_the_code_depends_on(tmp_path, monkeypatch):
    gpu = {"uuid": "GPU-1", "driver": "580.1", "driver_cuda": "13.0", "torch_cuda": "13.0"}
    keys = [
        compile_cache.key("shape", 30, "cpu", None),
        compile_cache.key("other", 30, "cpu", None),
        compile_cache.key("shape", 15, "cpu", None),
        compile_cache.key("shape", 30, "NVIDIA H100", gpu),
        compile_cache.key("shape", 30, "NVIDIA A100", gpu),
        compile_cache.key("shape", 30, "NVIDIA H100", gpu | {"driver_cuda": "13.1"}),
    ]
    assert compile_cache.key("shape", 30, "NVIDIA H100", gpu | {"uuid": "GPU-2"}) == keys[3]
    monkeypatch.setattr(compile_cache, "_processor", lambda: ["another CPU"])
    keys.append(compile_cache.key("shape", 30, "cpu", None))
    monkeypatch.setattr(compile_cache, "_version", lambda _: "9.9")
    keys.append(compile_cache.key("shape", 30, "cpu", None))
    (tmp_path / "scorer_core").mkdir()
    (tmp_path / "scorer_core" / "game.py").write_text("changed = True\n")
    monkeypatch.setattr(provenance, "CODE_ROOT", tmp_path)
    keys.append(compile_cache.key("shape", 30, "cpu", None))
    assert len(set(keys)) == len(keys)


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """g++ that writes down its runs; the files it has made since the last call."""
    (tmp_path / "bin").mkdir()
    compiler = tmp_path / "bin" / "g++"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/runs\nexec {shutil.which("g++")} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))

    def made() -> list[str]:
        lines = (tmp_path / "runs").read_text().splitlines()
        (tmp_path / "runs").write_text("")
        outputs = [words[words.index("-o") + 1] for words in map(str.split, lines) if "-o" in words]
        return [Path(output).suffix for output in outputs if not output.endswith((".i", "test.cpp.so"))]

    return made


def real(shared: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", REAL, str(shared)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ on this machine")
def test_eight_processes_that_start_together_run_the_compiler_as_often_as_one(tmp_path, counted):
    alone = json.loads(real(tmp_path / "alone").communicate("\n")[0])
    made = sorted(counted())
    assert made == [".gch", ".so", ".so"]  # headers, a test of the CPU, the function
    assert alone["counts"] == {"copied": False, "graphs_found": 0, "graphs_compiled": 1, "compiler_runs": 3}
    together = [real(tmp_path / "together") for _ in range(8)]
    for process in together:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    results = [json.loads(process.communicate()[0]) for process in together]
    assert sorted(counted()) == made
    assert [result["values"] for result in results] == [alone["values"]] * 8
    copied = {"copied": True, "graphs_found": 1, "graphs_compiled": 0, "compiler_runs": 0}
    assert sorted((result["counts"] for result in results), key=str) == [alone["counts"]] + [copied] * 7


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ on this machine")
def test_copied_code_that_is_whole_but_does_not_work_is_removed_and_compiled_once_more(tmp_path):
    first = json.loads(real(tmp_path).communicate("\n")[0])
    published = (tmp_path / "k.zip").read_bytes()
    (tmp_path / "k.zip").write_bytes(with_empty_libraries(published))
    second = json.loads(real(tmp_path).communicate("\n")[0])
    assert second["values"] == first["values"]
    assert (second["counts"]["copied"], second["counts"]["graphs_compiled"]) == (False, 1)
    assert (tmp_path / "k.zip").read_bytes() != with_empty_libraries(published)
    third = json.loads(real(tmp_path).communicate("\n")[0])
    assert (third["counts"]["copied"], third["counts"]["graphs_found"]) == (True, 1)


def with_empty_libraries(published: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(published.partition(b"\n")[2])) as old, zipfile.ZipFile(archive, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"" if name.endswith(".main.so") else old.read(name))
    return hashlib.sha256(archive.getvalue()).hexdigest().encode() + b"\n" + archive.getvalue()
