"""Keys of definitions that version 0.1 spelled differently: both spellings are read, only the new one is written.

A study is bound to its definition in the old spelling (`Search.identity`), so that searches of version 0.1 continue.
"""

from collections.abc import Mapping
from typing import Any

from sweeps.errors import DefinitionError

SETTINGS = {"hold": "fixed_lr"}  # in `base`, in a variant and in a toggle
SEARCH = {"pruner_p": "p_threshold", "pruner_keep": "keep_fraction"}  # at the top level of a search


def renamed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A definition as read from YAML, with all keys in the spelling of this version.

    Raises:
        DefinitionError: if both spellings of a key are there.
    """
    new = dict(_renamed(raw, SEARCH, "") if "space" in raw else raw)
    if "base" in new:
        new["base"] = _renamed(new["base"], SETTINGS, "base.")
    if isinstance(variants := new.get("variants"), Mapping):
        new["variants"] = {
            name: _renamed(settings, SETTINGS, f"variants.{name}.") for name, settings in variants.items()
        }
    if isinstance(ablate := new.get("ablate"), Mapping) and isinstance(toggles := ablate.get("toggle"), list):
        toggles = [_renamed(toggle, SETTINGS, f"ablate.toggle.{i}.") for i, toggle in enumerate(toggles)]
        new["ablate"] = {**ablate, "toggle": toggles}
    return new


def renamed_override(override: str) -> str:
    """A `dotted.key=value` of the command line, with the key in the spelling of this version."""
    key, separator, value = override.partition("=")
    *parents, last = key.split(".")
    names = SEARCH if not parents else {} if parents == ["variants"] else SETTINGS  # a variant may be called `hold`
    return ".".join([*parents, names.get(last, last)]) + separator + value


def original(keys: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`keys` in the spelling of version 0.1."""
    old = {new: old for old, new in names.items()}
    return {old.get(key, key): value for key, value in keys.items()}


def _renamed(keys: Any, names: Mapping[str, str], place: str) -> Any:
    """`keys` with new names; what is not a mapping is returned as it is."""
    if not isinstance(keys, Mapping):
        return keys
    for old, new in names.items():
        if old in keys and new in keys:
            raise DefinitionError(f"{place}{old}: is the old name of {new}; remove one of them")
    return {names.get(key, key): value for key, value in keys.items()}
