import json
import shutil

import pytest

from scorer_core.config import RunConfig
from scorer_core.pack_folders import ignored_folders, pack_folders
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.files import write_json

CONFIGS = [RunConfig(task="minatar/breakout", seed=seed) for seed in range(2)]


def test_only_names_that_are_numbers_are_attempts_and_they_are_sorted_as_numbers(folder):
    for number in range(1, 11):
        write_json(folder.new_attempt() / "provenance.json", {"git_commit": str(number)})
    for stray in ("1-copy", "1.bak", "²", "copy of 3"):
        shutil.copytree(folder.path / "attempts" / "1", folder.path / "attempts" / stray)
    assert [attempt.name for attempt in folder.attempts()] == [str(number) for number in range(1, 11)]
    assert folder.provenance() == {"git_commit": "10"}
    assert folder.new_attempt().name == "11"


def test_a_copy_of_a_pack_is_no_pack(folder):
    for name in ("copy of x", f"{folder.pack_id}.bak", ".hidden"):
        shutil.copytree(folder.path, folder.path.parent / name)
    assert [pack.path for pack in pack_folders(folder.path.parent)] == [folder.path]
    others = [folder.path.parent / name for name in ("copy of x", f"{folder.pack_id}.bak")]
    ignored = [f"{path}: its name is not a pack id, so it is ignored" for path in others]
    assert sorted(ignored_folders(folder.path.parent)) == sorted(ignored)


@pytest.mark.parametrize(
    ("name", "content", "read", "message"),
    [
        ("state.json", "[1]", PackFolder.state, "input should be an object"),
        ("state.json", '{"phase": "failed"}', PackFolder.state, "time: field required"),
        ("state.json", '{"time": "x"}', PackFolder.state, "time: invalid isoformat string: 'x'"),
        ("state.json", '{"time": "2026-01-01T00:00:00"}', PackFolder.state, "time: has no time zone"),
        ("state.json", '{"time": "2026-01-01T00:00:00+00:00", "step": "x"}', PackFolder.state, "step: input should be"),
        ("done.json", '{"runs": {"a": {}}}', PackFolder.done, "runs.a.status: field required"),
        ("done.json", '{"runs": {"a": {"status": "done", "verdicts": null}}}', PackFolder.done, "runs.a.verdicts: "),
        ("done.json", '{"runs": 5}', PackFolder.done, "runs: input should be an object"),
        ("done.json", '{"runs": {"a": {"status": "done"}}}', PackFolder.verified_done, "damaged: pack.json has no "),
        ("pack.json", "[1]", PackFolder.run_ids, "input should be an object"),
        ("pack.json", '{"runs": {"a": {}}}', PackFolder.run_ids, "damaged: the folder is named after other runs"),
        ("attempts/1/provenance.json", "null", PackFolder.provenance, "input should be an object"),
        ("attempts/1/provenance.json", '{"git_diff": 5}', PackFolder.provenance, "git_diff: input should be a valid"),
    ],
)  # fmt: skip
def test_a_record_of_another_form_is_an_error_that_names_file_and_field(folder, name, content, read, message):
    folder.new_attempt()
    (folder.path / name).write_text(content)
    with pytest.raises(RecordError) as caught:
        read(folder)
    assert str(caught.value).startswith(f"{folder.path / name}: {message}")
    assert "\n" not in str(caught.value)


def test_a_field_of_a_newer_version_is_ignored_in_a_record_and_refused_in_a_configuration(folder):
    path = folder.path / "pack.json"
    content = json.loads(path.read_text())
    write_json(path, content | {"newer": 1})
    assert folder.configs() == CONFIGS
    content["runs"][CONFIGS[0].run_id]["newer"] = 1
    write_json(path, content)
    with pytest.raises(RecordError) as caught:
        folder.configs()
    assert str(caught.value) == f"{path}: unknown field newer; written by a newer version?"


def test_a_configuration_that_was_changed_is_not_trained_under_the_run_id_of_another(folder):
    path = folder.path / "pack.json"
    content = json.loads(path.read_text())
    content["runs"][CONFIGS[0].run_id]["gamma"] = 0.5
    write_json(path, content)
    with pytest.raises(RecordError, match=rf"{path}: damaged: run {CONFIGS[0].run_id} has another run's configuration"):
        folder.configs()


def test_a_lock_that_is_a_link_is_refused_and_what_it_points_to_keeps_its_content(folder, tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("content")
    (folder.path / "lock").symlink_to(victim)
    with pytest.raises(RecordError, match="lock: is a link; remove it"), folder.lock():
        pass
    assert victim.read_text() == "content"
