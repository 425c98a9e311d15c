"""Runs on disk that are not of a definition: it has changed since they were trained, or since they were started."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from scorer_core.config import DEFAULTS, RunConfig
from scorer_core.records import PackFolder, pack_folders
from scorer_core.support.errors import RecordError
from sweeps.ablation import shown

SHOWN = 5  # groups of runs in a line
COMPARED = 200  # runs of the definition


def left_out(folder: Path, wanted: Collection[str], defined: Callable[[], Iterable[RunConfig]]) -> list[str]:
    """A line on the finished runs in `folder` (outputs/<sweep>) that are not among `wanted`, and one on the unfinished.

    A pack that cannot be read is not counted. `defined` are the runs of the definition, asked for only if something is
    left out: the runs are named by what differs from the most similar of these.
    """
    wanted = set(wanted)
    finished: dict[PackFolder, set[str]] = {}
    unfinished: dict[PackFolder, set[str]] = {}
    for pack in pack_folders(folder / "packs"):
        try:
            done = pack.done()
            others = set(done or pack.run_ids()) - wanted
            if done and others:
                finished[pack] = others
            elif len(others) == len(pack.run_ids()):
                unfinished[pack] = others
        except RecordError:
            continue
    if not finished and not unfinished:
        return []
    like = list(defined())[:COMPARED]
    lines = []
    if finished:
        lines.append(f"{_subject(finished, 'finished')} not of this definition: {_names(finished, like)}")
    if unfinished:
        packs = ", ".join(str(pack.path) for pack in list(unfinished)[:SHOWN])
        lines.append(
            f"{_subject(unfinished, 'unfinished')} not of this definition and will not be trained: "
            f"{_names(unfinished, like)}. To discard them, delete {packs}"
        )
    return lines


def _subject(found: dict[PackFolder, set[str]], kind: str) -> str:
    number = sum(map(len, found.values()))
    return f"1 {kind} run on disk is" if number == 1 else f"{number:,} {kind} runs on disk are"


def _names(found: dict[PackFolder, set[str]], like: list[RunConfig]) -> str:
    seeds: dict[str, list[int]] = {}
    unread = 0
    for pack, run_ids in found.items():
        try:
            configs = zip(pack.run_ids(), pack.configs(), strict=True)
            for config in [config for run_id, config in configs if run_id in run_ids]:
                seeds.setdefault(_name(config, like), []).append(config.seed)
        except RecordError:
            unread += len(run_ids)
    names = [f"{name} ({'seed' if len(of) == 1 else 'seeds'} {_listed(sorted(of))})" for name, of in seeds.items()]
    names += [f"{unread} that cannot be read"] if unread else []
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds[:10])) + (", ..." if len(seeds) > 10 else "")


def _name(config: RunConfig, like: list[RunConfig]) -> str:
    """The coupling, what differs from the most similar run of the definition, and the task."""
    differences = [_difference(config, other) for other in like if other.coupling == config.coupling]
    differs = min(differences or [_difference(config, other) for other in like] or [[]], key=len)
    values = {name: getattr(config, name) for name in differs}
    if "follower_lr" in values and config.ratio is not None:
        values["ratio"] = config.ratio
        del values["follower_lr"]
    settings = " ".join(f"{name}={shown(value)}" for name, value in values.items())
    return f"{config.coupling} {settings}".strip() + f" on {config.task}"


def _difference(config: RunConfig, other: RunConfig) -> list[str]:
    same = ("coupling", "task", "seed")
    return [name for name in DEFAULTS if name not in same and getattr(config, name) != getattr(other, name)]
