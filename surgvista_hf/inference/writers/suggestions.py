"""Segments to label next as files: one table, an annotation document for each video, and a page that shows them."""

import csv
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from ...util.class_colors import class_color
from ...util.files import atomic_file
from ...util.pages import clock, escape, image_source, page, table
from ..prediction.label_suggestions import SUGGESTION_TIER, LabelSuggestions, SuggestedSegment
from ..prediction.prediction import Segment
from .annotations import write_elan_tiers
from .report import PAGE_STYLE
from .timeline import NOTICE

COLUMNS = ("order", "video", "start", "end", "tier", "label", "score", "reason")
_THUMBNAIL = 320  # width in pixels
FramesAt = Callable[[str, list[float]], list[np.ndarray]]


def save_suggestions(
    suggestions: LabelSuggestions,
    folder: str | Path,
    *,
    frames_at: FramesAt | None = None,
    blank: bool = False,
) -> list[Path]:
    """Write the suggestions for spreadsheets, for annotation tools and for people.

    Args:
        suggestions: the segments to label next.
        folder: output folder, made if needed; files of an earlier call are replaced.
        frames_at: gives the frames (height, width, 3), uint8, of a video by its name at times in seconds, as they may be
            shown; `None`: the page has no images.
        blank: leave the labels empty, so that nobody is led by what the model believes.

    Returns:
        `suggestions.csv`, `videos.csv`, `suggestions.html`, `classes.txt`, and an ELAN document for each video in `phases`, or
        in `labels` for independent classes. With the videos in a folder `videos` beside it, `surgvista prepare phase_folder`
        reads the corrected documents.

    Raises:
        OutputError: the folder cannot be made.
    """
    folder = Path(folder)
    written = [folder / "suggestions.csv", folder / "videos.csv", folder / "suggestions.html", folder / "classes.txt"]
    _write_table(suggestions, written[0], blank)
    _write_videos(suggestions, written[1])
    write_suggestion_page(suggestions, written[2], frames_at)
    with atomic_file(written[3]) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in suggestions.class_names), encoding="utf-8")
    paths = {video.video: video.path for video in suggestions.videos}
    for video, segments in suggestions.by_video().items():
        file = folder / labels_folder(suggestions) / PurePosixPath(video).with_suffix(".eaf")
        tiers: dict[str, list[Segment]] = {}
        for segment in segments:
            for tier, proposals in segment.proposals.items():
                shown = [Segment(each.start, each.end, "" if blank else each.label, 1.0) for each in proposals]
                tiers.setdefault(tier, []).extend(shown)
        reasons = [Segment(each.start, each.end, f"{each.order}: {each.reason}", 1.0) for each in segments]
        path = paths[video]
        relative = None if path is None else _relative(Path(path), file.parent)
        name = PurePosixPath(video).name
        write_elan_tiers({**tiers, SUGGESTION_TIER: reasons}, file, name, relative_path=relative)
        written.append(file)
    return written


def labels_folder(suggestions: LabelSuggestions) -> str:
    """Return the name of the folder of the annotation documents: the one that `phase_folder` reads, if it can read them."""
    return "labels" if suggestions.multi_label else "phases"


def _relative(path: Path, start: Path) -> str | None:
    """Return a path from a folder, as ELAN looks for it; `None` where there is none, on another drive."""
    try:
        return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()
    except ValueError:
        return None


