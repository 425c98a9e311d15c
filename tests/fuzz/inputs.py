"""Inputs of the fuzz suite: each is made from a random generator alone, in a copy of the outputs."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.fuzz.changes import NUMBERS, STRINGS, Rng, bytes_changed, changed, pick, value

FAST = ["--figure", "intervals", "--format", "png", "--reps", "100", "--curve-reps", "100"]
SHIPPED = Path(__file__).parents[2] / "sweeps"
PROFILES = Path(__file__).parents[2] / "slurm" / "profiles"


@dataclass
class Input:
    """What was made, and the commands that read it."""

    what: str
    commands: list[list[str]]
    definition: tuple[str, list[str]] | None = None  # what `plan` loads
    search: str | None = None
    kind: str = field(default="", init=False)


WHOLE = [  # whole files
    "", "null", "[]", "5", "x", "- a", "a: &a [*a]", "a: &a {b: *a}", "[" * 1000, "{a: " * 600,
    "!!python/object:os.x {}",
    "? [a]\n: b", "a: !!timestamp 2001-99-99", "a: !!binary x", "a: !!int x", "a: !!float y", "a: 1\na: 2",
    "<<: {a: 1}",
    "<<: 5", "%YAML 9.9\n---\na: 1", "---\na: 1\n---\nb: 2", "a: 0x" + "f" * 5000, "a: " + "9" * 5000,
    "a: 1:" + "9:" * 200,
    "a: 2001-01-01", "~: ~", "true: 1", "1: 2", "a: |\n  x", "\t", "a:\n\tb", "#", "a: !<tag:yaml.org,2002:set> {x}",
]  # fmt: skip


def yaml_of(rng: Rng, source: Path) -> tuple[bytes, str]:
    """A changed YAML file."""
    form = int(rng.integers(10))
    if form == 0:
        text = pick(rng, WHOLE)
        return text.encode(), f"whole file {text[:30]!r}"
    if form == 1:
        text = pick(rng, WHOLE)
        return source.read_bytes() + b"\n" + text.encode(), f"{source.name} with {text[:30]!r} after it"
    if form <= 3:
        content, told = bytes_changed(rng, source.read_bytes())
        return content, f"{source.name}: {told}"
    tree, told = changed(rng, yaml.safe_load(source.read_text()))
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=bool(rng.integers(2))).encode(), f"{source.name}: {told}"


def _sources(searches: bool) -> list[Path]:
    return [path for path in sorted(SHIPPED.glob("*.yaml")) if ("\nspace:" in path.read_text()) == searches]


def definition_input(rng: Rng, work: Path) -> Input:
    small = rng.random() < 0.7  # a small sweep is planned in a tenth of the time
    content, told = yaml_of(rng, work / "tiny.yaml" if small else pick(rng, _sources(False)))
    (work / "mine.yaml").write_bytes(content)
    command = pick(rng, [["plan", "mine.yaml"], ["plan", "mine.yaml", "--json"], ["report", "mine.yaml"],
                         ["submit", "mine.yaml", "--profile", "local", "--dry-run"]])  # fmt: skip
    return Input(told, [["plan", "mine.yaml"], command][: 1 + (command[0] != "plan")], ("mine.yaml", []))


KEYS = [
    "seeds", "base.gamma", "base.leader_lr", "base.ratio", "total_steps", "tasks", "variants.scorer", "baseline",
    "axes",
    "axes.ratio", "base", "name", "question", "exclude", "ablate", "zip", "base.num_envs", "variants.dqn.coupling", "x",
    "base.log_points", "base.phi_widths", "base.preset", "", ".", "a.b.c.d", "base.seed", "base.epsilon_steps",
    "reported",
    "base.follower_objective", "variants", "paper", "base.replay_size", "base.network", "base.task", "base.hold",
]  # fmt: skip


def _overrides(rng: Rng) -> list[str]:
    found = []
    for _ in range(int(rng.integers(1, 3))):
        text = pick(rng, [str(value(rng)), json.dumps(value(rng)), str(pick(rng, NUMBERS)), pick(rng, WHOLE),
                          pick(rng, STRINGS)])  # fmt: skip
        found.append(f"{pick(rng, KEYS)}{pick(rng, ['=', '=', '=', '=', '', '=='])}{text}".replace("\0", ""))
    return found


def override_input(rng: Rng, work: Path) -> Input:
    overrides = _overrides(rng)
    options = [word for override in overrides for word in ("-s", override)]
    return Input(f"{overrides}"[:200], [["plan", "tiny.yaml", *options]], ("tiny.yaml", overrides))


def search_input(rng: Rng, work: Path) -> Input:
    content, told = yaml_of(rng, work / "hunt.yaml" if rng.random() < 0.7 else pick(rng, _sources(True)))
    (work / "mine.yaml").write_bytes(content)
    return Input(told, [["search", "mine.yaml", "--dry-run"]], search="mine.yaml")


def profile_input(rng: Rng, work: Path) -> Input:
    content, told = yaml_of(rng, PROFILES / pick(rng, ["slurm-example.yaml", "slurm-example.yaml", "local.yaml"]))
    if rng.random() < 0.3:
        raw = {"scheduler": "slurm", "environment": {pick(rng, STRINGS): value(rng)}, "setup": value(rng),
               "sbatch": {pick(rng, STRINGS): value(rng)}}  # fmt: skip
        content, told = yaml.safe_dump(raw).encode(), f"profile {raw}"[:200]
    (work / "place.yaml").write_bytes(content)
    command = pick(rng, ["plan", "submit"])
    return Input(told, [[command, "tiny.yaml", "--profile", "place.yaml", *["--dry-run"][: command == "submit"]]])


def csv_input(rng: Rng, work: Path) -> Input:
    wide = rng.random() < 0.25
    text = (
        "step,seed_0,seed_1\n200,1,2\n400,2,3\n"
        if wide
        else (work / "theirs.csv").read_text().replace("theirs", "ours")
    )
    cells = [line.split(",") for line in text.splitlines()]
    told = []
    for _ in range(int(rng.integers(0, 4))):
        row, column = int(rng.integers(len(cells))), int(rng.integers(len(cells[0])))
        new = pick(rng, [pick(rng, STRINGS), str(pick(rng, NUMBERS)), "1,5", "1e19", "9" * 400, "١", "1 000", "=1+1"])
        how = pick(rng, ["cell", "cell", "cell", "quoted", "drop", "twice", "ragged"])
        told.append(f"{how} {row},{column} {new[:20]!r}")
        line = cells[row]
        if how == "cell" and column < len(line):
            line[column] = new
        elif how == "quoted" and column < len(line):
            line[column] = '"' + new.replace('"', '""') + '"'
        elif how == "drop":
            cells = [[c for i, c in enumerate(line) if i != column] for line in cells]
            cells = cells if cells[0] else [["a"]]
        elif how == "twice":
            cells.append(list(line))
        elif how == "ragged":
            cells[row] = line[: max(1, column)] + [new] * int(rng.integers(3))
    content = "\n".join(map(",".join, cells)).encode()
    form = int(rng.integers(8))
    if form == 0:
        content, more = bytes_changed(rng, content)
        told.append(more)
    elif form == 1:
        content = content.decode().encode(pick(rng, ["utf-16", "utf-8-sig", "utf-16-le"]))
        told.append("another encoding")
    elif form == 2:
        content = content.replace(b",", pick(rng, [b";", b"\t", b"|", b", "]))
        told.append("another separator")
    name = pick(rng, ["ours.csv", "mine.csv", "seed_3.csv", "[red].csv", "😀 s1.csv", "progress.csv"])
    (work / name).write_bytes(content)
    options = [] if not wide else ["--variant", "=wide"]
    if rng.random() < 0.3:
        options += [pick(rng, ["--variant", "--task", "--seed", "--step", "--return"]),
                    pick(rng, ["=x", "=", "=1e400", "step", "seed", "=minatar/breakout", "[/]", "variant",
                    "=-1"])]  # fmt: skip
    follow = [["export", "tiny.yaml", "--folder", "to"]] if rng.random() < 0.3 else []
    follow += [["report", "tiny.yaml", *FAST]] if rng.random() < 0.1 else []
    return Input(", ".join(told) or "as it is", [["import", "tiny.yaml", name, *options], *follow])


OPTIONS = [
    ["plan", "tiny.yaml", "--lanes", "TEXT"], ["plan", "tiny.yaml", "--processes", "TEXT"], ["plan", "TEXT"],
    ["plan", "tiny.yaml", "--profile", "TEXT"], ["plan", "tiny.yaml", "--outputs", "TEXT"],
    ["report", "tiny.yaml", "--threshold", "TEXT"],
    ["report", "tiny.yaml", "--threshold", "minatar/breakout=TEXT", *FAST],
    ["report", "tiny.yaml", "--score", "TEXT"], ["report", "tiny.yaml", "--figure", "TEXT"],
    ["report", "tiny.yaml", "--format", "TEXT"], ["report", "tiny.yaml", "--bootstrap-seed", "TEXT", *FAST],
    ["report", "tiny.yaml", "--normalize", "TEXT"], ["report", "TEXT"],
    ["report", "tiny.yaml", "--reps", "TEXT"],
    ["status", "TEXT"], ["status", "tiny", "--variant", "TEXT"], ["status", "tiny", "--task", "TEXT"],
    ["status", "tiny", "--seed", "TEXT"], ["status", "tiny", "--state", "TEXT"], ["show", "TEXT"], ["logs", "TEXT"],
    ["logs", "tiny/TEXT"], ["logs", "TEXT/a"], ["export", "TEXT"], ["export", "tiny.yaml", "--folder", "to/TEXT"],
    ["import", "tiny.yaml", "TEXT"], ["search", "show", "TEXT"], ["search", "show", "hunt", "--against", "TEXT"],
    ["search", "show", "hunt", "--rows", "TEXT"], ["search", "TEXT", "--dry-run"],
    ["search", "hunt.yaml", "--trials", "TEXT", "--dry-run"],
    ["search", "hunt.yaml", "--sampler", "TEXT", "--dry-run"], ["resume", "TEXT", "--dry-run"],
    ["resume", "tiny", "--profile", "TEXT", "--dry-run"], ["retry", "TEXT", "--dry-run"], ["clean", "TEXT", "--yes"],
    ["clean", "tiny", "--variant", "TEXT", "--yes"], ["cancel", "TEXT", "--yes"], ["profile", "show", "TEXT"],
    ["submit", "tiny.yaml", "--profile", "local", "--lanes", "TEXT", "--dry-run"], ["TEXT"], ["TEXT", "TEXT"],
]  # fmt: skip


def option_input(rng: Rng, work: Path) -> Input:
    """Strange values of options and arguments."""
    text = str(pick(rng, [pick(rng, STRINGS), str(pick(rng, NUMBERS)), "tiny", "dqn", "0", "done"])).replace("\0", "")[
        :300
    ]
    command = [word.replace("TEXT", text) for word in pick(rng, OPTIONS)]
    return Input(repr(text)[:80], [command])


def damage(rng: Rng, work: Path, path: Path) -> str:
    """Damage one file under outputs; say how."""
    content = path.read_bytes()
    how = pick(rng, ["cut", "flip", "flip", "empty", "swap", "folder", "dangling", "loop", "delete", "copy", "json",
    "json",
                     "fields"])  # fmt: skip
    if how in ("json", "fields") and path.suffix != ".json":
        how = "flip"
    if how == "cut":
        path.write_bytes(content[: int(rng.integers(len(content) + 1))])
    elif how == "flip" and content:
        path.write_bytes(bytes_changed(rng, content)[0])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "swap":
        others = [other for other in files(work) if other != path]
        path.write_bytes(pick(rng, others).read_bytes())
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how in ("dangling", "loop"):
        path.unlink()
        path.symlink_to(path.name if how == "loop" else "nowhere")
    elif how == "delete":
        path.unlink()
    elif how == "copy":
        parent = path.parent
        copies = [parent.with_name(f"{parent.name}-copy"), parent.with_name(f".nfs{parent.name}")]
        target = pick(rng, copies)
        if parent == work / "outputs" or rng.random() < 0.5:
            target = pick(rng, [path.with_name(f"{path.stem} (1){path.suffix}"), path.with_name(f".nfs0000{path.name}"),
                                path.with_name(f"{path.name}.bak"),
                                path.with_name(f"1-copy{path.suffix}")])  # fmt: skip
            shutil.copy(path, target)
        else:
            shutil.copytree(parent, target)
        return f"copy {target.relative_to(work)}"
    elif how == "json":
        path.write_text(json.dumps(value(rng)))
    elif how == "fields":
        tree, told = changed(rng, json.loads(content))
        path.write_text(json.dumps(tree))
        how = told
    return f"{path.relative_to(work)}: {how}"


def files(work: Path) -> list[Path]:
    return sorted(path for path in (work / "outputs").rglob("*") if path.is_file() and not path.is_symlink())


def outputs_input(rng: Rng, work: Path) -> Input:
    """One or two damaged files, then commands that read them."""
    shown = sorted(path.name for path in (work / "outputs" / "tiny" / "packs").iterdir())
    told = []
    for _ in range(1 if rng.random() < 0.8 else 2):
        found = files(work)
        by_kind: dict[str, list[Path]] = {}
        for path in found:
            by_kind.setdefault(re.sub(r"[0-9a-f]{8,}|\d+", "N", str(path.relative_to(work))), []).append(path)
        told.append(damage(rng, work, pick(rng, by_kind[pick(rng, sorted(by_kind))])))
    pack = pick(rng, shown)
    everything = [
        ["status", "tiny"], ["status", "tiny", "--json"], ["plan", "tiny.yaml"],
        ["export", "tiny.yaml", "--folder", "to"],
        ["show", pack[:6]], ["logs", pack], ["resume", "tiny", "--dry-run"], ["retry", "tiny", "--dry-run"],
        ["search", "show", "hunt", "--no-figures"], ["plan", "outputs/tiny/sweep.yaml"], ["import", "tiny.yaml",
        "theirs.csv"],
        ["submit", "tiny.yaml", "--profile", "local", "--dry-run"],
    ]  # fmt: skip
    if "hunt" in told[0]:
        everything = [["search", "show", "hunt", "--no-figures"], ["search", "show", "hunt", "--json"],
                      ["search", "hunt.yaml", "--dry-run"]]  # fmt: skip
    chosen = [everything[i] for i in sorted(rng.choice(len(everything), min(4, len(everything)), replace=False))]
    last = pick(rng, [["clean", "tiny", "--yes"], ["clean", "tiny", "--state", "damaged", "--yes"], ["status", "tiny"],
                      ["report", "tiny.yaml", *FAST]])  # fmt: skip
    return Input("; ".join(told), [*chosen, last])


# name -> generator, and its share of the inputs
GENERATORS: dict[str, tuple[Callable[[Rng, Path], Input], int]] = {
    "definition": (definition_input, 22), "override": (override_input, 10), "search": (search_input, 8),
    "profile": (profile_input, 8), "csv": (csv_input, 16), "option": (option_input, 10), "outputs": (outputs_input, 26),
}  # fmt: skip
