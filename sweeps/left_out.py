"""Runs on disk that are not in a definition, because it has changed since they were started."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scorer_core.config import DEFAULTS, RunConfig
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.text import folded
from sweeps.ablation import format_value
from sweeps.definition import Sweep
from sweeps.errors import DefinitionError
from sweeps.loading import load_submitted

SHOWN = 5  # groups of runs in one line
SHOWN_SEEDS = 10  # seeds of one group
COMPARED = 200  # variants (on a task) of the definition that a run on disk is compared with
COMPARED_FIELDS = [name for name in DEFAULTS if name not in ("task", "seed")]


class OnDisk(NamedTuple):
    """A pack with the runs of its `done.json`, or of its `pack.json` if it is not finished."""

    pack: PackFolder
    run_ids: Collection[str]
    finished: bool


class Group(NamedTuple):
    """Runs that differ only in the seed."""

    config: RunConfig  # of one of the runs
    run_ids: list[str]
    seeds: list[int]


def on_disk(folder: Path) -> Iterator[OnDisk]:
    """The packs in `folder` (outputs/<sweep>); one that cannot be read is left out."""
    for pack in pack_folders(folder / "packs"):
        with suppress(RecordError):
            done = pack.done()
            yield OnDisk(pack, done or pack.run_ids(), bool(done))


def left_out(
    folder: Path, packs: Iterable[OnDisk], wanted: Collection[str], defined: Callable[[], Sweep], source: str
) -> list[str]:
    """A line on the finished runs of `packs` that are not in `wanted`, and a line on the unfinished ones.

    A run is named by its variant in the frozen definition of `folder`, and by the settings that have changed in this
    variant since. If it is not in that definition, it is named by its differences from the most similar run of the
    current definition.

    Args:
        folder: outputs/<sweep>.
        packs: of `on_disk`.
        wanted: run ids of the current definition.
        defined: returns the current definition; called only if a run is left out.
        source: file and overrides of the current definition, as text.
    """
    wanted = set(wanted)
    finished: dict[PackFolder, set[str]] = {}
    unfinished: dict[PackFolder, set[str]] = {}
    for pack, run_ids, ended in packs:
        others = set(run_ids) - wanted
        if others and ended:
            finished[pack] = others
        elif others and len(others) == len(run_ids):
            unfinished[pack] = others
    if not finished and not unfinished:
        return []
    now, names = defined(), _names_in(folder)
    lines = []
    if stale := _stale(finished, now):
        places = sorted({place for _, changed in stale.values() for place in changed})
        runs = {pack: run_ids for pack, (run_ids, _) in stale.items()}
        finished = {pack: rest for pack, all_runs in finished.items() if (rest := all_runs - runs.get(pack, set()))}
        lines.append(
            f"{_subject(runs, 'finished')} stale, because {', '.join(places)} has changed since: "
            f"{_in_words(runs, now, names)}. `scorer run` and `scorer submit` train them again, with the function "
            "as it is now"
        )
    if finished:
        lines.append(
            f"{_subject(finished, 'finished')} not in the definition {source}: {_in_words(finished, now, names)}"
        )
    if unfinished:
        paths = ", ".join(str(pack.path) for pack in list(unfinished)[:SHOWN])
        lines.append(
            f"{_subject(unfinished, 'unfinished')} not in the definition {source} and will not be trained: "
            f"{_in_words(unfinished, now, names)}. To discard them, delete {paths}"
        )
    return lines


def _stale(finished: Mapping[PackFolder, set[str]], now: Sweep) -> dict[PackFolder, tuple[set[str], set[str]]]:
    """The finished runs that differ from a run of `now` only in the files of the user's parts, and these parts."""
    if not now.sources_now:
        return {}
    current = {_without_sources(run.config): run.config.sources for run in now.first_runs}
    found: dict[PackFolder, tuple[set[str], set[str]]] = {}
    for pack, run_ids in finished.items():
        with suppress(RecordError):
            for run_id, config in zip(pack.run_ids(), pack.configs(), strict=True):
                sources = current.get(_without_sources(config), {})
                if run_id in run_ids and config.sources and sources:
                    runs, changed = found.setdefault(pack, (set(), set()))
                    runs.add(run_id)
                    changed |= {place for place, digest in sources.items() if config.sources.get(place) != digest}
    return found


