"""Labels of one's own videos as a file holds them, before they become columns of a frame set.

Every reader of this package turns a file, or a folder, into a list of `VideoLabels`. Nothing is interpreted yet: values are
text as it stands in the file, empty values included, and each knows where it was read, so that a message can name the cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class LabeledSpan:
    """A value that holds from `start` until before `stop`.

    Args:
        start, stop: times in the unit of the tier, see `LabelTier.rate`. They are equal for an event without a duration.
        value: text of the label in the file; empty where the file says that there is none.
        where: place in the file, such as `labels.xlsx, sheet 'op1', cell C7`.
    """

    start: float
    stop: float
    value: str
    where: str


@dataclass(frozen=True)
class LabelTier:
    """The spans of one kind of label, such as the phase or one instrument.

    Args:
        name: name of the tier, or of the column, in the file.
        spans: the spans in the order of time; they may overlap and leave gaps.
        rate: units per second of their times: 1 for seconds, 1000 for milliseconds. `None` means frames of the video.
    """

    name: str
    spans: tuple[LabeledSpan, ...]
    rate: float | None = 1.0


@dataclass(frozen=True)
class VideoLabels:
    """The labels of one video.

    Args:
        video: name of the video in the file: a path, a file name with or without its suffix, or an id.
        tiers: labels over time.
        properties: text that holds for the whole video by its name in the file, such as the patient, the hospital or a grade.
        where: place in the file that names the video.
    """

    video: str
    tiers: tuple[LabelTier, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


class LabelReader(Protocol):
    """Reads one format; a module of this package implements it by functions of these names.

    `FORMAT` is its name on the command line.
    """

    FORMAT: str

    def recognizes(self, path: Path) -> bool:
        """Return whether a file or folder seems to have this format, by its suffix and the first of its content."""

    def read(self, path: Path) -> list[VideoLabels]:
        """Return the labels of all videos of a file or folder.

        Raises:
            AnnotationError: the content does not have the format; the message names the place.
        """
