"""Whether torch.compile can work here is known before it is used, and the reason is one line."""

import shutil
import socket

import pytest

from scorer_core.compiler import compiler_fault
from scorer_core.config import RunConfig
from scorer_core.metric_rows import SCHEMA
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from slurm.jobs import train_pack
from slurm.jobs.policy import halve, halves
from tests.slurm.test_job import CONFIGS, code_of, computed, same_metrics, start

HOST = socket.gethostname()
INSTALL = "Install one, load a module that has one (`setup` in a profile), or name one in"
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++ on this machine")


@pytest.fixture
def without_compiler(monkeypatch, tmp_path):
    """As on most compute nodes."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)


@needs_compiler
def test_with_a_compiler_and_python_s_headers_there_is_no_fault(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    assert compiler_fault("cpu") is None
    monkeypatch.setenv("CXX", "g++ -O1")
    assert compiler_fault("cpu") is None


def test_it_is_the_compiler_that_pytorch_runs(monkeypatch):
    from torch._inductor import config

    monkeypatch.delenv("CXX", raising=False)
    assert config.cpp.cxx == (None, "g++")  # pyright: ignore[reportAttributeAccessIssue]


def test_without_a_compiler_the_line_names_what_was_looked_for(without_compiler, monkeypatch):
    assert compiler_fault("cpu") == f"{HOST} has no C++ compiler: did not find g++. {INSTALL} CXX"
    assert compiler_fault("cuda") == f"{HOST} has no C compiler: did not find gcc or clang. {INSTALL} CC"
    monkeypatch.setenv("CXX", "/opt/nosuch/c++ -O2")
    assert compiler_fault("cpu") == f"{HOST} has no C++ compiler: did not find /opt/nosuch/c++ -O2. {INSTALL} CXX"


@needs_compiler
def test_a_variable_that_is_blank_counts_as_not_set_and_one_that_is_no_command_is_named(monkeypatch):
    monkeypatch.setenv("CXX", " ")
    assert compiler_fault("cpu") is None
    monkeypatch.setenv("CXX", 'g++ "-O1')
    assert compiler_fault("cpu") == f"CXX='g++ \"-O1' of {HOST} is not a command: No closing quotation. {INSTALL} CXX"


@needs_compiler
def test_a_compiler_that_fails_is_named_with_its_first_error(monkeypatch):
    monkeypatch.setenv("CXX", "g++ -mno-such-option")
    fault = compiler_fault("cpu") or ""
    assert fault.startswith(f"the C++ compiler g++ -mno-such-option of {HOST} fails: g++: error: unrecognized ")
    monkeypatch.setenv("CXX", "g++")
    monkeypatch.setattr("scorer_core.compiler.PROGRAM", "#include <no/such/Python.h>\n")
    fault = compiler_fault("cpu") or ""
    assert "Python.h: No such file or directory. Install the header files of Python (python3-dev" in fault
    assert "\n" not in fault


def test_a_pack_whose_plan_leaves_it_open_trains_eagerly_and_stays_eager(without_compiler, tmp_path):
    eager = PackFolder.create(tmp_path / "eager", CONFIGS)
    assert code_of(start(eager)) == 0
    folder = PackFolder.create(tmp_path / "open", CONFIGS, compiled=True, eager_allowed=True)
    assert folder.compiled()
    assert code_of(start(folder)) == 0
    assert same_metrics(folder, computed(eager))
    assert not folder.compiled()
    because = folder.eager_because() or ""
    assert because.startswith(f"{HOST} has no C++ compiler")
    assert f"not compiled, so training is slower: {because}" in (folder.path / "attempts/1/stderr.log").read_text()
    assert halve(PackFolder(folder.path))
    assert not any(part.compiled() for part in halves(folder))


def test_a_pack_that_must_be_compiled_fails_with_the_reason_before_it_trains(without_compiler, tmp_path):
    folder = PackFolder.create(tmp_path, CONFIGS, compiled=True)
    assert code_of(start(folder)) == train_pack.FAILED
    error = folder.state()["error"]
    assert error.startswith(f"this pack is compiled, because it was planned so, and {HOST} has no C++ compiler")
    assert folder.compiled()


def test_a_pack_that_was_compiled_in_an_earlier_attempt_never_becomes_eager(without_compiler, tmp_path):
    folder = PackFolder.create(tmp_path, [RunConfig(task="minatar/breakout")], compiled=True, eager_allowed=True)
    with folder.lock():
        folder.commit(128, SCHEMA.empty_table(), b"state")
        with pytest.raises(RecordError, match=r"^this pack was compiled before, eager code would not continue it bit"):
            train_pack.eager_without_compiler(folder, "cpu")
    assert folder.compiled()
