import sys

import pytest


@pytest.fixture(autouse=True)
def _numbers_stay_as_they_are():
    """A pack flushes denormal numbers to zero in its whole process; tests that share one must not see it."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
