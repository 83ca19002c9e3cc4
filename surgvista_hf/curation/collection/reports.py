"""Reports of stages: how many videos each kept and dropped, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .manifest import JsonObject


@dataclass(frozen=True)
class StageReport:
    """Counts of one stage.

    Args:
        stage: name of the stage.
        videos: number of videos that reached it.
        kept: number of videos that go on to the next one.
        dropped: number of dropped videos, by reason.
        open: number of videos without a result yet: still to be done, or to be tried again, by reason.
        hours: duration of the kept videos; after trimming, of their remaining parts.
        overridden: number of videos that a human kept against the models.
    """

    stage: str
    videos: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    open: Mapping[str, int] = field(default_factory=dict)
    hours: float = 0.0
    overridden: int = 0

    def to_dict(self) -> JsonObject:
        """Return the report as a JSON object."""
        return {
            "stage": self.stage,
            "videos": self.videos,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "open": dict(sorted(self.open.items())),
            "hours": self.hours,
            "overridden": self.overridden,
        }


def table(reports: Sequence[StageReport]) -> str:
    """Format reports as lines of text.

    Example:
        >>> print(table([StageReport("trim", 3, 2, {"no surgical content": 1}, hours=0.5)]))
        stage                videos     kept  dropped     open      hours
        trim                      3        2        1        0       0.50
            dropped: 1 no surgical content
    """
    lines = [f"{'stage':18} {'videos':>8} {'kept':>8} {'dropped':>8} {'open':>8} {'hours':>10}"]
    for report in reports:
        dropped, waiting = sum(report.dropped.values()), sum(report.open.values())
        lines.append(
            f"{report.stage:18} {report.videos:8} {report.kept:8} {dropped:8} {waiting:8} {report.hours:10.2f}"
        )
        for outcome, reasons in (("dropped", report.dropped), ("open", report.open)):
            ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
            lines += [f"    {outcome}: {count} {reason}" for reason, count in ordered]
        if report.overridden:
            lines.append(f"    kept: {report.overridden} by a human")
    return "\n".join(lines)
