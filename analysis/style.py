"""One look for every figure: colours and dashes by variant, venue widths, TrueType fonts, provenance in the file."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.choices import Venue
from scorer_core.records import replace_file

# Width of the text, and of one column, in inches, of each venue's LaTeX template.
WIDTHS: dict[Venue, tuple[float, float]] = {
    "page": (7.0, 7.0),
    "iclr": (5.5, 5.5),
    "neurips": (5.5, 5.5),
    "icml": (6.75, 3.25),
    "twocolumn": (7.0, 3.4),
}
FORMATS = ("pdf", "svg", "png")

# Okabe and Ito's colours, told apart with any colour blindness, darkest first so that neighbours differ in grey too;
# the yellow is darkened to be seen on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#8C6D1F", "#B3B200")
BASELINE_COLOUR = "#333333"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


@dataclass(frozen=True)
class Look:
    """How a variant is drawn, the same in every figure."""

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
    "svg.hashsalt": "scorer",  # the same figure, the same bytes
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: equal everywhere
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
    """A figure of this size in inches, apart from pyplot's global list."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def styled() -> Any:
    """A context in which figures are made and saved."""
    return mpl.rc_context(SETTINGS)


def save(figure: Figure, stem: Path, provenance: Mapping[str, Any], formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write the figure in each format, its provenance inside and beside it as JSON.

    `stem` is the path without a suffix. The files hold no time of making: equal numbers give equal bytes.
    """
    text = json.dumps(provenance, sort_keys=True)
    ConstrainedLayoutEngine().execute(figure)  # once: as the figure's own engine it would run for every format
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
    beside = stem.with_name(f"{stem.name}.json")
    replace_file(beside, (json.dumps(provenance, indent=1, sort_keys=True) + "\n").encode())
    return [*written, beside]
