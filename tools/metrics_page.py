"""The tables of all logged quantities: `python -m tools.metrics_page` writes them into docs/metrics.md."""

import argparse
from pathlib import Path

from scorer_core.metrics import TABLE, Kind
from tools.page import DOCS, replace_generated, table

PAGE, PART = DOCS / "metrics.md", "metrics"
TITLES = {
    Kind.LOGGED: "At every log point",
    Kind.DIAGNOSTIC: "Diagnostics, at some of the log points",
    Kind.CLOCK: "Measured by the clock",
}


def tables() -> str:
    """One Markdown table per kind."""
    blocks = []
    for kind, title in TITLES.items():
        rows = [
            (f"`{metric.name}`", metric.label, metric.unit, metric.meaning)
            for metric in TABLE.values()
            if metric.kind == kind
        ]
        blocks.append(f"### {title}\n\n" + table(("column", "label", "unit", "meaning"), rows))
    return "\n".join(blocks)


def write(page: Path = PAGE) -> str:
    """Replace the tables in `page`; returns them."""
    text = tables()
    replace_generated(page, PART, text)
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(write())
