"""The format of a checkpoint: tensors and plain values under explicit keys, each checked when it is loaded.

A checkpoint is one dict: `version`, the attributes of a pack that STATE lists (`players` and `memory` belong to the
learner), and `environments`. It holds tensors, numbers, strings, None, lists and dicts, and is loaded by an unpickler
that accepts nothing else. docs/checkpoints.md describes the one exception: environments that can only be pickled.

Version 2 had DQN only, and some keys had other names. Version 1, which scorer 0.1 wrote, has no key `version` and holds
NamedTuples.
"""

import io
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from scorer_core import game
from scorer_core.memory.ring import Ring
from scorer_core.support.errors import RecordError
from scorer_core.support.files import WRITABLE_BY_OTHERS, NotPrivateError, open_private

VERSION = 4  # 4: bits are packed (`_packed`); 3: settings and players have the names of today
BITS, LEAST_PACKED = "packed bits", 4096  # elements: a small tensor is not worth the work
STATE = (  # the attributes of a pack that a checkpoint holds
    "vector_step", "part", "observation", "players", "memory", "episode_return", "last_return", "counted", "episodes",
    "learned", "updates_since_log", "diverged", "initial", "probe", "drift",
)  # fmt: skip


class AdamOfVersion1(NamedTuple):
    mean: Tensor
    square: Tensor
    steps: Tensor


class PlayersOfVersion1(NamedTuple):
    phi: Tensor
    theta: Tensor
    phi_target: Tensor
    theta_target: Tensor
    phi_adam: AdamOfVersion1
    theta_adam: AdamOfVersion1
    rounds: Tensor


# The classes in checkpoints of version 1, each with the name that it has there.
VERSION_1_CLASSES = [
    (game.Batch, "scorer_core.game.Batch"),
    (PlayersOfVersion1, "scorer_core.game.Players"),
    (AdamOfVersion1, "scorer_core.optim.Adam"),
    (Ring, "scorer_core.replay.Replay"),
]
# Keys of version 2, in `players` and of the whole, with their names now.
PLAYERS_OF_VERSION_2 = {"phi_adam": "phi_optimizer", "theta_adam": "theta_optimizer", "rounds": "updates"}
KEYS_OF_VERSION_2 = {"replay": "memory", "rounds_learned": "updates_since_log"}


