"""Checkpoints: what they hold, how a changed one is rejected, and whose pickles are trusted."""

import hashlib
import io
import os
import pickle
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scorer_core import checkpoint, diagnostics
from scorer_core.config import RunConfig
from scorer_core.pack import Pack
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.files import replace_file
from scorer_core.train import split_pack, train
from tests.scorer_core.test_pack import bits, rows_of, same

pytestmark = pytest.mark.usefixtures("untraced")
CPU = torch.device("cpu")
OUTPUTS = Path(__file__).parent.parent / "data" / "outputs-0.1"
CUT = sorted(path.name for path in (OUTPUTS / "cut" / "packs").iterdir())
SETTINGS: dict[str, Any] = {
    "task": "minatar/breakout", "num_envs": 6, "update_every": 6, "total_steps": 600, "learning_starts": 30,
    "batch_size": 10, "replay_size": 120, "log_points": 10, "phi_widths": (20, 12), "theta_widths": (9,),
}  # fmt: skip


def configs(**settings: Any) -> list[RunConfig]:
    return [RunConfig(**(SETTINGS | settings), seed=seed) for seed in range(2)]


def train_to(folder: PackFolder, until: int | None = None) -> bool:
    return train(folder, CPU, commit_seconds=60.0, should_stop=lambda: False, until=until)


def newest(folder: PackFolder) -> Path:
    return max((folder.path / "checkpoint").iterdir())


def rewrite(file: Path, state: bytes) -> None:
    """Replace the state in a checkpoint; its checksum fits, as anybody who writes it can make it fit."""
    header = file.read_bytes().split(b"\n", 2)[1]
    payload = header + b"\n" + state
    file.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def compressed(content: Any) -> bytes:
    """A checkpoint of any content, as torch.save would write it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        torch.save(content, file)
    return sink.getvalue().to_pybytes()


class Forged:
    """Unpickling it creates a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


# --- version 0.1 ---


def test_pickled_environments_of_version_0_1_are_restored_from_private_files_only(tmp_path):
    (pack_id,) = [name for name in CUT if "CartPole" in (OUTPUTS / "cut" / "packs" / name / "pack.json").read_text()]
    folder = PackFolder(tmp_path / pack_id)
    shutil.copytree(OUTPUTS / "cut" / "packs" / pack_id, folder.path)
    newest(folder).chmod(0o664)
    with pytest.raises(RecordError, match=rf"^{newest(folder)}: its environments are a pickle.*run: chmod go-w "):
        train_to(folder)


# --- version 2 ---


def of_version_2(state: bytes) -> dict[str, Any]:
    """The content of a checkpoint of a DQN pack as the version before the learner interface wrote it."""
    saved = checkpoint.load(state)
    players, part = saved.pop("players"), saved.pop("part")
    assert part == 0
    names = {"phi_optimizer": "phi_adam", "theta_optimizer": "theta_adam", "updates": "rounds"}
    targets = {f"{name}_target": target for name, target in players.pop("targets").items()}
    saved["players"] = {names.get(name, name): value for name, value in players.items()} | targets
    saved["replay"], saved["rounds_learned"] = saved.pop("memory"), saved.pop("updates_since_log")
    return {"version": 2} | saved


@pytest.mark.parametrize("task", ["minatar/breakout", "CartPole-v1"])
def test_a_checkpoint_of_version_2_resumes_to_the_bits_of_an_uninterrupted_run(task, monkeypatch):
    monkeypatch.setattr(diagnostics, "UPDATES_BETWEEN", 20)
    whole, rows = Pack(configs(task=task), CPU), []
    while whole.vector_step < 37:
        whole.step()
        if whole.log_is_due:
            whole.log(0.0)
    old = of_version_2(whole.state())
    assert old["rounds_learned"] > 0
    assert old["probe"] is not None
    assert old["players"]["rounds"].tolist() == [32, 32]
    while not whole.finished:
        whole.step()
        if whole.log_is_due:
            rows.append(whole.log(0.0))
    assert len(rows) == 7
    for lanes in ([0, 1], [1]):
        resumed, later = Pack([whole.configs[lane] for lane in lanes], CPU), []
        resumed.restore(compressed(old), lanes)
        while not resumed.finished:
            resumed.step()
            if resumed.log_is_due:
                later.append(resumed.log(0.0))
        for place, lane in enumerate(lanes):
            assert same(bits(resumed, place), bits(whole, lane))
            assert rows_of(later, place) == rows_of(rows, lane)


