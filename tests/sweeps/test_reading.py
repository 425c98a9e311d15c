"""YAML is read as a person means it, or rejected with the line of the file, and always quickly."""

import itertools
import os
import re
import sys
from pathlib import Path

import gymnasium
import pytest

from slurm.profile import load_profile
from sweeps import definition, loading, search
from sweeps.errors import MAX_MESSAGE, DefinitionError
from sweeps.reading import TextLoader, apply_override, parse_yaml, with_checksum

PACKAGES = ("scorer_core", "sweeps", "slurm", "analysis", "cli")
MINE = "name: mine\nquestion: why?\ntasks: [minatar/breakout]\ntotal_steps: 2e4\nseeds: 2\n"


def load(tmp_path: Path, text: str, *overrides: str) -> definition.Sweep:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return loading.load(str(path), overrides)


def test_only_one_file_reads_yaml():
    root = Path(__file__).parent.parent.parent
    code = {path: path.read_text() for name in PACKAGES for path in (root / name).rglob("*.py")}
    reads = re.compile(r"yaml\.\w*(load|Load|parse|compose|scan)|from yaml|import yaml as")
    assert [path.relative_to(root) for path, text in code.items() if reads.search(text)] == [Path("sweeps/reading.py")]


def test_a_merge_key_takes_over_what_a_mapping_does_not_have():
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: *a, x: 9}\nd: {<<: [*a, *b]}"
    read = parse_yaml(text)
    assert read["c"] == {"x": 9, "y": 2}
    assert read["d"] == {"x": 1, "y": 2, "z": 4}
    assert parse_yaml(text, TextLoader)["c"] == {"x": "9", "y": "2"}


def test_a_variant_can_be_made_of_another_one_by_a_merge_key(tmp_path):
    variants = "variants:\n  slow: &slow {leader_lr: 1e-4}\n  tanh: {<<: *slow, activation: tanh}\nbaseline: slow\n"
    tanh = load(tmp_path, MINE + variants).runs[-1].config
    assert (tanh.leader_lr, tanh.activation) == (1e-4, "tanh")
    changed = load(tmp_path, MINE + variants, "variants.slow.leader_lr=1e-3")
    assert changed.runs[-1].config.leader_lr == 1e-4, "an override changes one place and not what it was merged from"


@pytest.mark.parametrize(
    "name", ["off", "on", "yes", "no", "1", "1e3", "0.5", "2026-01-01", "2026-13-45", "12:30", "010"]
)
def test_a_word_that_yaml_reads_otherwise_is_a_name_where_a_name_stands(tmp_path, name):
    text = MINE + f"baseline: {name}\nvariants:\n  {name}: {{coupling: monolithic}}\n  other: {{}}\n"
    sweep = load(tmp_path, text)
    assert [variant.name for variant in sweep.grid_variants] == [name, "other"]
    assert sweep.baseline_of(sweep.grid_variants[1]) == sweep.grid_variants[0]
    assert load(tmp_path, text, "baseline=other", f"ablate.from={name}", "ablate.toggle=[{gamma: 0.5}]")


def test_null_as_a_name_is_rejected_with_a_hint_at_quotes(tmp_path):
    with pytest.raises(DefinitionError, match=r"mine.yaml: line 7: null means 'no value' .* in quotes: 'null'"):
        load(tmp_path, MINE + "variants:\n  null: {}\n")
    assert load(tmp_path, MINE + "variants:\n  'null': {}\n").grid_variants[0].name == "null"


@pytest.mark.parametrize("seeds", ["5", "5.0", "0.5e1", "[0, 1, 2, 3, 4]"])
def test_a_number_of_seeds_may_be_written_in_any_way(tmp_path, seeds):
    assert load(tmp_path, MINE, f"seeds={seeds}").seeds == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("loader", [parse_yaml, lambda text: parse_yaml(text, TextLoader)])
def test_a_duplicate_key_is_named_with_the_line_of_the_second(loader):
    with pytest.raises(DefinitionError, match="line 4: duplicate key 'seeds'"):
        loader("seeds: 2\na:\n  seeds: 3\nseeds: 3")


def chain(first: str, link: str) -> str:
    """Twenty anchors, each made of nine aliases of the one before."""
    names = [f"x{number}" for number in range(20)]
    links = [f"{after}: &{after} {link % ', '.join([f'*{before}'] * 9)}" for before, after in itertools.pairwise(names)]
    return "\n".join([f"x0: &x0 {first}", *links])


