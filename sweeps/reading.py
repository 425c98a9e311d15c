"""YAML as definitions are written in, and single fields set from the command line."""

import re
from typing import Any

import yaml


class DefinitionError(Exception):
    """A definition that cannot be run; the message names file and field."""


class Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice and reads 1e-4 as the number it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def put(raw: dict[str, Any], override: str) -> None:
    """Set what `override`, a dotted.key=value, says in `raw`.

    Raises:
        DefinitionError: if it is not of that form, or there is no such place.
    """
    key, separator, value = override.partition("=")
    if not separator:
        raise DefinitionError(f"-s {override}: not of the form key=value")
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise DefinitionError(f"-s {override}: {parent} holds no named settings")
    try:
        place[last] = yaml.load(value, Loader=Loader)
    except yaml.YAMLError:
        raise DefinitionError(f"-s {override}: the value is not YAML") from None
