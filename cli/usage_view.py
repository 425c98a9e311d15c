"""What `scorer status --usage` prints."""

from typing import Any

from rich.table import Table
from rich.text import Text

from cli.console import out
from scorer_core.support.text import count, duration
from slurm.cluster.usage import Usage, Used, largest_and_median, memory, proposal, rows
from slurm.status import SweepStatus


def print_usage(status: SweepStatus, found: Usage) -> None:
    """Print time and memory per variant, and values for the next profile."""
    if found.complaint:
        out.print(Text(f"Memory is unknown, because there is no accounting: {found.complaint}"))
    if not found.packs:
        return out.print(Text(f"No usage is recorded yet for {status.folder.name}, according to {found.source}."))
    table = Table("variant", "packs", "time: max", "median", "requested", "memory: max", "median", "requested")
    for variant, used in rows(status, found):
        table.add_row(Text(variant), str(len(used)), *_times(used), *_memories(used))
    out.print(Text(f"Time and memory per pack, from {found.source}; variants may share packs."))
    out.print(table)
    starved = sum(used.out_of_memory for used in found.packs.values())
    if starved:
        out.print(Text(f"Out of memory: {count(starved, 'pack')}; request more than the largest value in this table."))
    fields = proposal(status, found)
    if fields:
        margin = "25 % above the largest finished pack, and at least 5 minutes"
        written = ", ".join(f"{key}: {_quoted(value)}" for key, value in fields.items())
        out.print(Text(f"For the next profile, {margin}: {written}"))
    return None


def usage_json(status: SweepStatus, found: Usage) -> dict[str, Any]:
    """Usage for scripts: per variant, seconds and megabytes of each pack."""
    return {
        "source": found.source,
        "complaint": found.complaint,
        "variants": {variant: [vars(used) for used in packs] for variant, packs in rows(status, found)},
        "proposal": proposal(status, found),
    }


def _quoted(value: str) -> str:
    """A value as it must be written in YAML, which reads 0:05:00 as a number."""
    return f'"{value}"' if ":" in value else value


def _times(packs: list[Used]) -> tuple[str, str, str]:
    used = largest_and_median([pack.seconds for pack in packs])
    asked = largest_and_median([pack.limit_seconds for pack in packs])
    shown = [duration(value) for value in used or ()] or ["", ""]
    return shown[0], shown[1], duration(asked[0]) if asked else ""


def _memories(packs: list[Used]) -> tuple[str, str, str]:
    used = largest_and_median([pack.megabytes for pack in packs])
    asked = largest_and_median([pack.asked_megabytes for pack in packs])
    shown = [f"{value:,.0f} MB" for value in used or ()] or ["", ""]
    return shown[0], shown[1], memory(asked[0]) if asked else ""
