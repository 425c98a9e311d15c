import sys

import pytest


@pytest.fixture(autouse=True)
def _as_in_a_job_of_its_own():
    """One thread; and a pack flushes denormal numbers to zero in its whole process, which no other test must see."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
