"""docs/troubleshooting.md: every message on the page exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [
    message.strip("`") for line in re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE) for message in line.split("` or `")
]


@pytest.fixture(scope="module")
def source() -> str:
    """The text of all messages: adjacent literals are joined as Python joins them."""
    packages = ("cli", "scorer_core", "sweeps", "slurm", "analysis")
    text = "".join(path.read_text(encoding="utf-8") for name in packages for path in (ROOT / name).rglob("*.py"))
    return re.sub(r"\"\s*\n\s*f?\"", "", text)


def test_the_page_has_messages_of_every_area():
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_on_the_page_is_one_that_scorer_prints(message, source):
    assert message in source
