import os
import shutil
import sys
import tempfile

import pytest

from cli import main


def pytest_configure(config):
    """All processes of this test run share compiled code, and find none of earlier runs."""
    if not hasattr(config, "workerinput"):  # xdist's workers inherit it
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="scorer-tests-")


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _as_in_a_job_of_its_own():
    """One thread; and a pack flushes denormal numbers to zero in its whole process, which no other test must see."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line; its exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorer", *map(str, arguments)])
        try:
            main.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def untraced(monkeypatch):
    """Packs of this process update with Python code: for a few updates, compiling takes longer than all of them."""
    monkeypatch.setattr("scorer_core.pack.Pack._function", lambda *arguments: sys.modules["torch"].vmap(arguments[2]))


@pytest.fixture
def traced(monkeypatch):
    """Packs of this process run as on a GPU, but for its graphs: traced functions, of all lanes at once."""
    from scorer_core.tracing import trace

    monkeypatch.setattr(
        "scorer_core.pack.Pack._function",
        lambda *arguments: trace(sys.modules["torch"].vmap(arguments[2]), arguments[3]),
    )