def _write_table(suggestions: LabelSuggestions, path: Path, blank: bool) -> None:
    """Write a row for each proposed label, and one without a label where no class was found."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for each in suggestions.segments:
            nothing = {suggestions.tier: [Segment(each.start, each.end, "", 0.0)]}
            proposals = each.proposals if any(each.proposals.values()) else nothing
            for tier, segments in proposals.items():
                for segment in segments:
                    times = (f"{segment.start:.3f}", f"{segment.end:.3f}")
                    label = "" if blank else segment.label
                    writer.writerow([each.order, each.video, *times, tier, label, f"{each.score:.4f}", each.reason])


def _write_videos(suggestions: LabelSuggestions, path: Path) -> None:
    counts = {video: len(segments) for video, segments in suggestions.by_video().items()}
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("video", "seconds", "labeled_seconds", "uncertainty", "unlike_training", "suggestions"))
        for each in suggestions.videos:
            unlike = "unknown" if each.unfamiliar_fraction is None else f"{each.unfamiliar_fraction:.4f}"
            sure = "" if np.isnan(each.uncertainty) else f"{each.uncertainty:.4f}"
            writer.writerow([each.video, each.seconds, each.labeled_seconds, sure, unlike, counts.get(each.video, 0)])


def write_suggestion_page(suggestions: LabelSuggestions, path: Path, frames_at: FramesAt | None = None) -> None:
    """Write one HTML file with an image of each segment, by video, that needs no other file and no network.

    Args:
        suggestions: the segments to label next.
        path: `.html` file to write.
        frames_at: the argument of `save_suggestions`.
    """
    title = "What to label next"
    count, searched = len(suggestions.segments), _count(len(suggestions.videos), "video")
    parts = [
        f"<h1>{title}</h1><p>{_count(count, 'segment')}, {suggestions.seconds:g} seconds, of {searched}; the numbers say in "
        "which order they were chosen.</p>",
        f'<p class="notice" role="note"><strong>{NOTICE.capitalize()}.</strong> The labels are what the model believes, and '
        "these are the seconds where it is in doubt: correct them before you train on them.</p>",
    ]
    for video, segments in suggestions.by_video().items():
        frames: list[np.ndarray | None] = [None] * len(segments)
        if frames_at is not None:
            frames = [*frames_at(video, [each.middle for each in segments])]
        items = "".join(_item(suggestions, each, frame) for each, frame in zip(segments, frames, strict=True))
        parts.append(f'<section><h2>{escape(video)}</h2><ul class="segments">{items}</ul></section>')
    parts.append(_videos_table(suggestions))
    with atomic_file(path) as temporary:
        temporary.write_text(page(title, parts, PAGE_STYLE), encoding="utf-8")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _item(suggestions: LabelSuggestions, segment: SuggestedSegment, frame: np.ndarray | None) -> str:
    labels = list(dict.fromkeys(each.label for proposals in segment.proposals.values() for each in proposals))
    numbers = {name: number for number, name in enumerate(suggestions.class_names)}
    color = class_color(numbers[labels[0]]) if labels else "#77777f"
    text = escape(", then ".join(labels) if not suggestions.multi_label else ", ".join(labels)) or "nothing found"
    times = f"{clock(segment.start)} – {clock(segment.end)}"
    image = ""
    if frame is not None:
        source, moment = image_source(frame, _THUMBNAIL), clock(segment.middle)
        image = f'<img src="{source}" alt="frame at {moment}" style="border-color:{color}">'
    return (
        f"<li>{image}<strong>{segment.order}. {text}</strong><br><small>{times}, uncertainty {segment.score:.0%}<br>"
        f"{escape(segment.reason)}</small></li>"
    )


def _videos_table(suggestions: LabelSuggestions) -> str:
    counts: Mapping[str, int] = {video: len(segments) for video, segments in suggestions.by_video().items()}
    rows = [
        [
            escape(each.video),
            clock(each.seconds),
            "" if np.isnan(each.uncertainty) else f"{each.uncertainty:.0%}",
            "unknown" if each.unfamiliar_fraction is None else f"{each.unfamiliar_fraction:.0%}",
            str(counts.get(each.video, 0)),
        ]
        for each in suggestions.videos
    ]
    heads = ("video", "length", "uncertainty", "unlike the training", "suggestions")
    lost = "".join(
        f"<p>{escape(video)} cannot be read: {escape(reason)}</p>" for video, reason in suggestions.unreadable.items()
    )
    return f"<h2>Videos</h2>{table(heads, rows, numbers=4)}{lost}"
