import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer_core.config import RunConfig
from scorer_core.records import METRICS, SCHEMA, PackFolder, RecordError, pack_folders, replace_file, write_json

CONFIGS = [RunConfig(task="minatar/breakout", seed=seed) for seed in range(2)]


def rows(step: int) -> pa.Table:
    columns = {name: np.full(2, step, np.float32) for name in (*METRICS, "steps_per_second")}
    ids = pa.array([config.run_id for config in CONFIGS]).dictionary_encode()
    return pa.Table.from_pydict(
        {"run_id": ids, "step": [step, step], "diverged": [False, False], **columns}, schema=SCHEMA
    )


@pytest.fixture
def folder(tmp_path) -> PackFolder:
    return PackFolder.create(tmp_path / "packs", CONFIGS)


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


def test_finishing_names_every_run_and_removes_the_checkpoints(folder):
    folder.commit(100, rows(100), b"state")
    folder.finish({config.run_id: {"status": "done"} for config in CONFIGS})
    assert folder.done().keys() == set(folder.run_ids())
    assert not list((folder.path / "checkpoint").iterdir())
    assert folder.last_row(CONFIGS[1].run_id)["step"] == 100


def test_attempts_are_counted(folder):
    assert [folder.new_attempt().name for _ in range(11)] == [str(n) for n in range(1, 12)]
