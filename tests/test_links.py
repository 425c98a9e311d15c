"""What is written to a sweep stays in its folder: a link that leads out is refused, and its target is not touched."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from scorer_core.config import RunConfig
from scorer_core.metric_rows import SCHEMA
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.files import open_log, replace_file, write_json
from scorer_core.support.locks import Lock, locked
from slurm.local import supervisor as local
from slurm.profile import Profile
from slurm.submissions import snapshot
from slurm.submissions.cleaning import remove
from slurm.submissions.submission import new, sweep_lock
from slurm.submit import submit_workers
from sweeps import storage
from sweeps.storage import StorageError, open_storage

CONFIG = RunConfig(task="CartPole-v1", total_steps=800)
PACK = "packs/0123456789abcdef"
ROWS = pa.Table.from_pylist([], SCHEMA)


@pytest.fixture
def sweep(tmp_path) -> Path:
    """A sweep with one pack, in an output folder that is a link to another disk."""
    (tmp_path / "scratch" / "outputs" / "mine").mkdir(parents=True)
    (tmp_path / "outputs").symlink_to(tmp_path / "scratch" / "outputs")
    (tmp_path / "sweep.yaml").write_text("a definition beside the output folder")
    folder = tmp_path / "outputs" / "mine"
    (folder / "sweep.yaml").write_text("name: mine\n")
    PackFolder.create(folder / "packs", [CONFIG])
    return folder


@pytest.fixture
def target(tmp_path) -> Path:
    """A folder of the user that no command may change."""
    folder = tmp_path / "precious"
    (folder / "logs").mkdir(parents=True)
    for name in ("file", "part-7.parquet", "00007.ckpt", "lock", "logs/supervisor.log"):
        (folder / name).write_text("content")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def pack_of(sweep: Path) -> PackFolder:
    (path,) = (sweep / "packs").iterdir()
    return PackFolder(path)


def locks(sweep: Path) -> None:
    with pack_of(sweep).lock():
        pass


def locks_submissions(sweep: Path) -> None:
    with sweep_lock(sweep):
        pass


def commits(sweep: Path) -> None:
    pack_of(sweep).commit(8, SCHEMA.empty_table(), b"state")


def commits_rows(sweep: Path) -> None:
    row = {field.name: None for field in SCHEMA} | {"run_id": CONFIG.run_id, "step": 8}
    pack_of(sweep).commit(8, pa.Table.from_pylist([row], SCHEMA), b"state")


def starts_an_attempt(sweep: Path) -> None:
    pack_of(sweep).new_attempt()


def submits(sweep: Path) -> None:
    submit_workers(Profile(name="here", scheduler="local"), ["true"], 1, sweep)


def write_in(name: str) -> Callable[[Path], None]:
    return lambda sweep: write_json(sweep / name, {})


PLANTED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a lock": ("{pack}/lock", locks),
    "the lock of submissions": ("submissions/lock", locks_submissions),
    "the folder of packs": ("packs", starts_an_attempt),
    "a pack": ("{pack}", lambda sweep: pack_of(sweep).write_state(phase="training")),
    "attempts": ("{pack}/attempts", starts_an_attempt),
    "checkpoints": ("{pack}/checkpoint", commits),
    "checkpoints of an attempt": ("{pack}/checkpoint", starts_an_attempt),
    "metrics": ("{pack}/metrics", commits_rows),
    "metrics of an attempt": ("{pack}/metrics", starts_an_attempt),
    "a heartbeat": ("{pack}/state.json", lambda sweep: pack_of(sweep).write_state(phase="training")),
    "done.json": ("{pack}/done.json", lambda sweep: write_json(pack_of(sweep).path / "done.json", {})),
    "an attempt's log": ("{pack}/attempts/1/stdout.log", lambda sweep: append(pack_of(sweep).path / "attempts/1")),
    "submissions": ("submissions", submits),
    "the next submission": ("submissions/1", write_in("submissions/1/submission.json")),
    "the logs of a submission": ("submissions/1/logs", lambda sweep: append(sweep / "submissions/1/logs")),
    "code": ("code", lambda sweep: snapshot.save_snapshot(sweep / "code")),
    "the report": ("report", write_in("report/report.html")),
    "imported runs": ("imported", write_in("imported/a.parquet")),
    "compiled code": ("compiled", lambda sweep: Lock(sweep / "compiled/k.lock").acquire()),
    "marks of exports": ("exports", write_in("exports/wandb-mine-01234567.json")),
    "the log of a worker": ("workers/0.log", lambda sweep: open_log(sweep / "workers" / "0.log").close()),
}


def append(folder: Path) -> None:
    with open_log(folder / "stdout.log") as log:
        log.write(b"x")


@pytest.mark.parametrize("case", PLANTED)
def test_a_link_that_leads_out_of_the_sweep_is_refused_in_one_line_and_its_target_is_not_touched(sweep, target, case):
    name, write = PLANTED[case]
    link = sweep / name.format(pack=pack_of(sweep).path.relative_to(sweep))
    link.parent.mkdir(parents=True, exist_ok=True)
    to_file = link.suffix in (".json", ".log") or link.name == "lock"
    if link.exists():  # moved elsewhere, and linked
        (target / "moved").mkdir()
        link.rename(target / "moved" / link.name)
        link.symlink_to(target / "moved" / link.name)
    else:
        link.symlink_to(target / "file" if to_file else target)
    before = contents(target)
    with pytest.raises(RecordError) as refused:
        write(sweep)
    assert str(link.name) in str(refused.value)
    assert "is a link" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(target) == before
    assert link.is_symlink()


def test_an_output_folder_or_a_sweep_that_is_a_link_works_and_so_does_a_link_inside_the_sweep(sweep, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "outputs" / "linked").symlink_to(tmp_path / "elsewhere")
    linked = tmp_path / "outputs" / "linked"
    replace_file(linked / "sweep.yaml", b"name: linked\n")
    for folder in (sweep, linked):
        pack = PackFolder.create(folder / "packs", [CONFIG])
        with pack.lock() as held:
            assert held
            place = pack.new_attempt()
            append(place)
            commits(folder)
        locks_submissions(folder)
        write_json(folder / "report" / "2" / "report.json", {})
        (folder / "report" / "last").symlink_to("2")
        write_json(folder / "report" / "last" / "report.json", {"new": 1})
        assert (folder / "report" / "2" / "report.json").read_text() == '{\n "new": 1\n}\n'


def test_a_lock_and_a_log_that_are_links_are_refused_outside_a_sweep_too(tmp_path, target):
    (tmp_path / "lock").symlink_to(target / "file")
    for opened in (open_log, lambda path: Lock(path).acquire()):
        with pytest.raises(RecordError, match="lock: is a link; remove it"):
            opened(tmp_path / "lock")
    submission = new(tmp_path, Profile(name="here", scheduler="local"), tmp_path, [1])
    submission.folder.mkdir(parents=True)
    (submission.folder / "lock").symlink_to(target / "file")
    with pytest.raises(RecordError, match="lock: cannot be opened"):
        local.alive(submission)
    assert (target / "file").read_text() == "content"


def test_a_lock_keeps_its_content(tmp_path):
    (tmp_path / "lock").write_text("content")
    with locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "content"


def test_the_journal_and_the_locks_of_a_search_are_no_links(tmp_path, target, monkeypatch):
    monkeypatch.delenv("SCORER_STORAGE", raising=False)
    (tmp_path / "study.journal").symlink_to(target / "file")
    with pytest.raises(StorageError, match=r"study.journal: is a link; move the file here"):
        open_storage(tmp_path)
    (tmp_path / "asking.lock").symlink_to(target / "file")
    with pytest.raises(StorageError, match=r"asking.lock: is a link; remove it"):
        storage.Lock(tmp_path / "asking.lock").acquire(0)
    assert (target / "file").read_text() == "content"


def test_clean_removes_nothing_behind_a_folder_that_is_a_link(sweep, target):
    (sweep / "code").symlink_to(target)
    with pytest.raises(RecordError, match="code: is a link that leads out of"):
        remove([sweep / "code" / "file"])
    assert (target / "file").exists()
    remove([sweep / "code"])
    assert not (sweep / "code").is_symlink()
    assert (target / "file").exists()


def test_a_kept_copy_of_the_code_that_was_changed_is_refused(tmp_path):
    kept = snapshot.save_snapshot(tmp_path / "code")
    assert snapshot.save_snapshot(tmp_path / "code") == kept
    (kept / "slurm" / "submit.py").write_text("edited")
    with pytest.raises(RecordError, match=rf"^{kept}: its files were changed after they were copied; remove this"):
        snapshot.save_snapshot(tmp_path / "code")


def test_no_profile_no_hidden_file_and_no_key_is_copied_with_the_code(tmp_path):
    for name in (
        "slurm/submit.py",
        "slurm/profiles/mine.yaml",
        "sweeps/.env.json",
        "slurm/.x/a.py",
        "slurm/k.pem",
    ):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("x")
    kept = snapshot.save_snapshot(tmp_path / "code", tmp_path / "tree")
    found = sorted(os.fspath(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file())
    assert found == ["slurm/submit.py", "snapshot.json"]
