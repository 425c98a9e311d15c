"""The style of all figures: colours and dashes by variant, venue widths, TrueType fonts, provenance in the file."""

import io
import json
import multiprocessing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.mathtext import MathTextParser

from analysis.choices import Venue
from scorer_core.support.files import replace_file

# Widths of the text and of one column of each venue's LaTeX template, in inches.
WIDTHS: dict[Venue, tuple[float, float]] = {
    "page": (7.0, 7.0),
    "iclr": (5.5, 5.5),
    "neurips": (5.5, 5.5),
    "icml": (6.75, 3.25),
    "twocolumn": (7.0, 3.4),
}
FORMATS = ("pdf", "svg", "png")
WORKERS = 2

# Okabe and Ito's colours, distinct with any colour blindness. The darkest are first, so that neighbours differ in grey
# too; the yellow is darker than theirs, to be visible on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#8C6D1F", "#B3B200")
BASELINE_COLOUR = "#333333"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


@dataclass(frozen=True)
class Look:
    """The look of a variant, the same in every figure."""

    colour: str
    dashes: Any
    marker: str


def looks(variants: Sequence[str], baselines: Sequence[str]) -> dict[str, Look]:
    """Baselines are dark grey; the others take a colour each and, from the tenth on, another dash."""
    found, others, greys = {}, 0, 0
    for name in variants:
        if name in baselines:
            found[name] = Look(BASELINE_COLOUR, DASHES[greys % len(DASHES)], "o")
            greys += 1
        else:
            round_, place = divmod(others, len(COLOURS))
            found[name] = Look(COLOURS[place], DASHES[round_ % len(DASHES)], MARKERS[place])
            others += 1
    return found


SETTINGS: dict[Any, Any] = {
    "pdf.fonttype": 42,  # TrueType: venues reject Type 3
    "ps.fonttype": 42,
    "svg.hashsalt": "scorer",  # equal figures have equal bytes
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that is not in pyplot's global list."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


@contextmanager
def styled() -> Iterator[None]:
    """A context for drawing and saving figures. A character that the font lacks is drawn as a box."""
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def figure_text(text: str) -> str:
    """`text` for matplotlib: each line is drawn as mathematics if matplotlib can parse it, otherwise as it is written.

    Every name that a user can choose (variants, tasks, settings, values) goes through this function.
    """
    return "\n".join(line if _is_valid_math(line) else line.replace("$", r"\$") for line in text.split("\n"))


def _is_valid_math(line: str) -> bool:
    """Whether matplotlib treats `line` as mathematics and can parse it."""
    if not is_math_text(line):
        return False
    try:
        MathTextParser("path").parse(line)
    except Exception:  # the parser also raises errors that are not ValueErrors
        return False
    return True


def save(figure: Figure, stem: Path, provenance: Mapping[str, Any], formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write the figure in each format; its provenance is in each file and in a JSON file next to it.

    `stem` is the path without a suffix. The files have no time stamp: equal numbers give equal bytes.

    Raises:
        RecordError: if a file cannot be written.
    """
    text = json.dumps(provenance, sort_keys=True)
    ConstrainedLayoutEngine().execute(figure)  # once; as the engine of the figure it would run for every format
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Title": stem.name, "Subject": text, "Creator": "scorer", "CreationDate": None},
        "svg": {"Title": stem.name, "Description": text, "Creator": "scorer", "Date": None},
        "png": {"Title": stem.name, "Description": text, "Software": "scorer"},
    }
    written = []
    for suffix in formats:
        sink = io.BytesIO()
        figure.savefig(sink, format=suffix, metadata=metadata[suffix])
        path = stem.with_name(f"{stem.name}.{suffix}")
        replace_file(path, sink.getvalue())
        written.append(path)
    record = stem.with_name(f"{stem.name}.json")
    replace_file(record, (json.dumps(provenance, indent=1, sort_keys=True) + "\n").encode())
    return [*written, record]


class Saver:
    """Saves figures like `save`: in this process, or in two other processes, which take a second to start."""

    def __init__(self, processes: bool):
        # Not forked: libraries here have threads, and a fork would copy their locks in whatever state they are.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(WORKERS, mp_context=spawn) if processes else None
        if self._pool:
            for _ in range(WORKERS):
                self._pool.submit(_import)
        self._written: list[Path] = []
        self._pending: list[Future[list[Path]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=error is not None)

    def save(self, figure: Figure, stem: Path, provenance: Mapping[str, Any], formats: Iterable[str]) -> None:
        """Start writing the figure; it must not be changed afterwards."""
        if self._pool:
            self._pending.append(self._pool.submit(_save_styled, figure, stem, provenance, tuple(formats)))
        else:
            self._written += save(figure, stem, provenance, formats)

    def written(self) -> list[Path]:
        """All files; waits until they are written.

        Raises:
            RecordError: if a file could not be written.
        """
        return [*self._written, *(path for pending in self._pending for path in pending.result())]


def _import() -> None:
    """Do nothing. A process that runs this has imported this file, and matplotlib with it."""


def _save_styled(figure: Figure, stem: Path, provenance: Mapping[str, Any], formats: Iterable[str]) -> list[Path]:
    with styled():
        return save(figure, stem, provenance, formats)