def test_a_missing_key_of_version_2_is_named_as_it_is_called_now(pack):
    for key, name in (("replay", "memory"), ("rounds_learned", "updates_since_log"), ("players", "players")):
        old = of_version_2(pack.state())
        del old[key]
        assert f"'{name}' is missing" in refusal(pack, old)
    for key, name in (("phi_target", "targets.phi"), ("theta_adam", "theta_optimizer"), ("rounds", "updates")):
        old = of_version_2(pack.state())
        del old["players"][key]
        assert f"'players.{name}' is missing" in refusal(pack, old)


# --- content ---


def leaves(value: Any) -> Iterator[Any]:
    if type(value) in (list, dict):
        for item in value.values() if type(value) is dict else value:
            yield from leaves(item)
    else:
        yield value


def tensors(state: bytes) -> list[Tensor]:
    return [leaf for leaf in leaves(checkpoint.load(state)) if type(leaf) is Tensor]


@pytest.mark.parametrize("task", ["minatar/breakout", "CartPole-v1"])
def test_a_checkpoint_holds_tensors_and_plain_values_under_explicit_keys_only(task):
    pack = Pack(configs(task=task), CPU)
    for _ in range(100):
        pack.step()
    pack.log(0.0)
    assert pack.probe is not None
    with pa.CompressedInputStream(pa.BufferReader(pack.state()), "zstd") as file:
        saved = torch.load(io.BytesIO(file.read()), weights_only=True)
    assert saved["version"] == 4
    assert {type(leaf) for leaf in leaves(saved)} <= {Tensor, int, float, str, bool, type(None)}
    assert set(saved["players"]["phi_optimizer"]) == {"mean", "square", "steps"}


@pytest.mark.parametrize("kind", ["state", "environments", "0.1"])
def test_a_forged_checkpoint_runs_no_code(kind, tmp_path):
    folder = PackFolder.create(tmp_path / "packs", configs(task="CartPole-v1"))
    assert not train_to(folder, until=100)
    forged, mark = Forged(tmp_path / "mark"), tmp_path / "mark"
    newest(folder).chmod(0o664)
    if kind == "state":
        rewrite(newest(folder), compressed({"version": 3, "players": forged}))
    elif kind == "0.1":
        rewrite(newest(folder), compressed({"players": forged}))
    else:
        state = newest(folder).read_bytes().split(b"\n", 2)[2]
        code = checkpoint.bytes_tensor(pickle.dumps(forged))
        rewrite(
            newest(folder),
            checkpoint.dump(checkpoint.load(state) | {"environments": {"format": "pickle", "pickle": code}}),
        )
    with pytest.raises(RecordError, match=str(newest(folder))) as refused:
        train_to(folder)
    assert "\n" not in str(refused.value)
    assert not mark.exists()
    assert newest(folder).exists()
    pickle.loads(pickle.dumps(forged))
    assert mark.exists(), "the test forges nothing"


# --- keys, shapes and types ---


@pytest.fixture(scope="module")
def pack() -> Pack:
    pack = Pack(configs(), CPU)
    for _ in range(20):
        pack.step()
    pack.probe = pack._draw_probe(stored=10)
    return pack


def keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value of a checkpoint."""
    if type(value) in (list, dict):
        for key, item in value.items() if type(value) is dict else enumerate(value):
            yield (*path, key)
            yield from keys(item, (*path, key))


def named(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]


def refusal(pack: Pack, content: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        pack.restore(compressed(content))
    return str(refused.value)


def test_every_missing_surplus_or_renamed_key_and_every_changed_shape_or_type_is_rejected_by_name(pack):
    whole = {"version": 3} | checkpoint.load(pack.state())
    paths = [path for path in keys(whole) if path != ("version",)]
    some = {
        "players.phi_optimizer.mean",
        "players.targets.theta",
        "memory.action",
        "probe.reward",
        "initial[1]",
        "part",
    }
    assert some | {"environments.states"} <= set(map(named, paths))
    state = pack.state()
    assert "'version' is missing" in refusal(pack, checkpoint.load(state))
    for path in paths:
        *parents, last = path

        def changed(parents=parents) -> tuple[dict[str, Any], Any]:
            content = {"version": 3} | checkpoint.load(state)
            parent: Any = content
            for key in parents:
                parent = parent[key]
            return content, parent

        content, parent = changed()
        value = parent[last]
        if type(parent) is dict:
            del parent[last]
            assert f"'{named(path)}' is missing" in refusal(pack, content)
            parent["other"] = value
            other = named((*parents, "other"))
            assert f"'{named(path)}' is missing, '{other}' is unknown" in refusal(pack, content)
            parent[last] = value
            assert f"'{other}' is unknown" in refusal(pack, content)
        if type(value) is Tensor:
            wrong = [
                value[..., :-1] if value.shape[-1] > 1 else value[..., None],
                value.to(torch.complex64),
                1,
                value.to_sparse(),
            ]
        else:
            wrong = ["text", [1], torch.zeros(2)]
        for other in wrong:
            content, parent = changed()
            parent[last] = other
            assert f"'{named(path)}" in refusal(pack, content)
    assert all(torch.equal(*pair) for pair in zip(tensors(pack.state()), tensors(state), strict=True))


def test_an_unknown_version_and_a_lane_that_is_not_there_are_rejected(pack):
    state = pack.state()
    assert "version is 5; this scorer reads the versions 1 to 4" in refusal(
        pack, checkpoint.load(state) | {"version": 5}
    )
    assert "its content is of type list" in refusal(pack, [1])  # pyright: ignore[reportArgumentType]
    single = Pack(configs()[:1], CPU)
    with pytest.raises(ValueError, match=r"'observation' has shape \[2, 6, .*no lane 2"):
        single.restore(state, [2])


def test_a_checkpoint_of_another_step_is_rejected(tmp_path):
    folder = PackFolder.create(tmp_path, configs())
    assert not train_to(folder, until=100)
    early = newest(folder).read_bytes().split(b"\n", 2)[2]
    assert not train_to(folder, until=200)
    rewrite(newest(folder), early)
    with pytest.raises(RecordError, match=r"00204\.ckpt: 'vector_step' is 17, which is not step 204; resume with"):
        train_to(folder)


# --- who may write ---


@pytest.fixture
def pickled(tmp_path) -> PackFolder:
    """A pack of MinAtar's own environments, which can only be pickled, stopped at step 102 of 600."""
    folder = PackFolder.create(tmp_path / "packs", configs(task="MinAtar/Breakout-v1"))
    assert not train_to(folder, until=100)
    return folder


def test_pickled_environments_are_restored_from_a_file_and_folder_that_nobody_else_may_write(pickled, tmp_path):
    state = newest(pickled).read_bytes().split(b"\n", 2)[2]
    assert checkpoint.load(state)["environments"]["format"] == "pickle"
    new = PackFolder.create(tmp_path / "packs", configs(task="MinAtar/Breakout-v1")[:1])
    split_pack(pickled, new, CPU)
    for path, mode in (
        (newest(pickled), 0o664),
        (newest(pickled), 0o646),
        (newest(pickled).parent, 0o775),
        (newest(pickled).parent, 0o757),
        (newest(new), 0o620),
    ):
        folder = new if path == newest(new) else pickled
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        fix = f"run: chmod go-w {newest(folder).parent} {newest(folder)}$"
        with pytest.raises(RecordError, match=rf"^{path}: its environments are a pickle.*may write to it.*{fix}"):
            train_to(folder)
        path.chmod(before)
    assert train_to(pickled)
    assert train_to(new)


