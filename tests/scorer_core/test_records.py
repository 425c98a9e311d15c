import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer_core.config import RunConfig
from scorer_core.metric_rows import SCHEMA
from scorer_core.metrics import METRICS
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder
from scorer_core.support.errors import MovedError, RecordError
from scorer_core.support.files import replace_file, write_json

CONFIGS = [RunConfig(task="minatar/breakout", seed=seed) for seed in range(2)]


def rows(step: int) -> pa.Table:
    columns = {name: np.full(2, step, np.float32) for name in (*METRICS, "steps_per_second")}
    ids = pa.array([config.run_id for config in CONFIGS]).dictionary_encode()
    return pa.Table.from_pydict(
        {"run_id": ids, "step": [step, step], "diverged": [False, False], **columns}, schema=SCHEMA
    )


OLD = Path(__file__).parent.parent / "data" / "outputs-0.1"


def flip(path: Path, place: int = -20) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def finished(folder: PackFolder) -> PackFolder:
    for step in (100, 200):
        folder.commit(step, rows(step), b"state")
    folder.finish({config.run_id: {"status": "done", "verdicts": []} for config in CONFIGS})
    return PackFolder(folder.path)


def steps_of(folder: PackFolder) -> list[int]:
    return [step for part in folder.parts() for step in pq.read_table(part)["step"].to_pylist()[::2]]


def test_a_pack_s_folder_names_its_runs_and_gives_back_their_configurations(folder):
    assert folder.configs() == CONFIGS
    assert folder.run_ids() == [config.run_id for config in CONFIGS]
    assert [other.path for other in pack_folders(folder.path.parent)] == [folder.path]


def test_the_order_of_runs_does_not_make_another_pack(folder, tmp_path):
    assert PackFolder.create(tmp_path / "others", CONFIGS[::-1]).pack_id == folder.pack_id


def test_the_last_commit_is_what_was_committed_and_two_are_kept(folder):
    for step in (100, 200, 300):
        folder.commit(step, rows(step), f"state {step}".encode())
    commit = folder.last_commit()
    assert (commit.step, commit.checkpoint) == (300, b"state 300")
    assert len(list((folder.path / "checkpoint").iterdir())) == 2
    assert steps_of(folder) == [100, 200, 300]


def test_a_second_commit_at_a_step_keeps_the_rows_of_the_first_even_if_it_is_cut_off(folder):
    folder.commit(100, rows(50), b"between two parts of learning")
    folder.commit(100, rows(100), b"after them")
    assert [path.name for path in folder.parts()] == ["part-00000000000100.parquet", "part-00000000000100-1.parquet"]
    assert steps_of(folder) == [50, 100]
    assert folder.last_commit().checkpoint == b"after them"
    folder.commit(100, rows(100).slice(0, 0), b"no rows")
    (folder.path / "checkpoint" / "00000000000100.ckpt").unlink()
    assert PackFolder(folder.path).last_commit() is None


def test_what_was_written_after_the_last_commit_is_dropped(folder):
    folder.commit(100, rows(100), b"state")
    pq.write_table(rows(150), folder.path / "metrics" / "part-00000000000150.parquet")
    assert folder.last_commit().step == 100
    assert steps_of(folder) == [100]