WRONG = {
    "a number of 5,000 digits": ("base: 0x" + "f" * 5000, "line 1: a number of 5,002 characters"),
    "a number no float can be": ("total_steps: 1e999", "line 1: 1e999 is too large"),
    "base 60": ("total_steps: 1:2", "line 1: YAML reads 1:2 as 62"),
    "octal": ("a: 1\nseeds: 010", "line 2: YAML reads 010 as 8"),
    "a Python object": (
        "seeds: !!python/object/apply:os.system [ls]",
        "line 1: the tag '!!python/object/apply:os.system' ",
    ),
    "binary": ("name: !!binary aGVsbG8=", "line 1: the tag '!!binary' is not supported"),
    "a set": ("tasks: !!set {x, y}", "line 1: the tag '!!set' is not supported"),
    "an empty number": ("seeds: !!int ''", "line 1: '' is not a valid int"),
    "no truth value": ("seeds: !!bool maybe", "line 1: 'maybe' is not a valid bool"),
    "deep lists": ("base: " + "[" * 2000, "line 1: nested more than 50 levels deep"),
    "deep mappings": ("base: " + "{a: " * 2000 + "1" + "}" * 2000, "line 1: nested more than 50 levels deep"),
    "deep blocks": ("\n".join(" " * level + "a:" for level in range(700)), "line 50: nested more than 50 levels deep"),
    "deep JSON": ('{"a":' * 2000 + "1" + "}" * 2000, "line 1: nested more than 50 levels deep"),
    "a cycle": ("axes: &a {ratio: [1, *a]}", "line 1: the alias *a is inside &a"),
    "a cycle of merges": ("a: &a {b: {<<: *a}}", "line 1: the alias *a is inside &a"),
    "aliases that explode": (chain("[1, 1]", "[%s]"), "line 5: more than 20,000 keys and values"),
    "merges that explode": (chain("{a: 1}", "{<<: [%s]}"), "line 5: more than 20,000 keys and values"),
    "too many keys": ("\n".join(f"k{i}: 1" for i in range(11_000)), "line 10000: more than 20,000 keys and values"),
    "a text of a megabyte": ("question: " + "x" * 1_000_000, "larger than 500,000 bytes"),
    "a long text": ("question: " + "x" * 400_000, "line 1: a value of 400,000 characters; at most 10,000"),
    "a NUL": ("name: a\0b", "unacceptable character #x0000"),
    "two documents": ("a: 1\n---\nb: 2", "line 2: expected a single document"),
    "a list as a key": ("? [a]\n: 1", "line 1: a key must be text"),
    "no end": ("a: 1\nb: [", "line 2: while parsing a flow node"),
    "nothing": ("", "not a mapping of keys to values"),
}
READERS = [loading.load, search.load, load_profile]


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_cannot_be_is_rejected_in_one_line(tmp_path, case):
    text, message = WRONG[case]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    as_text = case in ("a number of 5,000 digits", "a number no float can be", "base 60", "octal")
    for reader in READERS[: 2 if as_text else 3 if len(text) < 20_000 else 1]:
        with pytest.raises(DefinitionError) as raised:
            reader(str(path))
        assert str(raised.value).startswith(f"{path}: {message}")
        assert len(str(raised.value)) <= MAX_MESSAGE + 10
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("case", ["a cycle", "deep lists", "aliases that explode", "a long text", "a Python object"])
def test_an_override_is_read_within_the_same_bounds(case):
    text, message = WRONG[case]
    with pytest.raises(DefinitionError) as raised:
        apply_override({}, f"base={{{text}}}" if "\n" not in text else f"base={text}")
    assert message.partition(": ")[2] in str(raised.value)
    assert len(str(raised.value)) <= MAX_MESSAGE + 10
    with pytest.raises(DefinitionError, match="nested more than 50 levels deep"):
        apply_override({}, ".".join("a" * 2000) + "=1")


