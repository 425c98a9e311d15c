"""The choices of a report's options. This file imports no library, so that the command line starts fast."""

from typing import Literal

Score = Literal["final", "best", "auc"]
Scheme = Literal["references", "baseline", "paper", "none"]
Venue = Literal["page", "iclr", "neurips", "icml", "twocolumn"]
Format = Literal["pdf", "svg", "png"]

REPS = 50_000  # bootstrap repetitions for tables and interval figures
CURVE_REPS = 2_000  # bootstrap repetitions for curves and profiles