def plain(value: Any) -> Any:
    """`value` with each NamedTuple as a dict by key, and each other tuple as a list."""
    if hasattr(value, "_asdict"):
        return {name: plain(field) for name, field in value._asdict().items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def dump_pack(state: Mapping[str, Any], environments: Mapping[str, Any]) -> bytes:
    """The checkpoint of a pack: the attributes in `state` (STATE), and the state of its environments."""
    return dump({name: plain(state[name]) for name in STATE} | {"environments": environments})


def dump(content: Mapping[str, Any]) -> bytes:
    """`content` as the bytes of a checkpoint of this version."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        torch.save({"version": VERSION, **{name: _packed(value) for name, value in content.items()}}, file)
    return sink.getvalue().to_pybytes()


def _packed(value: Any) -> Any:
    """`value` with each large tensor of zeros and ones as its bits: a third of the time to compress, half the size."""
    if isinstance(value, dict):
        return {name: _packed(part) for name, part in value.items()}
    if not isinstance(value, Tensor) or value.dtype != torch.uint8 or value.numel() < LEAST_PACKED or value.max() > 1:
        return value
    bits = np.packbits(value.cpu().numpy().reshape(-1))
    return {BITS: torch.from_numpy(bits), "shape": list(value.shape)}


def _unpacked(value: Any) -> Any:
    """What `_packed` made of it.

    Raises:
        ValueError: if it is not what `_packed` makes.
    """
    if not isinstance(value, dict):
        return value
    if value.keys() != {BITS, "shape"}:
        return {name: _unpacked(part) for name, part in value.items()}
    bits, shape = value[BITS], value["shape"]
    is_dense = isinstance(bits, Tensor) and bits.layout == torch.strided and bits.device.type == "cpu"
    if not is_dense or bits.dtype != torch.uint8 or bits.dim() != 1 or not isinstance(shape, list):
        raise ValueError("packed bits are no bits")
    if not all(type(size) is int and size >= 0 for size in shape) or math.ceil(math.prod(shape) / 8) != len(bits):
        raise ValueError(f"{len(bits)} bytes of packed bits are not of the shape {shape}")
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=math.prod(shape))).view(shape)


def load(data: bytes) -> dict[str, Any]:
    """The content of a checkpoint, in the form of this version, on the CPU.

    Raises:
        ValueError: if it is of an unknown version, or holds anything but tensors and plain values.
    """
    try:
        with (
            pa.CompressedInputStream(pa.BufferReader(data), "zstd") as file,
            torch.serialization.safe_globals(VERSION_1_CLASSES),  # pyright: ignore[reportArgumentType], takes names too
        ):
            saved = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
    except Exception as error:  # a forged file makes the unpickler raise nearly anything
        named = re.search(r"GLOBAL (\S+)", str(error))
        found = f"the Python object {named[1]}" if named else " ".join(str(error).split())[:120]
        raise ValueError(f"it cannot be loaded as tensors and plain values: {found}") from error
    if type(saved) is not dict:
        raise ValueError(f"its content is of type {type(saved).__name__}, not dict")
    version = saved.pop("version", 1)
    if version == 1:
        return _from_version_2(_from_version_1(saved))
    if version == 2:
        return _from_version_2(saved)
    if version not in (3, VERSION):
        raise ValueError(f"its version is {version!r}; this scorer reads the versions 1 to {VERSION}")
    return _unpacked(saved)


def _from_version_1(saved: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint of version 1 in the form of version 2.

    Version 1 counted every environment in the logged return, as 0 before its first episode ended. The rest of the run
    does the same, and `PackFolder.rows` leaves those returns out.
    """
    if not isinstance(saved.get("players"), PlayersOfVersion1):
        raise ValueError("'version' is missing")
    environments = saved.get("environments")
    if isinstance(environments, dict) and set(environments) == {"pickle"}:
        environments = {"format": "pickle", "pickle": bytes_tensor(environments["pickle"])}
    elif isinstance(environments, dict):
        environments = {"format": "compiled", **environments}
    counted = torch.ones_like(saved["last_return"], dtype=torch.bool) if "last_return" in saved else None
    return {name: plain(value) for name, value in saved.items()} | {"counted": counted, "environments": environments}


def _from_version_2(saved: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint of version 2 in the form of version 3; a missing key stays missing."""
    players = saved.get("players")
    if isinstance(players, dict):
        targets = {name: players.pop(f"{name}_target") for name in ("phi", "theta") if f"{name}_target" in players}
        saved["players"] = _renamed(players, PLAYERS_OF_VERSION_2) | {"targets": targets}
    return _renamed(saved, KEYS_OF_VERSION_2) | {"part": 0}


def _renamed(saved: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in saved.items()}


def bytes_tensor(content: bytes) -> Tensor:
    """`content` as a tensor of uint8."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def fit_pack(saved: Mapping[str, Any], like: Mapping[str, Any], lanes: Sequence[int] | None) -> dict[str, Any]:
    """The attributes (STATE) of a pack from a loaded checkpoint, each in the form of the one in `like` (see `fit`).

    Raises:
        ValueError: if the checkpoint does not fit; the message names the key.
    """
    check_keys(saved, (*STATE, "environments"), "")
    if type(saved["environments"]) is not dict:
        raise ValueError("'environments' is not a dict")
    return {name: fit(saved[name], like[name], name, lanes) for name in STATE}


def check_source(saved: Mapping[str, Any], file: Path | None, data: bytes) -> None:
    """Check that only this user can have written the checkpoint `data`, read from `file`, if it holds a pickle.

    Raises:
        RecordError: if its environments are pickled and `file` is missing or not private.
    """
    if saved["environments"].get("format") == "pickle":
        if file is None:
            raise RecordError("pickled environments are only restored from a file")
        require_private(file, data)


def check_keys(saved: Any, expected: Collection[str], key: str) -> None:
    """Check that `saved`, which is stored under `key`, is a dict with exactly the `expected` keys.

    Raises:
        ValueError: if it is not; the message names the keys.
    """
    if type(saved) is not dict:
        raise ValueError(f"'{key}' is of type {type(saved).__name__}, not dict")
    prefix = f"{key}." if key else ""
    wrong = [f"'{prefix}{name}' is missing" for name in expected if name not in saved]
    wrong += [f"'{prefix}{name}' is unknown" for name in saved if name not in expected]
    if wrong:
        raise ValueError(", ".join(wrong))


def fit(saved: Any, like: Any, key: str, lanes: Sequence[int] | None = None) -> Any:
    """`saved`, which is stored under `key`, in the form of `like`: with its classes, on its device.

    Only `lanes`, indices into the first axis of each saved tensor, are kept, if they are given.

    Raises:
        ValueError: if the keys, types, shapes or dtypes differ from those of `like`; the message names the key.
    """
    if hasattr(like, "_asdict"):
        check_keys(saved, like._fields, key)
        fields = {name: fit(saved[name], getattr(like, name), f"{key}.{name}", lanes) for name in like._fields}
        return type(like)(**fields)
    if isinstance(like, tuple):
        if type(saved) is not list or len(saved) != len(like):
            raise ValueError(f"'{key}' is not a list of {len(like)}")
        return tuple(fit(*pair, f"{key}[{n}]", lanes) for n, pair in enumerate(zip(saved, like, strict=True)))
    if not isinstance(like, Tensor):
        if type(saved) is not type(like):
            raise ValueError(f"'{key}' is of type {type(saved).__name__}, not {type(like).__name__}")
        return saved
    if type(saved) is not Tensor or saved.layout != torch.strided:
        raise ValueError(f"'{key}' is of type {type(saved).__name__}, not a dense tensor")
    if lanes is not None:
        if saved.dim() == 0 or len(saved) <= max(lanes):
            raise ValueError(f"'{key}' has shape {list(saved.shape)}, and no lane {max(lanes)}")
        saved = saved[list(lanes)]
    if saved.shape != like.shape:
        raise ValueError(f"'{key}' has shape {list(saved.shape)}, not {list(like.shape)}")
    if saved.dtype != like.dtype:
        raise ValueError(f"'{key}' has dtype {saved.dtype}, not {like.dtype}")
    return saved.to(like.device)


def require_private(file: Path, content: bytes) -> None:
    """Check that nobody but this process's user can have put `content` at the end of `file`.

    Raises:
        RecordError: if it is not so (`open_private`).
    """
    rule = "its environments are a pickle, which can run code, so the file and its folder must be yours alone"
    try:
        with open_private(file) as opened:
            if opened.read().endswith(content):
                return
    except NotPrivateError as error:
        if error.owner != os.geteuid():
            raise RecordError(
                f"{error.path}: {rule}, but it belongs to user {error.owner} and you are {os.geteuid()};"
                f" resume as its owner, or delete {file.parent.parent} to train its runs again"
            ) from error
        raise RecordError(
            f"{error.path}: {rule}, but its group or others may write to it; if you trust everybody who could, run:"
            f" chmod go-w {file.parent} {file}"
        ) from error
    except OSError:
        pass
    raise RecordError(f"{file}: {rule}, but the file is a link or was replaced while it was read; resume again")


def make_private(folder: Path) -> None:
    """Create `folder`, or take the group's and others' right to write to it away, so that `require_private` accepts it.

    Raises:
        RecordError: if the file system refuses.
    """
    try:
        folder.mkdir(mode=0o777 & ~WRITABLE_BY_OTHERS, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid == os.geteuid() and status.st_mode & WRITABLE_BY_OTHERS:
            folder.chmod(status.st_mode & 0o7777 & ~WRITABLE_BY_OTHERS)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written: {error.strerror}") from error
