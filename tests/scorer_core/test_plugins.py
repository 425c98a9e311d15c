"""Parts in the user's own package: found and hashed without an import, and part of a run's identity."""

import importlib
import sys

import pytest
from pydantic import ValidationError

from scorer_core import plugins
from scorer_core.config import RunConfig
from scorer_core.identity import run_id
from scorer_core.provenance import user_code
from scorer_core.support.errors import RecordError

SEMIVARIANCE = """\
import torch
from mine.helpers import square

def below(delta, z, weight):
    return square(torch.relu(-delta)).mean()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of the package `mine`, which raises an exception when it is imported."""
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    for name, text in {
        "__init__.py": "raise RuntimeError('imported')",
        "objective.py": SEMIVARIANCE,
        "helpers.py": "def square(x):\n    return x * x\n",
        "deep/__init__.py": "",
        "deep/coupling.py": "def mine():\n    pass\n",
        "again.py": "from mine.objective import below\n",
        "broken.py": "x = 1\ndef f(:\n",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return folder


def config(**settings):
    return RunConfig(task="minatar/breakout", **settings)


def test_a_part_is_found_and_hashed_without_an_import(package):
    assert plugins.source_file("mine.deep.coupling:mine") == package / "deep" / "coupling.py"
    assert len(plugins.source_digest("mine.objective:below")) == 16
    assert not {"mine", "mine.objective"} & sys.modules.keys()


def test_the_identity_of_a_run_has_the_part_s_name_and_the_hash_of_its_file(package):
    before = config(follower_objective="mine.objective:below")
    assert before.changed_settings["sources"] == {"mine.objective:below": before.sources["mine.objective:below"]}
    assert before.run_id not in {config().run_id, config(follower_objective="mine.deep.coupling:mine").run_id}
    (package / "objective.py").write_text(SEMIVARIANCE + "# another comment\n")
    after = config(follower_objective="mine.objective:below")
    assert after.run_id != before.run_id
    assert after.shape_id != before.shape_id
    assert run_id(RunConfig(**before.model_dump())) == before.run_id  # a record keeps the hash that it was written with


def test_a_recorded_run_is_read_where_its_part_is_missing(package):
    recorded = config(follower_objective="mine.objective:below").model_dump(mode="json")
    (package / "objective.py").unlink()
    assert RunConfig(**recorded).model_dump(mode="json") == recorded


def test_line_ends_of_another_system_are_the_same_source(package):
    here = plugins.source_digest("mine.objective:below")
    (package / "objective.py").write_bytes(SEMIVARIANCE.replace("\n", "\r\n").encode())
    assert plugins.source_digest("mine.objective:below") == here


@pytest.mark.usefixtures("package")
def test_a_part_that_nothing_reads_is_no_part_of_the_identity():
    unread = config(leader_penalty="mine.objective:below", leader_penalty_weight=0.0)
    assert unread.run_id == config().run_id
    assert config(coupling="monolithic", follower_objective="mine.objective:below").sources == {}


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("mine.nothing:below", "Python finds no module mine.nothing; install its package, or set PYTHONPATH"),
        ("nobody.nothing:below", "Python finds no module nobody.nothing"),
        ("mine.again:below", "again.py does not define below; name the module that defines it"),
        ("mine.objective:above", "objective.py does not define above"),
        ("mine.broken:f", "broken.py, line 2: invalid syntax"),
        ("math:sqrt", "math is not a Python file"),
        ("nowhere", r"unknown name 'nowhere'; choose from: variance, norm.*; or give your own, package.module:name"),
    ],
)
@pytest.mark.usefixtures("package")
def test_a_part_that_is_not_there_is_one_line_that_names_the_field_and_the_file(place, reason):
    with pytest.raises(ValidationError, match=rf"(?s)follower_objective.*{reason}"):
        config(follower_objective=place)


def test_a_file_that_changed_since_the_plan_is_refused_by_name(package):
    planned = config(follower_objective="mine.objective:below").sources
    plugins.check_unchanged(planned)
    (package / "objective.py").write_text(SEMIVARIANCE.replace("relu", "abs"))
    with pytest.raises(RecordError, match=r"mine.objective:below: .*objective.py has changed since these runs were"):
        plugins.check_unchanged(planned)


def test_a_distribution_gives_a_part_a_short_name_with_the_same_identity(package, monkeypatch):
    info = package.parent / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scorer.plugins]\nbelow = mine.objective:below\n")
    plugins.short_names.cache_clear()
    try:
        short = config(follower_objective="below")
        assert short.follower_objective == "mine.objective:below"
        assert short.run_id == config(follower_objective="mine.objective:below").run_id
        with pytest.raises(ValidationError, match="choose from: variance, norm, below;"):
            config(follower_objective="above")
    finally:
        plugins.short_names.cache_clear()


@pytest.mark.usefixtures("package")
def test_a_learner_of_the_user_s_is_another_run_with_the_settings_of_its_algorithm():
    own, plain = (config(algorithm="pqn", **settings) for settings in ({"learner": "mine.deep.coupling:mine"}, {}))
    assert own.run_id != plain.run_id
    assert own.family == "pqn"


def test_a_user_s_coupling_reads_every_setting_and_has_two_rates(package):
    one, other = (
        config(coupling="mine.deep.coupling:mine", follower_weight=weight, leader_lr=1e-3, follower_lr=2e-3)
        for weight in (0.5, 1.0)
    )
    assert one.run_id != other.run_id
    assert one.ratio == 2


def test_a_user_s_schedule_may_read_the_settings_of_all_schedules(package):
    ids = {
        config(schedule="mine.deep.coupling:mine", **settings).run_id
        for settings in ({}, {"lr_end": 0.5}, {"leader_power": 0.7}, {"decay_rounds": 5.0}, {"decay_steps": 10})
    }
    assert len(ids) == 5


def test_a_module_in_no_package_and_a_package_with_any_file_have_a_version(package, tmp_path):
    (tmp_path / "alone.py").write_text("def f():\n    pass\n")
    (package / "snapshot.json").write_text("data of the user's")
    assert user_code(["alone:f", "mine.objective:below"]).keys() == {"alone", "mine"}
    assert plugins.packages(["alone:f"]) == {"alone": tmp_path / "alone.py"}


def test_parts_in_nested_namespace_folders_are_found(package):
    (package.parent / "space" / "inner").mkdir(parents=True)
    (package.parent / "space" / "inner" / "parts.py").write_text("def f():\n    pass\n")
    importlib.invalidate_caches()
    assert config(follower_objective="space.inner.parts:f").sources.keys() == {"space.inner.parts:f"}


def test_a_package_s_files_include_linked_folders_once(package):
    (package / "linked").symlink_to(package / "deep")
    (package / "up").symlink_to(package)
    files = {str(path) for path in plugins.package_files(package)}
    assert "deep/coupling.py" in files or "linked/coupling.py" in files
    assert len(files) < 12


def test_the_place_of_a_built_in_part_is_the_same_run_as_its_name():
    assert config(follower_objective="scorer_core.objectives:norm_loss").run_id == (
        config(follower_objective="norm").run_id
    )


@pytest.mark.usefixtures("package")
def test_an_algorithm_of_the_user_s_is_refused_with_the_setting_for_it():
    with pytest.raises(ValidationError, match="your own class is a `learner`"):
        config(algorithm="mine.objective:below")


def test_a_recorded_short_name_means_the_part_that_it_was_then():
    recorded = {"below": "gone.module:below", "gone.module:below": "0" * 16}
    assert config(follower_objective="below", sources=recorded).sources == {"gone.module:below": "0" * 16}
