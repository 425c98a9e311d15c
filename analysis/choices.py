"""What a user chooses of a report. Nothing is imported here, so that the command line starts fast."""

from typing import Literal

Score = Literal["final", "best", "auc"]
Scheme = Literal["references", "baseline", "paper", "none"]
Venue = Literal["page", "iclr", "neurips", "icml", "twocolumn"]
Format = Literal["pdf", "svg", "png"]

REPLICATIONS = 50_000  # of tables and interval figures
CURVE_REPLICATIONS = 2_000  # of curves and profiles
