"""Locks between real processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scorer_core.support.errors import RecordError
from scorer_core.support.locks import Lock, is_locked, locked, try_lock

ROOT = Path(__file__).parents[3]
HOLD = """
import sys
from pathlib import Path
from scorer_core.support.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock on `path` until it reads a line."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_another_process_holds_is_locked_until_that_process_ends(tmp_path):
    path = tmp_path / "folder" / "lock"
    assert not is_locked(path)
    assert not path.exists(), "looking creates no file"
    with holder(path) as process:
        assert is_locked(path)
        with try_lock(path) as taken:
            assert not taken
        assert not Lock(path).acquire(patience=0.01)
        process.kill()
        process.wait()
        assert not is_locked(path)
        with try_lock(path) as taken:
            assert taken


def test_a_waiting_process_gets_the_lock_when_the_holder_lets_go(tmp_path):
    with holder(tmp_path / "lock") as process:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        with locked(tmp_path / "lock"):
            assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


def test_a_lock_that_was_not_taken_is_not_released_for_its_holder(tmp_path):
    with locked(tmp_path / "lock"):
        other = Lock(tmp_path / "lock")
        assert not other.acquire(patience=0)
        other.release()
        assert is_locked(tmp_path / "lock")


def test_a_lock_that_cannot_be_opened_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"file/lock: cannot be opened: File exists"):
        Lock(tmp_path / "file" / "lock").acquire()
    with pytest.raises(RecordError, match=r"file/lock: cannot be opened: Not a directory"):
        is_locked(tmp_path / "file" / "lock")
