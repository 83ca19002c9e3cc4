"""What to label next: the segments of unlabeled videos that were chosen for labeling, and the videos they come from."""

from dataclasses import dataclass

from .prediction import Segment

SUGGESTION_TIER = "suggestion"  # tier of the reasons in files for annotation tools


@dataclass(frozen=True)
class SuggestedSegment:
    """A stretch of a video whose label would help the model.

    Args:
        order: number of the choice, from 1: the most useful first.
        video: name of the video.
        start, end: [start, end) in seconds.
        score: uncertainty of the model, 0-1.
        proposals: predicted segments within the stretch by the name of their tier, for an annotator to correct.
        reason: sentence on the doubt of the model.
    """

    order: int
    video: str
    start: float
    end: float
    score: float
    proposals: dict[str, list[Segment]]
    reason: str

    @property
    def middle(self) -> float:
        """Return the predicted second whose frame stands for the segment."""
        return self.start + (self.end - self.start) // 2


@dataclass(frozen=True)
class VideoUncertainty:
    """The uncertainty of a model about one video.

    Args:
        video: name of the video.
        path: path of the file; `None` for a video of a frame set.
        seconds: number of seconds that the model predicted.
        labeled_seconds: number of these that had labels already.
        uncertainty: mean uncertainty of the others, 0-1; NaN where every second had a label.
        unfamiliar_fraction: fraction of the seconds that are unlike the training videos, 0-1; `None`: unknown.
    """

    video: str
    path: str | None
    seconds: int
    labeled_seconds: int
    uncertainty: float
    unfamiliar_fraction: float | None


@dataclass(frozen=True)
class LabelSuggestions:
    """The segments to label next, in the order of their use.

    Args:
        segments: the segments.
        videos: the videos that were searched, the most uncertain first.
        class_names: names of the classes of the model.
        multi_label: classes are independent of each other and have a tier each.
        tier: name of the tier of the labels of a model of one class a second.
        unreadable: reason by the name of each video that cannot be decoded.
    """

    segments: tuple[SuggestedSegment, ...]
    videos: tuple[VideoUncertainty, ...]
    class_names: list[str]
    multi_label: bool
    tier: str
    unreadable: dict[str, str]

    @property
    def seconds(self) -> float:
        """Return the seconds that the segments have in all."""
        return sum(each.end - each.start for each in self.segments)

    def by_video(self) -> dict[str, list[SuggestedSegment]]:
        """Return the segments of each video that has any, in the order of time."""
        found: dict[str, list[SuggestedSegment]] = {}
        for each in sorted(self.segments, key=lambda each: (each.video, each.start)):
            found.setdefault(each.video, []).append(each)
        return found
