"""The copy of the code that jobs run."""

import shutil
from pathlib import Path

from slurm.submissions import snapshot


def copied_tree(folder: Path) -> Path:
    for path in snapshot.files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(snapshot.CODE_ROOT / path, folder / path)
    return folder


def test_the_same_code_is_kept_once_and_edited_code_beside_it(tmp_path):
    tree = copied_tree(tmp_path / "tree")
    first = snapshot.save_snapshot(tmp_path / "code", tree)
    assert snapshot.save_snapshot(tmp_path / "code", tree) == first
    (tree / "cli/main.py").write_text("edited")
    second = snapshot.save_snapshot(tmp_path / "code", tree)
    assert second != first
    assert (second / "cli/main.py").read_text() == "edited"
    assert (first / "cli/main.py").read_text() != "edited"
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == sorted([first.name, second.name])


def test_a_snapshot_remembers_the_commit_it_was_taken_of(tmp_path, monkeypatch):
    from scorer_core.provenance import code_version

    monkeypatch.setenv("PATH", "/usr/bin:/bin:/usr/local/bin")
    kept = snapshot.save_snapshot(tmp_path / "code")
    assert code_version(kept) == code_version(snapshot.CODE_ROOT)
    assert code_version(kept).keys() == {"git_commit", "git_diff"}
