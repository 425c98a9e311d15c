"""What trained packs tell about the speed of a place (a machine, or a partition): `outputs/.speeds/<place>.json`.

sweeps/price.py estimates from figures that were measured on one machine. A pack that has trained tells how many times
these figures its start and its vector steps took. Both factors are multiplied with the estimates of other packs. One
small file per place has the newest packs, so that planning reads one file, however many packs there are. Several jobs
may write it; a file that is damaged, or cannot be written, costs only this knowledge.
"""

import hashlib
import logging
import math
import statistics
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, Field

from scorer_core.config import RunConfig
from scorer_core.provenance import add_training_code
from scorer_core.record_forms import read_record
from scorer_core.support.errors import RecordError
from scorer_core.support.files import write_json
from scorer_core.support.locks import Lock
from scorer_core.support.text import count
from sweeps import price

log = logging.getLogger("scorer")

FOLDER = ".speeds"  # in the folder of outputs; no sweep can have this name
MOST_ALIKE, MOST = 8, 200  # packs kept: of the same shape, lanes, device and compilation; of all
LOCK_PATIENCE_SECONDS = 10.0
LEAST_SECONDS = 1.0  # at full speed; less tells little
ALIKE = math.log(1.1)  # expected times per vector step that count as equal
SIMILAR = math.log(2)  # a pack whose expected time differs by more has other settings
SHIPPED = "the shipped figures, another machine: may be off by half"


class PackSpeed(BaseModel):
    """How fast one pack trained, in multiples of the shipped figures, and under which conditions."""

    shape: str
    family: str
    lanes: int
    device: str  # `cpu` or `cuda`
    cpu: str
    threads: str
    code: str  # `code_digest`
    expected: float = Field(gt=0)  # seconds of a vector step by the shipped figures
    seconds: float  # for which it trained at full speed
    start: float = Field(gt=0)  # measured / shipped
    steps: float = Field(gt=0)


