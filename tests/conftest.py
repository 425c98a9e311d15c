import sys

import pytest

from cli import main


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
    """Packs of this process update with Python code: for a few updates, tracing takes longer than all of them."""
    monkeypatch.setattr("scorer_core.pack.trace", lambda function, _: function)
