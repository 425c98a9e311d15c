"""Read the records of an offline W&B run. The file is a LevelDB log with a header of its own and zlib's checksums."""

import json
import struct
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

BLOCK = 32_768
HEADER = struct.Struct("<IHB")  # checksum, length, type: 1 whole, 2 first, 3 middle, 4 last


def payloads(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    assert content[:7] == b":W&B\xe1\xbe\x00"
    place, parts = 7, b""
    while place + HEADER.size <= len(content):
        if BLOCK - place % BLOCK < HEADER.size:  # too short for a header: filled with zeros
            place += BLOCK - place % BLOCK
            continue
        checksum, length, kind = HEADER.unpack_from(content, place)
        data = content[place + HEADER.size : place + HEADER.size + length]
        assert zlib.crc32(bytes([kind]) + data) == checksum
        assert len(data) == length
        parts += data
        if kind in (1, 4):
            yield parts
            parts = b""
        place += HEADER.size + length


def records(folder: Path) -> list[Any]:
    """The records of the run in `folder`, as wandb's protocol buffers."""
    Record = import_module("wandb.proto.wandb_internal_pb2").Record
    (path,) = folder.glob("run-*.wandb")
    return [Record.FromString(payload) for payload in payloads(path)]


def values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(folder: Path) -> list[dict[str, Any]]:
    """The logged rows."""
    return [values(record.history.item) for record in records(folder) if record.HasField("history")]