def test_before_the_first_commit_there_is_none_and_no_part_stays(folder):
    (folder.path / "metrics").mkdir()
    pq.write_table(rows(150), folder.path / "metrics" / "part-00000000000150.parquet")
    assert folder.last_commit() is None
    assert folder.parts() == []


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda _: b"garbage", lambda _: b"",
     lambda content: content[:-1] + bytes([content[-1] ^ 1])],
    ids=["truncated", "garbage", "empty", "one bit"],
)  # fmt: skip
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_with_a_warning(folder, damage, caplog):
    folder.commit(100, rows(100), b"state 100")
    folder.commit(200, rows(200), b"state 200")
    newest = sorted((folder.path / "checkpoint").iterdir())[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    with caplog.at_level(logging.WARNING, logger="scorer"):
        commit = folder.last_commit()
    assert (commit.step, commit.checkpoint) == (100, b"state 100")
    assert str(newest) in caplog.text
    assert steps_of(folder) == [100]


def test_a_checkpoint_whose_metrics_are_gone_is_not_used(folder):
    folder.commit(100, rows(100), b"state 100")
    folder.commit(200, rows(200), b"state 200")
    folder.parts()[1].unlink()
    assert folder.last_commit().step == 100


def test_a_write_that_fails_names_the_file_and_leaves_the_old_content_and_no_litter(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(RecordError, match=r"blocked/state\.json: cannot be written"):
        replace_file(tmp_path / "blocked" / "state.json", b"{}")
    with pytest.raises(TypeError):
        write_json(path, {"step": object()})
    assert json.loads(path.read_text()) == {"step": 1}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["blocked", "state.json"]


def test_a_broken_record_is_named(folder):
    (folder.path / "done.json").write_text("{half")
    with pytest.raises(RecordError, match=r"done\.json: cannot be read"):
        folder.done()
    (folder.path / "pack.json").write_text("{}")
    with pytest.raises(RecordError, match=r"pack\.json: missing, or names no run"):
        folder.configs()


def test_one_process_at_a_time_holds_a_folder(folder):
    with folder.lock() as first:
        assert first
        with PackFolder(folder.path).lock() as second:
            assert not second
    with PackFolder(folder.path).lock() as third:
        assert third


@pytest.mark.parametrize("is_replaced", [False, True], ids=["renamed", "renamed, and another is at its place"])
def test_what_is_written_to_a_pack_whose_folder_was_renamed_is_refused_and_makes_no_folder(folder, is_replaced):
    packs, moved = folder.path.parent, folder.path.parent.with_name("moved")
    with folder.lock():
        folder.commit(100, rows(100), b"state")
        packs.rename(moved)
        if is_replaced:
            PackFolder.create(packs, CONFIGS)
        before = sorted(packs.parent.rglob("*"))
        statuses = {config.run_id: {"status": "done"} for config in CONFIGS}
        for write in (
            lambda: folder.write_state(phase="training"),
            lambda: folder.commit(200, rows(200), b"state"),
            lambda: folder.finish(statuses),
        ):
            with pytest.raises(MovedError, match=f"{folder.path}: this folder, or the lock in it, was moved"):
                write()
    assert sorted(packs.parent.rglob("*")) == before
    assert PackFolder(moved / folder.pack_id).committed_step() == 100


def test_a_write_during_which_the_folder_is_renamed_fails_because_of_that(folder, monkeypatch):
    """The rename waits until the file is in its place, and comes before the folder is flushed."""
    moved, replace = folder.path.parent.with_name("moved"), os.replace

    def replace_and_rename(source, target):
        replace(source, target)
        folder.path.parent.rename(moved)

    with folder.lock():
        folder.commit(100, rows(100), b"state")
        monkeypatch.setattr(os, "replace", replace_and_rename)
        with pytest.raises(MovedError, match="was moved or removed while a job used it"):
            folder.write_state(phase="training")
    assert list(moved.parent.iterdir()) == [moved]
    assert PackFolder(moved / folder.pack_id).committed_step() == 100


def test_a_pack_that_is_not_there_is_not_locked_and_not_made(tmp_path):
    gone = PackFolder(tmp_path / "packs" / "0123456789abcdef")
    with pytest.raises(MovedError, match="0123456789abcdef: there is no such folder"), gone.lock():
        pass
    assert not (tmp_path / "packs").exists()


def test_finishing_names_every_run_and_removes_the_checkpoints(folder):
    folder.commit(100, rows(100), b"state")
    folder.finish({config.run_id: {"status": "done"} for config in CONFIGS})
    assert folder.done().keys() == set(folder.run_ids())
    assert not list((folder.path / "checkpoint").iterdir())
    assert folder.last_row(CONFIGS[1].run_id)["step"] == 100


def test_attempts_are_counted(folder):
    assert [folder.new_attempt().name for _ in range(11)] == [str(n) for n in range(1, 12)]


def test_rows_are_sorted_by_run_and_step_and_are_those_of_the_runs_that_are_asked_for(folder):
    finished(folder)
    table = folder.rows(["msbe"])
    assert table.column_names == ["run_id", "step", "msbe"]
    found = list(zip(table["run_id"].to_pylist(), table["step"].to_pylist(), strict=True))
    assert found == [(run_id, step) for run_id in sorted(folder.run_ids()) for step in (100, 200)]
    run_id = CONFIGS[0].run_id
    one = folder.rows(SCHEMA.names, [run_id, "another"])
    assert one.schema == SCHEMA
    assert one["run_id"].to_pylist() == [run_id, run_id]
    assert folder.rows(["return"], []).num_rows == 0
    assert PackFolder(folder.path.parent / "nothing").rows(["return"]).schema.names == ["run_id", "step", "return"]


def test_a_metric_that_an_older_version_did_not_log_is_nan(folder):
    folder.commit(100, rows(100).drop_columns(["srank"]), b"state")
    assert np.isnan(folder.rows(["srank"])["srank"].to_numpy()).all()


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize(
    ("damage", "message"),
    [(Path.unlink, "missing"), (flip, "damaged"), (lambda part: part.write_bytes(b""), "damaged"),
     (lambda part: (part.unlink(), part.mkdir()), "cannot be read: Is a directory")],
    ids=["removed", "one bit", "emptied", "a folder"],
)  # fmt: skip
def test_a_damaged_part_of_a_finished_pack_is_named_and_no_row_of_the_pack_is_read(folder, part, damage, message):
    reader = finished(folder)
    path = folder.parts()[part]
    damage(path)
    for read in (lambda: reader.rows(["return"]), lambda: reader.last_row(CONFIGS[0].run_id), reader.verified_done):
        with pytest.raises(RecordError) as caught:
            read()
        assert f"{path}: {message}" in str(caught.value)


def test_a_part_that_differs_only_in_a_page_is_noticed_by_its_page_checksum(folder):
    folder.commit(100, rows(100), b"state")
    (part,) = folder.parts()
    column = pq.ParquetFile(part).metadata.row_group(0).column(SCHEMA.names.index("msbe"))
    flip(part, column.data_page_offset + column.total_compressed_size - 1)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(part, page_checksum_verification=True).read()


def test_a_pack_of_version_0_1_that_this_version_finishes_is_not_damaged(tmp_path):
    shutil.copytree(OLD / "cut", tmp_path, dirs_exist_ok=True)
    pack = pack_folders(tmp_path / "packs")[0]
    recorded = json.loads((pack.path / "pack.json").read_text())["runs"]
    pack.finish({run_id: {"status": "done"} for run_id in pack.run_ids()})
    assert list(pack.verified_done()) == pack.run_ids()
    assert set(pack.run_ids()) != recorded.keys(), "run ids of another schema"


def test_outputs_of_version_0_1_are_read_without_checksums(tmp_path):
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    cut, old = (pack_folders(tmp_path / name / "packs") for name in ("cut", "old"))
    for pack in (*cut, *old):
        expected = pa.concat_tables([pq.read_table(part) for part in pack.parts()])
        assert pack.rows(SCHEMA.names).num_rows == expected.num_rows
        assert bool(pack.verified_done()) == (pack in old)
    pack = cut[0]
    pack.parts()[0].write_bytes(pack.parts()[0].read_bytes()[:-40])
    with pytest.raises(RecordError, match=rf"{pack.parts()[0]}: damaged"):
        pack.rows(SCHEMA.names)
    assert pack.last_commit() is None, "each of its commits has the damaged part"


def test_a_row_that_occurs_twice_is_an_error(folder):
    folder.commit(100, rows(100), b"state")
    folder.commit(200, rows(100), b"state")
    with pytest.raises(RecordError, match="has two rows for step 100"):
        folder.rows(["return"])


def test_rows_after_the_last_commit_are_not_read(folder):
    folder.commit(100, rows(100), b"state")
    pq.write_table(rows(150), folder.path / "metrics" / "part-00000000000150.parquet")
    assert set(PackFolder(folder.path).rows(["return"])["step"].to_pylist()) == {100}


def test_a_commit_whose_newest_part_is_damaged_is_not_used_and_nothing_whole_is_deleted(folder, caplog):
    folder.commit(100, rows(100), b"state 100")
    folder.commit(200, rows(200), b"state 200")
    flip(folder.parts()[1])
    with caplog.at_level(logging.WARNING, logger="scorer"):
        commit = PackFolder(folder.path).last_commit()
    assert commit is not None
    assert (commit.step, commit.checkpoint) == (100, b"state 100")
    assert f"{folder.path}/metrics/part-00000000000200.parquet: damaged" in caplog.text
    assert [path.name[:19] for path in (folder.path / "checkpoint").glob("*.damaged")] == ["00000000000200.ckpt"]


def test_where_no_commit_is_whole_training_starts_again_and_a_warning_says_so(folder, caplog):
    folder.commit(100, rows(100), b"state 100")
    folder.commit(200, rows(200), b"state 200")
    flip(folder.parts()[0])
    with caplog.at_level(logging.WARNING, logger="scorer"):
        assert folder.last_commit() is None
    assert "no checkpoint is whole: 2 metrics parts are dropped, and training starts again from step 0" in caplog.text
    assert folder.parts() == []
    folder.commit(50, rows(50), b"state 50")
    assert folder.last_commit().step == 50


@pytest.mark.parametrize("how", ["a folder", "unreadable"])
def test_a_newest_checkpoint_that_cannot_be_read_falls_back_to_the_one_before(folder, how):
    folder.commit(100, rows(100), b"state 100")
    folder.commit(200, rows(200), b"state 200")
    newest = folder.path / "checkpoint" / "00000000000200.ckpt"
    if how == "a folder":
        newest.unlink()
        newest.mkdir()
    elif os.geteuid() == 0:
        pytest.skip("root reads every file")
    else:
        newest.chmod(0)
    assert folder.rows(["return"])["step"].to_pylist() == [100, 100]
    assert folder.last_commit().step == 100
    assert folder.committed_step() == 100
    folder.commit(200, rows(200), b"state 200")
    assert folder.last_commit().step == 200
