"""What a user chooses of a report, by word. Nothing is imported here, so that the command line starts fast."""

from typing import Literal

Score = Literal["final", "best", "auc"]
Scheme = Literal["references", "baseline", "paper", "none"]
Venue = Literal["page", "iclr", "neurips", "icml", "twocolumn"]
Format = Literal["pdf", "svg", "png"]