def test_pickled_environments_are_not_restored_through_a_link(pickled):
    file = newest(pickled)
    file.rename(file.with_name("moved"))
    file.symlink_to("moved")
    with pytest.raises(RecordError, match=rf"^{file}: .*is a link or was replaced"):
        train_to(pickled)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("which", ["file", "folder"])
def test_pickled_environments_of_another_user_are_not_restored_even_by_root(pickled, which):
    path = newest(pickled) if which == "file" else newest(pickled).parent
    os.chown(path, 12345, -1)
    with pytest.raises(RecordError, match=rf"^{path}: .*it belongs to user 12345 and you are 0; resume as its owner"):
        train_to(pickled)


def test_plain_environments_are_restored_from_a_folder_that_others_may_write(tmp_path):
    folder = PackFolder.create(tmp_path, configs(task="CartPole-v1"))
    assert not train_to(folder, until=100)
    newest(folder).parent.chmod(0o777)
    newest(folder).chmod(0o666)
    assert train_to(folder)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_no_file_has_a_permission_that_the_umask_forbids(umask, tmp_path):
    before = os.umask(umask)
    try:
        folder = PackFolder.create(tmp_path / "packs", configs(task="MinAtar/Breakout-v1"))
        assert not train_to(folder, until=100)
        checkpoints = [newest(folder), newest(folder).parent]
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folder.path.rglob("*")}
        assert train_to(folder), "it resumes although the umask lets the group write"
        modes |= {path: stat.S_IMODE(path.stat().st_mode) for path in folder.path.rglob("*")}
    finally:
        os.umask(before)
    for path, mode in modes.items():
        assert mode & umask == 0, path
        assert path in checkpoints or mode == (0o777 if path in map(Path, folder.path.glob("*/")) else 0o666) & ~umask
    assert all(modes[path] & 0o022 == 0 for path in checkpoints)


def test_a_replaced_file_does_not_get_permissions_that_it_did_not_have(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o600)
    replace_file(file, b"new")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o600)


# --- packed bits ---


@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_large_tensors_of_zeros_and_ones_are_stored_as_bits_and_come_back_equal(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    ones = torch.randint(2, (512, *shape), dtype=torch.uint8, generator=generator)
    grey = ones * 3
    content = {"memory": {"seen": ones, "grey": grey, "few": ones[:1], "number": 3}}
    loaded = checkpoint.load(checkpoint.dump(content))["memory"]
    assert loaded["number"] == 3
    for name in ("seen", "grey", "few"):
        assert torch.equal(loaded[name], content["memory"][name])


def test_observations_of_which_a_few_elements_are_one_take_less_space_as_bits():
    seen = (torch.rand(1_000, 10, 10, 4, generator=torch.Generator().manual_seed(0)) < 0.04).to(torch.uint8)
    assert len(checkpoint.dump({"seen": seen})) < 0.8 * len(compressed({"seen": seen}))


def test_a_checkpoint_of_version_3_without_packed_bits_is_restored(monkeypatch):
    whole, old = Pack(configs(), CPU), Pack(configs(), CPU)
    for _ in range(60):
        whole.step()
    monkeypatch.setattr(checkpoint, "_packed", lambda value: value)
    monkeypatch.setattr(checkpoint, "VERSION", 3)
    old.restore(whole.state())
    monkeypatch.undo()
    assert old.state() == whole.state()


@pytest.mark.parametrize(
    "forged",
    [
        {"packed bits": torch.zeros(3, dtype=torch.uint8), "shape": [100]},
        {"packed bits": torch.zeros(3, dtype=torch.uint8), "shape": [-1, 20]},
        {"packed bits": torch.zeros(3), "shape": [20]},
        {"packed bits": torch.zeros(3, dtype=torch.uint8), "shape": "20"},
        {"packed bits": 3, "shape": [20]},
    ],
    ids=str,
)
def test_forged_bits_are_refused(forged):
    with pytest.raises(ValueError, match="packed bits"):
        checkpoint.load(compressed({"version": 4, "memory": forged}))
