"""Random changes of values, trees and bytes."""

import copy
from typing import Any

import numpy as np

Rng = np.random.Generator

STRINGS = [
    "", " ", "[/]", "[red]x", "a\nb", "a\tb", "\x1b[31mred", "\u202eabc", "😀", "é", "x" * 300, "x" * 20_000,
    "../..",
    "a/b", "/etc/passwd", "~", "$HOME", "`id`", "$(id)", "; rm x", "'", '"', "\\", "$\\frac{", "%s", "{x}", "null",
    "nan",
    "-1", "1e400", "0x10", "NaN", "minatar/breakout", "on", "off", "1_000", "a=b", "-s", "--help", "CON", ".", "..",
    "*",
    "ﬀ", "<script>", "&amp;", "A" * 256,
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 1e-300, 1e300, -1e300, float("inf"), float("-inf"), float("nan"), 2**31, 2**63, 2**64, 10**22, 10**400,
    -(2**63), 0.5, 1e-9, 1.5, 5e-324, -0.0, 999_999_999_999,
]  # fmt: skip


def pick(rng: Rng, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


def value(rng: Rng, depth: int = 0) -> Any:
    """Any value that YAML and JSON can hold."""
    form = int(rng.integers(9 if depth < 3 else 5))
    if form in (0, 1):
        return pick(rng, STRINGS)
    if form == 2:
        return pick(rng, NUMBERS)
    if form == 3:
        return pick(rng, [True, False, None])
    if form == 4:
        return int(rng.integers(-3, 20))
    if form in (5, 6):
        return [value(rng, depth + 1) for _ in range(int(rng.integers(0, 4)))]
    return {str(pick(rng, STRINGS)): value(rng, depth + 1) for _ in range(int(rng.integers(0, 4)))}


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value in a tree of mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = [path] if path else []
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def changed(rng: Rng, tree: Any) -> tuple[Any, str]:
    """A copy of `tree` with one to three values replaced, removed, renamed, nested or added."""
    tree = copy.deepcopy(tree)
    told = []
    for _ in range(int(rng.integers(1, 4))):
        there = places(tree)
        if not there:
            break
        path = pick(rng, there)
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        how = pick(rng, ["replace", "replace", "number", "delete", "rename", "add", "nest", "list"])
        told.append(f"{how} {'.'.join(map(str, path))[:80]}")
        if how == "number":
            parent[path[-1]] = pick(rng, NUMBERS)
        elif how == "delete":
            del parent[path[-1]]
        elif how == "rename" and isinstance(parent, dict):
            parent[pick(rng, STRINGS)] = parent.pop(path[-1])
        elif how == "add" and isinstance(parent, dict):
            parent[pick(rng, STRINGS)] = value(rng)
        elif how == "nest":
            parent[path[-1]] = {"x": parent[path[-1]]}
        elif how == "list":
            parent[path[-1]] = [parent[path[-1]]] * int(rng.integers(0, 4))
        else:
            parent[path[-1]] = value(rng)
    return tree, ", ".join(told)


def bytes_changed(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """`content` with bits flipped, cut, repeated, or with strange bytes in it."""
    content = content or b"x"
    place = int(rng.integers(len(content)))
    how = pick(rng, ["flip", "cut", "insert", "repeat", "swap"])
    if how == "flip":
        changed_bytes = bytearray(content)
        for _ in range(int(rng.integers(1, 5))):
            changed_bytes[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        return bytes(changed_bytes), "flip bits"
    if how == "cut":
        return content[:place], f"cut at {place}"
    if how == "insert":
        strange = pick(rng, [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"\xe2\x80\xae", b"\x1b[0m",
        b"&a",
                             b"*a", b"!!python/object:os.system x", b"\t", b"%", b"{", b"[" * 400, b": "])  # fmt: skip
        return content[:place] + strange + content[place:], f"insert {strange[:20]!r} at {place}"
    if how == "repeat":
        return content + content[place:], f"repeat from {place}"
    lines = content.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines), "shuffle lines"
