"""Published numbers (a sweep's `reported`) next to ours."""

from dataclasses import dataclass

from analysis.statistics import Estimate
from analysis.summary import Summary


@dataclass(frozen=True)
class Against:
    """One cell: our IQM, the published one, and whether the intervals overlap."""

    source: str
    variant: str
    task: str
    ours: Estimate | None  # None without a score
    theirs: tuple[float, float]  # IQM, half width of its interval

    @property
    def overlaps(self) -> bool | None:
        """Whether both intervals overlap; None if ours is missing, or has no width and does not overlap."""
        if self.ours is None or not float(self.ours.low) <= float(self.ours.high):  # no run, or no interval
            return None
        value, half = self.theirs
        if self.ours.low <= value + half and value - half <= self.ours.high:
            return True
        return False if self.ours.has_width else None


def against_reported(summary: Summary) -> list[Against]:
    """Every reported cell of the sweep, in the order written."""
    return [
        Against(source, variant, task, summary.per_task.get((variant, task)), theirs)
        for source, variants in summary.results.sweep.reported.items()
        for variant, tasks in variants.items()
        for task, theirs in tasks.items()
    ]
