"""Training a pack piece by piece, in folders: it stops where it must, and its runs may be split."""

import logging
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scorer_core.config import RunConfig
from scorer_core.envs import breakout
from scorer_core.metrics import MEASURED
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.train import split_pack, train

pytestmark = pytest.mark.usefixtures("untraced")
CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "task": "minatar/breakout", "num_envs": 6, "update_every": 6, "total_steps": 600, "learning_starts": 30,
    "batch_size": 10, "replay_size": 120, "log_points": 10, "phi_widths": (20, 12), "theta_widths": (9,),
}  # fmt: skip
CONFIGS = [RunConfig(**SETTINGS, seed=seed) for seed in range(4)]


def go_on(folder: PackFolder, until: int | None = None) -> bool:
    return train(folder, CPU, commit_seconds=60.0, should_stop=lambda: False, until=until)


def rows(folder: PackFolder, config: RunConfig) -> list[dict[str, Any]]:
    table = pa.concat_tables(pq.read_table(part) for part in folder.parts()).drop_columns(list(MEASURED))
    return [row for row in table.to_pylist() if row["run_id"] == config.run_id]


def test_a_pack_stopped_on_the_way_and_parted_leaves_the_rows_of_an_uninterrupted_one(tmp_path):
    whole = PackFolder.create(tmp_path / "whole", CONFIGS)
    assert go_on(whole)
    old = PackFolder.create(tmp_path / "packs", CONFIGS)
    assert not go_on(old, until=100)
    assert old.state()["phase"] == "paused"
    assert old.state()["step"] == 102, "the first vector step from 100 on"
    assert not go_on(old, until=240), "it continues where it stopped"
    new = PackFolder.create(tmp_path / "packs", [CONFIGS[3], CONFIGS[1]])
    split_pack(old, new, CPU)
    assert go_on(new)
    assert set(new.done()) == {CONFIGS[1].run_id, CONFIGS[3].run_id}
    for config in (CONFIGS[1], CONFIGS[3]):
        assert str(rows(new, config)) == str(rows(whole, config)), "as text, in which NaN equals NaN"
    assert [row["step"] for row in rows(old, CONFIGS[0])] == [60, 120, 180, 240]
    assert not rows(new, CONFIGS[0])


def test_a_single_run_whose_pack_needs_a_second_lane_finishes(tmp_path):
    settings = SETTINGS | {"algorithm": "dueling_dqn", "theta_widths": (8,)}
    folder = PackFolder.create(tmp_path, [RunConfig(**settings)])
    assert go_on(folder)
    assert list(folder.done()) == folder.run_ids() == [RunConfig(**settings).run_id]


@pytest.mark.parametrize("damaged", [0, -1], ids=["the first part", "the newest part"])
def test_a_run_that_resumes_after_a_part_was_damaged_ends_with_the_rows_of_an_uninterrupted_one(
    tmp_path, caplog, damaged
):
    whole = PackFolder.create(tmp_path / "whole", CONFIGS[:1])
    assert go_on(whole)
    folder = PackFolder.create(tmp_path / "packs", CONFIGS[:1])
    for stop in (100, 200, 300):
        assert not go_on(folder, until=stop)
    part = folder.parts()[damaged]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="scorer"):
        assert go_on(folder)
    assert f"{part}: damaged" in caplog.text
    assert ("starts again from step 0" in caplog.text) == (damaged == 0)
    assert str(rows(folder, CONFIGS[0])) == str(rows(whole, CONFIGS[0])), "as text, in which NaN equals NaN"
    assert folder.rows(["return"])["step"].to_pylist() == [60 * row for row in range(1, 11)]
    assert folder.done().keys() == {CONFIGS[0].run_id}


def test_a_pack_does_not_finish_with_a_part_that_was_damaged_while_it_trained(tmp_path):
    folder = PackFolder.create(tmp_path, CONFIGS[:1])
    assert not go_on(folder, until=200)

    def damage() -> bool:
        folder.parts()[0].write_bytes(b"")
        return False

    with pytest.raises(RecordError, match=rf"{folder.parts()[0]}: damaged"):
        train(folder, CPU, commit_seconds=60.0, should_stop=damage)
    assert not folder.done()


def test_a_pack_that_has_committed_nothing_cannot_be_parted(tmp_path):
    old = PackFolder.create(tmp_path, CONFIGS)
    with pytest.raises(RecordError, match="it has no checkpoint from which"):
        split_pack(old, PackFolder.create(tmp_path, CONFIGS[:2]), CPU)


def test_a_checkpoint_of_another_versions_games_is_refused_in_words_and_kept(tmp_path, monkeypatch):
    folder = PackFolder.create(tmp_path, CONFIGS)
    assert not go_on(folder, until=100)
    monkeypatch.setattr(breakout, "STATE_SIZE", breakout.STATE_SIZE + 1)
    refusal = r"00102\.ckpt: 'environments\.states' has shape \[\d, 6, 10\], not \[\d, 6, 11\]; resume with the version"
    with pytest.raises(RecordError, match=refusal):
        go_on(folder)
    with pytest.raises(RecordError, match=refusal):
        split_pack(folder, PackFolder.create(tmp_path, CONFIGS[:2]), CPU)
    monkeypatch.undo()
    assert go_on(folder), "its own version still resumes from it"