class KeptSpeeds(BaseModel):
    """The file of a place."""

    shipped: str  # digest of the shipped figures, of which the factors are multiples
    packs: dict[str, PackSpeed]  # by pack id, newest last


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of a pack, and on what they are based."""

    seconds: float
    packs: frozenset[str] = frozenset()  # that were measured; none: by the shipped figures
    similar: bool = True  # had these packs about the same cost per vector step, and the same algorithm?
    same_code: bool = True


def speeds_file(outputs: Path, place: str) -> Path:
    return outputs / FOLDER / f"{place}.json"


def measure(
    config: RunConfig,
    lanes: int,
    device: str,
    start: tuple[int, float],
    full_speed: tuple[int, float],
    threads: str,
    cpu: str,
) -> PackSpeed | None:
    """The speed of a pack that has trained; None if it trained at full speed for less than `LEAST_SECONDS`.

    Args:
        config: of one of its runs.
        lanes: their number.
        device: `cpu` or `cuda`.
        start: vector steps and seconds before its full speed, and what came after the last step.
        full_speed: vector steps and seconds at full speed, with a core of its own.
        threads: value of OMP_NUM_THREADS.
        cpu: model of the CPU.
    """
    (first, begin), (rest, seconds) = start, full_speed
    if seconds < LEAST_SECONDS or rest < 1:
        return None
    cost = price.cost(config, lanes, price.device_like(device))
    steps = seconds / rest / cost.learning
    only_start = max(begin - first * steps * cost.acting, 0.01)
    return PackSpeed(
        shape=config.shape_id, family=config.family, lanes=lanes, device=device, cpu=cpu,
        threads=threads, code=code_digest(), expected=cost.learning, seconds=seconds,
        start=only_start / cost.start, steps=steps,
    )  # fmt: skip


def keep(path: Path, pack_id: str, speed: PackSpeed) -> None:
    """Add the speed of a pack to the file of a place. Of several attempts of one pack, the longest one is kept.

    Raises:
        RecordError: if the file cannot be locked or written. A file that is damaged is replaced.
    """
    lock = Lock(path.with_suffix(".lock"))
    try:
        if not lock.acquire(LOCK_PATIENCE_SECONDS):
            raise RecordError(f"{path}: other jobs are writing it")
        packs = _kept(path)
        before = packs.pop(pack_id, None)
        if before and before.code == speed.code and before.seconds > speed.seconds:
            speed = before
        packs[pack_id] = speed
        alike = [name for name, one in packs.items() if _kind(one) == _kind(speed)]
        for name in [*alike[:-MOST_ALIKE], *list(packs)[:-MOST]]:
            packs.pop(name, None)
        write_json(path, KeptSpeeds(shipped=_shipped(), packs=packs).model_dump())
    finally:
        lock.release()


def read(path: Path, threads: str, cpu: str | None = None) -> "Speeds":
    """The speeds of a place, of packs with these `threads`, and, if the place is one machine, with its `cpu`."""
    packs = {
        name: speed for name, speed in _kept(path).items() if speed.threads == threads and cpu in (None, speed.cpu)
    }
    return Speeds(packs, code_digest() if packs else "")


def _kept(path: Path) -> dict[str, PackSpeed]:
    try:
        kept = read_record(path, KeptSpeeds)
    except RecordError as error:
        log.info("%s", error)
        return {}
    return kept.packs if kept and kept.shipped == _shipped() else {}


def _kind(speed: PackSpeed) -> tuple[str, int, str]:
    return speed.shape, speed.lanes, speed.device


@cache
def _shipped() -> str:
    return hashlib.sha256(price.MEASURED.read_bytes()).hexdigest()[:16]


@cache
def code_digest() -> str:
    """A name for the code that trains: ours and the version of PyTorch."""
    digest = hashlib.sha256()
    add_training_code(digest)
    with suppress(PackageNotFoundError):
        digest.update(version("torch").encode())
    return digest.hexdigest()[:16]


class Speeds:
    """Estimates for a place, from the packs that trained there; without any, by the shipped figures.

    For each pack the nearest measured ones count: those of its shape, otherwise of its family,
    otherwise any on the same device; of these, the ones whose expected time per vector step is closest. Packs that
    trained with another version of the code count only if there is no other.
    """

    def __init__(self, packs: Mapping[str, PackSpeed] | None = None, code: str = ""):
        """`packs` are those that count, by their ids; `code` is the `code_digest` of the current code."""
        self._groups: dict[tuple[object, ...], list[tuple[float, str, PackSpeed]]] = {}
        self._estimates: dict[tuple[str, int, str], Estimate] = {}
        self._code = code
        packs = packs or {}
        for device in {speed.device for speed in packs.values()}:
            here = {name: speed for name, speed in packs.items() if speed.device == device}
            current = {name: speed for name, speed in here.items() if speed.code == code}
            for name, speed in (current or here).items():
                for key in _keys(device, speed.family, speed.shape):
                    self._groups.setdefault(key, []).append((math.log(speed.expected), name, speed))
        for group in self._groups.values():
            group.sort(key=lambda entry: entry[:2])

    def estimate(self, config: RunConfig, lanes: int, device: str = "cpu") -> Estimate:
        """The training of a pack of `lanes` runs like `config`, in one process on one core.

        Args:
            config: of one of its runs.
            lanes: their number.
            device: `cpu`, `cuda`, `cuda:N` or `auto`.
        """
        key = config.shape_id, lanes, device
        if key not in self._estimates:
            self._estimates[key] = self._new_estimate(config, lanes, device)
        return self._estimates[key]

    def _new_estimate(self, config: RunConfig, lanes: int, device: str) -> Estimate:
        cost = price.cost(config, lanes, price.device_like(device))
        expected = math.log(cost.learning)
        for key in _keys(_device_kind(device), config.family, config.shape_id):
            if group := self._groups.get(key):
                chosen, distance = _nearest(group, expected)
                speeds = [speed for _, _, speed in chosen]
                start, steps = (statistics.median(getattr(s, name) for s in speeds) for name in ("start", "steps"))
                return Estimate(
                    start * cost.start + steps * cost.steps,
                    frozenset(name for _, name, _ in chosen),
                    similar=len(key) > 1 and distance <= SIMILAR,
                    same_code=all(speed.code == self._code for speed in speeds),
                )
        return Estimate(cost.seconds)


def _device_kind(device: str) -> str:
    return "cuda" if device.startswith("cuda") else "cpu"


def _keys(device: str, family: str, shape: str) -> list[tuple[object, ...]]:
    """The groups that a pack belongs to, the narrowest first."""
    return [(device, family, shape), (device, family), (device,)]


def _nearest(
    group: list[tuple[float, str, PackSpeed]], expected: float
) -> tuple[list[tuple[float, str, PackSpeed]], float]:
    """The entries of a sorted group whose first value is nearest to `expected`, and how far they are."""
    place = bisect_left(group, expected, key=lambda entry: entry[0])
    near = min(group[max(0, place - 1) : place + 1], key=lambda entry: abs(entry[0] - expected))[0]
    first = bisect_left(group, near - ALIKE / 2, key=lambda entry: entry[0])
    last = bisect_left(group, near + ALIKE / 2, key=lambda entry: entry[0])
    return group[first:last], abs(near - expected)


def basis(estimates: Iterable[Estimate], where: str) -> str:
    """What `estimates` are from; the packs that were measured trained `where` ("here")."""
    estimates = list(estimates)
    packs = frozenset().union(*(estimate.packs for estimate in estimates))
    if not packs:
        return SHIPPED
    notes = [] if all(estimate.similar for estimate in estimates) else ["of other settings"]
    notes += [] if all(estimate.same_code for estimate in estimates) else ["with another version of the code"]
    return " ".join([f"speeds measured {where}, on", count(len(packs), "pack"), *notes])
