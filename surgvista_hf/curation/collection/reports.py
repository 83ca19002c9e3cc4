"""How many videos each stage kept and dropped, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageReport:
    """Counts of one stage.

    Args:
        stage: name.
        videos: that reached it.
        kept: that go on to the next one.
        dropped: how many were dropped, by reason.
        open: how many have no result yet: still to be done, or to be tried again, by reason.
        hours: length of the kept videos; after trimming, of what is left of them.
        overridden: how many of the kept ones a human kept against the models.
    """

    stage: str
    videos: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    open: Mapping[str, int] = field(default_factory=dict)
    hours: float = 0.0
    overridden: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
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
    """The reports as lines of text.

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
        for word, reasons in (("dropped", report.dropped), ("open", report.open)):
            ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
            lines += [f"    {word}: {count} {reason}" for reason, count in ordered]
        if report.overridden:
            lines.append(f"    kept: {report.overridden} by a human")
    return "\n".join(lines)
