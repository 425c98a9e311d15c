"""The only reader of YAML (sweeps, searches, profiles), with limits on size; and of `key=value` on the command line."""

import hashlib
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, ClassVar

import yaml

from sweeps.errors import DefinitionError, shortened

MAX_BYTES = 500_000  # of a file
MAX_CHARACTERS = 10_000  # of one value
MAX_DIGITS = 400  # of one number: more than any finite float has
MAX_DEPTH = 50  # levels of lists and mappings
MAX_VALUES = 20_000  # keys and values; an alias counts as all values that it repeats

# The values of these keys are names and sentences, kept as written: `off` is a name here, not false.
TEXT_KEYS = {"name", "question", "paper", "baseline", "from", "variant", "task", "tasks"}

CHECKSUM = b"# SHA-256 of the lines below: "

_TAG = "tag:yaml.org,2002:"
_NULL, _MERGE, _SEQUENCE, _MAPPING = (_TAG + kind for kind in ("null", "merge", "seq", "map"))


class Loader(yaml.SafeLoader):
    """YAML of plain values: null, truth values, numbers, text, lists, and mappings with text as keys.

    - A duplicate key, an unknown tag, and a file that is too large or too deep are errors that name the line.
    - 1e-4 is a number, as in YAML 1.2. Dates are text. Numbers that mean something unexpected in YAML 1.1 (1:30, 010)
      are errors.
    - Keys, and the values of TEXT_KEYS, are text as written.
    - A merge key (`<<`) adds the keys of other mappings that the mapping does not have itself.
    """

    def __init__(self, stream: Any):
        super().__init__(stream)
        self._depth = self._values = 0
        self._sizes: dict[str, int] = {}  # anchor -> number of values in it, with those of aliases
        self._open: set[str] = set()  # anchors that contain the node being read

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        anchor = event.anchor
        before = self._values
        if isinstance(event, yaml.AliasEvent):
            if anchor in self._open:
                raise _error(event, f"the alias *{anchor} is inside &{anchor}, so the value would be infinite")
            self._values += self._sizes.get(anchor, 0)
        self._values += 1
        if self._values > MAX_VALUES:
            raise _error(event, f"more than {MAX_VALUES:,} keys and values, including those that aliases repeat")
        if self._depth == MAX_DEPTH:
            raise _error(event, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_CHARACTERS:
            raise _error(event, f"a value of {len(event.value):,} characters; at most {MAX_CHARACTERS:,}")
        if isinstance(event, yaml.AliasEvent) or anchor is None:
            anchor = ""
        self._depth += 1
        self._open.add(anchor)
        node = super().compose_node(parent, index)
        self._open.discard(anchor)
        self._depth -= 1
        self._sizes.setdefault(anchor, self._values - before)
        return node

    def get_single_data(self, as_text: bool = False) -> Any:
        """The value of the whole document, None if it is empty; a single word stays text if `as_text`.

        Raises:
            yaml.YAMLError: if it is not YAML of plain values within the limits.
        """
        node = self.get_single_node()
        return None if node is None else self._value(node, as_text)

    def _value(self, node: Any, as_text: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [self._value(child, as_text) for child in node.value]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            raise _error(node, f"the tag '{node.tag.replace(_TAG, '!!')}' is not supported; remove it")
        if as_text and node.tag != _NULL:
            return node.value
        return _scalar(self, node)

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = _key(key_node)
            if key in seen:
                raise _error(key_node, f"duplicate key '{key}'")
            seen.add(key)
            if key_node.tag == _MERGE:
                merged = self._merged(value_node)
            else:
                own[key] = self._value(value_node, key in TEXT_KEYS)
        return merged | own

    def _merged(self, node: Any) -> dict[str, Any]:
        """The keys and values that a merge key adds; of several mappings, the earlier ones win."""
        found: dict[str, Any] = {}
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(one, yaml.MappingNode):
                raise _error(one, "`<<` needs a mapping or a list of mappings, such as `<<: *anchor`")
            found = self._mapping(one) | found
        return found


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(f"{_TAG}float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


class TextLoader(Loader):
    """Like Loader, but every value is text as written: sbatch reads 12:00:00 and 0100 itself."""

    yaml_implicit_resolvers: ClassVar = {"<": [(_MERGE, re.compile(r"^<<$"))]}


_SCALARS = {
    _NULL: Loader.construct_yaml_null,
    f"{_TAG}bool": Loader.construct_yaml_bool,
    f"{_TAG}int": Loader.construct_yaml_int,
    f"{_TAG}float": Loader.construct_yaml_float,
    f"{_TAG}str": Loader.construct_scalar,
}


def _key(node: Any) -> str:
    """A key as written."""
    if not isinstance(node, yaml.ScalarNode):
        raise _error(node, "a key must be text, not a list or a mapping")
    if node.tag == _NULL:
        word = node.value or "an empty key"
        raise _error(node, f"{word} means 'no value' in YAML; to use it as a name, write it in quotes: '{word}'")
    return node.value


def _scalar(loader: Loader, node: yaml.ScalarNode) -> Any:
    number = node.tag in (f"{_TAG}int", f"{_TAG}float")
    if number and len(node.value) > MAX_DIGITS:
        raise _error(node, f"a number of {len(node.value):,} characters; at most {MAX_DIGITS}")
    try:
        value = _SCALARS[node.tag](loader, node)
    except (ValueError, KeyError, IndexError, OverflowError):
        kind = node.tag.removeprefix(_TAG)
        raise _error(
            node, f"'{shortened(node.value, 60)}' is not a valid {kind}; if it is text, write it in quotes"
        ) from None
    if number and re.match(r"[-+]?(0[0-9_]|.*:)", node.value):
        raise _error(node, f"YAML reads {node.value} as {value}; write {value}, or write {node.value} in quotes")
    if isinstance(value, float) and math.isinf(value) and "inf" not in node.value.lower():
        raise _error(node, f"{node.value} is too large for a number")
    return value


def _error(place: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def parse_yaml(text: str, loader: type[Loader] = Loader, as_text: bool = False) -> Any:
    """The value of the YAML document `text`; a single word stays text if `as_text`.

    Raises:
        DefinitionError: if it is not YAML of plain values within the limits above; the message names the line.
    """
    try:
        return loader(text).get_single_data(as_text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise DefinitionError(f"{line}{what}") from None
    except yaml.YAMLError as error:
        raise DefinitionError(" ".join(str(error).split())) from None


def read_text(path: Path) -> str:
    """The text of the file at `path`.

    Raises:
        DefinitionError: if it is not a regular file of UTF-8 text that can be read, if it is too large, or if the
            checksum in its first line is not that of the other lines.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a FIFO would wait for a writer
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DefinitionError(f"{path}: cannot be read: not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DefinitionError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise DefinitionError(f"{path}: larger than {MAX_BYTES:,} bytes, so it is not a definition")
    first, _, rest = content.partition(b"\n")
    if first.startswith(CHECKSUM) and not first.endswith(hashlib.sha256(rest).hexdigest().encode()):
        raise DefinitionError(
            f"{path}: was changed after scorer wrote it (its first line has the SHA-256 of the rest). If you changed "
            "it, remove its first line. Otherwise delete it and run your own definition again, which writes it again"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def with_checksum(text: str) -> bytes:
    """The bytes of a file with its checksum in the first line, so that `read_text` detects any change of the file."""
    content = text.encode()
    return CHECKSUM + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def read_mapping(path: Path, loader: type[Loader] = Loader) -> dict[str, Any]:
    """The keys and values in the YAML file at `path`, read by `loader`.

    Raises:
        DefinitionError: if it cannot be read, is not YAML, or is not a mapping.
    """
    text = read_text(path)
    try:
        raw = parse_yaml(text, loader)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise DefinitionError(f"{path}: not a mapping of keys to values")
    return raw


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set the value of `override`, a dotted.key=value, in `raw`.

    Raises:
        DefinitionError: if it has another form, or a part of the key is not a mapping in `raw`.
    """
    key, separator, value = override.partition("=")
    shown = shortened(override, 200)
    if not separator:
        raise DefinitionError(f"-s {shown}: must have the form key=value")
    *parents, last = key.split(".")
    if len(parents) >= MAX_DEPTH:
        raise DefinitionError(f"-s {shown}: nested more than {MAX_DEPTH} levels deep")
    place = raw
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise DefinitionError(f"-s {shown}: {parent} is not a mapping")
    try:
        place[last] = parse_yaml(value, as_text=last in TEXT_KEYS)
    except DefinitionError as error:
        raise DefinitionError(f"-s {shown}: the value is not YAML: {str(error).removeprefix('line 1: ')}") from None
