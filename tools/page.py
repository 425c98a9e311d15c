"""Pages of docs/ in which a program writes one part, between two comments in the Markdown source."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from scorer_core.support.files import replace_file

DOCS = Path(__file__).parent.parent / "docs"


def marks(name: str) -> tuple[str, str]:
    """The lines before and after the generated part `name`."""
    return f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"


def generated(page: Path, name: str) -> str:
    """The generated part `name` of `page`; empty if the page does not have it."""
    begin, end = marks(name)
    return page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    """`text` where Markdown would take | for the end of a cell and <game> for HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def replace_generated(page: Path, name: str, text: str) -> None:
    """Replace the generated part `name` of `page` by `text`, which ends with a line break.

    Raises:
        ValueError: if the page does not have this part.
        RecordError: if the page cannot be written.
    """
    begin, end = marks(name)
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page}: has no part between {begin.strip()} and {end.strip()}")
    replace_file(page, f"{before}{begin}{text}{end}{after}".encode())
