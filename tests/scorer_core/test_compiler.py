"""Whether torch.compile can work for a GPU here is known before it is used, and the reason is one line."""

import shutil
import socket

import pytest

from scorer_core.compiler import compiler_fault
from scorer_core.config import RunConfig
from scorer_core.metric_rows import SCHEMA
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from slurm.jobs.policy import halve, halves
from slurm.jobs.train_pack import becomes_eager
from tests.slurm.test_job import CONFIGS, code_of, start

HOST = socket.gethostname()
INSTALL = "Install one, load a module that has one (`setup` in a profile), or name one in CC"
needs_compiler = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc on this machine")


@pytest.fixture
def without_compiler(monkeypatch, tmp_path):
    """As on most compute nodes."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CC", raising=False)


@needs_compiler
def test_with_a_compiler_and_python_s_headers_there_is_no_fault(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    assert compiler_fault() is None
    monkeypatch.setenv("CC", "gcc -O1")
    assert compiler_fault() is None


def test_without_a_compiler_the_line_names_what_was_looked_for(without_compiler, monkeypatch):
    assert compiler_fault() == f"{HOST} has no C compiler: did not find gcc or clang. {INSTALL}"
    monkeypatch.setenv("CC", "/opt/nosuch/cc -O2")
    assert compiler_fault() == f"{HOST} has no C compiler: did not find /opt/nosuch/cc -O2. {INSTALL}"


@needs_compiler
def test_a_variable_that_is_blank_counts_as_not_set_and_one_that_is_no_command_is_named(monkeypatch):
    monkeypatch.setenv("CC", " ")
    assert compiler_fault() is None
    monkeypatch.setenv("CC", 'gcc "-O1')
    assert compiler_fault() == f"CC='gcc \"-O1' of {HOST} is not a command: No closing quotation. {INSTALL}"


@needs_compiler
def test_a_compiler_that_fails_is_named_with_its_first_error(monkeypatch):
    monkeypatch.setenv("CC", "gcc -mno-such-option")
    fault = compiler_fault() or ""
    assert fault.startswith(f"the C compiler gcc -mno-such-option of {HOST} fails: gcc: error: unrecognized ")
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setattr("scorer_core.compiler.PROGRAM", "#include <no/such/Python.h>\n")
    fault = compiler_fault() or ""
    assert "Python.h: No such file or directory. Install the header files of Python (python3-dev" in fault
    assert "\n" not in fault


def test_a_pack_whose_plan_leaves_it_open_becomes_eager_and_stays_eager(without_compiler, tmp_path, caplog):
    folder = PackFolder.create(tmp_path, CONFIGS, compiled=True, eager_allowed=True)
    assert folder.compiled()
    with folder.lock():
        assert becomes_eager(folder)
    assert not folder.compiled()
    because = folder.eager_because() or ""
    assert because.startswith(f"{HOST} has no C compiler")
    assert f"not compiled, so training is slower: {because}" in caplog.text
    assert halve(PackFolder(folder.path))
    assert not any(part.compiled() for part in halves(folder))


def test_a_pack_that_must_be_compiled_fails_with_the_reason(without_compiler, tmp_path):
    folder = PackFolder.create(tmp_path, CONFIGS, compiled=True)
    with pytest.raises(RecordError, match=f"^this pack is compiled, because it was planned so, and {HOST} has no C co"):
        becomes_eager(folder)
    assert folder.compiled()


def test_a_pack_that_was_compiled_in_an_earlier_attempt_never_becomes_eager(without_compiler, tmp_path):
    folder = PackFolder.create(tmp_path, [RunConfig(task="minatar/breakout")], compiled=True, eager_allowed=True)
    with folder.lock():
        folder.commit(128, SCHEMA.empty_table(), b"state")
        with pytest.raises(RecordError, match=r"^this pack was compiled before, eager code would not continue it bit"):
            becomes_eager(folder)
    assert folder.compiled()


def test_on_a_cpu_a_pack_that_was_planned_as_compiled_trains_without_a_compiler(without_compiler, tmp_path):
    folder = PackFolder.create(tmp_path, CONFIGS, compiled=True)
    assert code_of(start(folder, "--compile-cache", str(tmp_path / "compiled"))) == 0
    assert not (tmp_path / "compiled").exists()