@pytest.mark.parametrize("reader", READERS)
def test_a_path_that_is_no_readable_text_is_rejected_and_nothing_is_waited_for(tmp_path, reader):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "utf16.yaml").write_bytes("name: mine".encode("utf-16"))
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(10**12)  # sparse
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    reasons = {
        "folder": "cannot be read: not a regular file", "fifo": "cannot be read: not a regular file",
        "utf16": "is not UTF-8 text", "binary": "is not UTF-8 text", "huge": "larger than 500,000 bytes",
        "loop": "cannot be read: Too many levels of symbolic links", "none": "cannot be read: No such file",
    }  # fmt: skip
    for name, reason in reasons.items():
        path = tmp_path / f"{name}.yaml"
        with pytest.raises(DefinitionError) as raised:
            reader(str(path))
        assert str(raised.value).startswith(f"{path}: {reason}")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(MINE.encode("utf-8-sig"))
    assert loading.load(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seeds=10_000_000"], "seeds: at most 100,000 seeds, not 10000000"),
        (["seeds=1" + "0" * 22], "seeds: at most 100,000 seeds, not 1" + "0" * 22),
        (["seeds=1" + "0" * 399], "seeds: at most 100,000 seeds, not 1"),
        ([f"axes.{field}={list(range(1, 41))}" for field in ("ratio", "decay_rounds", "batch_size", "target_every")],
         "axes: the grid has 5,120,000 runs (variants: 1, points of the axes: 2,560,000, tasks: 1, seeds: 2)"),
        (["seeds=60000", "axes.ratio=[1, 2]"], "axes: the grid has 120,000 runs"),
        (["total_steps=1" + "0" * 22], "total_steps: Input should be less than or equal to 1000000000000000"),
        (["base.log_points=100000000"], "log_points: Input should be less than or equal to 1000000"),
    ],
)  # fmt: skip
def test_a_grid_that_is_too_large_is_counted_and_not_expanded(tmp_path, overrides, message):
    with pytest.raises(DefinitionError) as raised:
        load(tmp_path, MINE, *overrides)
    assert str(raised.value).startswith(f"{tmp_path / 'mine.yaml'}: {message}")


def test_a_message_is_one_short_line_whatever_it_quotes():
    error = DefinitionError("mine.yaml: " + "x\n" * 10**6 + "the end")
    assert len(str(error)) <= MAX_MESSAGE + 10
    assert str(error).startswith("mine.yaml: x")
    assert str(error).endswith("the end")
    assert "\n" not in str(error)
    assert str(DefinitionError("mine.yaml: \x1b[31m\udcff\ttab")) == r"mine.yaml: \x1b[31m\udcff\ttab"


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".yaml", "a\0b", "a\0b.yaml", "", "/"])
def test_a_name_that_no_file_can_have_is_rejected(name):
    for reader in READERS[:2]:
        with pytest.raises(DefinitionError):
            reader(name)


def test_a_module_that_a_task_names_is_logged_before_it_is_imported(tmp_path, monkeypatch, caplog):
    (tmp_path / "corridors.py").write_text(
        "import logging\nimport gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "logging.getLogger('scorer').warning('the module runs')\n"
        "gymnasium.register('Corridor-v7', entry_point=CartPoleEnv)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        load(tmp_path, MINE, "tasks=['corridors:Corridor-v7']")
    finally:  # gymnasium warns of every other version of a name that it knows
        sys.modules.pop("corridors", None)
        gymnasium.registry.pop("Corridor-v7", None)
    line = f"task corridors:Corridor-v7: imports the module corridors ({tmp_path / 'corridors.py'})"
    assert caplog.messages == [line, "the module runs"]


def test_a_task_whose_module_cannot_be_imported_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken_tasks.py").write_text("import no_such_library_at_all\n")
    (tmp_path / "raising_tasks.py").write_text("raise RuntimeError('no display')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for task, reason in [("broken_tasks:A-v0", "no_such_library"), ("raising_tasks:A-v0", "RuntimeError: no display")]:
        with pytest.raises(DefinitionError, match=rf"mine.yaml: tasks.0: .*{reason}") as raised:
            load(tmp_path, MINE, f"tasks=['{task}']")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damaged", [b"w\xfcy?", b"[", b"wHy?", b"\t\x00"])
def test_a_frozen_definition_with_any_other_byte_was_changed_after_scorer_wrote_it(tmp_path, damaged):
    frozen = tmp_path / "sweep.yaml"
    frozen.write_bytes(with_checksum(MINE))
    assert loading.load(str(frozen)).question == "why?"
    frozen.write_bytes(with_checksum(MINE).replace(b"why?", damaged))
    with pytest.raises(
        DefinitionError, match=r"sweep\.yaml: was changed after scorer wrote it .* remove its first line"
    ):
        loading.load(str(frozen))
    frozen.write_bytes(MINE.encode().replace(b"why?", b"w\xfcy?"))
    with pytest.raises(DefinitionError, match=r"is not UTF-8 text .* save it as UTF-8"):
        loading.load(str(frozen))