def _without_sources(config: RunConfig) -> str:
    return config.model_dump_json(exclude={"seed", "sources"})


def _names_in(folder: Path) -> dict[str, str]:
    """The variant of each run id in the frozen definition of `folder`; empty if the definition cannot be read."""
    with suppress(DefinitionError):
        return {run.run_id: run.variant.name for run in load_submitted(folder).runs}
    return {}


def _subject(found: Mapping[PackFolder, set[str]], kind: str) -> str:
    number = sum(map(len, found.values()))
    return f"1 {kind} run on disk is" if number == 1 else f"{number:,} {kind} runs on disk are"


def _in_words(found: Mapping[PackFolder, set[str]], now: Sweep, names: Mapping[str, str]) -> str:
    groups: dict[str, Group] = {}
    unread = 0
    for pack, run_ids in found.items():
        try:
            configs = dict(zip(pack.run_ids(), pack.configs(), strict=True))
        except RecordError:
            unread += len(run_ids)
            continue
        for run_id, config in configs.items():
            if run_id in run_ids:
                group = groups.setdefault(config.model_dump_json(exclude={"seed"}), Group(config, [], []))
                group.run_ids.append(run_id)
                group.seeds.append(config.seed)
    words = [
        f"{name} ({'seed' if len(set(seeds)) == 1 else 'seeds'} {folded(sorted(seeds), SHOWN_SEEDS)})"
        for name, (_, _, seeds) in zip(_named(list(groups.values()), now, names), groups.values(), strict=True)
    ]
    return folded([*words, *([f"{unread:,} that cannot be read"] if unread else [])], SHOWN)


def _named(groups: list[Group], now: Sweep, names: Mapping[str, str]) -> list[str]:
    """The name of each group. Groups of the same variant and task name all settings in which these groups differ."""
    like = [run.config for run in now.first_runs[:COMPARED]]
    of_variant = {(run.variant.name, run.config.task): run.config for run in reversed(now.first_runs)}
    heads: list[tuple[str, str]] = []
    differing: list[set[str]] = []
    same_head: dict[tuple[str, str], list[RunConfig]] = {}
    for config, run_ids, _ in groups:
        variant = next((names[run_id] for run_id in run_ids if run_id in names), None)
        heads.append((variant or config.coupling, config.task))
        same_head.setdefault(heads[-1], []).append(config)
        if variant:
            differing.append(_difference(config, of_variant.get(heads[-1], config)))
        else:
            alike = [other for other in like if other.coupling == config.coupling] or like
            differing.append(min((_difference(config, other) for other in alike), key=len) - {"coupling"})
    # A field in which any two groups differ is one in which some group differs from the first.
    among = {
        head: set().union(*(_difference(one, first) for one in others)) for head, (first, *others) in same_head.items()
    }
    return [
        " ".join([head[0], *_settings(config, fields | among[head])]) + f" on {config.task}"
        for (config, _, _), head, fields in zip(groups, heads, differing, strict=True)
    ]


def _settings(config: RunConfig, fields: Collection[str]) -> list[str]:
    values = {name: getattr(config, name) for name in DEFAULTS if name in fields}
    if "follower_lr" in values and config.ratio is not None:
        del values["follower_lr"]
        values["ratio"] = config.ratio
    values.pop("sources", None)  # hashes tell a reader nothing
    return [f"{name}={format_value(value)}" for name, value in values.items()]


def _difference(config: RunConfig, other: RunConfig) -> set[str]:
    ours, theirs = vars(config), vars(other)
    return {name for name in COMPARED_FIELDS if ours[name] != theirs[name]}
