"""sweeps/folders.py: which sweep an argument means."""

import pytest

from sweeps import folders
from sweeps.errors import DefinitionError
from sweeps.loading import load_submitted, parse
from sweeps.plan import make_plan
from tests.sweeps.minimal import MINIMAL


def test_a_project_folder_with_a_definition_is_not_taken_for_a_sweep_s_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "sweep.yaml").write_text("name: half")
    with pytest.raises(DefinitionError, match="half: not a file, not a built-in sweep"):
        folders.sweep_folder("half", tmp_path / "outputs")


def test_a_frozen_definition_makes_a_sweep_s_folder_also_before_it_has_packs(tmp_path):
    make_plan(parse(MINIMAL, "a.yaml"), tmp_path, only=set()).write()
    name = MINIMAL["name"]
    assert folders.sweep_folder(name, tmp_path) == tmp_path / name
    assert load_submitted(tmp_path / name).name == name
