"""Without the cache, or with a damaged one, only time is lost."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from scorer_core.native import program
from scorer_core.native.code_cache import CodeCache, folder
from scorer_core.native.program import MachineCode, Program, processor

X = torch.arange(12.0).view(2, 6)


def double(x):
    return (x * 2 + 1,)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> CodeCache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return CodeCache("shape", processor())


@pytest.fixture
def compilations(monkeypatch) -> list[int]:
    """One entry for each compilation from now on."""
    made, compiled = [], program.compiled

    def counted(*arguments):
        made.append(1)
        return compiled(*arguments)

    monkeypatch.setattr(program, "compiled", counted)
    return made


def run(cache: CodeCache, name: str = "double") -> None:
    assert torch.equal(Program(name, double, (X,), cached=cache)(X)[0], X * 2 + 1)


def test_a_function_is_compiled_once_also_for_another_number_of_lanes(cache, compilations):
    run(cache)
    run(CodeCache("shape", processor()))
    one = X[:1].clone()
    assert torch.equal(Program("double", double, (one,), cached=cache)(one)[0], one * 2 + 1)
    assert len(compilations) == 1


def test_what_changes_the_code_changes_the_key(cache, compilations):
    run(cache)
    run(cache, "other name")
    run(CodeCache("other shape", processor()))
    run(CodeCache("shape", "other processor"))
    wide = torch.ones(2, 7)
    Program("double", double, (wide,), cached=cache)
    Program("double", double, (wide,), sparse=[0], cached=cache)
    assert len(compilations) == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"program", b"prograM")),
        lambda path: path.write_bytes(b"no digest\n[]\n"),
        lambda path: path.chmod(0o666),
        lambda path: path.parent.chmod(0o777),
    ],
    ids=["empty", "cut off", "changed", "another form", "writable by others", "folder writable by others"],
)
def test_code_that_is_damaged_or_may_be_another_user_s_is_compiled_again(cache, compilations, damage):
    run(cache)
    (path,) = folder().glob("*.code")
    damage(path)
    run(cache)
    assert len(compilations) == 2


def test_a_folder_that_cannot_be_written_is_no_error(cache, compilations, tmp_path):
    (tmp_path / "scorer").write_text("not a folder")
    run(cache)
    run(cache)
    assert len(compilations) == 2


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def another_s_name(path: Path) -> None:
    """Code that is whole, under the name of other code."""
    run(CodeCache("shape", processor()), "other")
    (other,) = set(folder().glob("*.code")) - {path}
    other.replace(path)


@pytest.mark.parametrize("damage", [a_pipe, another_s_name])
def test_what_is_no_file_of_this_name_is_not_read(cache, compilations, damage):
    run(cache)
    (path,) = folder().glob("*.code")
    damage(path)
    before = len(compilations)
    run(cache)
    assert len(compilations) == before + 1


def test_without_a_home_directory_nothing_is_kept(cache, compilations, monkeypatch):
    monkeypatch.setattr("scorer_core.native.code_cache.folder", lambda: Path("~nobody-of-this-name").expanduser())
    run(cache)
    assert len(compilations) == 1


def test_the_folder_is_its_owner_s_alone_and_keeps_what_was_used_last(cache, monkeypatch):
    made = MachineCode(b"x" * 1000, 0, [], "")
    monkeypatch.setattr("scorer_core.native.code_cache.MOST_BYTES", 3500)
    for k in range(3):
        cache.keep(str(k), made)
    for second, k in enumerate((1, 2, 0)):
        os.utime(cache._path(str(k)), (second, second))
    cache.keep("3", made)
    assert [cache.find(str(k), MachineCode) is not None for k in range(4)] == [True, False, True, True]
    assert folder().stat().st_mode & 0o777 == 0o700


def _write_again_and_again(base: str) -> None:
    os.environ["XDG_CACHE_HOME"] = base
    cache, made = CodeCache("shape", "processor"), MachineCode(b"code" * 50_000, 7, [((2, 3), "float32")], "tree")
    while True:
        cache.keep("key", made)


def test_killed_writers_leave_code_whole_and_nothing_that_stays(cache, tmp_path):
    context = multiprocessing.get_context("spawn")
    whole = MachineCode(b"code" * 50_000, 7, [[[2, 3], "float32"]], "tree")
    reader = CodeCache("shape", "processor")
    for _ in range(3):
        writers = [context.Process(target=_write_again_and_again, args=(str(tmp_path),)) for _ in range(2)]
        for writer in writers:
            writer.start()
        seen = 0
        while seen < 50:
            found = reader.find("key", MachineCode)
            assert found in (None, whole)
            seen += found is not None
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join()
        assert reader.find("key", MachineCode) == whole
    for leftover in folder().glob(".*.tmp"):
        os.utime(leftover, (0, 0))
    reader.keep("key", whole)
    assert {path.suffix for path in Path(folder()).iterdir()} == {".code"}
