"""Annotation documents of ELAN (`.eaf`): all tiers of a video; see `schema.elan` for the format."""

from pathlib import Path

from ..schema.elan import ElanTier, read_elan
from ..schema.info import AnnotationError
from .documents import read_head
from .model import LabeledSpan, LabelTier, VideoLabels

FORMAT = "elan"


def recognizes(path: Path) -> bool:
    """Return whether a file seems to be an annotation document of ELAN."""
    return path.is_file() and (path.suffix.lower() == ".eaf" or "<ANNOTATION_DOCUMENT" in read_head(path))


def read(path: Path) -> list[VideoLabels]:
    """Read the annotations of the video that a document of ELAN is about.

    Annotations that refer to others have their times; see `read_elan`. The video is called as the file where the document
    names none.

    Raises:
        AnnotationError: the file is no such document, or an annotation has no time or no length.
    """
    document = read_elan(path)
    tiers = tuple(LabelTier(tier.name, _spans(path, tier)) for tier in document.tiers)
    return [VideoLabels(document.video or path.stem, tiers, where=path.name)]


def _spans(path: Path, tier: ElanTier) -> tuple[LabeledSpan, ...]:
    spans = []
    for entry in tier.annotations:
        where = f"tier {tier.name!r}, annotation {entry.name}"
        if entry.start is None or entry.stop is None:
            raise AnnotationError(f"{path}, {where} ({entry.value!r}) has no time; align it in ELAN")
        if entry.stop <= entry.start:
            raise AnnotationError(
                f"{path}, {where}: {entry.value!r} from {entry.start:g} to {entry.stop:g} s has no length"
            )
        spans.append(LabeledSpan(entry.start, entry.stop, entry.value, f"{path.name}, {where}"))
    return tuple(sorted(spans, key=lambda span: (span.start, span.stop)))
