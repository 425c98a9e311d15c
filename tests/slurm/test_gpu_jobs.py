"""Jobs that request a GPU, on a real Slurm whose nodes have GPUs but no NVIDIA driver."""

import pytest
import yaml

from tests import stub_driver
from tests.slurm.workplace import PROFILE, Workplace, wait_for

FOUND = "has no NVIDIA driver: libcuda.so.1 was not found"


@pytest.mark.slow
@stub_driver.no_driver
def test_a_job_that_was_given_a_gpu_it_cannot_use_ends_with_one_line_and_is_not_requeued(unaccounted, tmp_path):
    """The login node has all packages for a GPU; only the node knows its driver."""
    (tmp_path / "packages").mkdir()
    packages = {"PYTHONPATH": stub_driver.install_packages(tmp_path / "packages", "13.0")}
    place = Workplace(unaccounted, tmp_path / "home", {"total_steps": 2_000}, device="auto")
    place.scorer("submit", environment=packages)
    place.wait_until_empty()
    wait_for(lambda: place.states() == {"failed": 2}, every=1)
    assert FOUND in " ".join(place.run("status").stdout.split())
    assert place.attempts() == 1
    place.profile.write_text(yaml.safe_dump({**PROFILE, "device": "cpu"}))
    place.scorer("retry", "--profile", str(place.profile))
    place.wait_until_done(2)


def test_jobs_that_request_a_gpu_are_not_submitted_without_the_packages_for_it(unaccounted, tmp_path):
    (tmp_path / "packages").mkdir()
    packages = {"PYTHONPATH": stub_driver.install_packages(tmp_path / "packages", None)}
    place = Workplace(unaccounted, tmp_path / "home", device="auto")
    refused = place.run("submit", environment=packages)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Nothing was submitted: PyTorch ")
    assert "is a build for CPUs. For a GPU: pip " in line
    assert not place.jobs()
    assert "problem: PyTorch" in place.scorer("submit", "--dry-run", environment=packages)
