"""What is recorded about the code and the packages that an attempt runs."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scorer_core import provenance as module
from scorer_core.provenance import SNAPSHOT, code_version, git_error, packages, slurm_job_id
from tests.fake_secrets import fake


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def tree(tmp_path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "tree"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "ours.py").write_text("a = 1\n")
    (folder / ".gitignore").write_text("ignored.py\noutputs/\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_the_diff_has_the_changes_of_tracked_files_and_the_untracked_code_and_can_be_applied(tree, tmp_path):
    assert code_version(tree) == {"git_commit": git(tree, "rev-parse", "HEAD").strip(), "git_diff": ""}
    git(tree, "clone", "-q", str(tree), str(tmp_path / "other"))
    (tree / "ours.py").write_text("a = 2\n")
    (tree / "plugins").mkdir()
    (tree / "plugins" / "idea é.py").write_text("b = 3\n\nc = 4")
    (tree / "empty.py").write_text("")
    (tree / "ignored.py").write_text("d = 5\n")
    diff = code_version(tree)["git_diff"] or ""
    assert "+a = 2" in diff
    assert "+b = 3" in diff
    assert "d = 5" not in diff
    subprocess.run(["git", "-C", tmp_path / "other", "apply", "-"], input=diff + "\n", text=True, check=True)
    for name in ("ours.py", "plugins/idea é.py", "empty.py"):
        assert (tmp_path / "other" / name).read_bytes() == (tree / name).read_bytes()


def test_an_untracked_file_that_changes_changes_the_diff(tree):
    versions = set()
    for content in ("a", "b"):
        (tree / "idea.py").write_text(content)
        versions.add(code_version(tree)["git_diff"])
    assert len(versions) == 2


def test_large_and_binary_files_are_recorded_by_name_size_and_hash_and_the_whole_is_bounded(tree, monkeypatch):
    (tree / "binary.so").write_bytes(b"\0\1")
    (tree / "large.py").write_text("x" * (module.MAX_FILE_BYTES + 1))
    diff = code_version(tree)["git_diff"] or ""
    assert f"Untracked file binary.so: 2 bytes, SHA-256 {hashlib.sha256(bytes([0, 1])).hexdigest()}" in diff
    assert f"Untracked file large.py: {module.MAX_FILE_BYTES + 1} bytes, SHA-256 " in diff
    assert len(diff) < 500
    monkeypatch.setattr(module, "MAX_UNTRACKED_FILES", 1)
    assert (code_version(tree)["git_diff"] or "").endswith("Untracked files that are not recorded: 1")


def test_logs_and_saved_copies_of_the_code_do_not_make_another_version(tree):
    (tree / "nohup.out").write_text("step 1")
    copy = tree / "results" / "code" / "abc" / "scorer_core"
    copy.mkdir(parents=True)
    (copy / "pack.py").write_text("a = 1")
    (copy.parent / SNAPSHOT).write_text('{"git_commit": "c0ffee", "git_diff": "+ x"}')
    assert code_version(tree)["git_diff"] == ""
    assert code_version(copy.parent) == {"git_commit": "c0ffee", "git_diff": "+ x"}


def test_a_diff_that_is_not_utf_8_is_recorded(tree):
    (tree / "ours.py").write_bytes(b"a = '\xe9'\n")
    assert "+a = '" in (code_version(tree)["git_diff"] or "")


def refused(folder: Path) -> str:
    """Why git does not give the commit of `folder`; a plan says the same as the provenance."""
    found = code_version(folder)
    assert (found["git_commit"], found["git_diff"]) == (None, None)
    assert found["git_error"] == git_error(folder)
    return found["git_error"] or ""


def test_outside_a_repository_both_are_none_and_the_reason_is_git_s(tmp_path):
    assert refused(tmp_path).startswith("fatal: not a git repository")


def test_a_repository_of_another_owner_is_the_reason(tree, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert refused(tree).startswith("fatal: detected dubious ownership in repository at ")


def test_without_the_program_git_that_is_the_reason(tree, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(tree) == "git is not installed"


def test_a_repository_without_a_commit_and_a_corrupt_one_are_reasons(tree, tmp_path):
    git(tmp_path, "init", "-q", "new")
    assert refused(tmp_path / "new").startswith("fatal: ")
    (tree / ".git" / "HEAD").write_text("nonsense")
    assert refused(tree).startswith("fatal: ")


def test_a_commit_is_recorded_even_if_its_files_cannot_be_compared(tree):
    shutil.rmtree(tree / ".git" / "objects")
    (tree / ".git" / "objects").mkdir()
    found = code_version(tree)
    assert found["git_commit"]
    assert found["git_diff"] is None
    assert (found["git_error"] or "").startswith(("fatal: ", "error: "))


def test_a_package_in_somebody_s_repository_has_not_that_commit(tree):
    (tree / "outputs" / "site-packages").mkdir(parents=True)
    assert refused(tree / "outputs" / "site-packages").startswith("no file in ")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo hello", "git printed 'hello' instead of a commit"),
        ("/bin/sleep 60 & wait", "git did not end in 0.3 s"),
        ("exit 3", "git rev-parse ended with exit code 3"),
    ],
)
def test_a_git_that_prints_something_else_hangs_or_fails_is_the_reason(tree, tmp_path, monkeypatch, script, reason):
    (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "GIT_SECONDS", 0.3 if "sleep" in script else 20.0)
    assert refused(tree) == reason


def test_a_copy_of_the_code_keeps_the_reason(tmp_path):
    saved = {"git_commit": None, "git_diff": None, "git_error": "fatal: not a git repository"}
    (tmp_path / SNAPSHOT).write_text(json.dumps(saved))
    assert code_version(tmp_path) == saved
    assert git_error(tmp_path) == "fatal: not a git repository"


def test_of_two_packages_with_one_name_the_one_that_python_imports_is_recorded(tmp_path, monkeypatch):
    for place, name, version in (("first", "torch", "2.99.0"), ("second", "Torch", "1.0"), ("first", "a_b", "3")):
        folder = tmp_path / place / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (tmp_path / "first" / "broken-1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), *sys.path])
    found = packages()
    assert found["torch"] == "2.99.0"
    assert "Torch" not in found
    assert list(found) == sorted(found, key=lambda name: name.lower().replace("_", "-").replace(".", "-"))


def test_a_line_of_the_diff_that_looks_like_a_secret_is_masked_and_named(tree, tmp_path, caplog):
    (tree / "ours.py").write_text('a = 1\nb = 2\ntoken = "S3CRET"\n')
    (tree / "upload.py").write_text(fake("import os\n\nurl = 'postgresql¦://me:S3CRET@host/db'\n"))
    version = code_version(tree)
    assert "S3CRET" not in version["git_diff"]
    assert '+token = "***"' in version["git_diff"]
    assert version["masked_lines"] == ["ours.py:3", "upload.py:3"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{line}: looks like a secret; it is masked in the recorded diff" for line in ("ours.py:3", "upload.py:3")
    ]
    git(tree, "stash", "-q", "-u")
    git(tree, "clone", "-q", str(tree), str(tmp_path / "other"))
    patch = version["git_diff"] + "\n"
    subprocess.run(["git", "-C", tmp_path / "other", "apply", "-"], input=patch, text=True, check=True)


def test_a_removed_secret_is_masked_too_and_a_saved_copy_keeps_the_note(tree, tmp_path):
    (tree / "ours.py").write_text(fake('a = 1\npass¦word = "S3CRET"\n'))
    git(tree, "commit", "-q", "-a", "-m", "second")
    (tree / "ours.py").write_text("a = 1\n")
    version = code_version(tree)
    assert "S3CRET" not in version["git_diff"]
    assert version["masked_lines"] == ["ours.py:1"]
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / SNAPSHOT).write_text(json.dumps(version))
    assert code_version(tmp_path / "copy") == version
    older = {"git_commit": "c0ffee", "git_diff": fake('+to¦ken = "S3CRET"')}
    (tmp_path / "copy" / SNAPSHOT).write_text(json.dumps(older))
    assert code_version(tmp_path / "copy") == older | {"git_diff": '+token = "***"'}


def test_the_command_line_is_recorded_without_its_secrets(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["scorer", "--api-key", "S3CRET", fake("postgresql¦://me:S3CRET@host/db"), "--lanes", "3"]
    )
    recorded = module.provenance("cpu")["argv"]
    assert recorded == ["scorer", "--api-key", "***", "postgresql://me:***@host/db", "--lanes", "3"]


def test_a_task_of_an_array_is_recorded_by_array_and_index(monkeypatch):
    """The number of its last task is that of the whole array."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert slurm_job_id() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert slurm_job_id() == "7_2"
