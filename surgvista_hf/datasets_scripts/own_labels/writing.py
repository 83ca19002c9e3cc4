"""Writing labels to files that annotation tools and spreadsheets open, and that this package reads again."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...util.errors import InputError
from ...util.files import atomic_file
from ..schema.elan import write_elan_document
from .model import LabeledSpan, LabelTier, VideoLabels

_SHORTEST = 0.001  # seconds; ELAN holds no shorter annotation


def write_elan(
    labels: VideoLabels, path: str | Path, *, video: str = "", frames_per_second: float | None = None
) -> None:
    """Write the labels of a video as an annotation document of ELAN, with times to the millisecond.

    Annotations of one tier of ELAN cannot overlap: spans that do are put on further tiers, `tool`, `tool 2`, `tool 3`, …. An
    event without a duration gets one of a millisecond.

    Args:
        labels: labels of the video; properties are not written.
        path: `.eaf` file to write.
        video: file name of the video, by default the last part of `labels.video`. Put both into one folder.
        frames_per_second: rate of the video, which tiers in frames need.

    Raises:
        InputError: a tier is in frames and no rate is given, or a span cannot be written.
    """
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    for tier in labels.tiers:
        spans = [_in_seconds(span, _rate(tier, frames_per_second)) for span in tier.spans]
        for number, lane in enumerate(_lanes(spans), 1):
            tiers[_free_name(tier.name, number, tiers)] = lane
    write_elan_document(path, tiers, video=video or labels.video.replace("\\", "/").rpartition("/")[2])


def write_intervals(
    labels: Iterable[VideoLabels], path: str | Path, *, frames_per_second: float | None = None
) -> None:
    """Write labels as a table with the columns `video,tier,start,end,label`.

    The header of the times says their unit: `start,end` in seconds, or `start_ms,end_ms`, or `start_frame,end_frame`, where
    the last frame belongs to the interval. Tiers in different units are written in seconds.

    Args:
        labels: labels of any number of videos; properties are not written.
        path: file to write, with tabs between the cells if it is called `.tsv` and with commas otherwise.
        frames_per_second: rate of the videos, with which tiers in frames are written in seconds.

    Raises:
        InputError: tiers are in frames and in times, and no rate is given.
    """
    labels = list(labels)
    rates = {tier.rate for video in labels for tier in video.tiers if tier.spans}
    rate = rates.pop() if len(rates) == 1 and frames_per_second is None else 1.0
    suffix = {1.0: "", 1000.0: "_ms", None: "_frame"}.get(rate)
    if suffix is None:
        rate, suffix = 1.0, ""
    header = ["video", "tier", f"start{suffix}", f"end{suffix}", "label"]
    rows = [
        [video.video, tier.name, *_times(tier, span, rate, frames_per_second), span.value]
        for video in labels
        for tier in video.tiers
        for span in tier.spans
    ]
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t" if Path(path).suffix.lower() == ".tsv" else ",").writerows([header, *rows])


def _times(tier: LabelTier, span: LabeledSpan, rate: float | None, frames_per_second: float | None) -> list[str]:
    if rate is None:
        if span.start != int(span.start) or span.stop != int(span.stop) or span.stop <= span.start:
            raise InputError(f"{span.where}: {span.start:g} to {span.stop:g} are no whole frames; give the frame rate")
        return [str(int(span.start)), str(int(span.stop) - 1)]
    own = _rate(tier, frames_per_second)
    if own == rate:
        return [_decimal(span.start), _decimal(span.stop)]
    return [_decimal(span.start / own * rate), _decimal(span.stop / own * rate)]


def _decimal(value: float) -> str:
    """Return the shortest text that is read as the same number."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _rate(tier: LabelTier, frames_per_second: float | None) -> float:
    rate = tier.rate if tier.rate is not None else frames_per_second
    if rate is None:
        raise InputError(
            f"the tier {tier.name!r} is in frames; give the frame rate of the video to write it in seconds"
        )
    return rate


def _in_seconds(span: LabeledSpan, rate: float) -> tuple[float, float, str]:
    start, stop = (round(time / rate, 3) for time in (span.start, span.stop))
    if not 0 <= start <= stop < float("inf"):
        raise InputError(f"{span.where}: an annotation from {start:g} to {stop:g} s cannot be written")
    return start, max(stop, round(start + _SHORTEST, 3)), span.value


def _lanes(spans: Sequence[tuple[float, float, str]]) -> list[list[tuple[float, float, str]]]:
    """Divide spans into the fewest lists whose spans do not overlap; at least one, which may be empty."""
    lanes: list[list[tuple[float, float, str]]] = [[]]
    for span in sorted(spans, key=lambda span: span[:2]):
        lane = next((lane for lane in lanes if not lane or lane[-1][1] <= span[0]), None)
        if lane is None:
            lanes.append(lane := [])
        lane.append(span)
    return lanes


def _free_name(name: str, number: int, taken: Iterable[str]) -> str:
    names = set(taken)
    candidate = name if number == 1 else f"{name} {number}"
    while candidate in names:
        number += 1
        candidate = f"{name} {number}"
    return candidate
