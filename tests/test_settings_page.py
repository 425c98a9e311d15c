"""docs/settings.md names every setting and key of the code, with its default and meaning."""

import re

import pytest

from scorer_core.config import RunConfig
from scorer_core.registry import LEADER_PENALTIES, SCHEDULES
from slurm.profile import FIELDS_OF, Profile
from sweeps.search import Search
from tools import settings_page
from tools.page import generated

PAGE = settings_page.PAGE.read_text()


@pytest.mark.parametrize("part", settings_page.tables())
def test_the_tables_are_current(part):
    assert generated(settings_page.PAGE, part) == settings_page.tables()[part]


@pytest.mark.parametrize("model", [RunConfig, Search, Profile])
def test_every_setting_and_key_has_a_meaning(model):
    for name, field in model.model_fields.items():
        assert field.description, name
        assert not field.description.endswith("."), name


def test_the_tables_written_by_hand_are_complete():
    explained = set(re.findall(r"^\| `(\w+)` \| [^|]* \|$", PAGE, re.MULTILINE))
    assert {"none", *LEADER_PENALTIES, *SCHEDULES, "variance", "msbe", "norm"} <= explained
    for_slurm = PAGE.partition("for Slurm only: ")[2].partition(".\n")[0]
    assert tuple(re.findall(r"`(\w+)`", for_slurm)) == FIELDS_OF["slurm"]
