"""Versions that differ between attempts of a pack, or between packs."""

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.support.files import write_json
from scorer_core.versions import last_versions, mixed, upgrades, versions

OLD = {
    "python": "3.10.4", "device": "cpu", "platform": "Linux-5.4.0-x86_64-with-glibc2.31", "git_commit": "a" * 40,
    "packages": {"torch": "2.12.0", "numpy": "1.26.0", "pip": "24.0"},
}  # fmt: skip
NEW = {
    **OLD, "python": "3.11.7", "platform": "Linux-6.1.0-aarch64-with-glibc2.36", "git_commit": None,
    "packages": {"torch": "2.13.0", "numpy": "1.26.0", "pip": "25.0", "numba": "0.61"},
}  # fmt: skip


def pack_of(folder, *attempts):
    pack = PackFolder.create(folder, [RunConfig(task="minatar/breakout", seed=0)])
    for provenance in attempts:
        place = pack.new_attempt()
        if provenance is not None:
            write_json(place / "provenance.json", provenance)
    return pack


def test_an_upgrade_between_two_attempts_is_a_line_with_the_pack_the_versions_and_the_attempts(tmp_path):
    pack = pack_of(tmp_path, OLD, OLD, None, NEW, NEW)
    changed = "python 3.10.4 -> 3.11.7, torch 2.12.0 -> 2.13.0, machine x86_64 -> aarch64"
    (line,) = upgrades(pack)
    assert line == f"pack {pack.pack_id}: {changed}, commit aaaaaaaaaa -> no commit between attempts 2 and 4"
    assert upgrades(pack, commits=False) == [f"pack {pack.pack_id}: {changed} between attempts 2 and 4"]
    assert last_versions(pack) == versions(NEW)


def test_another_kernel_host_or_package_that_computes_nothing_is_no_upgrade(tmp_path):
    other = {**OLD, "host": "n7", "platform": "Linux-6.1.0-x86_64-with-glibc2.36"}
    assert upgrades(pack_of(tmp_path, OLD, {**other, "packages": {**OLD["packages"], "pip": "25.0"}})) == []


def test_packs_that_ran_with_different_versions_are_counted():
    found = [versions(provenance) for provenance in (OLD, OLD, NEW, {})]
    assert "torch 2.12.0 (2 packs), 2.13.0 (1 pack)" in mixed(found)
    assert "numpy" not in mixed(found)
    assert mixed(found[:2]) == ""
